"""Likelihoods of real targets: normal, and Student's t."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn.objective.likelihoods.likelihood import SATURATING, Likelihood

SMALLEST = 1e-6
"""Added to a softplus, whose result would else round to 0."""


def positive(raw: tf.Tensor) -> tf.Tensor:
    """softplus(raw) + 1e-6: a positive parameter, of any output."""
    return tf.nn.softplus(raw) + SMALLEST


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class NormalLikelihood(Likelihood):
    """Real targets [...] under N(location, scale^2).

    Outputs are [..., 2], the location and the raw scale, scale = softplus(raw) + 1e-6; or, with a known
    scale, [...], the locations.
    """

    def __init__(self, scale: float | None = None):
        """Takes the known scale, in units of the targets; None if it is learned, the second output.

        Raises:
          ValueError: if it is not positive.
        """
        if scale is not None and not scale > 0.0:
            raise ValueError(f"scale must be positive, or None. Received: scale={scale}")
        self.scale = None if scale is None else float(scale)
        self.parameters = 2 if scale is None else None
        self.refused_activations = SATURATING if scale is None else frozenset()

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """The normal distribution."""
        if self.scale is not None:
            return tfd.Normal(outputs, self.scale)
        return tfd.Normal(outputs[..., 0], positive(outputs[..., 1]))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"scale": self.scale}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class StudentTLikelihood(Likelihood):
    """Real targets [...] under Student's t, whose tails are heavy: single wild values move it little.

    Outputs are [..., 3]: the location, the raw scale, softplus(raw) + 1e-6, and the raw degrees of freedom,
    2 + softplus(raw), with which the variance is finite.
    """

    parameters = 3

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """Student's t."""
        location, scale, freedom = tf.unstack(outputs, axis=-1)
        return tfd.StudentT(2.0 + positive(freedom), location, positive(scale))
