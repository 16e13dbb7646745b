"""The mean-field normal family, with a mean and a scale of its own for every element of a weight."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn.distributions.families import Variables
from tfp_bayesrnn.distributions.independent_normal import IndependentNormal
from tfp_bayesrnn.distributions.priors import AddVariable, Prior
from tfp_bayesrnn.distributions.softplus import inverse_softplus, rho_from_scale, scale_from_rho


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class MeanFieldNormal(IndependentNormal):
    """q(w) = N(mu, sigma^2), independent for every weight (Fortunato et al., 2017, section 2).

    sigma is softplus(rho) + 1e-5. rho, not sigma, starts uniformly between the inverse softplus of the two
    ends of `scale_range`, which are in units of the prior's standard deviation. Adam moves rho by its
    learning rate a step, and SGD hardly moves it: the range is a real hyper-parameter. `released` has the
    ranges of the authors' language models.
    """

    def rho_initializer(self, prior_stddev: float) -> keras.initializers.Initializer:
        """An initializer of rho, uniform between the inverse softplus of both ends."""
        low, high = (inverse_softplus(end * prior_stddev) for end in self.scale_range)
        return keras.initializers.RandomUniform(low, high)

    def add_variables(
        self,
        add_variable: AddVariable,
        shape: Sequence[int],
        initial_mean: keras.initializers.Initializer,
        prior: Prior,
    ) -> dict[str, keras.Variable]:
        """`mu` and `rho`, both of the weight's shape."""
        return {
            "mu": add_variable(name="mu", initializer=initial_mean),
            "rho": add_variable(name="rho", initializer=self.rho_initializer(prior.stddev(shape))),
        }

    def scale(self, variables: Variables) -> tf.Tensor:
        """softplus(rho) + 1e-5."""
        return scale_from_rho(variables["rho"])

    def scale_variables_for(self, scale: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the rho of every sigma above 1e-5."""
        return {"rho": rho_from_scale(scale)}
