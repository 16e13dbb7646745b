"""Likelihoods: the elementwise negative log-likelihood of targets under a network's outputs, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

NegativeLogLikelihood = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def categorical(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Integer classes [...] under logits [..., V]: [...]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(targets, tf.int32), logits)


def bernoulli(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Zeros and ones [...] under logits [...]: [...]."""
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(targets, logits.dtype), logits)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class NormalLikelihood:
    """Real targets [...] under N(outputs, scale^2): [...]; the noise's scale is known."""

    def __init__(self, scale: float = 1.0):
        if scale <= 0.0:
            raise ValueError(f"scale must be positive. Received: scale={scale}")
        self.scale = float(scale)

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The elementwise negative log-density.

        Raises:
          ValueError: if the shapes differ: targets [B] and outputs [B, 1] would broadcast to [B, B].
        """
        targets = tf.cast(targets, outputs.dtype)
        if not targets.shape.is_compatible_with(outputs.shape):
            raise ValueError(
                "Targets must have the shape of the outputs. "
                f"Received: targets of shape {targets.shape}, outputs of shape {outputs.shape}"
            )
        residuals = (targets - outputs) / self.scale
        return 0.5 * tf.square(residuals) + math.log(self.scale) + 0.5 * math.log(2.0 * math.pi)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"scale": self.scale}

    @classmethod
    def from_config(cls, config: dict) -> NormalLikelihood:
        """The likelihood whose `get_config` gave `config`."""
        return cls(**config)


_NAMED: dict[str, NegativeLogLikelihood] = {"categorical": categorical, "bernoulli": bernoulli}


def get(likelihood: str | dict | NegativeLogLikelihood) -> NegativeLogLikelihood:
    """A function (targets, outputs) -> nats from its name, its serialised form, or itself."""
    if isinstance(likelihood, dict):
        likelihood = keras.saving.deserialize_keras_object(likelihood)
    if isinstance(likelihood, str):
        if likelihood not in _NAMED:
            raise ValueError(
                f"likelihood must be one of {sorted(_NAMED)}, a NormalLikelihood, or a function (targets, "
                f"outputs) -> elementwise negative log-likelihood. Received: likelihood={likelihood!r}"
            )
        return _NAMED[likelihood]
    return likelihood


def serialize(likelihood: NegativeLogLikelihood) -> str | dict:
    """What `get` takes back."""
    for name, function in _NAMED.items():
        if function is likelihood:
            return name
    return keras.saving.serialize_keras_object(likelihood)
