"""One variational weight: the parameters of its posterior, and its prior."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.distributions import Prior, VariationalFamily, families
from tfp_bayesrnn.distributions.marginal import marginal
from tfp_bayesrnn.posterior import initial_values


class VariationalWeight(keras.layers.Layer):
    """A weight w with a posterior q(w) of some variational family and a prior p(w); or an ordinary weight.

    Its variables are those that its family makes (`mu` and `rho` of the weight's shape for a
    `MeanFieldNormal`, `mu` alone for a `PointMass`) and those of the prior if it learns. All are float32
    whatever the dtype policy of the layer that holds it; that layer casts the value it reads. It is a Keras
    layer only so that Keras finds, names and saves its variables.

    A pruned weight has the variable `keep` too, bool, of its shape: the elements where it is false are 0 in
    the mean and in every sample, have no gradient, and do not count in the KL.

    Attributes:
      shape: the weight's shape.
      prior: p(w).
      posterior: the variational family.
      noise_shape: the shape of the standard normal noise of a sample; None for a family without a
        distribution.
      keep: the mask; None unless the weight is pruned.
    """

    def __init__(
        self,
        shape: Sequence[int],
        initializer: keras.initializers.Initializer,
        prior: Prior,
        posterior: VariationalFamily,
        name: str | None = None,
        amend: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ):
        """Describes the weight; `build()` makes its variables.

        Args:
          shape: the weight's shape.
          initializer: the initializer of the mean. It may serve other weights too: each has numbers of its
            own.
          prior: p(w); ignored for a family without a distribution.
          posterior: the variational family.
          name: the weight's name within its layer.
          amend: a function that makes the initial mean from what the initializer gives; None to leave that as
            it is.

        Raises:
          ValueError: if `tfp_bayesrnn.distributions.families.get` refuses the family.
        """
        super().__init__(name=name, dtype="float32")
        self.shape = tuple(int(size) for size in shape)
        self.prior = prior
        self.posterior = families.get(posterior)
        self.noise_shape = self.posterior.noise_shape(self.shape)
        initializer = initial_values.for_one_weight(initializer)
        self._initial_mean = initial_values.Amended(initializer, amend) if amend else initializer
        self.keep: keras.Variable | None = None
        self._family_variables: dict[str, keras.Variable] = {}
        self._initializers: dict[str, initial_values.Initializer] = {}
        self._prior_variables: dict[str, keras.Variable] = {}
        self._at_mean: list[keras.Variable] = []  # Those of the prior that start from the mean.

    @property
    def is_variational(self) -> bool:
        """Whether the weight has a distribution, not just a value."""
        return self.noise_shape is not None

    @property
    def mu(self) -> keras.Variable | None:
        """The family's variable `mu`, if it has one."""
        return self._family_variables.get("mu")

    @property
    def rho(self) -> keras.Variable | None:
        """The family's variable `rho`, if it has one."""
        return self._family_variables.get("rho")

    def build(self, _: Any = None) -> None:
        """Makes the variables of the family and of the prior.

        Raises:
          ValueError: if the family makes none, or one that is called "keep".
        """
        initializers = {}

        def add(initializer: Any, **kwargs: Any) -> keras.Variable:
            initializer = keras.initializers.get(initializer)
            variable = self._add_variable(initializer=initializer, **kwargs)
            initializers[id(variable)] = initializer
            return variable

        made = self.posterior.add_variables(add, self.shape, self._initial_mean, self.prior)
        if not made or "keep" in made or {id(variable) for variable in made.values()} != set(initializers):
            raise ValueError(
                "add_variables of a variational family must return all variables that it makes, at least "
                "one, by name, and none by the name of 'keep'. "
                f"Received: posterior={self.posterior.name}, variables={list(made or ())}"
            )
        self._family_variables = made
        self._initializers = {name: initializers[id(variable)] for name, variable in made.items()}
        if self.is_variational:
            self._prior_variables = self.prior.add_variables(self._add_prior_variable)

    def _add_prior_variable(self, initializer: Any = None, **kwargs: Any) -> keras.Variable:
        if not isinstance(initializer, str) or initializer != "mean":
            return self._add_variable(initializer=initializer, **kwargs)
        # As an initializer, since Keras may give variables their values later than it makes them.
        variable = self._add_variable(initializer=lambda *_, **__: self._mean(), **kwargs)
        self._at_mean.append(variable)
        return variable

    def _add_variable(
        self, shape: Sequence[int] | None = None, dtype: str = "float32", **kwargs: Any
    ) -> keras.Variable:
        shape = self.shape if shape is None else shape
        # Without autocast=False a half-precision layer around this one would read its variables as halves.
        return self.add_weight(shape, dtype=dtype, autocast=False, **kwargs)

    def initialize(self, seed: int) -> None:
        """Sets the family's variables to initial values, as `build` does: a function of an integer."""
        for name, variable in self._family_variables.items():
            own = initial_values.reseeded(self._initializers[name], initial_values.named_seed(seed, name))
            variable.assign(own(tuple(variable.shape), variable.dtype))
        self._centre()

    def _centre(self) -> None:
        """Sets those variables of the prior that start from the mean to the mean of now."""
        for variable in self._at_mean:
            variable.assign(self._mean())

    def assign(self, mean: np.ndarray, scale: np.ndarray | None = None) -> None:
        """Sets the mean and, of a weight with a distribution, the standard deviation of every element.

        A prior that is centred on the initial mean is centred on this one.

        Args:
          mean: the mean, of the weight's shape.
          scale: the standard deviations, of the weight's shape; None to leave them as they are.

        Raises:
          ValueError: if no posterior of the family has this mean and this scale. Nothing is set then.
        """
        scale = scale if self.is_variational else None
        values = self.posterior.variables_for(np.asarray(mean), None if scale is None else np.asarray(scale))
        tensors = self._tensors() | {n: tf.constant(v, tf.float32) for n, v in values.items()}
        self._check_reached("mean", self.posterior.mean(tensors), mean)
        if scale is not None:
            self._check_reached("scale", self.posterior.scale(tensors), scale)
        for name in values:
            self._family_variables[name].assign(tensors[name])
        self._centre()

    def _check_reached(self, what: str, found: tf.Tensor, wanted: np.ndarray) -> None:
        if not np.allclose(found, wanted, rtol=1e-3, atol=0.0):
            raise ValueError(
                f"No posterior of the family {self.posterior.name} has this {what}. "
                f"Received: weight={self.path!r}, {what} from {np.min(wanted):.3g} to {np.max(wanted):.3g}"
            )

    @property
    def is_pruned(self) -> bool:
        """Whether the weight has a mask."""
        return self.keep is not None

    def add_mask(self) -> keras.Variable:
        """Returns `keep`, made if there is none, true everywhere; see `tfp_bayesrnn.posterior.pruning`."""
        if self.keep is None:
            with keras_internals.adding_variables(self), _scope_of(self.variables[0]):
                self.keep = self._add_variable(name="keep", dtype="bool", initializer="ones", trainable=False)
        return self.keep

    def remove_mask(self) -> None:
        """Removes `keep`: where it was false, the posterior is again what it was."""
        if self.is_pruned:
            keras_internals.forget_variable(self, self.keep)
            self.keep = None

    def load_own_variables(self, store: Any) -> None:
        """Loads the variables as Keras does, for a weight that was saved with its mask too."""
        if str(len(self.variables)) in store.keys():
            self.add_mask()
        super().load_own_variables(store)

    def masked(self, value: tf.Tensor) -> tf.Tensor:
        """Returns `value`, of the weight's shape, with 0 where the weight is pruned; so is its gradient."""
        if not self.is_pruned:
            return value
        return tf.where(tf.convert_to_tensor(self.keep), value, tf.zeros([], value.dtype))

    def _tensors(self) -> dict[str, tf.Tensor]:
        return {name: tf.convert_to_tensor(variable) for name, variable in self._family_variables.items()}

    def _keep(self) -> tf.Tensor | None:
        return tf.convert_to_tensor(self.keep) if self.is_pruned else None

    def _checked(self, value: tf.Tensor, what: str, shape: Sequence[int] | None = None) -> tf.Tensor:
        shape = self.shape if shape is None else shape
        if tuple(value.shape) != tuple(shape) or value.dtype != tf.float32:
            raise ValueError(
                f"The {what} of a variational family must be float32, of shape {tuple(shape)}. Received: "
                f"posterior={self.posterior.name}, dtype={value.dtype.name}, shape={tuple(value.shape)}"
            )
        return value

    def mean(self) -> tf.Tensor:
        """The posterior mean, float32; 0 where it is pruned."""
        return self.masked(self._mean())

    def _mean(self) -> tf.Tensor:
        return self._checked(self.posterior.mean(self._tensors()), "mean")

    @property
    def mean_is_trainable(self) -> bool:
        """Whether training may move the mean: by `mu`, or by any variable of a family without one."""
        variables = self._family_variables.values() if self.mu is None else [self.mu]
        return any(variable.trainable for variable in variables)

    @property
    def has_scale(self) -> bool:
        """Whether the standard deviation of every element is known."""
        return self.posterior.scale(self._tensors()) is not None

    def scale(self) -> tf.Tensor:
        """The posterior standard deviation sigma of every element, float32.

        It is 0 for a `PointMass`, and where the weight is pruned.

        Raises:
          ValueError: if the family does not know it.
        """
        return self.masked(self._scale())

    def _scale(self) -> tf.Tensor:
        scale = self.posterior.scale(self._tensors())
        if scale is None:
            raise ValueError(
                f"A posterior of the family {self.posterior.name} has no standard deviation of every element "
                "that is known, and so no signal-to-noise ratio |mean| / scale: by='magnitude' ranks weights "
                f"without it, and scale() of the family may give it. Received: weight={self.path!r}"
            )
        return self._checked(scale, "scale")

    def signal_to_noise(self) -> tf.Tensor:
        """|mean| / scale, by which weights are ranked for pruning.

        It is infinite for a `PointMass`, and 0 where the weight is pruned.

        Raises:
          ValueError: if the family does not know the scale.
        """
        if not self.is_variational:
            return self.masked(tf.fill(self.shape, math.inf))
        return self.masked(tf.abs(self.posterior.mean(self._tensors())) / self._scale())

    def sample(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns the reparameterised sample that standard normal noise of shape `noise_shape` stands for."""
        return self.masked(self._checked(self.posterior.sample(self._tensors(), epsilon), "sample"))

    def prior_distribution(self) -> tfd.Distribution:
        """p(w); for a pruned weight, its marginal over the elements that are kept.

        Raises:
          ValueError: if the weight is pruned and its prior's marginal is not known.
        """
        variables = {name: tf.convert_to_tensor(v) for name, v in self._prior_variables.items()}
        prior = self.prior.distribution(self.shape, **variables)
        return marginal(prior, self._keep()) if self.is_pruned else prior

    def posterior_distribution(self) -> tfd.Distribution:
        """q(w), as a `tfd.Distribution` whose event is the whole weight; 0 where it is pruned.

        Raises:
          ValueError: if the weight is pruned and its posterior's marginal is not known.
        """
        # The mean and scale of what is pruned count for nothing, but both must be those of a distribution.
        return self.posterior.marginal(self._tensors(), self._keep())

    def check_prunable(self, keep: np.ndarray) -> None:
        """Refuses a mask under which the KL would not be known.

        Raises:
          ValueError: if the prior or the posterior of the elements that `keep` keeps is not known.
        """
        if self.is_variational:
            marginal(self.prior_distribution(), tf.constant(keep))
            self.posterior.marginal(self._tensors(), tf.constant(keep))

    def kl(self, value: tf.Tensor, epsilon: tf.Tensor | None = None) -> tf.Tensor:
        """Returns KL[q || p] in nats, each element of the weight that is kept counted once: a float32 scalar.

        It is in closed form where TFP knows one for the two families; else it is the one-sample estimate
        log q(w) - log p(w) at `value`, the sample that the forward pass used (eq. 2). `epsilon`, the noise
        the sample was made with, spares a subtraction that would lose digits where sigma is small.
        """
        if not self.is_variational:
            return tf.zeros([])
        nats = self.posterior.kl(self._tensors(), self.prior_distribution(), value, epsilon, self._keep())
        return self._checked(nats, "KL", ())

    def exported(self, keep: np.ndarray | None = None) -> dict[str, tf.Tensor]:
        """Returns what `VariationalFamily.exported` gives for what `keep` and the weight's own mask keep."""
        masks = [mask for mask in (keep, self._keep()) if mask is not None]
        return self.posterior.exported(self._tensors(), tf.reduce_all(masks, axis=0) if masks else None)


def _scope_of(variable: keras.Variable) -> contextlib.AbstractContextManager:
    """The scope of the strategy under which the variable was made."""
    strategy = getattr(variable.value, "distribute_strategy", None)
    return strategy.scope() if strategy is not None else contextlib.nullcontext()
