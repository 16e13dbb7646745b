"""The model of a resolved configuration: network, posterior, objective, optimizer."""

from __future__ import annotations

import numpy as np

from tfp_bayesrnn import BayesianModel, InputError
from zoo.data.corpus import Corpus, load_corpus
from zoo.data.datasets import CORPORA
from zoo.data.vocabulary import Vocabulary
from zoo.data.windows import train_windows
from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.network import build_network
from zoo.runs.assembly import assemble
from zoo.runs.workdir import Workdir


def build_model(config: LanguageModelConfig, vocabulary_size: int, windows_per_epoch: int) -> BayesianModel:
    """The compiled model of a resolved configuration, its weights drawn from `config.seed`."""
    rows = config.train.batch * windows_per_epoch
    return assemble(config, lambda: build_network(config, vocabulary_size), rows, windows_per_epoch)


def load_data(config: LanguageModelConfig, data_dir: str | None) -> Corpus:
    """The corpus of a resolved configuration."""
    return load_corpus(config.data.name, data_dir, **config.data.options)


def restorable(config: LanguageModelConfig, vocabulary: Vocabulary, workdir: Workdir) -> BayesianModel:
    """`build_model` for a checkpoint: no training, whose length is not known then, can follow."""
    return build_model(config, len(vocabulary), windows_per_epoch=1)


def model_for(config: LanguageModelConfig, corpus: Corpus | None = None) -> BayesianModel:
    """`build_model` with the sizes of `corpus`, or of the configured data where those are known without it.

    Raises:
      InputError: if the sizes are not known.
    """
    name = config.data.name
    dataset = CORPORA[name]
    if corpus is None and dataset.made:
        corpus = load_corpus(name)
    if corpus is not None:
        vocabulary_size, tokens = len(corpus.vocabulary), len(corpus.train)
    elif dataset.sizes is not None:
        vocabulary_size, tokens = dataset.sizes
    else:
        raise InputError(f"data {name!r} has no fixed size: pass corpus=zoo.data.load_corpus({name!r}, DIR)")
    train = config.train
    windows = train_windows(np.zeros(tokens, np.int32), train.batch, train.unroll, train.tail)
    return build_model(config, vocabulary_size, len(windows))
