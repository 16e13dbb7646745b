"""Dropout whose masks belong to the draw in force."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.layers.base import dropout_mask, mask_seed


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class Dropout(keras.layers.Layer):
    """Inverted dropout. A draw in force decides what is dropped; without one, it is `keras.layers.Dropout`.

    A sample from the posterior of a dropout network is a set of masks: the same draw drops the same units,
    and the posterior mean drops none. So Monte Carlo dropout needs no code of its own.

    Call arguments: inputs of any shape [B, ...], `training`.
    """

    def __init__(self, rate: float, noise_shape: tuple | None = None, seed: int | None = None, **kwargs: Any):
        """Builds the layer.

        Args:
          rate: the probability of dropping, in [0, 1).
          noise_shape: the mask's shape, None where it is the input's and 1 where a mask is shared; (None, 1,
            None) drops the same units at every step of [B, T, D] (Gal and Ghahramani, 2016).
          seed: the seed of the masks made while no draw is in force.
          **kwargs: further arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must lie in [0, 1). Received: rate={rate}")
        self.rate = rate
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape: Any = None) -> None:
        """Makes nothing: the layer has no variables of its own to build."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the inputs, dropped where noise is called for."""
        seed = mask_seed(self.seed_generator, training) if self.rate > 0.0 else None
        if seed is None:
            return inputs
        sizes = tf.unstack(tf.shape(inputs), num=len(inputs.shape))
        if self.noise_shape is not None:
            sizes = [
                size if fixed is None else fixed for size, fixed in zip(sizes, self.noise_shape, strict=True)
            ]
        return inputs * dropout_mask(tf.stack(sizes), self.rate, seed, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "rate": self.rate,
            "noise_shape": self.noise_shape,
            "seed": self.seed,
        }
