"""Metrics of classes."""

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


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class ClassAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """The share of targets whose class has the greatest output; targets are integers, or one-hot."""

    def __init__(self, name: str = "accuracy", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: tf.Tensor, sample_weight: Any = None) -> None:
        """Counts in targets [...] or [..., V] under outputs [..., V]."""
        y_true = tf.convert_to_tensor(y_true)
        if y_true.shape.rank == y_pred.shape.rank and y_true.shape[-1] not in (1, None):
            y_true = tf.argmax(y_true, -1)
        super().update_state(y_true, y_pred, sample_weight)
