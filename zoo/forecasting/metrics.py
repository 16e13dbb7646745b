"""Scores of forecasts, which are sample paths or quantiles. Everything is float64 NumPy.

Dimensions: N forecasts, H steps of each, P paths. A value that is NaN is missing: no score counts it.

"Scaled" means divided by the mean absolute error, within the values before the origin, of the seasonal naive
forecast (the value one season before): `naive_scale`, the denominator of MASE (Hyndman and Koehler, 2006).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

QUANTILES = tuple(tenth / 10 for tenth in range(1, 10))
"""The quantiles that the weighted quantile loss averages over."""


def naive_scale(history: ArrayLike, season: int) -> float:
    """The mean absolute error of the seasonal naive forecast within a history [T].

    Where no two values are a season apart, or all such are equal, it is that of the naive forecast, and NaN
    where even that is 0 or unknown: then nothing can be scaled by it.
    """
    history = np.asarray(history, np.float64)
    for lag in dict.fromkeys((season, 1)):
        errors = np.abs(history[lag:] - history[:-lag]) if len(history) > lag else np.zeros(0)
        errors = errors[np.isfinite(errors)]
        if len(errors) and errors.mean() > 0.0:
            return float(errors.mean())
    return math.nan


def crps_of_normal(mean: ArrayLike, stddev: ArrayLike, values: ArrayLike) -> np.ndarray:
    """The continuous ranked probability score of normal distributions, in closed form."""
    mean, stddev, values = (np.asarray(one, np.float64) for one in (mean, stddev, values))
    z = (values - mean) / stddev
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return stddev * (z * (2 * normal_cdf(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))


def normal_cdf(z: ArrayLike) -> np.ndarray:
    """The distribution function of the standard normal distribution."""
    return 0.5 * (1.0 + np.vectorize(math.erf, otypes=[np.float64])(np.asarray(z, np.float64) / math.sqrt(2)))


def quantile_loss(forecast: ArrayLike, values: ArrayLike, level: float) -> np.ndarray:
    """The loss of a quantile's forecast, 2 (q - y) ([y <= q] - level): twice the pinball loss, at least 0."""
    forecast, values = np.asarray(forecast, np.float64), np.asarray(values, np.float64)
    return 2.0 * (forecast - values) * ((values <= forecast) - level)


def weighted_quantile_loss(
    samples: ArrayLike, values: ArrayLike, quantiles: Sequence[float] = QUANTILES
) -> float:
    """The loss of all quantiles [P, ...] of all values [...], over the sum of the values' sizes.

    It is the mean over the quantiles of sum(quantile loss) / sum|y| (Salinas et al., 2020, up to how several
    quantiles are averaged): large series count more than small ones. NaN where all values are 0.
    """
    values = np.asarray(values, np.float64)
    found = np.quantile(np.asarray(samples, np.float64), quantiles, axis=0)
    losses = [
        np.nansum(quantile_loss(one, values, level)) for one, level in zip(found, quantiles, strict=True)
    ]
    total = np.nansum(np.abs(values))
    return float(np.mean(losses) / total) if total else math.nan


def interval(samples: ArrayLike, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the central interval of a probability, of samples [P, ...]."""
    low, high = np.quantile(np.asarray(samples, np.float64), [(1.0 - level) / 2, (1.0 + level) / 2], axis=0)
    return low, high


def coverage(low: ArrayLike, high: ArrayLike, values: ArrayLike) -> float:
    """The share of the values, those that are missing left out, that lie in their intervals."""
    values = np.asarray(values, np.float64)
    inside = (np.asarray(low) <= values) & (values <= np.asarray(high))
    return float(inside[np.isfinite(values)].mean())


def mean_absolute_scaled_error(forecasts: ArrayLike, values: ArrayLike, scales: ArrayLike) -> np.ndarray:
    """MASE of every forecast: mean |forecast - value| over its steps [N, H], scaled; [N].

    NaN where the scale is, or all values are missing.
    """
    return scaled_mean(np.abs(np.asarray(forecasts) - np.asarray(values)), scales)


def mean_scaled_interval_score(
    low: ArrayLike, high: ArrayLike, values: ArrayLike, scales: ArrayLike, level: float = 0.95
) -> np.ndarray:
    """MSIS of every forecast, scaled, [N], of central intervals of a probability [N, H].

    The interval score of a step is the width, and 2 / (1 - level) times the distance of a value outside
    from the interval (Gneiting and Raftery, 2007; the M4 competition).
    """
    low, high, values = (np.asarray(one, np.float64) for one in (low, high, values))
    outside = np.maximum(low - values, 0.0) + np.maximum(values - high, 0.0)
    return scaled_mean(high - low + 2.0 / (1.0 - level) * outside, scales)


def scaled_mean(errors: np.ndarray, scales: ArrayLike) -> np.ndarray:
    """The mean over the steps of [N, H] that are no NaN, over a scale [N]."""
    known = np.isfinite(errors)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(known, errors, 0.0).sum(axis=1) / known.sum(axis=1)
        return means / np.asarray(scales, np.float64)
