"""Metrics of language models."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class Perplexity(keras.metrics.Mean):
    """exp of the mean negative log-likelihood (nats) of all predictions: update with that mean, weighted."""

    def __init__(self, name: str = "perplexity", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def result(self) -> tf.Tensor:
        """The perplexity so far."""
        return keras.ops.exp(super().result())
