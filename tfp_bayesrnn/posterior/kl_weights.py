"""The weight of the KL, a variable that can be assigned while training: from a callback, for annealing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf


class KLWeight:
    """A scalar variable, and whether a graph has read it.

    It is not among the `weights` of its owner: nothing of the network depends on it.
    """

    def __init__(self, value: float | keras.Variable | tf.Variable):
        """Takes a number; or a variable, which is then read itself and never trained.

        Raises:
          ValueError: if the value is no scalar, is negative or not finite.
        """
        self.is_in_graph = False
        _check(value)
        if isinstance(value, keras.Variable):
            value.trainable = False
        elif not isinstance(value, tf.Variable):
            value = keras.Variable(
                float(value),
                dtype="float32",
                trainable=False,
                aggregation="only_first_replica",
                name="kl_weight",
            )
        self.variable = value

    def read(self) -> tf.Tensor:
        """Returns its value at this step, a float32 scalar."""
        self.is_in_graph |= not tf.executing_eagerly()
        return tf.cast(tf.convert_to_tensor(self.variable), tf.float32)

    def number(self) -> float:
        """Returns its value now, as written in the fewest digits that say which float32 it is."""
        with tf.init_scope():
            return float(str(np.float32(tf.convert_to_tensor(self.variable).numpy())))

    def assign(self, value: Any) -> None:
        """Sets it to a number; raises `ValueError` as the constructor does."""
        _check(value)
        self.variable.assign(float(value))


def _check(value: Any) -> None:
    try:
        number = float(tf.convert_to_tensor(value))
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 <= number < math.inf:
        raise ValueError(
            "kl_weight must be a finite number that is not negative, or a scalar variable that holds one. "
            f"Received: kl_weight={value}"
        )


if TYPE_CHECKING:
    from keras.layers import Layer as _Mixed  # The class that it is mixed into.
else:
    _Mixed = object


class KLWeighted(_Mixed):
    """Mixin for Keras layers and models with a `kl_weight`."""

    _kl_weight: KLWeight | None = None

    @property
    def kl_weight(self) -> keras.Variable | tf.Variable | None:
        """The weight of the KL, a variable: assign a number to it, or to the attribute, at any time."""
        return None if self._kl_weight is None else self._kl_weight.variable

    @kl_weight.setter
    def kl_weight(self, value: float | keras.Variable | tf.Variable | None) -> None:
        self._set_kl_weight(value)

    def __setattr__(self, name: str, value: Any) -> None:
        # Keras would take a variable that is assigned to an attribute for one of the layer's weights.
        if name == "kl_weight":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _set_kl_weight(self, value: float | keras.Variable | tf.Variable | None) -> None:
        if value is None:
            self._kl_weight = None
        elif self._kl_weight is None:
            self._kl_weight = KLWeight(value)
        elif not isinstance(value, keras.Variable | tf.Variable):
            self._kl_weight.assign(value)
        elif value is not self.kl_weight:
            if self._kl_weight.is_in_graph:
                raise ValueError(
                    "kl_weight is in a compiled function already, which another variable would not change: "
                    "assign a number to it, or give the variable to the constructor. "
                    f"Received: kl_weight={value}"
                )
            self._kl_weight = KLWeight(value)

    def save_own_variables(self, store: Any) -> None:
        """Saves the variables as `keras.layers.Layer` does, and the KL's weight."""
        super().save_own_variables(store)
        if self._kl_weight is not None:
            store["kl_weight"] = np.float32(self._kl_weight.number())

    def load_own_variables(self, store: Any) -> None:
        """Loads the variables as `keras.layers.Layer` does, and the KL's weight where the file has it."""
        own = {key: store[key] for key in store.keys()}
        saved = own.pop("kl_weight", None)
        super().load_own_variables(own)
        if saved is not None and self._kl_weight is not None:
            self._kl_weight.assign(np.asarray(saved))
