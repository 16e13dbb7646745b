"""The class weights of `fit` and `train_on_batch`, for targets that are classes themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.objective import likelihoods
from tfp_bayesrnn.objective.likelihoods import shapes


class ClassWeights:
    """A weight for each class; classes that are not mentioned count once.

    Keras's own way takes the last axis of integer targets [B, T] for a one-hot code, and weighs each row by
    its greatest element.
    """

    def __init__(self, weights: Mapping[int, float]):
        """Takes the weight of each class, counted from 0.

        Raises:
          ValueError: if `weights` is no mapping from classes to numbers, or a class is negative.
        """
        try:
            self._weights = {int(label): float(weight) for label, weight in weights.items()}
        except (AttributeError, TypeError, ValueError):
            self._weights = {-1: 0.0}
        if min(self._weights, default=0) < 0:
            raise ValueError(
                "class_weight must be a dictionary from classes, which count from 0, to numbers. "
                f"Received: class_weight={weights!r}"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassWeights) and other._weights == self._weights

    def __hash__(self) -> int:
        return hash(frozenset(self._weights.items()))

    def of(self, targets: tf.Tensor) -> tf.Tensor:
        """Returns the weight of every target, float32, of the shape of `targets`."""
        count = max(self._weights, default=-1) + 1
        table = tf.constant([*(self._weights.get(label, 1.0) for label in range(count)), 1.0], tf.float32)
        classes = tf.cast(targets, tf.int32)
        is_mentioned = (classes >= 0) & (classes < count)
        return tf.gather(table, tf.where(is_mentioned, classes, count))

    def added_to(self, data: Any, outputs: tf.TensorSpec) -> tuple:
        """Returns (x, y, weights) from the data of a step, which have no weights yet.

        Args:
          data: the data of a step.
          outputs: the shape of the network's outputs, by which one-hot targets are known.

        Raises:
          ValueError: if there are weights.
        """
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise ValueError(
                "class_weight and sample_weight cannot be given at the same time. "
                f"Received: class_weight, and data with weights of shape {weights.shape}"
            )
        classes = tf.convert_to_tensor(y)
        if shapes.has_classes_on_last_axis(classes, outputs):
            classes = tf.argmax(classes, axis=-1)
        return x, y, self.of(classes)


@contextlib.contextmanager
def taken_from(arguments: dict[str, Any], model: keras.Model) -> Iterator[None]:
    """Within this context `model.class_weights` are those given to `fit`, if its targets are classes.

    They are then removed from the arguments.
    """
    given = arguments.get("class_weight")
    if given is None or not isinstance(model.likelihood, likelihoods.CategoricalLikelihood):
        yield
        return
    if arguments.get("sample_weight") is not None:
        raise ValueError(
            "class_weight and sample_weight cannot be given at the same time. "
            f"Received: class_weight={given!r} and a sample_weight"
        )
    model.class_weights, arguments["class_weight"] = ClassWeights(given), None
    try:
        yield
    finally:
        model.class_weights = None
