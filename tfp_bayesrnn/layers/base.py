"""The common part of all variational layers: making their weights and reading them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import keras_internals, noise
from tfp_bayesrnn.distributions import (
    FanInNormalPrior,
    MeanFieldNormal,
    PointMass,
    Prior,
    VariationalFamily,
    families,
    priors,
)
from tfp_bayesrnn.posterior import ambient, initial_values
from tfp_bayesrnn.posterior.kl_weights import KLWeight, KLWeighted
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.weights import VariationalWeight


class VariationalLayer(KLWeighted):
    """Mixin for Keras layers whose weights are `VariationalWeight`s.

    A layer reads its weights from the draw in force, which must have them all. Where none is:

    * at inference it uses the posterior mean;
    * in training it needs a `kl_weight`. Then it draws for itself, once a forward pass (an outermost Keras
      call, however often that uses the layer), and adds `kl_weight` times its KL to the Keras losses. Without
      one it raises, since noisy weights without a KL are no objective at all. `kl_weight` is
      1 / (number of training rows) if the loss is a mean over rows, whatever a row is. It is a variable,
      which can be assigned while training.

    `trainable=False` means what it does for Keras's own layers, whenever it is set: the variables
    of posterior and prior do not move. The posterior is still drawn from in training, and its KL still counts
    in the loss, where it is a constant (or, where no closed form is known, an estimate of one).
    """

    def _init_variational(
        self, prior: Any, posterior: VariationalFamily | None, kl_weight: float | None, seed: int | None
    ) -> None:
        self.prior = self.default_prior() if prior is None else priors.get(prior)
        self.posterior = MeanFieldNormal() if posterior is None else families.get(posterior)
        self.kl_weight = kl_weight
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._initializers: list[initial_values.Initializer] = []

    def default_prior(self) -> Prior:
        """The prior of the layer's weights where none is given."""
        return FanInNormalPrior()

    def _variational_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            "prior": serialize(self.prior),
            "posterior": serialize(self.posterior),
            "kl_weight": self._kl_weight and self._kl_weight.number(),
            "seed": self.seed,
        }

    def _add_variational_weight(
        self,
        name: str,
        shape: Sequence[int],
        initializer: keras.initializers.Initializer,
        variational: bool = True,
        amend: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> VariationalWeight:
        family = self.posterior if variational else PointMass()
        # One object that was given for several weights has become several in a layer made from its config.
        initializer = next(
            (known for known in self._initializers if initial_values.are_alike(known, initializer)),
            initializer,
        )
        self._initializers.append(initializer)
        weight = VariationalWeight(shape, initializer, self.prior, family, name=name, amend=amend)
        weight.trainable = self.trainable
        weight.build()
        return weight

    def _draw_for_call(self, training: bool) -> Draw:
        """Returns the draw that this call of the layer runs under."""
        own = Posterior.of(self)
        draw = ambient.draw_in_force()
        if draw is not None:
            ambient.check_has(draw, own.weights, self.name)
            return draw
        if not training or not own.is_variational:
            return own.mean()
        if self._kl_weight is None:
            raise ValueError(
                f"Layer {self.name!r} was called with training=True, but nothing draws its weights and adds "
                "their KL divergence to the loss. Train it inside a tfp_bayesrnn.BayesianModel, or give the "
                "layer kl_weight=1/number_of_training_rows and it does both by itself. "
                f"Received: kl_weight={self.kl_weight}"
            )
        return self._own_draw(own, self._kl_weight)

    def _own_draw(self, own: Posterior, kl_weight: KLWeight) -> Draw:
        """Returns the layer's draw for this forward pass; its KL joins the losses when it is made."""
        made: dict[VariationalLayer, Draw] = {}
        context = keras_internals.forward_pass()
        if context is not None:
            made = context.get_value("variational_draws", made)
            context.set_value("variational_draws", made)
        if self not in made:
            # Numbered: layers that were given the same seed do not get the same noise.
            made[self] = own.sample(noise.derive(tf.cast(self.seed_generator.next(), tf.int32), len(made)))
            kl = kl_weight.read() * own.kl(made[self])
            self.add_loss(tf.cast(kl, keras.config.floatx()))  # Keras adds it to a loss of that dtype.
        return made[self]


def mask_seed(generator: keras.random.SeedGenerator, training: bool) -> tf.Tensor | None:
    """The seed of a dropout mask: the draw's in force, else, in training, `generator`'s; None for no mask."""
    if ambient.draw_in_force() is not None:
        return ambient.next_mask_seed()
    return tf.cast(generator.next(), tf.int32) if training else None


def dropout_mask(shape: Any, rate: float, seed: tf.Tensor, dtype: Any) -> tf.Tensor:
    """Returns a mask of inverted dropout: 0 with probability `rate`, else 1 / (1 - rate)."""
    return tf.cast(noise.bernoulli(shape, 1.0 - rate, seed), dtype) / (1.0 - rate)
