"""The family of ordinary weights."""

from __future__ import annotations

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_bayesrnn.distributions.families import VariationalFamily

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class PointMass(VariationalFamily):
    """q(w) is concentrated on mu: an ordinary deterministic weight, with no noise and no KL."""

    def add_variables(self, add_variable, shape, initial_mean, prior):
        """`mu`, of the weight's shape."""
        return {"mu": add_variable(name="mu", initializer=initial_mean)}

    def noise_shape(self, shape):
        """None: there is no noise."""
        return None

    def sample(self, variables, noise):
        """`mu`."""
        return variables["mu"]

    def distribution(self, variables):
        """`tfd.Independent` over `tfd.Deterministic`."""
        return tfd.Independent(tfd.Deterministic(variables["mu"]), len(variables["mu"].shape))

    def mean(self, variables):
        """`mu`."""
        return variables["mu"]

    def scale(self, variables):
        """0."""
        return tf.zeros_like(variables["mu"])

    def kl(self, variables, prior, value, noise=None, keep=None):
        """0: the weight has no prior."""
        return tf.zeros([])

    def variables_for(self, mean, scale):
        """`mu`, whatever the scale."""
        return {"mu": mean}
