"""Variational families of a weight: serialisable specifications of q(w)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

_SCALE_FLOOR = 1e-5


def inverse_softplus(value: float) -> float:
    """The rho for which softplus(rho) is `value` > 0."""
    return value + math.log(-math.expm1(-value))


def scale_from_rho(rho: tf.Tensor) -> tf.Tensor:
    """sigma = softplus(rho) + 1e-5, the parametrisation of the authors' released code."""
    return _softplus(rho) + _SCALE_FLOOR


def rho_from_scale(scale: np.ndarray) -> np.ndarray:
    """The rho for which `scale_from_rho` is `scale` > 1e-5, float64."""
    excess = np.asarray(scale, np.float64) - _SCALE_FLOOR
    return excess + np.log(-np.expm1(-excess))


@tf.custom_gradient
def _softplus(x: tf.Tensor):
    """log(1 + exp(x)), with a gradient that shares no term with it.

    With `tf.nn.softplus`, XLA keeps exp(x) of all weights for the gradient: more work than another exp.
    """
    return tf.maximum(x, 0.0) + tf.math.log1p(tf.exp(-tf.abs(x))), lambda upstream: upstream * tf.sigmoid(x)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class MeanFieldNormal:
    """q(w) = N(mu, sigma^2), independent for every weight (Fortunato et al., 2017, section 2).

    rho, not sigma, starts uniformly between the inverse softplus of the two ends of `scale_range`, which are
    in units of the prior's standard deviation. The released ranges are (1/4, 1/2) for recurrent layers and
    (1/2, 1) for the embedding and the softmax. SGD hardly moves sigma: the range is a real hyper-parameter.
    """

    def __init__(self, scale_range: Sequence[float] = (0.5, 1.0)):
        try:
            low, high = (float(end) for end in scale_range)
        except (TypeError, ValueError):
            low, high = 0.0, 0.0
        if not 0.0 < low <= high:
            raise ValueError(
                f"scale_range must be (low, high) with 0 < low <= high. Received: scale_range={scale_range}"
            )
        self.scale_range = (low, high)

    def rho_initializer(self, prior_stddev: float) -> keras.initializers.Initializer:
        """Uniform over rho between the inverse softplus of both ends."""
        low, high = (inverse_softplus(end * prior_stddev) for end in self.scale_range)
        return keras.initializers.RandomUniform(low, high)

    def distribution(self, mu: tf.Tensor, rho: tf.Tensor) -> tfd.Distribution:
        """q(w) over the whole weight."""
        return tfd.Independent(tfd.Normal(mu, scale_from_rho(rho)), reinterpreted_batch_ndims=len(mu.shape))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"scale_range": list(self.scale_range)}

    @classmethod
    def from_config(cls, config: dict) -> MeanFieldNormal:
        """The family whose `get_config` gave `config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class PointMass:
    """q(w) is concentrated on mu: an ordinary deterministic weight, with no noise and no KL."""

    def get_config(self) -> dict:
        """No arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> PointMass:
        """The family whose `get_config` gave `config`."""
        return cls(**config)


def get(posterior) -> MeanFieldNormal | PointMass:
    """A variational family from one or from its serialised form."""
    if isinstance(posterior, dict) and "class_name" in posterior:
        posterior = keras.saving.deserialize_keras_object(posterior)
    if isinstance(posterior, MeanFieldNormal | PointMass):
        return posterior
    raise ValueError(f"posterior must be a MeanFieldNormal or a PointMass. Received: posterior={posterior!r}")
