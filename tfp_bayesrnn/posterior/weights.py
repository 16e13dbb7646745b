"""One variational weight: the parameters of its posterior, and its prior."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.distributions import MeanFieldNormal, PointMass, Prior
from tfp_bayesrnn.distributions.posteriors import rho_from_scale, scale_from_rho
from tfp_bayesrnn.distributions.priors import marginal
from tfp_bayesrnn.posterior import initial_values

tfd = tfp.distributions


class VariationalWeight(keras.layers.Layer):
    """A weight w with q(w) = N(mu, sigma^2) and a prior p(w); or, as a `PointMass`, an ordinary weight mu.

    Its variables are `mu` and `rho` of the weight's shape, with sigma = softplus(rho) + 1e-5, and those of
    the prior if it learns. All are float32 whatever the dtype policy of the layer that holds it; that layer
    casts the value it reads. It is a Keras layer only so that Keras finds, names and saves its variables.

    A pruned weight has the variable `keep` too, bool, of its shape: the elements where it is false are 0 in
    the mean and in every sample, have no gradient, and do not count in the KL.
    """

    def __init__(
        self,
        shape: Sequence[int],
        initializer: keras.initializers.Initializer,
        prior: Prior,
        posterior: MeanFieldNormal | PointMass,
        name: str | None = None,
        amend: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ):
        """Describes the weight; `build()` makes its variables.

        Args:
          shape: of the weight.
          initializer: of mu. It may serve other weights too: each has numbers of its own.
          prior: p(w); ignored for a `PointMass`.
          posterior: the variational family, with the initial range of its scale.
          name: the weight's name within its layer.
          amend: makes the initial mu from what the initializer gives; None to leave that as it is.
        """
        super().__init__(name=name, dtype="float32")
        self.shape = tuple(int(size) for size in shape)
        self.prior = prior
        self.posterior = posterior
        self._initializer = initial_values.for_one_weight(initializer)
        self._amend = amend
        self.rho = None
        self.keep = None
        self._prior_variables = {}

    @property
    def is_variational(self) -> bool:
        """Whether the weight has a distribution, not just a value."""
        return not isinstance(self.posterior, PointMass)

    def build(self, _=None):
        """Makes mu, rho and the variables of the prior."""
        self.mu = self._add_variable(name="mu", shape=self.shape, initializer=self._initial_mean)
        if self.is_variational:
            self.rho = self._add_variable(name="rho", shape=self.shape, initializer=self._rho_initializer())
            self._prior_variables = self.prior.add_variables(self._add_variable)

    def _add_variable(self, shape=None, dtype="float32", **kwargs):
        shape = self.shape if shape is None else shape
        # Without autocast=False a half-precision layer around this one would read its variables as halves.
        return self.add_weight(shape, dtype=dtype, autocast=False, **kwargs)

    def _initial_mean(self, shape, dtype=None, seed: int | None = None):
        initializer = self._initializer if seed is None else initial_values.reseeded(self._initializer, seed)
        mean = initializer(shape, dtype=dtype)
        return mean if self._amend is None else self._amend(mean)

    def _rho_initializer(self) -> keras.initializers.Initializer:
        return self.posterior.rho_initializer(self.prior.stddev(self.shape))

    def initialize(self, seed: int) -> None:
        """Sets mu and rho to initial values, as `build` does, that are a function of an integer."""
        self.mu.assign(self._initial_mean(self.shape, "float32", initial_values.named_seed(seed, "mu")))
        if self.is_variational:
            rho_seed = initial_values.named_seed(seed, "rho")
            self.rho.assign(initial_values.reseeded(self._rho_initializer(), rho_seed)(self.shape, "float32"))

    def assign(self, mean: np.ndarray, scale: np.ndarray | None = None) -> None:
        """Sets mu and, of a weight with a distribution, sigma; a prior that has centres is centred on mu."""
        self.mu.assign(mean)
        if self.is_variational:
            if scale is not None:
                self.rho.assign(rho_from_scale(scale))
            if "centre" in self._prior_variables:
                self._prior_variables["centre"].assign(mean)

    @property
    def is_pruned(self) -> bool:
        """Whether the weight has a mask."""
        return self.keep is not None

    def add_mask(self) -> None:
        """Makes `keep`, true everywhere, of a weight that has none; see `tfp_bayesrnn.posterior.pruning`."""
        if self.is_pruned:
            return
        with keras_internals.adding_variables(self), _scope_of(self.mu):
            self.keep = self._add_variable(name="keep", dtype="bool", initializer="ones", trainable=False)

    def remove_mask(self) -> None:
        """Takes `keep` away: mu and rho are again what they were where it was false."""
        if self.is_pruned:
            keras_internals.forget_variable(self, self.keep)
            self.keep = None

    def load_own_variables(self, store):
        """As Keras does, of a weight that was saved with its mask too."""
        if str(len(self.variables)) in store.keys():
            self.add_mask()
        super().load_own_variables(store)

    def masked(self, value: tf.Tensor) -> tf.Tensor:
        """`value`, of the weight's shape, with 0 where the weight is pruned; so is its gradient."""
        if not self.is_pruned:
            return value
        return tf.where(tf.convert_to_tensor(self.keep), value, tf.zeros([], value.dtype))

    def mean(self) -> tf.Tensor:
        """The posterior mean mu, float32; 0 where it is pruned."""
        return self.masked(tf.convert_to_tensor(self.mu))

    def scale(self) -> tf.Tensor:
        """The posterior standard deviation sigma, float32; 0 for a `PointMass` and where it is pruned."""
        return self.masked(self._scale()) if self.is_variational else tf.zeros(self.shape)

    def _scale(self) -> tf.Tensor:
        return scale_from_rho(tf.convert_to_tensor(self.rho))

    def signal_to_noise(self) -> tf.Tensor:
        """|mu| / sigma, by which weights are ranked for pruning.

        It is infinite for a `PointMass`, and 0 where the weight is pruned.
        """
        if not self.is_variational:
            return self.masked(tf.fill(self.shape, math.inf))
        return self.masked(tf.abs(tf.convert_to_tensor(self.mu)) / self._scale())

    def sample(self, epsilon: tf.Tensor) -> tf.Tensor:
        """The reparameterised sample mu + sigma * epsilon of standard normal noise of the weight's shape."""
        return self.mean() + self.scale() * epsilon

    def prior_distribution(self) -> tfd.Distribution:
        """p(w): of a pruned weight, its marginal over the elements that are kept.

        Raises:
          ValueError: if the weight is pruned and its prior's marginal is not known.
        """
        variables = {name: tf.convert_to_tensor(v) for name, v in self._prior_variables.items()}
        prior = self.prior.distribution(self.shape, **variables)
        return marginal(prior, tf.convert_to_tensor(self.keep)) if self.is_pruned else prior

    def posterior_distribution(self) -> tfd.Distribution:
        """q(w), as a `tfd.Distribution` whose event is the whole weight; 0 where it is pruned."""
        if not self.is_variational:
            return tfd.Independent(tfd.Deterministic(self.mean()), len(self.shape))
        # The mean and scale of what is pruned count for nothing, but both must be those of a distribution.
        q = self.posterior.distribution(tf.convert_to_tensor(self.mu), tf.convert_to_tensor(self.rho))
        return marginal(q, tf.convert_to_tensor(self.keep)) if self.is_pruned else q

    def kl(self, value: tf.Tensor, epsilon: tf.Tensor | None = None) -> tf.Tensor:
        """KL[q || p] in nats, counting each element of the weight that is kept once: a float32 scalar.

        In closed form where TFP knows one for the two families; else the one-sample estimate
        log q(w) - log p(w) at `value`, the sample that the forward pass used (eq. 2). `epsilon`, the noise
        the sample was made with, spares a subtraction that would lose digits where sigma is small.
        """
        if not self.is_variational:
            return tf.zeros([])
        q, p = self.posterior_distribution(), self.prior_distribution()
        try:
            return tfd.kl_divergence(q, p)
        except NotImplementedError:
            pass
        if epsilon is None:
            log_q = q.log_prob(value)
        else:
            nats = 0.5 * tf.square(epsilon) + tf.math.log(self._scale())
            log_q = -tf.reduce_sum(self.masked(nats)) - 0.5 * math.log(2.0 * math.pi) * self._size()
        return log_q - p.log_prob(value)

    def _size(self) -> float | tf.Tensor:
        """How many elements are kept."""
        if not self.is_pruned:
            return math.prod(self.shape)
        return tf.math.count_nonzero(tf.convert_to_tensor(self.keep), dtype=tf.float32)


def _scope_of(variable: keras.Variable) -> contextlib.AbstractContextManager:
    """The scope of the strategy under which the variable was made."""
    strategy = getattr(variable.value, "distribute_strategy", None)
    return strategy.scope() if strategy is not None else contextlib.nullcontext()
