"""Windows of series as arrays: what a network reads before a forecast and in it, scaled for each window.

Dimensions: B windows, C steps of context and H of the horizon, W = C + H, L lags, K features that are known
in advance, J categories. At a step the network sees the values at the lags before it and what is known of the
step, and predicts its value.

Values, or their logarithms, are scaled by those of the context alone: by their mean size, or after their mean
by their standard deviation. Heads of counts keep counts as targets. What is missing, or lies outside of the
series, is 0 among the inputs, has the flag 0, and is no prediction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zoo.data import calendar
from zoo.data.series import Series, SeriesSet
from zoo.data.vocabulary import Vocabulary
from zoo.forecasting.configuration import COUNTS, ForecastingConfig
from zoo.forecasting.splits import Places, words_of


class Layout(NamedTuple):
    """The form of a window."""

    context: int
    horizon: int
    lags: tuple[int, ...]
    frequency: str
    scaling: str
    is_logarithmic: bool
    has_counts: bool

    @classmethod
    def of(cls, config: ForecastingConfig) -> Layout:
        """The form that a configuration says."""
        model, data = config.model, config.data
        return cls(
            model.context,
            data.horizon,
            model.all_lags(data.season),
            data.frequency,
            model.scaling,
            model.transform == "log",
            model.head in COUNTS,
        )

    @property
    def window(self) -> int:
        """The steps of a window."""
        return self.context + self.horizon

    def transformed(self, values: np.ndarray) -> np.ndarray:
        """Values in what is scaled: themselves, or log(1 + value)."""
        return np.log1p(values) if self.is_logarithmic else values


class Rows(NamedTuple):
    """Windows as arrays, float32 where nothing else is said.

    Attributes:
      lags: [B, W, 2 L]: the scaled values at the lags, then their flags.
      known: [B, W, K].
      categories: int32 [B, J].
      scale: [B, 2]: location and scale of the window.
      targets: [B, W]; scaled, but for counts.
      weights: [B, W]: 1 for a value of the horizon that is there, 0 elsewhere.
      history: [B, 2, M]: the scaled values of the M steps before the origin, M the largest lag; their flags.
    """

    lags: np.ndarray
    known: np.ndarray
    categories: np.ndarray
    scale: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    history: np.ndarray

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """What the network takes."""
        return {name: getattr(self, name) for name in ("lags", "known", "categories", "scale")}


class Windows:
    """The windows of a set of series."""

    def __init__(self, series: SeriesSet, vocabulary: Vocabulary, layout: Layout):
        """Lays all series out one after another.

        Args:
          series: the series.
          vocabulary: the words of their categories; others are `<unk>`.
          layout: the form of a window.
        """
        self.layout = layout
        lengths = np.array([len(one) + layout.horizon for one in series.series])
        self._starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self._lengths = lengths
        self._values = np.concatenate(
            [
                layout.transformed(np.pad(one.values, (0, layout.horizon), constant_values=np.nan))
                for one in series.series
            ]
        )
        self._known = np.concatenate([_known(one, layout) for one in series.series])
        ids = [vocabulary.encode(words_of(series, index)) for index in range(len(series))]
        self._categories = np.stack(ids).astype(np.int32)
        self._sizes = np.concatenate([_sizes(one, layout) for one in series.series])

    def rows(self, places: Places, ends: np.ndarray | None = None) -> Rows:
        """The windows of forecasts.

        Args:
          places: the series and the origin of each, [B]; before an origin there is a value.
          ends: the step of each from which on its values are not looked at, [B]; None for the end of the
            series.
        """
        layout = self.layout
        steps = places.origins[:, np.newaxis] + np.arange(-layout.context, layout.horizon)
        values = self._at(places.series, steps, ends)
        location, scale = self._scales(places, values[:, : layout.context])
        back = steps[:, :, np.newaxis] - np.array(layout.lags)
        before = places.origins[:, np.newaxis] + np.arange(-max(layout.lags), 0)
        lags, history = (
            np.stack(
                _filled((self._at(places.series, at, ends) - _like(location, at)) / _like(scale, at)), axis
            )
            for at, axis in ((back, 2), (before, 1))
        )
        scaled = (values - _like(location, steps)) / _like(scale, steps)
        targets, flags = _filled(values if layout.has_counts else scaled)
        flags[:, : layout.context] = 0.0
        return Rows(
            lags.reshape([*steps.shape, -1]).astype(np.float32),
            self._known_at(places.series, steps),
            self._categories[places.series],
            np.stack([location, scale], axis=1).astype(np.float32),
            targets.astype(np.float32),
            flags.astype(np.float32),
            history.astype(np.float32),
        )

    def _at(self, series: np.ndarray, steps: np.ndarray, ends: np.ndarray | None) -> np.ndarray:
        """The values of series [B] at steps [B, ...]; NaN outside, and from `ends` on."""
        last = self._lengths[series] if ends is None else ends
        inside = (steps >= 0) & (steps < _like(last, steps))
        places = _like(self._starts[series], steps) + np.where(inside, steps, 0)
        return np.where(inside, self._values[places], np.nan)

    def _known_at(self, series: np.ndarray, steps: np.ndarray) -> np.ndarray:
        places = np.clip(steps, 0, _like(self._lengths[series] - 1, steps))
        return self._known[_like(self._starts[series], steps) + places]

    def _scales(self, places: Places, context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Location and scale [B] of contexts [B, C]; where nothing is observed, the size of all before."""
        known = np.isfinite(context)
        count, filled = np.maximum(known.sum(axis=1), 1), np.where(known, context, 0.0)
        size = np.abs(filled).sum(axis=1) / count
        fallback = self._sizes[self._starts[places.series] + places.origins - 1]
        size = np.where(known.any(axis=1), size, fallback)
        if self.layout.scaling == "mean_absolute":
            return np.zeros_like(size), np.where(size > 0.0, size, 1.0)
        mean = np.where(known.any(axis=1), filled.sum(axis=1) / count, fallback)
        squares = np.where(known, filled - mean[:, np.newaxis], 0.0) ** 2
        deviation = np.sqrt(squares.sum(axis=1) / count)
        least = 0.01 * np.where(size > 0.0, size, 1.0)  # Of a context that is constant, or one value.
        return mean, np.maximum(deviation, least)


def _like(rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Numbers of rows [B] with the axes of [B, ...]."""
    return rows.reshape([-1] + [1] * (steps.ndim - 1))


def _filled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values with 0 where one is missing, and the flags of those that are there."""
    known = np.isfinite(values)
    return np.where(known, values, 0.0), known.astype(np.float64)


def _known(one: Series, layout: Layout) -> np.ndarray:
    """What is known of each step of a series and of a horizon after it, float32 [T + H, K]."""
    steps = len(one) + layout.horizon
    age = np.log10(1.0 + np.arange(steps, dtype=np.float32))[:, np.newaxis] / 3.0
    covariates = one.covariates[:steps]
    covariates = np.pad(covariates, ((0, steps - len(covariates)), (0, 0)))
    parts = [calendar.features(layout.frequency, one.start, steps), age, covariates]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _sizes(one: Series, layout: Layout) -> np.ndarray:
    """The mean size of the values up to each step, [T + H]: of what scales by it."""
    values = layout.transformed(np.pad(one.values, (0, layout.horizon), constant_values=np.nan))
    filled, known = _filled(np.abs(values))
    return np.cumsum(filled) / np.maximum(np.cumsum(known), 1.0)


def feature_count(config: ForecastingConfig) -> int:
    """K, the number of features that are known in advance."""
    return calendar.feature_count(config.data.frequency) + 1 + len(config.data.covariate_names)
