"""Whether predictions are as often right as their confidence says, in NumPy; N predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfp_bayesrnn.prediction.uncertainty.arguments import judged

# Confidences closer than this differ by rounding only: some errors of a float32 softmax.
_ROUNDING = 1e-6


class Reliability(NamedTuple):
    """A reliability diagram: predictions in bins of confidence. Float64 [bins], where nothing else is said.

    Empty bins have NaN for confidence and accuracy.
    """

    lower: np.ndarray  # The least confidence of a bin.
    upper: np.ndarray  # The end of a bin.
    confidence: np.ndarray  # The mean confidence of its predictions.
    accuracy: np.ndarray  # The share of its predictions that are right.
    count: np.ndarray  # type: ignore[assignment]  # Int64; it hides the method of tuples.

    @property
    def error(self) -> float:
        """The expected calibration error: |accuracy - confidence| of their bin, averaged over predictions."""
        gaps = np.abs(np.nan_to_num(self.accuracy) - np.nan_to_num(self.confidence))
        return float(np.sum(self.count * gaps) / np.sum(self.count))


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """The expected calibration error over bins of equal width (Guo et al., 2017), 0 to 1.

    It is that of `reliability`, to the bit.

    Args:
      confidence: the probability of the predicted class, [N], 0 to 1.
      correct: whether it was right, [N].
      bins: the number of bins.

    Raises:
      ValueError: if an argument is not as described above.
    """
    return reliability(confidence, correct, bins).error


def reliability(
    confidence: ArrayLike, correct: ArrayLike, bins: int = 15, equal_mass: bool = False
) -> Reliability:
    """Returns the reliability diagram of predictions.

    A bin holds the confidences from its lower end up to, and without, its upper end; the last holds 1 too. A
    confidence that is less than 1e-6 below an end counts as at it: float32 does not hold 0.7, and what a
    network computes as 0.7 is a little more or a little less.

    Args:
      confidence: the probability of the predicted class, [N], 0 to 1.
      correct: whether it was right, [N].
      bins: the number of bins.
      equal_mass: whether the bins hold equally many predictions, cut at the quantiles of the confidence
        (predictions of equal confidence share a bin, so some may be empty), and not have equal width.

    Raises:
      ValueError: if an argument is not as described above.
    """
    if bins < 1:
        raise ValueError(f"bins should be at least 1. Received: bins={bins}")
    confidence, correct = judged(confidence, correct)
    edges = np.arange(bins + 1) / bins  # Not `np.linspace`, whose 3 / 10 is 3 * 0.1, more than 0.3.
    if equal_mass:
        edges = np.quantile(confidence, edges)
    places = np.searchsorted(edges - _ROUNDING, confidence, side="right") - 1
    places = np.clip(places, 0, bins - 1)
    count = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, values, minlength=bins) for values in (confidence, correct)]
    means = [np.divide(values, count, out=np.full(bins, np.nan), where=count > 0) for values in sums]
    return Reliability(edges[:-1], edges[1:], means[0], means[1], count)
