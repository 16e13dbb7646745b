"""Averages over draws of the weights, one draw after another: the memory is that of one.

Each is a fold: `add(None, first)`, then `add(so far, next)`, eagerly or in a graph, and at last `finish`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.objective.likelihoods import BernoulliLikelihood, CategoricalLikelihood, Likelihood
from tfp_bayesrnn.prediction import uncertainty
from tfp_bayesrnn.prediction.uncertainty import TargetScores, Uncertainty


def log_mean_exp(log_probs: Iterable[np.ndarray]) -> np.ndarray:
    """The logarithm of the mean of probabilities whose logarithms are given, arrays of one shape; float64."""
    total: np.ndarray | None = None
    count = 0
    for one in log_probs:
        one = np.asarray(one, np.float64)
        total, count = (one if total is None else np.logaddexp(total, one)), count + 1
    if total is None:
        raise ValueError("The mean is of at least one array. Received: log_probs=[]")
    return total - math.log(count)


def log_add_exp(one: tf.Tensor | None, other: tf.Tensor) -> tf.Tensor:
    """Returns log(exp(one) + exp(other)); None is the logarithm of 0. Both may be -inf."""
    if one is None:
        return other
    largest = tf.maximum(one, other)
    difference = tf.where(tf.math.is_inf(largest), tf.zeros_like(largest), tf.minimum(one, other) - largest)
    return largest + tf.where(
        tf.math.is_inf(largest), tf.zeros_like(largest), tf.math.log1p(tf.exp(difference))
    )


class Probabilities:
    """The average of the distributions that a likelihood of classes makes of outputs, and its uncertainty."""

    def __init__(self, likelihood: CategoricalLikelihood | BernoulliLikelihood):
        """Takes the likelihood."""
        self._likelihood = likelihood

    def add(
        self, sums: tuple[tf.Tensor, tf.Tensor] | None, outputs: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the sums with the network's outputs under one draw more."""
        log_probs = self._likelihood.log_probs(outputs)
        found = tf.exp(log_probs), uncertainty.entropy(log_probs)
        return found if sums is None else (sums[0] + found[0], sums[1] + found[1])

    def finish(
        self, sums: tuple[tf.Tensor, tf.Tensor], count: int | tf.Tensor
    ) -> tuple[tf.Tensor, Uncertainty]:
        """The average probabilities, [..., V], V = 2 for Bernoulli, and their uncertainty [...], nats."""
        average, entropy = (one / tf.cast(count, tf.float32) for one in sums)
        return average, uncertainty.of_average(average, entropy, count)


class Moments:
    """The mean of values, and the sum of squares around it, by Welford (1962): no difference of sums."""

    def add(
        self, sums: tuple[tf.Tensor, tf.Tensor, tf.Tensor] | None, value: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the sums with one draw more."""
        value = tf.cast(value, tf.float32)
        if sums is None:
            return tf.ones([]), value, tf.zeros_like(value)
        count, mean, squares = sums[0] + 1.0, *sums[1:]
        difference = value - mean
        mean += difference / count
        return count, mean, squares + difference * (value - mean)

    def finish(self, sums: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The mean, and the sum of squares: divided by S the draws' variance, by S - 1 an estimate of q's."""
        return sums[1], sums[2]


class Variances:
    """The mean of a target over draws and noise, and the parts of its variance (law of total variance)."""

    def __init__(self, likelihood: Likelihood):
        """Takes the likelihood, of real targets or counts."""
        self._likelihood, self._moments = likelihood, Moments()

    def add(self, sums: tuple[Any, tf.Tensor] | None, outputs: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """Returns the sums with the network's outputs under one draw more."""
        outputs = tf.cast(outputs, tf.float32)
        mean, variance = self._likelihood.mean(outputs), self._likelihood.variance(outputs)
        variance = tf.broadcast_to(tf.cast(variance, tf.float32), tf.shape(mean))
        if sums is None:
            return self._moments.add(None, mean), variance
        return self._moments.add(sums[0], mean), sums[1] + variance

    def finish(self, sums: tuple[Any, tf.Tensor], count: int | tf.Tensor) -> tuple[tf.Tensor, Uncertainty]:
        """The mean [...], and the variance of a target of the mixture over the draws, in its parts [...]."""
        mean, squares = self._moments.finish(sums[0])
        size = tf.cast(count, tf.float32)
        aleatoric, epistemic = sums[1] / size, squares / size
        return mean, Uncertainty(aleatoric + epistemic, aleatoric, epistemic)


def over(
    average: Probabilities | Variances, outputs: Sequence[Any] | tf.Tensor
) -> tuple[tf.Tensor, Uncertainty]:
    """The average over the draws that outputs [S, ...] are of, and its uncertainty."""
    sums: Any = None
    for one in outputs:
        sums = average.add(sums, tf.convert_to_tensor(one))
    return average.finish(sums, len(outputs))


class Targets:
    """The scores of given classes [...] under the average of categorical distributions."""

    def __init__(self, targets: tf.Tensor):
        """Takes the targets, integers [...]."""
        self._targets = tf.convert_to_tensor(targets)

    def add(
        self, sums: tuple[tf.Tensor, tf.Tensor, tf.Tensor] | None, logits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the sums with one draw more, of logits [..., V]."""
        probabilities, chosen, entropy = self._judged(logits)
        if sums is None:
            return chosen, probabilities, entropy
        # The targets' sum is one of logarithms: a probability may be too small for a float32.
        return log_add_exp(sums[0], chosen), sums[1] + probabilities, sums[2] + entropy

    def finish(self, sums: tuple[tf.Tensor, tf.Tensor, tf.Tensor], count: int | tf.Tensor) -> TargetScores:
        """Returns the scores, each [...]."""
        size = tf.cast(count, tf.float32)
        parts = uncertainty.of_average(sums[1] / size, sums[2] / size, count)
        return TargetScores(sums[0] - tf.math.log(size), parts.total, parts.epistemic)

    def _judged(self, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns probabilities [..., V], log p of the targets [...], and the entropy [...].

        It avoids the logarithms of all probabilities, which take longer than the rest.
        """
        logits = tf.cast(logits, tf.float32)
        probabilities = tf.nn.softmax(logits)
        logits -= tf.reduce_max(logits, axis=-1, keepdims=True)
        log_largest = tf.math.log(tf.reduce_max(probabilities, axis=-1))
        chosen = tf.gather(logits, self._targets, batch_dims=self._targets.shape.rank) + log_largest
        entropy = -tf.reduce_sum(tf.math.multiply_no_nan(logits, probabilities), axis=-1) - log_largest
        return probabilities, chosen, entropy
