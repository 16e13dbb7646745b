"""Minibatches of training and of validation.

A pass over the training data has so many windows that it predicts every value once on average: a series of T
steps gives (T - first) / H of them, each at an origin drawn anew from all there are. So the rows of a pass,
over which the objective shares out the KL, are those of the data, however many passes training makes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from zoo.forecasting.splits import ForecastData, Places
from zoo.forecasting.windows import Rows, Windows


class Minibatches:
    """The minibatches of a data set."""

    def __init__(self, data: ForecastData, windows: Windows, batch: int):
        """Counts the windows of a pass.

        Args:
          data: the data.
          windows: their windows.
          batch: the rows of a minibatch of training.
        """
        self.windows, self.batch = windows, batch
        self._data = data
        context, horizon = windows.layout.context, windows.layout.horizon
        self._ends = data.ends["train"]
        starts = np.array([np.flatnonzero(np.isfinite(one.values))[0] for one in data.series.series])
        self._first = starts + np.clip(self._ends - starts - horizon, 1, context)
        self._last = np.maximum(self._first, self._ends - horizon)
        counts = np.maximum(1, np.round((self._ends - self._first) / horizon)).astype(int)
        self._series = np.repeat(np.arange(len(counts)), counts)

    def __len__(self) -> int:
        return -(-len(self._series) // self.batch)

    @property
    def rows(self) -> int:
        """The rows of a pass, those that fill up the last minibatch too."""
        return len(self) * self.batch

    @functools.cached_property
    def predictions_per_row(self) -> float:
        """The average number of values that a row predicts, of the first pass."""
        places = self._pass(0, 0)
        return float(self._rows(places).weights.sum(axis=1).mean())

    def training(self, first_step: int, seed: int) -> tf.data.Dataset:
        """An endless stream from a step on.

        Args:
          first_step: the step of the first minibatch.
          seed: the seed of origins and orders.
        """

        def elements() -> Iterator[tuple]:
            order = functools.lru_cache(1)(lambda number: self._pass(number, seed))
            for step in itertools.count(first_step):
                number, place = divmod(step, len(self))
                chosen = slice(place * self.batch, (place + 1) * self.batch)
                yield _element(self._rows(Places(*(one[chosen] for one in order(number)))))

        return self._dataset(elements, self.batch)

    def evaluation(self, split: str, batch: int) -> tf.data.Dataset:
        """One pass over the forecasts of "valid" or "test", in order."""
        places = self._data.places[split]
        ends = self._data.ends[split][places.series]

        def elements() -> Iterator[tuple]:
            for start in range(0, len(ends), batch):
                some = slice(start, start + batch)
                yield _element(self.windows.rows(Places(*(one[some] for one in places)), ends[some]))

        return self._dataset(elements, None)

    def _pass(self, number: int, seed: int) -> Places:
        """The windows of a pass in their order."""
        random = np.random.default_rng([seed, number])
        series = random.permutation(self._series)
        series = np.concatenate([series, series[: self.rows - len(series)]])
        while len(series) < self.rows:  # Of less data than half a minibatch.
            series = np.concatenate([series, series[: self.rows - len(series)]])
        return Places(series, random.integers(self._first[series], self._last[series] + 1))

    def _rows(self, places: Places) -> Rows:
        return self.windows.rows(places, self._ends[places.series])

    def _dataset(self, elements: object, batch: int | None) -> tf.data.Dataset:
        like = _element(self._rows(Places(*(one[:1] for one in self._pass(0, 0)))))
        signature = tf.nest.map_structure(
            lambda array: tf.TensorSpec([batch, *array.shape[1:]], array.dtype), like
        )
        return tf.data.Dataset.from_generator(elements, output_signature=signature).prefetch(4)


def _element(rows: Rows) -> tuple:
    return rows.inputs, rows.targets, rows.weights
