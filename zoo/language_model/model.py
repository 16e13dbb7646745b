"""The model of a resolved configuration: network, posterior, objective, optimizer."""

from __future__ import annotations

import keras
import numpy as np
from ml_collections import ConfigDict

from tfp_bayesrnn import BayesianModel, HoldThenDecay, InputError, PosteriorSharpening, sharpening
from zoo.data.corpus import Corpus, load_corpus
from zoo.data.known import KNOWN_SIZES
from zoo.data.windows import train_windows
from zoo.language_model.network import build_network


def build_model(config: ConfigDict, vocabulary_size: int, windows_per_epoch: int) -> BayesianModel:
    """The compiled model of a resolved configuration, its weights drawn from `config.seed`."""
    keras.utils.set_random_seed(config.seed)
    train = config.train
    model = BayesianModel(
        build_network(config, vocabulary_size),
        training_rows=train.batch * windows_per_epoch,
        kl_weight=train.kl_weight,
        kl_warmup_steps=round(train.kl_warmup_epochs * windows_per_epoch),
        sharpening=_sharpening(config),
        seed=config.seed,
        name=config.preset,
    )
    model.build((None, None))
    rate = HoldThenDecay(train.learning_rate, windows_per_epoch, train.hold_epochs, train.decay)
    model.compile(
        keras.optimizers.SGD(rate, weight_decay=train.weight_decay or None),
        clip_norm=train.clip_norm,
        jit_compile={"auto": "auto", "on": True, "off": False}[config.jit_compile],
    )
    return model


def _sharpening(config: ConfigDict) -> PosteriorSharpening | None:
    if config.method != "bbb_sharpened":
        return None
    settings = config.sharpening
    return PosteriorSharpening(
        settings.sigma0, settings.second_order, sharpening.default_optimizer(settings.learning_rate)
    )


def model_for(config: ConfigDict, corpus: Corpus | None = None) -> BayesianModel:
    """`build_model` with the sizes of `corpus`, or of the configured data where those are known without it.

    Raises:
      InputError: if the sizes are not known.
    """
    name = config.data.name
    if corpus is None and name == "builtin":
        corpus = load_corpus(name)
    if corpus is not None:
        vocabulary_size, tokens = len(corpus.vocabulary), len(corpus.train)
    elif name in KNOWN_SIZES:
        vocabulary_size, tokens = KNOWN_SIZES[name]
    else:
        raise InputError(f"data {name!r} has no fixed size: pass corpus=zoo.data.load_corpus({name!r}, DIR)")
    train = config.train
    windows = train_windows(np.zeros(tokens, np.int32), train.batch, train.unroll, train.tail)
    return build_model(config, vocabulary_size, len(windows))
