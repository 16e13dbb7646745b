"""Positive numbers as the softplus of real ones: sigma from rho, and rho from sigma."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

SCALE_FLOOR = 1e-5
"""The smallest sigma of a weight that is no point mass."""


def inverse_softplus(value: float) -> float:
    """Returns the rho for which softplus(rho) is `value` > 0."""
    return value + math.log(-math.expm1(-value))


def inverse_softplus_of(values: np.ndarray) -> np.ndarray:
    """Returns `inverse_softplus` of each of the values; NaN where a value is not above 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return values + np.log(-np.expm1(-values))


def scale_from_rho(rho: tf.Tensor) -> tf.Tensor:
    """sigma = softplus(rho) + 1e-5, the parametrisation of the authors' released code."""
    return softplus(rho) + SCALE_FLOOR


def rho_from_scale(scale: np.ndarray) -> np.ndarray:
    """Returns the rho for which `scale_from_rho` is `scale` > 1e-5, float64; NaN for a smaller scale."""
    return inverse_softplus_of(np.asarray(scale, np.float64) - SCALE_FLOOR)


@tf.custom_gradient
def softplus(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """log(1 + exp(x)), with a gradient that shares no term with it.

    With `tf.nn.softplus`, XLA keeps exp(x) of all weights for the gradient, which is more work than another
    exp.
    """
    return tf.maximum(x, 0.0) + tf.math.log1p(tf.exp(-tf.abs(x))), lambda upstream: upstream * tf.sigmoid(x)
