"""The interface of variational families: serialisable specifications of q(w) that serve any weight.

It is the counterpart of `tfp_bayesrnn.distributions.priors.Prior`. `VariationalWeight` holds the variables
and asks the family for everything else; training, sharpening, pruning, conversion, export and reports ask
the weight. So a family of one's own is one class in one file, and what it cannot do is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn.distributions.marginal import marginal
from tfp_bayesrnn.distributions.priors import AddVariable, Prior

Variables = Mapping[str, tf.Tensor]
"""The values of a weight's variables by the names that `add_variables` gave them, float32."""


class VariationalFamily:
    """A family of distributions q(w) of a weight. One object may serve many weights, so it owns no variable.

    A subclass defines `add_variables`, `sample` and `distribution`; the rest follows from these where TFP
    knows the mean and the standard deviation of the distribution, and may be defined for speed or precision.
    Register the class with `keras.saving.register_keras_serializable` and define `get_config` if models with
    it are to be saved. An independent Laplace distribution for each element of a weight:

        class Laplace(VariationalFamily):
            def add_variables(self, add_variable, shape, initial_mean, prior):
                log_scale = keras.initializers.Constant(math.log(0.1 * prior.stddev(shape)))
                return {
                    "mu": add_variable(name="mu", initializer=initial_mean),
                    "log_scale": add_variable(name="log_scale", initializer=log_scale),
                }

            def sample(self, variables, noise):
                tail = math.log(2.0) + tfd.Normal(0.0, 1.0).log_cdf(-tf.abs(noise))
                return variables["mu"] - tf.exp(variables["log_scale"]) * tf.sign(noise) * tail

            def distribution(self, variables):
                laplace = tfd.Laplace(variables["mu"], tf.exp(variables["log_scale"]))
                return tfd.Independent(laplace, len(laplace.batch_shape))
    """

    def add_variables(
        self,
        add_variable: AddVariable,
        shape: Sequence[int],
        initial_mean: keras.initializers.Initializer,
        prior: Prior,
    ) -> dict[str, keras.Variable]:
        """Makes the variables of one weight.

        Args:
          add_variable: a function that makes one variable, as `keras.layers.Layer.add_weight` does; without a
            `shape`, it has the weight's.
          shape: the weight's shape.
          initial_mean: the initializer of the mean; its value has the weight's shape.
          prior: the weight's prior; `prior.stddev(shape)` is the unit of initial scales.

        Returns:
          The variables by name. No name may be "keep", and no two the same.
        """
        raise NotImplementedError

    def noise_shape(self, shape: Sequence[int]) -> tuple[int, ...] | None:
        """The shape of the standard normal noise that one sample of a weight of this shape takes.

        None means a family without a distribution: its weights have a value, `mean`, and neither noise nor
        KL.
        """
        return tuple(shape)

    def sample(self, variables: Variables, noise: tf.Tensor) -> tf.Tensor:
        """The reparameterised sample, of the weight's shape, that standard normal noise stands for."""
        raise NotImplementedError

    def distribution(self, variables: Variables) -> tfd.Distribution:
        """The distribution q(w) of what `sample` gives. Its event is the whole weight, its batch empty."""
        raise NotImplementedError

    def mean(self, variables: Variables) -> tf.Tensor:
        """The mean of q(w), of the weight's shape."""
        return self.distribution(variables).mean()

    def scale(self, variables: Variables) -> tf.Tensor | None:
        """The standard deviation of each element by itself; None where it is not known.

        Operations that need it, such as ranking by |mean| / scale, are then refused.
        """
        try:
            return self.distribution(variables).stddev()
        except NotImplementedError:
            return None

    def log_prob(
        self,
        variables: Variables,
        value: tf.Tensor,
        noise: tf.Tensor | None = None,
        keep: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns log q(w) at a value, a float32 scalar.

        Args:
          variables: the weight's variables, by name.
          value: the value, of the weight's shape.
          noise: the noise that `sample` made the value of, from which the density may be had with fewer
            operations and without a loss of digits; None for any other value.
          keep: the elements whose density is wanted, bool, of the weight's shape; the others are pruned.

        Raises:
          ValueError: if the density of the kept elements is not known.
        """
        return self.marginal(variables, keep).log_prob(value)

    def kl(
        self,
        variables: Variables,
        prior: tfd.Distribution,
        value: tf.Tensor,
        noise: tf.Tensor | None = None,
        keep: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns KL[q || p] in nats, a float32 scalar.

        It is in closed form where TFP knows one for both distributions; else it is the one-sample estimate
        log q(w) - log p(w) at `value` (Fortunato et al., 2017, eq. 2).

        Args:
          variables: the weight's variables, by name.
          prior: p(w); for a pruned weight, that of the kept elements.
          value: the sample that the forward pass used.
          noise: the noise that `sample` made the value of; see `log_prob`.
          keep: the kept elements, bool, of the weight's shape; see `log_prob`.
        """
        try:
            return tfd.kl_divergence(self.marginal(variables, keep), prior)
        except NotImplementedError:
            return self.log_prob(variables, value, noise, keep) - prior.log_prob(value)

    def marginal(self, variables: Variables, keep: tf.Tensor | None) -> tfd.Distribution:
        """Returns q(w) of the kept elements, the others being 0; of all elements where `keep` is None.

        Raises:
          ValueError: if the distribution of the kept elements is not known.
        """
        distribution = self.distribution(variables)
        return distribution if keep is None else marginal(distribution, keep, whose=f"{self.name} posterior")

    @property
    def name(self) -> str:
        """The family's name in error messages."""
        return type(self).__name__

    def variables_for(self, mean: np.ndarray, scale: np.ndarray | None) -> dict[str, np.ndarray]:
        """Returns values of the variables for which q(w) has this mean and these standard deviations.

        Args:
          mean: the mean, of the weight's shape.
          scale: the standard deviations, of the weight's shape; None to leave them as they are.

        Returns:
          The values, by name, of those variables that are to change.

        Raises:
          ValueError: if the family has no such member, or cannot tell.
        """
        raise ValueError(
            f"A weight whose posterior is a {self.name} cannot be set to a given mean and scale: the family "
            f"does not define variables_for. Received: posterior={self.name}"
        )

    def exported(self, variables: Variables, keep: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Returns the arrays that an export stores beside the mean, for `exported_sample` to draw from.

        Args:
          variables: the weight's variables, by name.
          keep: bool, of the weight's shape, false where samples are to be 0; None to keep everything.
        """
        return {**variables, **({} if keep is None else {"keep": keep})}

    def exported_sample(self, mean: tf.Tensor, stored: Variables, noise: tf.Tensor) -> tf.Tensor:
        """Returns what `sample` gives, computed by TensorFlow's own operations on the arrays of an export.

        Args:
          mean: the mean as it is stored: 0 where nothing is kept.
          stored: the arrays that `exported` gave, up to the rounding of the export's format.
          noise: the standard normal noise that `sample` takes.
        """
        value = self.sample({name: array for name, array in stored.items() if name != "keep"}, noise)
        return tf.where(stored["keep"], value, 0.0) if "keep" in stored else value

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> VariationalFamily:
        """The family whose `get_config` gave `config`."""
        return cls(**config)


def get(posterior: VariationalFamily | dict) -> VariationalFamily:
    """Returns a variational family from one or from its serialised form.

    Raises:
      ValueError: if `posterior` is neither, or a family that contradicts itself: one whose class redefines
        `distribution`, say, and inherits a `sample` of another distribution.
    """
    if isinstance(posterior, dict) and "class_name" in posterior:
        posterior = keras.saving.deserialize_keras_object(posterior)
    if not isinstance(posterior, VariationalFamily):
        raise ValueError(
            "posterior must be a variational family such as MeanFieldNormal(), KTiedNormal() or PointMass(), "
            f"or of another class that derives from VariationalFamily. Received: posterior={posterior!r}"
        )
    _check_coherent(type(posterior))
    return posterior


_REQUIRED = ("add_variables", "sample", "distribution")
# The other methods that describe a distribution, and would be false for another one.
_OF_A_DISTRIBUTION = (
    "sample",
    "mean",
    "scale",
    "log_prob",
    "kl",
    "variables_for",
    "exported",
    "exported_sample",
)


def _check_coherent(family: type[VariationalFamily]) -> None:
    """Refuses a family that overrides one method and not another that has to agree with it."""
    by = {
        method: next(base for base in family.__mro__ if method in vars(base))
        for method in (*_REQUIRED, *_OF_A_DISTRIBUTION)
    }
    missing = [method for method in _REQUIRED if by[method] is VariationalFamily]
    if missing:
        raise ValueError(
            f"A variational family must define {', '.join(_REQUIRED)}. "
            f"Received: posterior={family.__name__}, which lacks {', '.join(missing)}"
        )
    one = by["distribution"]
    inherited = [
        method
        for method in _OF_A_DISTRIBUTION
        if by[method] is not VariationalFamily and not issubclass(by[method], one)
    ]
    if by["sample"] is not one and "sample" not in inherited:
        one, inherited = by["sample"], ["distribution"]
    if inherited:
        raise ValueError(
            "A class that redefines the distribution of a variational family, or its sample, must redefine "
            "whatever else it would inherit of another distribution; or derive it from VariationalFamily. "
            f"Received: posterior={family.__name__}, where {one.__name__} redefines "
            f"{'sample' if inherited == ['distribution'] else 'distribution'} and inherits "
            f"{', '.join(inherited)}"
        )
