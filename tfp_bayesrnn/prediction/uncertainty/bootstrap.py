"""Confidence intervals by resampling of cases, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from tfp_bayesrnn.prediction.uncertainty.arguments import checked


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    paired: bool = True,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap confidence interval of a statistic over cases, such as images.

    Cases are drawn with replacement, as many as there are. Draws for which the statistic is NaN (a rank
    correlation with a constant) are left out; where all are, both ends are NaN.

    Args:
      statistic: a function that takes the samples and gives a number, such as `rank_correlation`.
      *samples: one number for each case, [N].
      paired: whether the samples are about the same cases, drawn together; without, each sample is drawn on
        its own, as `auroc` needs it.
      level: the share of the draws' statistics inside the interval, between 0 and 1.
      resamples: the number of draws.
      seed: the seed of the draws; the same seed gives the same interval.

    Returns:
      The lower and the upper end.

    Raises:
      ValueError: if there is no sample, or one is empty, not of rank 1 or holds NaN, paired samples have
        different lengths, or level or resamples is out of range.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level should be between 0 and 1. Received: level={level}")
    if resamples < 1:
        raise ValueError(f"resamples should be at least 1. Received: resamples={resamples}")
    if not samples:
        raise ValueError(f"at least one sample is needed. Received: samples={samples}")
    arrays = [checked(sample, f"sample {index}") for index, sample in enumerate(samples)]
    lengths = [len(array) for array in arrays]
    if paired and len(set(lengths)) > 1:
        raise ValueError(f"paired samples should have the same length. Received: lengths={lengths}")
    generator = np.random.default_rng(seed)
    values = np.empty(resamples)
    for index in range(resamples):
        drawn = generator.integers(lengths[0], size=lengths[0])
        rows = [drawn] + [
            drawn if paired else generator.integers(length, size=length) for length in lengths[1:]
        ]
        values[index] = statistic(*(array[chosen] for array, chosen in zip(arrays, rows, strict=True)))
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
