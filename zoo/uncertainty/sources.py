"""From a name on the command line to what can be scored.

    DIRECTORY of a run             the posterior mean and, of a model that has draws, their average
    DIRECTORY with saved_model.pb  a SavedModel: this project's language model (`exported`), or another
                                   (`predictors.SavedModelPredictor`)
    DIRECTORY with test.npy, FILE.npz, FILE.csv, FILE.npy      scores that are written down (`files`)
    FILE.keras, FILE.h5            a Keras model
    MODULE:NAME                    a function of Python (`predictors.FunctionPredictor`)

Before each may stand a name for the table: NAME=SOURCE. Ids are those of the vocabulary of the data.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, Dropout, Posterior, keras_internals
from tfp_bayesrnn.errors import InputError, quoted
from tfp_bayesrnn.filesystem.paths import check_regular, local_path, plain
from tfp_bayesrnn.objective.likelihoods import CategoricalLikelihood
from zoo.configuration import limits
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.checksums import Checksums
from zoo.filesystem.files import explained, is_file, is_there
from zoo.uncertainty.files import FileScorer
from zoo.uncertainty.predictors import (
    EnsemblePredictor,
    FunctionPredictor,
    InContext,
    NetworkPredictor,
    SavedModelPredictor,
    carries_state,
    check_causal,
)
from zoo.uncertainty.saved_models import ExportScorer, check_vocabulary
from zoo.uncertainty.scorers import ModelScorer, Predictor, Scorer
from zoo.uncertainty.text_models import text_model

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_RANDOM_LAYERS = (keras.layers.Dropout, keras.layers.SpatialDropout1D, keras.layers.GaussianNoise, Dropout)


@dataclass(frozen=True)
class Settings:
    """The settings by which models are scored.

    Attributes:
      samples: the number of draws of the weights (or masks) averaged, S, beside the mean; 0: the mean alone.
      seed: the seed of the draws.
      rows: the number of rows that a text is cut into; 1: read as one text.
      unroll: the number of words in a window.
      context: the number of words before a window that are given to a model that carries no state.
    """

    samples: int = 10
    seed: int = 0
    rows: int = 1
    unroll: int = 100
    context: int = 100

    def __post_init__(self) -> None:
        for name, least, most in (
            ("samples", 0, limits.SAMPLES),
            ("rows", 1, limits.ROWS),
            ("unroll", 1, limits.WINDOW),
            ("context", 0, limits.WINDOW),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name}={getattr(self, name)}: accepted {least} or more, at most {most}")


def open_source(source: str, vocabulary: Vocabulary, settings: Settings) -> list[Scorer]:
    """Opens what a name stands for, one scorer for each row of the table.

    Args:
      source: the name, in one of the forms that the module lists.
      vocabulary: the vocabulary of the data.
      settings: the settings by which it is scored.

    Raises:
      InputError: there is no such thing, or it cannot be used.
    """
    name, path = _split(source)
    if not name:
        name = (Path(path).resolve() if is_file(Path(path, "config.json")) else Path(path)).name
    return opener_of(source)(name, path, vocabulary, settings)


def open_ensemble(sources: Sequence[str], vocabulary: Vocabulary, settings: Settings) -> list[Scorer]:
    """Opens several sources as one predictor, the average of their probabilities: a scorer for each row.

    The first row averages their means; the second, if any of them has draws, those of all: of models with a
    posterior it is the mixture of their posteriors. Every source counts the same.

    Args:
      sources: the names, each in one of the forms that the module lists.
      vocabulary: the vocabulary of the data.
      settings: the settings by which they are scored.

    Raises:
      InputError: there is no such thing, or it has no probabilities of every word, as a file of scores.
    """
    opened = []
    for source in sources:
        scorers = [one for one in open_source(source, vocabulary, settings) if isinstance(one, ModelScorer)]
        if not scorers:
            raise InputError(
                f"{quoted(source)} gives no probabilities of every word; accepted in an ensemble: workdirs, "
                "Keras files, functions and SavedModels of the next word"
            )
        opened.append(scorers)
    chosen = {"mean of each": [scorers[0] for scorers in opened]}
    if any(len(scorers) > 1 for scorers in opened):
        chosen[f"average over {settings.samples} samples of each"] = [scorers[-1] for scorers in opened]
    return [
        ModelScorer(
            EnsemblePredictor([scorer.predictor for scorer in scorers]),
            f"ensemble of {len(scorers)}",
            "ensemble",
            weights,
            len(vocabulary),
            settings.rows,
            settings.unroll,
            scorers[0].layout,
        )
        for weights, scorers in chosen.items()
    ]


def opener_of(source: str) -> Callable[[str, str, Vocabulary, Settings], list[Scorer]]:
    """The function that opens a source, given its name and path; nothing is read yet.

    Raises:
      InputError: there is no such thing.
    """
    _, path = _split(source)
    openers = {"config.json": _of_workdir, "saved_model.pb": _of_saved_model, "test.npy": _of_files}
    for file, opener in openers.items():
        if is_file(Path(path, file)):
            return opener
    of_suffix = _BY_SUFFIX.get(Path(path).suffix)
    if of_suffix is not None:
        if not is_there(path):
            raise InputError(f"{path} does not exist")
        with explained(path, "read"):
            check_regular(path)
        return of_suffix
    if _FUNCTION.fullmatch(path):
        return _of_function
    raise InputError(
        f"{quoted(path)} cannot be scored; accepted: the workdir of a trained language model, a directory "
        "with saved_model.pb or test.npy, a file .keras, .npz, .csv or .npy, or MODULE:FUNCTION"
    )


def score_network(
    model: keras.Model,
    name: str,
    vocabulary_size: int,
    settings: Settings,
    method: str = "Keras model",
    is_causal: bool = False,
) -> list[Scorer]:
    """The rows of a Keras model of the next word: its mean and, where it has any randomness, the average.

    Args:
      model: ids [B, T] -> logits or probabilities [B, T, V]; or a `BayesianModel` of such a network.
      name: the name for the table.
      vocabulary_size: the number of words in the vocabulary, V.
      settings: the settings by which it is scored.
      method: the method for the table.
      is_causal: whether it is known that no prediction depends on later words; else that is tried.

    Raises:
      InputError: the model's predictions depend on later words, or samples of it would change it.
    """
    network, kind, jit = model, None, False
    if isinstance(model, BayesianModel):
        if not isinstance(model.likelihood, CategoricalLikelihood):
            raise InputError(f"{name} has another likelihood than 'categorical': it predicts no words")
        network, kind, jit = model.network, "logits", model.use_jit()
    shape = getattr(network, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and shape[1] is not None:
        raise InputError(f"{name} takes {shape[1]} words; accepted: models of any number of words")
    posterior = Posterior.of(network)
    mean = NetworkPredictor(network, kind=kind, jit_compile=jit)
    if not is_causal:
        check_causal(mean, name, vocabulary_size)
    scorers: list[Scorer] = [_read_by(network, mean, name, method, "mean", vocabulary_size, settings)]
    if settings.samples and (posterior.is_variational or _has_randomness(network)):
        if not posterior.weights:
            _refuse_moving_averages(network, name)
        sampled = NetworkPredictor(network, settings.samples, settings.seed, kind, jit)
        weights = f"average over {settings.samples} samples"
        scorers.append(_read_by(network, sampled, name, method, weights, vocabulary_size, settings))
    return scorers


def _read_by(
    network: Any,
    predictor: Any,
    name: str,
    method: str,
    weights: str,
    vocabulary_size: int,
    settings: Settings,
) -> ModelScorer:
    layout = None
    if not carries_state(network):
        predictor, layout = InContext(predictor, settings.context), _layout(settings)
    return ModelScorer(
        predictor, name, method, weights, vocabulary_size, settings.rows, settings.unroll, layout
    )


def _layout(settings: Settings) -> str:
    rows = "" if settings.rows == 1 else f"{settings.rows} rows, "
    return f"{rows}windows of {settings.unroll} words after up to {settings.context}"


def _has_randomness(network: keras.Model) -> bool:
    """Returns whether samples of it differ: by dropout, in its own layers or recurrent ones, or by noise."""
    rates = ("rate", "stddev", "dropout", "recurrent_dropout")
    for layer in keras_internals.layers_within(network):
        of_layer = rates if isinstance(layer, _RANDOM_LAYERS) else rates[2:]
        values = (getattr(layer, name, None) for name in of_layer)
        if any(isinstance(value, float | int) and value for value in values):
            return True
    return False


def _refuse_moving_averages(network: keras.Model, name: str) -> None:
    for layer in keras_internals.layers_within(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            raise InputError(
                f"{name} has the layer {layer.name!r}, which passes with training=True would change; "
                "accepted: 0 samples, or models without batch normalisation"
            )


def _of_files(name: str, path: str, vocabulary: Vocabulary, settings: Settings) -> list[Scorer]:
    return [FileScorer(path, name, len(vocabulary))]


def _of_keras_file(name: str, path: str, vocabulary: Vocabulary, settings: Settings) -> list[Scorer]:
    return score_network(_load_keras(path), name, len(vocabulary), settings)


def _of_function(name: str, path: str, vocabulary: Vocabulary, settings: Settings) -> list[Scorer]:
    predictor = FunctionPredictor(_import(path))
    return [ModelScorer(predictor, name, "function", "", len(vocabulary), settings.rows, settings.unroll)]


_BY_SUFFIX = {
    **dict.fromkeys((".npz", ".csv", ".npy"), _of_files),
    **dict.fromkeys((".keras", ".h5"), _of_keras_file),
}


def _of_workdir(name: str, path: str, vocabulary: Vocabulary, settings: Settings) -> list[Scorer]:
    model, config = text_model(path, vocabulary)
    return score_network(model.model, name, len(vocabulary), settings, config.method, is_causal=True)


def _of_saved_model(name: str, path: str, vocabulary: Vocabulary, settings: Settings) -> list[Scorer]:
    Checksums(Path(path)).check_all()  # TensorFlow checks no sums of the graph and of the vocabulary.
    try:
        with plain(path) as folder:
            model = tf.saved_model.load(os.fspath(folder))
    except Exception as error:  # The type depends on what is damaged.
        raise InputError(f"cannot load the SavedModel {path}: {error or type(error).__name__}") from None
    if "score" in model.signatures:
        check_vocabulary(model, vocabulary, path)
        samples = [0, settings.samples] if settings.samples and "score_mc" in model.signatures else [0]
        return [ExportScorer(model, name, count, settings.seed) for count in samples]
    predictor: Predictor = SavedModelPredictor(model)
    check_causal(predictor, name, len(vocabulary))
    predictor = InContext(predictor, settings.context)
    rows, unroll = settings.rows, settings.unroll
    return [ModelScorer(predictor, name, "SavedModel", "", len(vocabulary), rows, unroll, _layout(settings))]


def _load_keras(path: str) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot load the Keras model {path}: {error}") from None


def _import(path: str) -> Any:
    module, _, attribute = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise InputError(f"cannot import {quoted(module)} of {quoted(path)}: {error}") from None
    if not callable(function):
        raise InputError(f"module {quoted(module)} has no function {quoted(attribute)}")
    return function


def path_of(source: str) -> str:
    """The path in a source, or its MODULE:NAME, without the name before it.

    Raises:
      InputError: it cannot be a path.
    """
    return _split(source)[1]


def _split(source: str) -> tuple[str | None, str]:
    """The name and the path of NAME=SOURCE; a path may have "=" in it that exists, or behind a slash."""
    name, separator, path = source.partition("=")
    if not separator or "/" in name or os.path.exists(os.path.expanduser(source)):
        return None, os.fspath(local_path(source, "--compare"))
    return name, os.fspath(local_path(path, "--compare"))
