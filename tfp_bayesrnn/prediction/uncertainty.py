"""Uncertainty of predictions: its parts, and what it is worth.

`decompose` and `brier_score` work on the predictive distributions themselves, in TensorFlow. The others work
on what is kept of each prediction (its confidence, its entropy, whether it is right), in NumPy. Those that
rank look only at the order of the uncertainties, so their unit and scale do not matter.
Dimensions: S samples of the weights, V classes, N predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from numpy.typing import ArrayLike

# Confidences closer than this differ by rounding only: some errors of a float32 softmax.
_ROUNDING = 1e-6


class Uncertainty(NamedTuple):
    """Parts of the uncertainty of predictions, float32 or float64 [...]; total = aleatoric + epistemic.

    Of classes in nats, by the chain rule of entropy (Depeweg et al., 2018); of real targets and counts their
    variance, in squared units, by the law of total variance.
    """

    total: tf.Tensor  # H[mean_s p_s], the entropy of the average; or the variance of a target.
    aleatoric: tf.Tensor  # mean_s H[p_s], what would be left if the weights were known; or mean_s Var_s.
    epistemic: tf.Tensor  # I[class; weights], the mutual information; or the variance of the draws' means.


class TargetScores(NamedTuple):
    """Scores of given classes under the average p of S predictive distributions, float32 [...].

    H[p] = mean_s H[p_s] + I[class; weights], as in `Uncertainty`; one set of weights has no epistemic part.
    """

    log_probs: tf.Tensor  # log p of the class.
    entropy: tf.Tensor  # H[p], nats: total.
    mutual_information: tf.Tensor  # Nats: epistemic, at least 0.

    def of_first(self, sizes: tf.Tensor) -> TargetScores:
        """The scores [N, T], of which the first `sizes` [N] of a row stay; the others are 0."""
        mask = tf.sequence_mask(sizes, tf.shape(self.log_probs)[1], tf.float32)
        # A class that counts may have the logarithm -inf, one that does not must not make a NaN of it.
        return TargetScores(*(tf.math.multiply_no_nan(value, mask) for value in self))


def entropy(log_probs: tf.Tensor) -> tf.Tensor:
    """Returns H[p] of normalised log-probabilities [..., V], nats, [...]; -inf is probability 0."""
    return -tf.reduce_sum(tf.math.multiply_no_nan(log_probs, tf.exp(log_probs)), axis=-1)


def of_average(probabilities: tf.Tensor, aleatoric: tf.Tensor, samples: int | tf.Tensor) -> Uncertainty:
    """The uncertainty of the average of S distributions: every average over draws comes to it here.

    Args:
      probabilities: the probabilities of the average, [..., V].
      aleatoric: the mean of the entropies of the S distributions, [...].
      samples: S; for one distribution the epistemic part is 0.

    Returns:
      Total, aleatoric and epistemic, each [...]. By rounding, the mean of the entropies may exceed the
      total, which by Jensen's inequality it does not: it is then the total.
    """
    total = -tf.reduce_sum(tf.math.xlogy(probabilities, probabilities), axis=-1)
    return of_parts(total, tf.where(tf.equal(samples, 1), total, aleatoric))


def of_parts(total: tf.Tensor, aleatoric: tf.Tensor) -> Uncertainty:
    """Returns total = aleatoric + epistemic, with an epistemic part of at least 0."""
    aleatoric = tf.minimum(aleatoric, total)
    return Uncertainty(total, aleatoric, total - aleatoric)


def decompose(log_probs: tf.Tensor) -> Uncertainty:
    """Returns the uncertainty of the average of S predictive distributions.

    Args:
      log_probs: the log-probabilities [S, ..., V], normalised; half precision is taken as float32, and -inf
        as probability 0.

    Returns:
      Total, aleatoric and epistemic, each [...]. The epistemic part is at least 0, and exactly 0 where S = 1.

    Raises:
      ValueError: if there are less than two axes.
    """
    log_probs = _at_least_float32(log_probs)
    if log_probs.shape.rank is not None and log_probs.shape.rank < 2:
        raise ValueError(f"log_probs should be of shape [S, ..., V]. Received: shape={log_probs.shape}")
    aleatoric = tf.reduce_mean(entropy(log_probs), axis=0)
    if log_probs.shape[0] == 1:
        return of_parts(aleatoric, aleatoric)
    return of_average(tf.reduce_mean(tf.exp(log_probs), axis=0), aleatoric, tf.shape(log_probs)[0])


def brier_score(log_probs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Brier's (1950) score of predictions, sum_v (p_v - [v is the target])^2, from 0, the best, to 2.

    Args:
      log_probs: the log-probabilities [..., V]; see `decompose`.
      targets: the target classes, integers [...].

    Returns:
      The scores [...]. They are TFP's `brier_score`, which leaves out a constant, plus that 1.
    """
    log_probs, targets = _at_least_float32(log_probs), tf.convert_to_tensor(targets)
    flat = tf.reshape(log_probs, [-1, log_probs.shape[-1]])
    return tf.reshape(tfp.stats.brier_score(tf.reshape(targets, [-1]), flat), tf.shape(targets)) + 1.0


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
    confidence, correct = _judged(confidence, correct, bins)
    edges = np.arange(bins + 1) / bins  # Not `np.linspace`, whose 3 / 10 is 3 * 0.1, more than 0.3.
    if equal_mass:
        edges = np.quantile(confidence, edges)
    places = np.searchsorted(edges - _ROUNDING, confidence, side="right") - 1
    places = np.clip(places, 0, bins - 1)
    count = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, values, minlength=bins) for values in (confidence, correct)]
    means = [np.divide(values, count, out=np.full(bins, np.nan), where=count > 0) for values in sums]
    return Reliability(edges[:-1], edges[1:], means[0], means[1], count)


