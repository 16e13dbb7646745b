"""The mixture over draws of the weights: distributions [S, ...], each of weight 1 / S."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_bayesrnn.objective.likelihoods import Likelihood
from tfp_bayesrnn.prediction import averages


def log_prob(each: tf.Tensor) -> tf.Tensor:
    """The logarithm of the mean of probabilities whose logarithms [S, ...] are given."""
    total = each[0]
    for place in range(1, each.shape[0]):
        total = averages.log_add_exp(total, each[place])
    return total - tf.math.log(tf.cast(each.shape[0], each.dtype))


class Mixture:
    """The mixture that a likelihood makes of outputs under S draws.

    What loops inside, such as a distribution function of Student's t, is compiled, once for each likelihood.
    """

    def __init__(self, likelihood: Likelihood, outputs: tf.Tensor):
        """Takes the likelihood, of real targets or counts, and the outputs, float32 [S, N, ...]."""
        self._functions, self._outputs = _functions(likelihood), tf.convert_to_tensor(outputs)
        self._is_discrete = likelihood.is_discrete

    def cdf(self, y: tf.Tensor) -> tf.Tensor:
        """P(target <= y), [Q, N, ...], for y [Q, N, ...].

        Raises:
          NotImplementedError: if the distribution has no distribution function.
        """
        return self._functions.cdf(self._outputs, tf.cast(y, tf.float32))

    def sample(self, places: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Samples, float32 [n, N, ...], each of the draw at its place, int32 [n]."""
        return self._functions.sample(tf.gather(self._outputs, places), seed)

    def quantiles(self, levels: Sequence[float]) -> tf.Tensor:
        """The quantiles, [Q, N, ...]: the least y with P(target <= y) >= q.

        Bisection of the distribution function finds them to the last bits of a float32, counts exactly.

        Args:
          levels: Q probabilities, above 0 and below 1.

        Raises:
          NotImplementedError: if the distribution has no distribution function.
        """
        q = tf.constant(levels, tf.float32)
        low, high = self._counts_around(q) if self._is_discrete else self._around(q)
        q = tf.reshape(q, [-1] + [1] * (len(low.shape) - 1))
        while True:
            middle = tf.floor(0.5 * (low + high)) if self._is_discrete else low + 0.5 * (high - low)
            if bool(tf.reduce_all((middle <= low) | (middle >= high))):  # Neighbours, among what there is.
                return high
            is_below = self.cdf(middle) < q
            low, high = tf.where(is_below, middle, low), tf.where(is_below, high, middle)

    def _around(self, q: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Two ends that each quantile lies between: the least and the greatest of the draws' own."""
        try:
            return self._functions.ends(self._outputs, q)
        except NotImplementedError:
            low, high, step = self._functions.spread(self._outputs)
        low, high = (tf.repeat(end[tf.newaxis], len(q), axis=0) for end in (low, high))
        q = tf.reshape(q, [-1] + [1] * (len(low.shape) - 1))
        while bool(tf.reduce_any((self.cdf(low) >= q) | (self.cdf(high) < q))):
            low, high, step = low - step, high + step, 2.0 * step
        return low, high

    def _counts_around(self, q: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Two ends that each quantile lies between, above the first and up to the second."""
        high = tf.repeat(tf.ones_like(self._functions.spread(self._outputs)[0])[tf.newaxis], len(q), axis=0)
        q = tf.reshape(q, [-1] + [1] * (len(high.shape) - 1))
        while bool(tf.reduce_any(is_below := self.cdf(high) < q)):
            high = tf.where(is_below, 2.0 * high, high)
        return tf.fill(high.shape, -1.0), high  # P(target <= -1) is 0.


class _Functions(NamedTuple):
    cdf: Callable[..., Any]
    ends: Callable[..., Any]
    spread: Callable[..., Any]
    sample: Callable[..., Any]


@functools.lru_cache(maxsize=32)
def _functions(likelihood: Likelihood) -> _Functions:
    def cdf(outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        each = likelihood.distribution(outputs)
        return tf.reduce_mean(tf.cast(each.cdf(tf.cast(y, each.dtype)[:, tf.newaxis]), tf.float32), axis=1)

    def ends(outputs: tf.Tensor, q: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        each = likelihood.distribution(outputs)
        own = each.quantile(tf.reshape(q, [-1] + [1] * len(each.batch_shape)))
        return tf.reduce_min(own, axis=1), tf.reduce_max(own, axis=1)

    def spread(outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        each = likelihood.distribution(outputs)
        mean, deviation = tf.cast(each.mean(), tf.float32), tf.cast(each.stddev(), tf.float32)
        deviation = tf.broadcast_to(deviation, tf.shape(mean))
        low, high = tf.reduce_min(mean - deviation, axis=0), tf.reduce_max(mean + deviation, axis=0)
        return low, high, tf.reduce_max(deviation, axis=0)

    def sample(outputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return tf.cast(likelihood.sample(outputs, seed), tf.float32)

    return _Functions(
        *(tf.function(each, autograph=False, reduce_retracing=True) for each in (cdf, ends, spread, sample))
    )


def crps(samples: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The continuous ranked probability score E|Y - y| - E|Y - Y'| / 2, from independent samples [n, ...].

    The estimate has no bias (Gneiting and Raftery, 2007, eq. 21; Ferro, 2014). In the units of the target; 0
    is the best.
    """
    count = tf.cast(tf.shape(samples)[0], tf.float32)
    ascending = tf.sort(tf.cast(samples, tf.float32), axis=0)
    weights = (2.0 * tf.range(1.0, count + 1.0) - count - 1.0) / (count * (count - 1.0))
    spread = tf.tensordot(weights, ascending, axes=1)
    return tf.reduce_mean(tf.abs(ascending - tf.cast(y, tf.float32)), axis=0) - spread


def sample_places(count: Any, draws: Any, seed: tf.Tensor) -> tf.Tensor:
    """Which of S components each of n independent samples of the mixture comes from, int32 [n]."""
    return tf.random.stateless_uniform([count], seed, 0, draws, tf.int32)
