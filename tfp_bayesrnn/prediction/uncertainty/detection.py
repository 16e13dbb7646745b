"""How well a score tells two kinds of inputs apart, in NumPy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from tfp_bayesrnn.prediction.uncertainty.arguments import checked


def auroc(positive: ArrayLike, negative: ArrayLike) -> float:
    """The chance that a positive scores higher than a negative, equal scores counting half.

    That is the area under the curve of true positives over false positives: 0.5 for scores that tell nothing.

    Args:
      positive: scores that should be high, such as the uncertainty on inputs of another kind, [N].
      negative: scores that should be low, [M].

    Raises:
      ValueError: if an argument is empty, not of rank 1 or holds NaN.
    """
    positive = checked(positive, "positive")
    negative = np.sort(checked(negative, "negative"))
    below = np.searchsorted(negative, positive, side="left")
    not_above = np.searchsorted(negative, positive, side="right")
    return float(np.sum(below + not_above)) / (2 * len(positive) * len(negative))


def false_positive_rate(positive: ArrayLike, negative: ArrayLike, sensitivity: float = 0.95) -> float:
    """The share of negatives that pass for positives where most positives are found; by default FPR95.

    The threshold is the highest at which at least that share of the positives scores as high or higher; a
    negative passes for one where it does so too. The rate of scores that tell nothing is about `sensitivity`.

    Args:
      positive: scores that should be high, such as the uncertainty on inputs of another kind, [N].
      negative: scores that should be low, [M].
      sensitivity: the share of positives to find, above 0, at most 1.

    Raises:
      ValueError: if an argument is empty, not of rank 1 or holds NaN, or the sensitivity is out of range.
    """
    if not 0.0 < sensitivity <= 1.0:
        raise ValueError(f"sensitivity should be above 0 and at most 1. Received: sensitivity={sensitivity}")
    positive = np.sort(checked(positive, "positive"))
    negative = checked(negative, "negative")
    # 0.95 of 20 are 19, of which rounding makes a little more.
    needed = math.ceil(sensitivity * len(positive) - 1e-9)
    return float(np.mean(negative >= positive[len(positive) - needed]))
