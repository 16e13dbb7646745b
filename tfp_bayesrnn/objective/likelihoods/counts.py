"""Likelihoods of counts: Poisson, and negative binomial."""

from __future__ import annotations

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn import checks
from tfp_bayesrnn.objective.likelihoods.likelihood import Likelihood
from tfp_bayesrnn.objective.likelihoods.real import positive


class _Counts(Likelihood):
    is_discrete = True

    def checked(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets, which must be whole numbers of at least 0."""
        del outputs
        exact = tf.cast(targets, tf.float32) if targets.dtype.size < 4 else targets
        accepted = f"Targets of a {type(self).__name__} are counts, whole numbers from 0"
        return checks.within(exact, 0, exact.dtype.max, accepted, whole=True)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class PoissonLikelihood(_Counts):
    """Counts [...] of a Poisson distribution. Outputs are [...], the raw rate: softplus(raw) + 1e-6.

    Unlike the exponential of a generalised linear model, a softplus does not let a draw of the weights
    multiply the rate.
    """

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """The Poisson distribution."""
        return tfd.Poisson(positive(outputs))

    def predictions(self, outputs: tf.Tensor) -> tf.Tensor:
        """The rate."""
        return self.mean(tf.cast(outputs, tf.float32))


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class NegativeBinomialLikelihood(_Counts):
    """Counts [...] that vary more than a Poisson distribution's: variance = mean + dispersion * mean^2.

    Outputs are [..., 2], the raw mean and the raw dispersion, each softplus(raw) + 1e-6 (Salinas et al.,
    2020, eq. 4).
    """

    parameters = 2

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """The negative binomial distribution."""
        return tfd.NegativeBinomial.experimental_from_mean_dispersion(
            positive(outputs[..., 0]), positive(outputs[..., 1])
        )
