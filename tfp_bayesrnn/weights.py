"""One variational weight: the parameters of its posterior, and its prior."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_bayesrnn.distributions import MeanFieldNormal, PointMass, Prior
from tfp_bayesrnn.distributions.posteriors import scale_from_rho

tfd = tfp.distributions


class VariationalWeight(keras.layers.Layer):
    """A weight w with q(w) = N(mu, sigma^2) and a prior p(w); or, as a `PointMass`, an ordinary weight mu.

    Its variables are `mu` and `rho` of the weight's shape, with sigma = softplus(rho) + 1e-5, and those of
    the prior if it learns. All are float32 whatever the dtype policy of the layer that holds it; that layer
    casts the value it reads. It is a Keras layer only so that Keras finds, names and saves its variables.
    """

    def __init__(
        self,
        shape: Sequence[int],
        initializer: keras.initializers.Initializer,
        prior: Prior,
        posterior: MeanFieldNormal | PointMass,
        name: str | None = None,
    ):
        """Describes the weight; `build()` makes its variables.

        Args:
          shape: of the weight.
          initializer: of mu.
          prior: p(w); ignored for a `PointMass`.
          posterior: the variational family, with the initial range of its scale.
          name: the weight's name within its layer.
        """
        super().__init__(name=name, dtype="float32")
        self.shape = tuple(int(size) for size in shape)
        self.prior = prior
        self.posterior = posterior
        self._initializer = initializer
        self.rho = None
        self._prior_variables = {}

    @property
    def is_variational(self) -> bool:
        """Whether the weight has a distribution, not just a value."""
        return not isinstance(self.posterior, PointMass)

    def build(self, _=None):
        """Makes mu, rho and the variables of the prior."""
        self.mu = self._add_variable(name="mu", shape=self.shape, initializer=self._initializer)
        if self.is_variational:
            initializer = self.posterior.rho_initializer(self.prior.stddev(self.shape))
            self.rho = self._add_variable(name="rho", shape=self.shape, initializer=initializer)
            self._prior_variables = self.prior.add_variables(self._add_variable)

    def _add_variable(self, **kwargs):
        # Without autocast=False a half-precision layer around this one would read its variables as halves.
        return self.add_weight(dtype="float32", autocast=False, **kwargs)

    def mean(self) -> tf.Tensor:
        """The posterior mean mu, float32."""
        return tf.convert_to_tensor(self.mu)

    def scale(self) -> tf.Tensor:
        """The posterior standard deviation sigma, float32; zero for a `PointMass`."""
        return scale_from_rho(tf.convert_to_tensor(self.rho)) if self.is_variational else tf.zeros(self.shape)

    def signal_to_noise(self) -> tf.Tensor:
        """|mu| / sigma, by which weights are ranked for pruning; infinite for a `PointMass`."""
        return tf.abs(self.mean()) / self.scale()

    def sample(self, epsilon: tf.Tensor) -> tf.Tensor:
        """The reparameterised sample mu + sigma * epsilon of standard normal noise of the weight's shape."""
        return self.mean() + self.scale() * epsilon

    def prior_distribution(self) -> tfd.Distribution:
        """p(w)."""
        variables = {name: tf.convert_to_tensor(v) for name, v in self._prior_variables.items()}
        return self.prior.distribution(self.shape, **variables)

    def posterior_distribution(self) -> tfd.Distribution:
        """q(w), as a `tfd.Distribution` whose event is the whole weight."""
        if not self.is_variational:
            return tfd.Independent(tfd.Deterministic(self.mean()), len(self.shape))
        return self.posterior.distribution(self.mean(), tf.convert_to_tensor(self.rho))

    def kl(self, value: tf.Tensor, epsilon: tf.Tensor | None = None) -> tf.Tensor:
        """KL[q || p] in nats, counting each element of the weight once: a float32 scalar.

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
            log_q = -tf.reduce_sum(0.5 * tf.square(epsilon) + tf.math.log(self.scale()))
            log_q -= 0.5 * math.log(2.0 * math.pi) * math.prod(self.shape)
        return log_q - p.log_prob(value)
