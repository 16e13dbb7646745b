"""The parts of the uncertainty of predictive distributions, in TensorFlow.

Dimensions: S samples of the weights, V classes.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


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
    log_probs = at_least_float32(log_probs)
    if log_probs.shape.rank is not None and log_probs.shape.rank < 2:
        raise ValueError(f"log_probs should be of shape [S, ..., V]. Received: shape={log_probs.shape}")
    aleatoric = tf.reduce_mean(entropy(log_probs), axis=0)
    if log_probs.shape[0] == 1:
        return of_parts(aleatoric, aleatoric)
    return of_average(tf.reduce_mean(tf.exp(log_probs), axis=0), aleatoric, tf.shape(log_probs)[0])


def reverse_mutual_information(log_probs: tf.Tensor) -> tf.Tensor:
    """Returns mean_s KL(p || p_s) of S distributions p_s and their average p (Malinin and Gales, 2021).

    The mutual information is mean_s KL(p_s || p). The sum of both is the expected pairwise KL divergence, the
    mean of KL(p_s || p_t) over all S^2 pairs.

    Args:
      log_probs: the log-probabilities [S, ..., V]; see `decompose`.

    Returns:
      The information [...], nats, at least 0, and exactly 0 where S = 1. It is infinite where a class has a
      chance under some of the distributions and none under others.
    """
    log_probs = at_least_float32(log_probs)
    if log_probs.shape[0] == 1:
        return tf.zeros_like(log_probs[0, ..., 0])
    samples = tf.cast(tf.shape(log_probs)[0], log_probs.dtype)
    of_average = tf.reduce_logsumexp(log_probs, axis=0) - tf.math.log(samples)
    ratio = of_average - tf.reduce_mean(log_probs, axis=0)
    terms = tf.math.multiply_no_nan(ratio, tf.exp(of_average))
    return tf.maximum(tf.reduce_sum(terms, axis=-1), 0.0)


def at_least_float32(log_probs: tf.Tensor) -> tf.Tensor:
    """The values as a tensor, half precision as float32."""
    log_probs = tf.convert_to_tensor(log_probs)
    is_half = log_probs.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(log_probs, tf.float32) if is_half else log_probs
