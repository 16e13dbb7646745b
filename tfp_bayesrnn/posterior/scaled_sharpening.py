"""Sharpening with a scale of its own for every weight: the paper's form (eqs. 7 to 9), in which theta's noise
has the scale sigma0 whatever the curvature of the likelihood, made tight.

    p(theta | phi) = N(phi, sigma0^2)                                 sigma0 learned, one for each weight
    q(theta | phi, (x, y)) = N(phi - v * g, v)                        v = 1 / (1 / sigma0^2 + h)

h > 0 is learned, one for each element. For a likelihood that is quadratic in theta, with the curvature h,
this is the exact posterior of theta: Bayes's rule makes one step of Newton's method. With h = 0 it is the
paper's form with eta = sigma0^2. With s = v / sigma0^2,

    KL[q(theta | phi, (x, y)) || p(theta | phi)] = 1/2 sum [s - 1 - ln s + s v g^2]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior import posterior as posteriors
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.posterior.sharpening import PosteriorSharpening, default_optimizer
from tfp_bayesrnn.posterior.weights import VariationalWeight

# sigma0^2 h at the start. An element's KL is then about its square by 4: 1e-9 nats, of millions of elements.
_START = 6e-5


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class ScaledSharpening(PosteriorSharpening):
    """q(theta | phi, (x, y)) with scales that are learned, for the `sharpening` argument of `BayesianModel`.

    Every weight is sharpened, point masses too: theta has a distribution around any phi. The variables are

        log_curvature   ln h, of every element
        log_sigma0      ln sigma0, of every weight (kernel, bias, embedding)

    and have an optimizer of their own, as those of `PosteriorSharpening`.
    """

    def __init__(
        self,
        sigma0: float = 0.02,
        second_order: bool = False,
        optimizer: keras.optimizers.Optimizer | str | dict | None = None,
        **kwargs: Any,
    ):
        """Describes the sharpening; the `BayesianModel` it is given to makes its variables.

        Args:
          sigma0: the standard deviation of p(theta | phi) at the start, of all weights.
          second_order: whether gradients go through g too; see `PosteriorSharpening`.
          optimizer: the optimizer of the variables; None for RMSprop with a learning rate of 0.01, as both
            are logarithms. See `PosteriorSharpening`.
          **kwargs: further arguments of `keras.layers.Layer`.

        Raises:
          ValueError: if sigma0 is not above 0, or not finite.
        """
        super().__init__(sigma0, second_order, optimizer or default_optimizer(0.01), **kwargs)
        if self.sigma0 <= 0.0:
            raise ValueError(f"sigma0 must be above 0. Received: sigma0={sigma0}")
        self.log_sigma0: list[keras.Variable] = []

    @property
    def learned(self) -> list[keras.Variable]:
        """The variables: the log-curvatures of all weights, then their log_sigma0."""
        return [*self.u, *self.log_sigma0]

    def sharpened(self, weights: Iterable[VariationalWeight]) -> list[VariationalWeight]:
        """All weights."""
        return list(weights)

    def _add_variables(self, weights: list[VariationalWeight]) -> None:
        for weight in weights:
            self.u.append(
                self._variable("log_curvature", weight, weight.shape, math.log(_START / self.sigma0**2))
            )
        for weight in weights:
            self.log_sigma0.append(self._variable("log_sigma0", weight, (), math.log(self.sigma0)))

    def _scales(self) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """sigma0^2 and ln(1 + sigma0^2 h) = -ln s of every weight."""
        found = []
        for log_curvature, log_sigma0 in zip(self.u, self.log_sigma0, strict=True):
            log_prior = 2.0 * log_sigma0.value
            found.append((tf.exp(log_prior), tf.nn.softplus(log_curvature.value + log_prior)))
        return found

    def variances(self) -> list[tf.Tensor]:
        """v of every weight, float32."""
        return [variance * tf.exp(-minus_log_s) for variance, minus_log_s in self._scales()]

    def etas(self) -> list[tf.Tensor]:
        """The same: theta's mean follows the gradient by its variance."""
        return self.variances()

    def sharpen(
        self, phi: Draw, gradients: Mapping[VariationalWeight, tf.Tensor], seed: tf.Tensor
    ) -> tuple[Draw, tf.Tensor]:
        """Returns a draw theta ~ q(theta | phi, (x, y)), and the KL of that distribution from p(theta | phi).

        What is pruned stays 0, and has no KL. Arguments and results are those of `PosteriorSharpening`.
        """
        weights = self.sharpened(phi)
        epsilons = posteriors.standard_normals(weights, seed, Stream.SHARPENING)
        values, nats = dict(phi), []
        for weight, (variance, minus_log_s) in zip(weights, self._scales(), strict=True):
            s, g = tf.exp(-minus_log_s), gradients[weight]
            v = variance * s
            values[weight] = phi[weight] - v * g + weight.masked(tf.sqrt(v) * epsilons[weight])
            # s - 1 by expm1: next to 1, where most weights are, the difference would be all rounding.
            of_scale = weight.masked(tf.math.expm1(-minus_log_s) + minus_log_s)
            nats.append(tf.reduce_sum(of_scale + s * v * tf.square(g)))
        return Draw(values, seed=phi.seed), 0.5 * tf.add_n(nats)
