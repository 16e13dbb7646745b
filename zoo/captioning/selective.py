"""What an uncertainty is worth: whether a model's answers are better where it says it is surer.

The figures look only at the order of the uncertainties, so their unit and scale do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def risk_coverage(uncertainty: ArrayLike, quality: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The mean quality of the answers that are kept when only the surest share of them is.

    Point k of N, from 1 to N, keeps the k answers of lowest uncertainty. Where answers of equal uncertainty
    are kept only in part, their share counts with the mean over all of them: what is expected of a random
    choice among equals; so the order in which the answers come does not matter. The last point is the mean
    over all answers. With a loss for the quality this is the risk-coverage curve of El-Yaniv and Wiener
    (2010); with a score, such as CIDEr, higher is better.

    Args:
      uncertainty: how unsure the model is of each answer, [N]; may be infinite.
      quality: how good, or how bad, each answer is, [N], finite.

    Returns:
      `(coverage, risk)`, both float64 [N]: the share kept, k / N, and the mean quality of what is kept.

    Raises:
      ValueError: an argument is empty, not of rank 1 or holds NaN, the lengths differ, or a quality is
        infinite.
    """
    uncertainty, quality = _pair(uncertainty, quality, ("uncertainty", "quality"))
    if not np.all(np.isfinite(quality)):
        raise ValueError(f"quality should be finite. Received: quality={quality}")
    order = np.lexsort((quality, uncertainty))
    _, group, counts = np.unique(uncertainty[order], return_inverse=True, return_counts=True)
    expected = np.bincount(group, quality[order])[group] / counts[group]
    kept = np.arange(1, len(order) + 1)
    return kept / len(order), np.cumsum(expected) / kept


def area_under_risk_coverage(uncertainty: ArrayLike, quality: ArrayLike) -> float:
    """The mean of `risk_coverage` over its N points.

    It equals the mean quality where the uncertainty tells nothing; the best that an uncertainty can reach is
    what `area_under_risk_coverage(-quality, quality)` gives for a score, with `quality` for a loss.

    Raises:
      ValueError: as for `risk_coverage`.
    """
    return float(np.mean(risk_coverage(uncertainty, quality)[1]))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation, -1 to 1; equal values share the mean of their ranks.

    Args:
      first: [N]; may be infinite.
      second: [N]; may be infinite.

    Returns:
      The correlation; NaN where one of the two is constant, which ranks nothing.

    Raises:
      ValueError: an argument is empty, not of rank 1 or holds NaN, or the lengths differ.
    """
    deviations = []
    for values in _pair(first, second, ("first", "second")):
        _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks = np.cumsum(counts) - (counts - 1) / 2
        deviations.append(ranks[group] - (len(values) + 1) / 2)
    first, second = deviations
    spread = np.sum(first**2) * np.sum(second**2)
    return float(np.clip(np.sum(first * second) / math.sqrt(spread), -1.0, 1.0)) if spread else math.nan


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """The chance that a positive scores higher than a negative, equal scores counting half.

    That is the area under the curve of true positives over false positives: 0.5 for scores that tell nothing.

    Args:
      positive: scores that should be high, such as the uncertainty on photos of another kind, [N].
      negative: scores that should be low, [M].

    Raises:
      ValueError: an argument is empty, not of rank 1 or holds NaN.
    """
    positive = _checked(positive, "positive")
    negative = np.sort(_checked(negative, "negative"))
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float(np.sum(below + not_above)) / (2 * len(positive) * len(negative))


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    paired: bool = True,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap confidence interval of a statistic over images.

    Images are drawn with replacement, as many as there are. Draws for which the statistic is NaN (a rank
    correlation with a constant) are left out; where all are, both ends are NaN.

    Args:
      statistic: what takes the samples and gives a number, such as `rank_correlation`.
      *samples: one number an image each, [N].
      paired: whether the samples are about the same images, drawn together; without, each sample is drawn on
        its own, as `auroc` needs it.
      level: the share of the draws' statistics inside the interval, between 0 and 1.
      resamples: the number of draws.
      seed: of the draws; the same seed gives the same interval.

    Returns:
      The lower and the upper end.

    Raises:
      ValueError: there is no sample, or one is empty, not of rank 1 or holds NaN, paired samples have
        different lengths, or level or resamples is out of range.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level should be between 0 and 1. Received: level={level}")
    if resamples < 1:
        raise ValueError(f"resamples should be at least 1. Received: resamples={resamples}")
    if not samples:
        raise ValueError(f"at least one sample is needed. Received: samples={samples}")
    arrays = [_checked(sample, f"sample {index}") for index, sample in enumerate(samples)]
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


def _checked(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} should be of shape [N] with N > 0. Received: shape={array.shape}")
    missing = np.flatnonzero(np.isnan(array))
    if len(missing):
        raise ValueError(f"{name} should hold no NaN. Received: NaN at {missing[0]} of {len(array)}")
    return array


def _pair(first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    first, second = _checked(first, names[0]), _checked(second, names[1])
    if len(first) != len(second):
        raise ValueError(
            f"{names[0]} and {names[1]} should have the same length. "
            f"Received: lengths={[len(first), len(second)]}"
        )
    return first, second
