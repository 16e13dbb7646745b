"""Variational families as a user would write them: they know nothing of the library but the base class."""

import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_bayesrnn import VariationalFamily

tfd, tfb = tfp.distributions, tfp.bijectors


@keras.saving.register_keras_serializable("own_families")
class Laplace(VariationalFamily):
    """Independent for every element, all of one scale, which is trained."""

    def __init__(self, relative_scale=0.1):
        self.relative_scale = relative_scale

    def add_variables(self, add_variable, shape, initial_mean, prior):
        log_scale = keras.initializers.Constant(math.log(self.relative_scale * prior.stddev(shape)))
        return {
            "mu": add_variable(name="mu", initializer=initial_mean),
            "log_scale": add_variable(name="log_scale", shape=(), initializer=log_scale),
        }

    def sample(self, variables, noise):
        tail = math.log(2.0) + tfd.Normal(0.0, 1.0).log_cdf(-tf.abs(noise))
        return variables["mu"] - tf.exp(variables["log_scale"]) * tf.sign(noise) * tail

    def distribution(self, variables):
        laplace = tfd.Laplace(variables["mu"], tf.exp(variables["log_scale"]))
        return tfd.Independent(laplace, len(variables["mu"].shape))

    def get_config(self):
        return {"relative_scale": self.relative_scale}


@keras.saving.register_keras_serializable("own_families")
class FullCovariance(VariationalFamily):
    """A normal distribution of all elements together; its noise and its density are those of a vector."""

    def add_variables(self, add_variable, shape, initial_mean, prior):
        size, scale = math.prod(shape), 0.3 * prior.stddev(shape)

        def factor(shape, dtype=None):
            return scale * tf.linalg.band_part(tf.eye(*shape) + 0.5, -1, 0)

        return {
            "mu": add_variable(name="mu", initializer=initial_mean),
            "factor": add_variable(name="factor", shape=(size, size), initializer=factor),
        }

    def noise_shape(self, shape):
        return (math.prod(shape),)

    def sample(self, variables, noise):
        mu = variables["mu"]
        return mu + tf.reshape(tf.linalg.matvec(self._factor(variables), noise), mu.shape)

    def distribution(self, variables):
        mu = variables["mu"]
        flat = tfd.MultivariateNormalTriL(tf.reshape(mu, [-1]), self._factor(variables))
        return tfd.TransformedDistribution(flat, tfb.Reshape(mu.shape, [math.prod(mu.shape)]))

    def _factor(self, variables):
        return tf.linalg.band_part(variables["factor"], -1, 0)
