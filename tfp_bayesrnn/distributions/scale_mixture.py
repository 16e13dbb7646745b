"""The scale mixture of two normal densities (Blundell et al., 2015; Fortunato et al., 2017, eq. 18)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

GRANULARITIES = ("row", "weight", "tensor")
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


class ScaleMixtureNormal(tfd.Distribution):
    """A distribution over a whole weight tensor: pi N(0, s1^2) + (1 - pi) N(0, s2^2).

    `granularity` says how many weights share one choice of the component:

    * `"weight"`: each weight has its own; the density as the paper writes it (eq. 18);
    * `"row"`: all weights along the last axis of the tensor share one, as in the authors' released code;
    * `"tensor"`: the whole tensor shares one.

    With `keep` it is the marginal over some elements of the tensor: a group has only those, and elements that
    are not kept count for nothing in the density and are 0 in samples.

    Only sums of squares over each group enter the density, so it costs one pass over the weights whatever the
    granularity, and it is evaluated in log space throughout.
    """

    def __init__(
        self,
        shape: Sequence[int],
        mixing_probability: float = 0.25,
        scale1: float = math.exp(-1.0),
        scale2: float = math.exp(-7.0),
        granularity: str = "row",
        keep: tf.Tensor | None = None,
        name: str = "ScaleMixtureNormal",
    ):
        """Builds the distribution; its event shape is `shape`, its batch shape is empty.

        Args:
          shape: the tensor's shape.
          mixing_probability: pi, the probability of the first component.
          scale1: s1, the standard deviation of the first component.
          scale2: s2, the standard deviation of the second component.
          granularity: how many weights share one choice of the component; see the class.
          keep: the kept elements, bool, of the tensor's shape; None to keep all of it.
          name: the distribution's name.

        Raises:
          ValueError: if the probability is outside (0, 1), a scale is not positive, or the granularity is
            unknown.
        """
        parameters = dict(locals())
        if not 0.0 < mixing_probability < 1.0:
            raise ValueError(
                "mixing_probability must lie between 0 and 1. "
                f"Received: mixing_probability={mixing_probability}"
            )
        if not (scale1 > 0.0 and scale2 > 0.0):
            raise ValueError(f"Scales must be positive. Received: scale1={scale1}, scale2={scale2}")
        if granularity not in GRANULARITIES:
            raise ValueError(
                f"granularity must be one of {GRANULARITIES}. Received: granularity={granularity!r}"
            )
        self._shape = tuple(int(size) for size in shape)
        self._components = (
            (math.log(mixing_probability), float(scale1)),
            (math.log1p(-mixing_probability), float(scale2)),
        )
        rank = len(self._shape)
        shared = {"weight": 0, "row": min(rank, 1), "tensor": rank}[granularity]
        self._group_axes = list(range(-shared, 0))
        self._choice_axes = list(range(-(rank - shared), 0))
        self._group_size = math.prod(self._shape[rank - shared :])
        self._keep = keep
        self._choice_shape = self._shape[: rank - shared] + (1,) * shared
        super().__init__(
            dtype=tf.float32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: int | None = None) -> dict[str, Any]:
        return {}

    def _batch_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape(self._shape)

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant(self._shape, tf.int32)

    def marginal(self, keep: tf.Tensor) -> ScaleMixtureNormal:
        """Returns the distribution of the elements where `keep`, bool of the tensor's shape, is true."""
        return self.copy(keep=keep if self._keep is None else tf.logical_and(keep, self._keep))

    def _masked(self, value: tf.Tensor) -> tf.Tensor:
        """`value` [..., *shape] with 0 where nothing is kept."""
        return value if self._keep is None else tf.where(self._keep, value, 0.0)

    def _log_prob(self, value: tf.Tensor) -> tf.Tensor:
        squares = tf.reduce_sum(tf.square(self._masked(value)), axis=self._group_axes)
        size = self._group_size
        if self._keep is not None:
            size = tf.reduce_sum(tf.cast(self._keep, tf.float32), axis=self._group_axes)
        log_densities = [
            log_weight - size * (math.log(scale) + _HALF_LOG_2PI) - squares * (0.5 / scale**2)
            for log_weight, scale in self._components
        ]
        log_density = tfp.math.log_add_exp(*log_densities)
        if self._keep is not None:  # Not log(pi + 1 - pi), which would be rounded once for every empty group.
            log_density = tf.where(size > 0.0, log_density, 0.0)
        return tf.reduce_sum(log_density, axis=self._choice_axes)

    def _sample_n(self, n: int, seed: Any = None) -> tf.Tensor:
        choice_seed, noise_seed = tfp.random.split_seed(seed, n=2, salt="ScaleMixtureNormal")
        (log_weight1, scale1), (_, scale2) = self._components
        choice = tf.random.stateless_uniform((n, *self._choice_shape), choice_seed)
        scale = tf.where(choice < math.exp(log_weight1), scale1, scale2)
        return self._masked(scale * tf.random.stateless_normal((n, *self._shape), noise_seed))

    def _mean(self) -> tf.Tensor:
        return tf.zeros(self._shape)

    def _variance(self) -> tf.Tensor:
        variance = sum(math.exp(log_weight) * scale**2 for log_weight, scale in self._components)
        return self._masked(tf.fill(self._shape, variance))

    def _stddev(self) -> tf.Tensor:
        return tf.sqrt(self._variance())
