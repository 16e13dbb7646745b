"""The mixture over draws of the weights: distributions [S, ...], each of weight 1 / S."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.objective.likelihoods import Likelihood
from tfp_bayesrnn.prediction import averages

# The number of outputs that samples are made of at once: 64 MiB.
_SAMPLED_AT_ONCE = 2**24


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

    def sample(self, count: int, seed: tf.Tensor) -> np.ndarray:
        """Samples, float32 [n, N, ...], each of one draw for all of N, chosen at random.

        Args:
          count: n.
          seed: their seed, int32 [2].
        """
        chosen, drawn = (
            noise.derive(seed, stream)
            for stream in (noise.Stream.PREDICTIVE_CHOICE, noise.Stream.PREDICTIVE_NOISE)
        )
        draws, size = (
            len(self._outputs),
            max(1, _SAMPLED_AT_ONCE // max(1, math.prod(self._outputs.shape[1:]))),
        )
        places = tf.random.stateless_uniform([count], chosen, 0, draws, tf.int32)
        parts = [
            self._functions.sample(
                tf.gather(self._outputs, places[start : start + size]), noise.derive(drawn, start)
            )
            for start in range(0, count, size)
        ]
        return np.concatenate([part.numpy() for part in parts])

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
