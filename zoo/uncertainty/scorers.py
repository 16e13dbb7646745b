"""Things that the benchmark can score: anything that says how sure it is of each word of a text.

A `Scorer` gives `Records` of a stream. `ModelScorer` makes them from a `Predictor`, a model that reads the
windows of a text in order and gives the predictive distributions of the next words.
Dimensions: S samples of the weights, B rows, T steps of a window, V words of the vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.prediction import uncertainty
from zoo.data.windows import Windows, evaluation_windows
from zoo.uncertainty.records import Records, in_order, make_records
from zoo.uncertainty.streams import Stream

Progress = Callable[[Iterable], Iterable]


class Scorer(Protocol):
    """One row of the benchmark's table."""

    name: str
    """Of the model."""

    method: str
    """How it was trained or made."""

    weights: str
    """Which weights predict: "mean", "average over 10 samples"."""

    layout: str
    """How the text was read: "one stream"."""

    def score(self, name: str, stream: Stream, progress: Progress = iter) -> Records | None:
        """Scores a text.

        Args:
          name: the name of the text.
          stream: the text.
          progress: wraps the iteration over its windows.

        Returns:
          Its N records; None where nothing is known of this text.
        """

    def fit_temperature(self, stream: Stream, progress: Progress = iter) -> uncertainty.Fit | None:
        """Finds the temperature at which the model predicts a text best; None of one without probabilities.

        Args:
          stream: the text, which is not the one that is measured: the validation text.
          progress: wraps the iteration over its windows.
        """

    def tempered(self, temperature: float) -> Scorer | None:
        """The same model, its average probabilities at a temperature; None where they are not known."""


class Predictor(Protocol):
    """A model of the next word."""

    def __call__(self, ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Reads a window.

        Args:
          ids: int32 [B, T].
          state: the state returned for the window before; None at the start of the text.

        Returns:
          Normalised log-probabilities of the word after each, float32 [S, B, T, V], and the new state.
        """


class Tempered:
    """A predictor whose probabilities, of the average over its samples, are taken at a temperature."""

    def __init__(self, predictor: Predictor, temperature: float):
        """Takes the predictor and the temperature, above 0."""
        self._predictor, self._temperature = predictor, tf.constant(temperature, tf.float32)

    def __call__(self, ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """See `Predictor`."""
        log_probs, state = self._predictor(ids, state)
        return _tempered(log_probs, self._temperature)[tf.newaxis], state


class ModelScorer:
    """Scores texts by a `Predictor`, window after window, each sample held for the whole text.

    Memory holds the probabilities of one window, S B T V of them, whatever the length of the text.
    """

    def __init__(
        self,
        predictor: Predictor,
        name: str,
        method: str,
        weights: str,
        vocabulary_size: int,
        rows: int = 1,
        unroll: int = 100,
        layout: str | None = None,
    ):
        """Builds the scorer.

        Args:
          predictor: the model.
          name: see `Scorer`.
          method: see `Scorer`.
          weights: see `Scorer`.
          vocabulary_size: the number of words in the vocabulary, V.
          rows: the number of rows B a text is cut into, each read from its own start. 1 reads it as one text;
            more are quicker.
          unroll: steps of a window, T. Where the predictor carries state it matters to speed and memory only.
          layout: see `Scorer`; None for what `rows` says.
        """
        self.name, self.method, self.weights = name, method, weights
        self.layout = layout or ("one stream" if rows == 1 else f"{rows} rows")
        self.predictor = predictor
        self._vocabulary_size = vocabulary_size
        self._rows, self._unroll = rows, unroll

    def score(self, name: str, stream: Stream, progress: Progress = iter) -> Records:
        """See `Scorer`.

        Raises:
          InputError: the model's distributions are not of the shape they should have, or are not numbers.
        """
        windows = evaluation_windows(stream.tokens, self._rows, self._unroll)
        found = []
        for log_probs, targets, _ in self._read(name, windows, progress):
            found.append(
                [
                    None if field is None else field.numpy()
                    for field in _records(log_probs, tf.constant(targets))
                ]
            )
        records = in_order(found, windows.row_predictions)
        if not np.all(np.isfinite(records.entropy)):
            raise InputError(f"{self.name} gave probabilities for {name} that are not numbers")
        return records

    def fit_temperature(self, stream: Stream, progress: Progress = iter) -> uncertainty.Fit:
        """See `Scorer`.

        Raises:
          InputError: as `score` does.
        """
        search = uncertainty.TemperatureSearch()
        windows = evaluation_windows(stream.tokens, self._rows, self._unroll)
        for log_probs, targets, weights in self._read("valid", windows, progress):
            search.add(_averaged(log_probs), tf.constant(targets), weights)
        return search.result()

    def tempered(self, temperature: float) -> ModelScorer:
        """See `Scorer`."""
        return ModelScorer(
            Tempered(self.predictor, temperature),
            self.name,
            self.method,
            self.weights,
            self._vocabulary_size,
            self._rows,
            self._unroll,
            self.layout,
        )

    def _read(
        self, name: str, windows: Windows, progress: Progress
    ) -> Iterator[tuple[tf.Tensor, np.ndarray, np.ndarray]]:
        """Log-probabilities [S, B, T, V], targets [B, T] and weights [B, T] of each window of a text."""
        state = None
        for index in progress(range(len(windows))):
            inputs, targets, weights = windows.element(index)
            log_probs, state = self.predictor(tf.constant(inputs["inputs"]), state)
            expected = [*targets.shape, self._vocabulary_size]
            if log_probs.shape.rank != 4 or log_probs.shape[1:] != expected:
                raise InputError(
                    f"{self.name} gave outputs of shape {log_probs.shape.as_list()} for {name}; accepted: "
                    f"[samples, {', '.join(map(str, expected))}], the last the words of the vocabulary"
                )
            yield log_probs, targets, weights


# Compiled once for all models whose probabilities have one shape.
_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
_records = _compiled(make_records)


@_compiled
def _averaged(log_probs: tf.Tensor) -> tf.Tensor:
    """The logarithm of the average over the samples, from [S, ...]."""
    return tf.reduce_logsumexp(log_probs, axis=0) - math.log(log_probs.shape[0])


@_compiled
def _tempered(log_probs: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """That average at a temperature."""
    return uncertainty.tempered(_averaged(log_probs), temperature)
