"""The quantile likelihood: outputs are quantiles of the target."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn.objective.likelihoods import shapes
from tfp_bayesrnn.objective.likelihoods.likelihood import Likelihood

LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class QuantileLikelihood(Likelihood):
    """Real targets [...], of which outputs [..., Q] are quantiles of given levels.

    The nats are those of asymmetric Laplace distributions around each quantile (Yu and Moyeed, 2001), of
    scale `scale`, averaged over the levels: log(scale / (q (1 - q))) + pinball / scale, whose minimum is
    where the outputs are the target's quantiles (Koenker and Bassett, 1978). The distribution of the target
    that the quantiles describe, `distribution`, has a density that is constant between neighbours, and
    exponential tails.
    """

    def __init__(self, levels: Sequence[float] = LEVELS, scale: float = 1.0):
        """Takes the levels, ascending, at least 2, and the scale of the pinball loss in units of the targets.

        Raises:
          ValueError: if they are not.
        """
        levels = tuple(float(level) for level in levels)
        if len(levels) < 2 or any(not low < high for low, high in itertools.pairwise((0.0, *levels, 1.0))):
            raise ValueError(f"levels must ascend, from above 0 to below 1. Received: levels={levels}")
        if not scale > 0.0:
            raise ValueError(f"scale must be positive. Received: scale={scale}")
        self.levels, self.scale, self.parameters = levels, float(scale), len(levels)

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The negative log-likelihood [...], in nats."""
        residuals = shapes.like(targets, outputs.shape[:-1], outputs)[..., tf.newaxis] - outputs
        levels = tf.constant(self.levels, outputs.dtype)
        pinball = tf.maximum(levels * residuals, (levels - 1.0) * residuals) / self.scale
        constant = np.mean([math.log(self.scale / (level * (1.0 - level))) for level in self.levels])
        return tf.reduce_mean(pinball, axis=-1) + tf.cast(constant, outputs.dtype)

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """The distribution that the quantiles describe; those that cross are put in order first."""
        return PiecewiseUniform(self.levels, tf.sort(outputs, axis=-1))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"levels": list(self.levels), "scale": self.scale}

    def __hash__(self) -> int:
        return hash(self.levels)


class PiecewiseUniform(tfd.Distribution):
    """The distribution of given quantiles: uniform between neighbours, with exponential tails.

    A tail goes on with the density of the interval beside it.
    """

    def __init__(self, levels: Sequence[float], values: tf.Tensor):
        """Takes Q ascending levels, and the quantiles [..., Q], ascending."""
        self._levels, self._values = tuple(levels), values
        super().__init__(
            dtype=values.dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            name="PiecewiseUniform",
        )
        ends = tf.constant(self._levels, values.dtype)
        self._mass = ends[1:] - ends[:-1]
        # Quantiles that are equal hold their mass in next to nothing.
        least = 1e-6 * (1.0 + tf.abs(values[..., :-1]))
        self._width = tf.maximum(values[..., 1:] - values[..., :-1], least)
        self._lower, self._upper = ends[0], 1.0 - ends[-1]
        # An exponential tail of mass p and density f at its end has the scale p / f.
        self._lower_scale = self._lower * self._width[..., 0] / self._mass[0]
        self._upper_scale = self._upper * self._width[..., -1] / self._mass[-1]

    def _batch_shape(self) -> tf.TensorShape:
        return self._values.shape[:-1]

    def _batch_shape_tensor(self) -> tf.Tensor:
        return tf.shape(self._values)[:-1]

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.zeros([0], tf.int32)

    def _tails(self, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The logarithms of the share of the lower tail below y, and of the upper one above it; 0 inside."""
        below = tf.minimum(y - self._values[..., 0], 0.0) / self._lower_scale
        above = tf.minimum(self._values[..., -1] - y, 0.0) / self._upper_scale
        return below, above

    def _cdf(self, y: tf.Tensor) -> tf.Tensor:
        below, above = self._tails(y)
        inside = tf.clip_by_value((y[..., tf.newaxis] - self._values[..., :-1]) / self._width, 0.0, 1.0)
        middle = tf.reduce_sum(inside * self._mass, axis=-1)
        return self._lower * tf.exp(below) + middle + self._upper * (1.0 - tf.exp(above))

    def _log_prob(self, y: tf.Tensor) -> tf.Tensor:
        below, above = self._tails(y)
        place = tf.reduce_sum(tf.cast(y[..., tf.newaxis] >= self._values[..., 1:-1], tf.int32), axis=-1)
        chosen = tf.one_hot(place, len(self._levels) - 1, dtype=self.dtype)
        log_density = tf.math.log(self._mass) - tf.math.log(self._width)
        return tf.reduce_sum(chosen * log_density, axis=-1) + below + above

    def _quantile(self, q: tf.Tensor) -> tf.Tensor:
        levels = tf.constant(self._levels, self.dtype)
        inside = tf.clip_by_value((q[..., tf.newaxis] - levels[:-1]) / self._mass, 0.0, 1.0)
        middle = self._values[..., 0] + tf.reduce_sum(inside * self._width, axis=-1)
        below = self._lower_scale * tf.minimum(tf.math.log(q / self._lower), 0.0)
        above = self._upper_scale * tf.minimum(tf.math.log((1.0 - q) / self._upper), 0.0)
        return middle + below - above

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        shape = tf.concat([[n], self._batch_shape_tensor()], axis=0)
        # Without both ends, whose quantiles are infinite.
        uniform = tf.random.stateless_uniform(shape, seed, 1e-7, 1.0 - 1e-6, self.dtype)
        return self._quantile(uniform)

    def _moments(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The mean, and the mean square around the lowest quantile."""
        start = self._values[..., :1]
        low = self._values[..., :-1] - start
        high = low + self._width
        first = tf.reduce_sum(self._mass * (low + high) / 2.0, axis=-1)
        second = tf.reduce_sum(self._mass * (low * low + low * high + high * high) / 3.0, axis=-1)
        end, lower, upper = high[..., -1], self._lower_scale, self._upper_scale
        first += -self._lower * lower + self._upper * (end + upper)
        second += self._lower * 2.0 * lower**2 + self._upper * (end**2 + 2.0 * end * upper + 2.0 * upper**2)
        return first, second

    def _mean(self) -> tf.Tensor:
        return self._values[..., 0] + self._moments()[0]

    def _variance(self) -> tf.Tensor:
        first, second = self._moments()
        return second - first**2
