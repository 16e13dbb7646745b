"""From a task's network to its compiled model: posterior, objective, optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tfp_bayesrnn import (
    BayesianModel,
    HoldThenDecay,
    HoldThenLinear,
    PosteriorSharpening,
    ScaledSharpening,
)
from tfp_bayesrnn.posterior import sharpening
from zoo.configuration.methods import SHARPENED_METHODS
from zoo.runs.settings import RunConfig, Training

SHARPENINGS = {"paper": PosteriorSharpening, "scaled": ScaledSharpening}
"""The forms of sharpening, by their names in configurations."""

# The paths of the variables that a family's scales are made of.
_SCALES = r".*/rho(_[uv])?"

_JIT_COMPILE: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}


def assemble(
    config: RunConfig,
    build_network: Callable[[], keras.Model],
    training_rows: int,
    steps_per_epoch: int,
    likelihood: Any = "categorical",
    input_shape: tuple[int | None, ...] = (None, None),
) -> BayesianModel:
    """The compiled model of a resolved configuration, its weights drawn from `config.seed`.

    Args:
      config: the resolved configuration, of any task.
      build_network: makes the network.
      training_rows: the number of rows in one pass over the training data.
      steps_per_epoch: the number of minibatches in one pass.
      likelihood: the likelihood of the targets, which `BayesianModel` takes.
      input_shape: the shape of a minibatch's inputs.
    """
    keras.utils.set_random_seed(config.seed)
    train = config.train
    model = BayesianModel(
        build_network(),
        likelihood=likelihood,
        training_rows=training_rows,
        kl_weight=train.kl_weight,
        kl_warmup_steps=round(train.kl_warmup_epochs * steps_per_epoch),
        sharpening=_sharpening(config),
        seed=config.seed,
        antithetic=train.antithetic,
        name=config.preset,
    )
    model.build(input_shape)
    model.posterior.initialize(config.seed)
    model.compile(
        _optimizer(config, steps_per_epoch),
        clip_norm=train.clip_norm,
        jit_compile=_JIT_COMPILE[config.jit_compile],
    )
    return model


def _optimizer(config: RunConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    train = config.train
    if train.scale_rate == 1.0:
        return _optimizer_at(train, steps_per_epoch, train.learning_rate)
    means, scales = (
        _optimizer_at(train, steps_per_epoch, train.learning_rate * times)
        for times in (1.0, train.scale_rate)
    )
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(means, {_SCALES: scales}))


def _optimizer_at(train: Training, steps_per_epoch: int, rate: float) -> keras.optimizers.Optimizer:
    kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[train.optimizer]
    averages = {"use_ema": True, "ema_momentum": train.average_momentum} if train.average_momentum else {}
    schedule = _schedule(train, steps_per_epoch, rate)
    return kind(schedule, weight_decay=train.weight_decay or None, **averages)


def _schedule(
    train: Training, steps_per_epoch: int, rate: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    if train.schedule == "geometric":
        return HoldThenDecay(rate, steps_per_epoch, train.hold_epochs, train.decay)
    return HoldThenLinear(rate, train.hold_epochs * steps_per_epoch, train.epochs * steps_per_epoch)


def _sharpening(config: RunConfig) -> PosteriorSharpening | None:
    if config.method not in SHARPENED_METHODS:
        return None
    settings = config.sharpening
    optimizer = sharpening.default_optimizer(settings.learning_rate)
    return SHARPENINGS[settings.form](settings.sigma0, settings.second_order, optimizer)
