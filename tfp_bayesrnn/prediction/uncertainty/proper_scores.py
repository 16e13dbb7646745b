"""Proper scores of predictions."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from numpy.typing import ArrayLike

from tfp_bayesrnn.prediction.uncertainty.parts import at_least_float32


def brier_score(log_probs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Brier's (1950) score of predictions, sum_v (p_v - [v is the target])^2, from 0, the best, to 2.

    Args:
      log_probs: the log-probabilities [..., V]; see `decompose`.
      targets: the target classes, integers [...].

    Returns:
      The scores [...]. They are TFP's `brier_score`, which leaves out a constant, plus that 1.
    """
    log_probs, targets = at_least_float32(log_probs), tf.convert_to_tensor(targets)
    flat = tf.reshape(log_probs, [-1, log_probs.shape[-1]])
    return tf.reshape(tfp.stats.brier_score(tf.reshape(targets, [-1]), flat), tf.shape(targets)) + 1.0


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
