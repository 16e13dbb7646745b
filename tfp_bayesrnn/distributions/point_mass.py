"""The family of ordinary weights."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn.distributions.families import Variables, VariationalFamily
from tfp_bayesrnn.distributions.priors import AddVariable, Prior


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class PointMass(VariationalFamily):
    """q(w) is concentrated on mu: an ordinary deterministic weight, with no noise and no KL."""

    def add_variables(
        self,
        add_variable: AddVariable,
        shape: Sequence[int],
        initial_mean: keras.initializers.Initializer,
        prior: Prior,
    ) -> dict[str, keras.Variable]:
        """`mu`, of the weight's shape."""
        return {"mu": add_variable(name="mu", initializer=initial_mean)}

    def noise_shape(self, shape: Sequence[int]) -> None:
        """None: there is no noise."""
        return None

    def sample(self, variables: Variables, noise: tf.Tensor) -> tf.Tensor:
        """`mu`."""
        return variables["mu"]

    def distribution(self, variables: Variables) -> tfd.Distribution:
        """`tfd.Independent` over `tfd.Deterministic`."""
        return tfd.Independent(tfd.Deterministic(variables["mu"]), len(variables["mu"].shape))

    def mean(self, variables: Variables) -> tf.Tensor:
        """`mu`."""
        return variables["mu"]

    def scale(self, variables: Variables) -> tf.Tensor:
        """The standard deviation, which is 0."""
        return tf.zeros_like(variables["mu"])

    def kl(
        self,
        variables: Variables,
        prior: tfd.Distribution,
        value: tf.Tensor,
        noise: tf.Tensor | None = None,
        keep: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The KL, which is 0: the weight has no prior."""
        return tf.zeros([])

    def variables_for(self, mean: np.ndarray, scale: np.ndarray | None) -> dict[str, np.ndarray]:
        """Returns the value of `mu`, whatever the scale."""
        return {"mu": mean}
