"""From a task's network to its compiled model: posterior, objective, optimizer."""

from __future__ import annotations

from collections.abc import Callable

import keras
from ml_collections import ConfigDict

from tfp_bayesrnn import BayesianModel, HoldThenDecay, PosteriorSharpening
from tfp_bayesrnn.posterior import sharpening


def assemble(
    config: ConfigDict, build_network: Callable[[], keras.Model], training_rows: int, steps_per_epoch: int
) -> BayesianModel:
    """The compiled model of a resolved configuration, its weights drawn from `config.seed`.

    Args:
      config: resolved, of any task.
      build_network: makes the network.
      training_rows: rows in one pass over the training data.
      steps_per_epoch: minibatches in one.
    """
    keras.utils.set_random_seed(config.seed)
    train = config.train
    model = BayesianModel(
        build_network(),
        training_rows=training_rows,
        kl_weight=train.kl_weight,
        kl_warmup_steps=round(train.kl_warmup_epochs * steps_per_epoch),
        sharpening=_sharpening(config),
        seed=config.seed,
        name=config.preset,
    )
    model.build((None, None))
    model.posterior.initialize(config.seed)
    model.compile(
        _optimizer(config, steps_per_epoch),
        clip_norm=train.clip_norm,
        jit_compile={"auto": "auto", "on": True, "off": False}[config.jit_compile],
    )
    return model


def _optimizer(config: ConfigDict, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    train = config.train
    rate = HoldThenDecay(train.learning_rate, steps_per_epoch, train.hold_epochs, train.decay)
    kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[train.get("optimizer", "sgd")]
    return kind(rate, weight_decay=train.weight_decay or None)


def _sharpening(config: ConfigDict) -> PosteriorSharpening | None:
    if config.method != "bbb_sharpened":
        return None
    settings = config.sharpening
    return PosteriorSharpening(
        settings.sigma0, settings.second_order, sharpening.default_optimizer(settings.learning_rate)
    )