def crps_of_samples(samples: ArrayLike, values: ArrayLike) -> np.ndarray:
    """The continuous ranked probability score of samples [P, ...] of values [...]; [...], in their units.

    It is E|X - y| - E|X - X'| / 2 (Gneiting and Raftery, 2007) with the expectation over two different
    samples, which has no bias: it is, on average, the score of the distribution that they come from.
    """
    samples, values = np.asarray(samples, np.float64), np.asarray(values, np.float64)
    count = len(samples)
    if count < 2:
        raise ValueError(f"The CRPS needs at least two samples. Received: {count} samples")
    error = np.abs(samples - values).mean(axis=0)
    ranks = (2.0 * np.arange(1, count + 1) - count - 1).reshape([-1] + [1] * values.ndim)
    spread = (ranks * np.sort(samples, axis=0)).sum(axis=0) / (count * (count - 1))
    return error - spread


def risk_coverage(uncertainty: ArrayLike, quality: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The mean quality of the answers that are kept when only the surest share of them is.

    Point k of N, from 1 to N, keeps the k answers of lowest uncertainty. Where answers of equal uncertainty
    are kept only in part, their share counts with the mean over all of them: what is expected of a random
    choice among equals; so the order in which the answers come does not matter. The last point is the mean
    over all answers. With a loss for the quality this is the risk-coverage curve of El-Yaniv and Wiener
    (2010); with a score, such as that of a caption, higher is better.

    Args:
      uncertainty: how unsure the model is of each answer, [N]; may be infinite.
      quality: how good, or how bad, each answer is, [N], finite.

    Returns:
      `(coverage, risk)`, both float64 [N]: the share kept, k / N, and the mean quality of what is kept.

    Raises:
      ValueError: if an argument is empty, not of rank 1 or holds NaN, the lengths differ, or a quality is
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
      ValueError: if `risk_coverage` raises it.
    """
    return float(np.mean(risk_coverage(uncertainty, quality)[1]))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation, -1 to 1; equal values share the mean of their ranks.

    Args:
      first: the first values, [N]; may be infinite.
      second: the second values, [N]; may be infinite.

    Returns:
      The correlation; NaN where one of the two is constant, which ranks nothing.

    Raises:
      ValueError: if an argument is empty, not of rank 1 or holds NaN, or the lengths differ.
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
      positive: scores that should be high, such as the uncertainty on inputs of another kind, [N].
      negative: scores that should be low, [M].

    Raises:
      ValueError: if an argument is empty, not of rank 1 or holds NaN.
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


def _judged(confidence: ArrayLike, correct: ArrayLike, bins: int) -> tuple[np.ndarray, np.ndarray]:
    confidence, correct = _pair(confidence, correct, ("confidence", "correct"))
    if bins < 1:
        raise ValueError(f"bins should be at least 1. Received: bins={bins}")
    if confidence.min() < 0.0 or confidence.max() > 1.0:
        raise ValueError(
            "confidence should be between 0 and 1. "
            f"Received: confidence from {confidence.min()} to {confidence.max()}"
        )
    return confidence, (correct != 0).astype(np.float64)


def _at_least_float32(log_probs: tf.Tensor) -> tf.Tensor:
    log_probs = tf.convert_to_tensor(log_probs)
    is_half = log_probs.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(log_probs, tf.float32) if is_half else log_probs


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
