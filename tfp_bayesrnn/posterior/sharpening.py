"""Posterior sharpening: a posterior over the weights that has seen the minibatch (Fortunato et al., 2017).

    phi   ~ q(phi), N(mu, sigma^2) say                           the variational posterior of all weights
    g     = gradient of -log p(y | phi, x), of this minibatch, with respect to phi
    theta ~ q(theta | phi, (x, y)) = N(phi - eta * g, sigma0^2)                                  (eq. 7)
    p(theta | phi) = N(phi, sigma0^2)

The free energy (eqs. 8 and 9) is that of the network run under theta, plus

    KL[q(theta | phi, (x, y)) || p(theta | phi)] = ||eta * g||^2 / (2 sigma0^2)

which is exact, whatever the variational family of q(phi). Nothing in it is about recurrent networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn.distributions.softplus import inverse_softplus
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.optimization import optimizers
from tfp_bayesrnn.posterior import posterior as posteriors
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.weights import VariationalWeight


def default_optimizer(learning_rate: float = 1e-3) -> keras.optimizers.Optimizer:
    """RMSprop, whose steps do not depend on the scale of the gradient if a tiny epsilon does not drown it.

    It averages over a thousand steps: over its usual ten, the weights of rare words would not find the best
    eta in the mean.
    """
    return keras.optimizers.RMSprop(learning_rate, rho=0.999, epsilon=1e-30)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class PosteriorSharpening(keras.layers.Layer):
    """q(theta | phi, (x, y)), for the `sharpening` argument of `BayesianModel`.

    Every weight that has a distribution is sharpened, with a rate eta of its own:

        eta = sigma0^2 * softplus(u)

    so eta is never negative. For small steps the free energy is least at eta = sigma0^2 if g is the gradient
    of the summed negative log-likelihood, as here: the NLL falls by eta * g^2 and the KL is
    eta^2 g^2 / (2 sigma0^2). So softplus(u) starts at 1; the curvature h of the NLL lowers the best value to
    1 / (1 + sigma0^2 h). The gradient of the free energy with respect to u is of the order of sigma0^2 g^2,
    orders of magnitude below those of mu and rho: u has an optimizer of its own, which the optimizer's
    learning rate and clipping of the model do not touch.

    It is a Keras layer only so that Keras finds and saves `u` and its optimizer with the model.
    """

    def __init__(
        self,
        sigma0: float = 0.02,
        second_order: bool = False,
        optimizer: keras.optimizers.Optimizer | str | dict | None = None,
        **kwargs: Any,
    ):
        """Describes the sharpening; the `BayesianModel` it is given to makes its variables.

        Args:
          sigma0: the standard deviation of theta around its mean; with 0, theta is phi and nothing is
            sharpened.
          second_order: whether gradients go through g too. By default g is held fixed. Every operation of
            the network must have a second-order gradient: one with a `tf.custom_gradient` of its own has it
            only if its gradient is differentiable.
          optimizer: the optimizer of u; None for `default_optimizer()`. Its step must not depend on the scale
            of the gradient: no SGD, and a tiny epsilon. Compiling the model again does not reset it.
          **kwargs: further arguments of `keras.layers.Layer`.

        Raises:
          ValueError: if sigma0 is negative or not finite.
        """
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        if not 0.0 <= sigma0 < math.inf:
            raise ValueError(f"sigma0 must not be negative. Received: sigma0={sigma0}")
        self.sigma0 = float(sigma0)
        self.second_order = bool(second_order)
        self.optimizer = keras.optimizers.get(optimizer or default_optimizer())
        self.u: list[keras.Variable] = []

    def make_variables(self, posterior: Posterior) -> None:
        """Makes u for every weight of `posterior` that has a distribution, and the optimizer's variables.

        Raises:
          ValueError: if no weight has one, or the optimizer is not one for several replicas.
        """
        if not posterior.is_variational:
            raise ValueError(
                "sharpening needs weights that have a distribution, and all of the network's are point "
                f"masses. Received: {len(posterior.weights)} weights"
            )
        self._add_variables(self.sharpened(posterior.weights))
        optimizers.check(self.optimizer, tf.distribute.get_strategy())
        optimizers.build(self.optimizer, self.learned)
        self.built = True

    @property
    def learned(self) -> list[keras.Variable]:
        """The variables that the sharpening's own optimizer moves."""
        return self.u

    def sharpened(self, weights: Iterable[VariationalWeight]) -> list[VariationalWeight]:
        """Those of a posterior's weights that are sharpened: the ones that have a distribution."""
        return [weight for weight in weights if weight.is_variational]

    def _add_variables(self, weights: list[VariationalWeight]) -> None:
        self.u += [self._variable("u", weight, weight.shape, inverse_softplus(1.0)) for weight in weights]

    def _variable(
        self, name: str, weight: VariationalWeight, shape: Sequence[int], start: float
    ) -> keras.Variable:
        return self.add_weight(
            name=f"{name}-{weight.path.replace('/', '-')}",
            shape=shape,
            initializer=keras.initializers.Constant(start),
            trainable=False,  # The model's optimizer does not train it.
            autocast=False,
        )

    def etas(self) -> list[tf.Tensor]:
        """eta >= 0 of every sharpened weight, float32, in the order of the posterior's weights."""
        return [self.sigma0**2 * tf.nn.softplus(u.value) for u in self.u]

    def sharpen(
        self, phi: Draw, gradients: Mapping[VariationalWeight, tf.Tensor], seed: tf.Tensor
    ) -> tuple[Draw, tf.Tensor]:
        """Returns a draw theta ~ q(theta | phi, (x, y)), and the KL of that distribution from p(theta | phi).

        Args:
          phi: a draw of the posterior, or its mean.
          gradients: the gradients of the minibatch's negative log-likelihood, summed over all its
            predictions, with respect to every value of phi; 0 where a weight is pruned.
          seed: the seed, int32 [2]. theta's noise has a stream of its own: it may be the seed of phi.

        Returns:
          theta, with phi's dropout masks, and the KL in nats, for the whole minibatch: a float32 scalar.
        """
        weights = self.sharpened(phi)
        epsilons = posteriors.standard_normals(weights, seed, Stream.SHARPENING)
        values, squares = dict(phi), []
        for weight, u in zip(weights, self.u, strict=True):
            step = tf.nn.softplus(u.value) * gradients[weight]  # eta * g / sigma0^2: no 0/0 if sigma0 is 0.
            noise = weight.masked(self.sigma0 * epsilons[weight])
            values[weight] = phi[weight] - self.sigma0**2 * step + noise
            squares.append(tf.reduce_sum(tf.square(step)))
        return Draw(values, seed=phi.seed), 0.5 * self.sigma0**2 * tf.add_n(squares)

    def variances(self) -> list[tf.Tensor]:
        """The variance of theta, given phi, of every sharpened weight, float32."""
        return [tf.constant(self.sigma0**2)] * len(self.u)

    def nll_variance(self, gradients: Mapping[VariationalWeight, tf.Tensor]) -> tf.Tensor:
        """The variance of a minibatch's NLL over theta's noise, to first order; float32.

        Args:
          gradients: those of `sharpen`.
        """
        parts = zip(self.sharpened(gradients), self.variances(), strict=True)
        return tf.add_n([tf.reduce_sum(v * tf.square(gradients[weight])) for weight, v in parts])

    def apply_gradients(self, gradients: list[tf.Tensor]) -> None:
        """Updates the variables by gradients with respect to them, in the order of `learned`."""
        optimizers.apply(self.optimizer, gradients, self.learned)

    def save_own_variables(self, store: Any) -> None:
        """Saves the variables as `keras.layers.Layer` does, under a name that says their order."""
        for index, variable in enumerate(self.learned):
            store[f"u_by_path_{index}"] = np.asarray(variable.value)

    def load_own_variables(self, store: Any) -> None:
        """Loads the variables as `keras.layers.Layer` does.

        Raises:
          ValueError: if they were saved in another order, that in which Keras found the weights.
        """
        names = [f"u_by_path_{index}" for index in range(len(self.learned))]
        if sorted(store.keys()) != sorted(names):
            raise ValueError(
                f"A saved {type(self).__name__} must have {len(names)} variables, of all weights in the "
                "order of their paths, as tfp_bayesrnn saves them since they are in that order: train the "
                f"model again with this version. Received: saved={sorted(store.keys())}"
            )
        for name, variable in zip(names, self.learned, strict=True):
            variable.assign(store[name])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "sigma0": self.sigma0,
            "second_order": self.second_order,
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PosteriorSharpening:
        """The sharpening whose `get_config` gave `config`."""
        return cls(**{**config, "optimizer": keras.saving.deserialize_keras_object(config["optimizer"])})
