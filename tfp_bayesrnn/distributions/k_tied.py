"""The k-tied normal family: mean-field, with standard deviations of low rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn.distributions.families import Variables
from tfp_bayesrnn.distributions.independent_normal import SCALE_RANGE, IndependentNormal
from tfp_bayesrnn.distributions.mean_field import MeanFieldNormal
from tfp_bayesrnn.distributions.priors import AddVariable, Prior
from tfp_bayesrnn.distributions.softplus import (
    SCALE_FLOOR,
    inverse_softplus,
    inverse_softplus_of,
    softplus,
)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class KTiedNormal(IndependentNormal):
    """q(W) = N(mu, sigma^2), independent for every weight, with sigma = U V^T (Swiatkowski et al., 2020).

    The standard deviations of a matrix [rows, columns] are the product of U [rows, k] and V [columns, k],
    whose elements are positive (section 3 of arXiv 2002.02655): k (rows + columns) numbers in place of
    rows * columns. The paper finds that k = 2 or 3 predicts as well as a sigma for every weight, and that the
    gradients of what is shared have less noise.

    This library's own choices are: U and V are softplus(rho_u) and softplus(rho_v), each plus
    sqrt(1e-5 / k), so that no sigma is below 1e-5, which is `MeanFieldNormal`'s least; they start so that
    every sigma lies in `scale_range`, which is in units of the prior's standard deviation; a weight of more
    than two dimensions is a matrix whose columns are along its last; and a bias, which has nothing to tie, is
    as in `MeanFieldNormal`.
    """

    def __init__(self, k: int = 2, scale_range: Sequence[float] = SCALE_RANGE):
        """Builds the family: `k` is the rank of sigma, at least 1; `scale_range` is where sigma starts."""
        super().__init__(scale_range)
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k must be a whole number of at least 1. Received: k={k!r}")
        self.k = int(k)
        self._floor = math.sqrt(SCALE_FLOOR / self.k)  # The least element of U and of V.
        self._of_bias = MeanFieldNormal(self.scale_range)

    def add_variables(
        self,
        add_variable: AddVariable,
        shape: Sequence[int],
        initial_mean: keras.initializers.Initializer,
        prior: Prior,
    ) -> dict[str, keras.Variable]:
        """Makes `mu`, of the weight's shape, `rho_u` [rows, k] and `rho_v` [columns, k]; of a bias, `rho`."""
        if len(shape) < 2:
            return self._of_bias.add_variables(add_variable, shape, initial_mean, prior)
        mu = add_variable(name="mu", initializer=initial_mean)
        ends = [end * prior.stddev(shape) for end in self.scale_range]
        # A sum of k products lies between the ends if each factor lies between the roots of their k-th parts.
        bounds = [self._rho(math.sqrt(end / self.k)) for end in ends]
        sizes = {"rho_u": math.prod(shape[:-1]), "rho_v": shape[-1]}
        factors = {
            name: add_variable(
                name=name, shape=(size, self.k), initializer=keras.initializers.RandomUniform(*bounds)
            )
            for name, size in sizes.items()
        }
        return {"mu": mu, **factors}

    def _rho(self, factor: float) -> float:
        return inverse_softplus(max(factor - self._floor, 1e-9))

    def factors(self, variables: Variables) -> tuple[tf.Tensor, tf.Tensor]:
        """U [rows, k] and V [columns, k] of a weight that is not a bias."""
        return tuple(softplus(variables[name]) + self._floor for name in ("rho_u", "rho_v"))

    def scale(self, variables: Variables) -> tf.Tensor:
        """U V^T in the weight's shape; for a bias, softplus(rho) + 1e-5."""
        if "rho" in variables:
            return self._of_bias.scale(variables)
        return _product(*self.factors(variables), variables["mu"].shape)

    def scale_variables_for(self, scale: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the factors of a sigma of rank one, such as one number for all; for a bias, its rho.

        Raises:
          ValueError: if sigma has a higher rank: what is nearest to it is another posterior.
        """
        scale = np.asarray(scale, np.float64)
        if scale.ndim < 2:
            return self._of_bias.scale_variables_for(scale)
        matrix = scale.reshape(-1, scale.shape[-1])
        # Gives U and V the same scale, whatever the first row and the first column are.
        rows, columns = matrix[:, 0] / math.sqrt(matrix[0, 0]), matrix[0] / math.sqrt(matrix[0, 0])
        if not np.allclose(np.outer(rows, columns), matrix, rtol=1e-4, atol=0.0):
            raise ValueError(
                "The scales that a KTiedNormal can be set to are of rank one, such as one number for all "
                "elements of a weight: initial_scale=0.05, say, not a range or a share of each weight. "
                f"Received: scales of shape {scale.shape} from {scale.min():.3g} to {scale.max():.3g}"
            )
        floor, split = self._floor, math.sqrt(self.k)
        rho = {
            name: inverse_softplus_of(factor / split - floor)
            for name, factor in {"rho_u": rows, "rho_v": columns}.items()
        }
        return {name: np.repeat(value[:, np.newaxis], self.k, axis=1) for name, value in rho.items()}

    def exported(self, variables: Variables, keep: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """U and V, and the mask of what is kept; for a bias, sigma."""
        if "rho" in variables:
            return super().exported(variables, keep)
        factors = dict(zip("uv", self.factors(variables), strict=True))
        return factors if keep is None else {**factors, "keep": keep}

    def exported_sample(self, mean: tf.Tensor, stored: Variables, noise: tf.Tensor) -> tf.Tensor:
        """mu + sigma * noise."""
        if "scale" in stored:
            return super().exported_sample(mean, stored, noise)
        deviation = _product(stored["u"], stored["v"], mean.shape) * noise
        return mean + (tf.where(stored["keep"], deviation, 0.0) if "keep" in stored else deviation)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"k": self.k, **super().get_config()}


def _product(u: tf.Tensor, v: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """U V^T in another shape. `tf.matmul` is avoided: on a GPU it rounds its arguments to ten bits (TF32)."""
    return tf.reshape(tf.add_n([u[:, i, tf.newaxis] * v[:, i] for i in range(u.shape[-1])]), shape)
