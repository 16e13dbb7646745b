"""A network as a function of (inputs, state): RNN state goes in and comes out explicitly.

A state is a nested structure of tensors whose first axis is the row. A network that carries one either is a
`keras.Sequential` of layers, or has two methods of its own:

    get_initial_state(batch_size) -> state
    run(inputs, state, training) -> (outputs, state)
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import keras_internals, replicas

State = Any


def initial_state(network: keras.Model, batch_size: int) -> State:
    """Returns the state of all zeros.

    Raises:
      ValueError: if the network is neither a `keras.Sequential` nor has the two methods, or has nothing
        recurrent in it, or hides something recurrent inside another layer.
    """
    if hasattr(network, "get_initial_state"):
        return network.get_initial_state(batch_size)
    layers = _recurrent_layers(network)
    if not layers:
        raise ValueError(
            "`is_first` says that rows go on from batch to batch, but the network has no recurrent layer to "
            f"carry a state. Received: network={network.name!r}"
        )
    return [layer.get_initial_state(batch_size) for layer in layers]


def run(network: keras.Model, inputs: tf.Tensor, state: State, training: bool) -> tuple[tf.Tensor, State]:
    """Runs the network from `state`; returns its outputs and the state after the last time step."""
    if hasattr(network, "run"):
        return network.run(inputs, state, training=training)
    _recurrent_layers(network)
    state, new_state = list(state), []
    for layer in network.layers:
        kwargs = {"training": training} if keras_internals.takes_training(layer) else {}
        if isinstance(layer, keras.layers.RNN):
            inputs, layer_state = run_layer(layer, inputs, state.pop(0), **kwargs)
            new_state.append(layer_state)
        else:
            inputs = layer(inputs, **kwargs)
    return inputs, new_state


def run_layer(
    layer: keras.layers.RNN, inputs: tf.Tensor, state: list[tf.Tensor], **kwargs: Any
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs one recurrent layer from `state`, whatever its `return_state`; returns (outputs, new state)."""
    return_state, layer.return_state = layer.return_state, True
    mask = keras_internals.mask_of(inputs)  # Keras looks it up itself only if no state is passed.
    try:
        outputs, *new_state = layer(inputs, initial_state=state, mask=mask, **kwargs)
    finally:
        layer.return_state = return_state
    return outputs, new_state


def restart(state: State, is_first: tf.Tensor) -> State:
    """Returns `state` with the rows where `is_first` [B] is true set to zero."""

    def restart_rows(value: tf.Tensor) -> tf.Tensor:
        keep = tf.logical_not(tf.cast(is_first, tf.bool))
        return tf.where(tf.reshape(keep, [-1] + [1] * (len(value.shape) - 1)), value, tf.zeros_like(value))

    return tf.nest.map_structure(restart_rows, state)


class CarriedState(tf.Module):
    """The RNN state that a stream's rows go on from; each replica has that of its own rows.

    It is part of a checkpoint, not of a saved model. Half precision is kept as float32, which holds it
    exactly: workers cannot exchange every kind of half precision.
    """

    def __init__(self, network: keras.Model, batch_size: int):
        super().__init__()
        self._structure = initial_state(network, batch_size)
        self.batch_size = batch_size
        self.variables_flat = [
            replicas.variable(_at_least_float32(value), "carried_state")
            for value in tf.nest.flatten(self._structure)
        ]

    def read(self) -> State:
        """The state, as tensors."""
        pairs = zip(self.variables_flat, tf.nest.flatten(self._structure), strict=True)
        values = [tf.cast(variable, value.dtype) for variable, value in pairs]
        return tf.nest.pack_sequence_as(self._structure, values)

    def write(self, state: State) -> None:
        """Keeps `state` for the next minibatch."""
        for variable, value in zip(self.variables_flat, tf.nest.flatten(state), strict=True):
            variable.assign(tf.cast(value, variable.dtype))


def _at_least_float32(value: tf.Tensor) -> tf.Tensor:
    is_half = value.dtype in (tf.bfloat16, tf.float16)
    return tf.cast(value, tf.float32) if is_half else value


def _recurrent_layers(network: keras.Model) -> list[keras.layers.RNN]:
    if not isinstance(network, keras.Sequential):
        raise ValueError(
            "To carry RNN state from batch to batch the network must be a keras.Sequential, or have the "
            "methods get_initial_state(batch_size) and run(inputs, state, training). "
            f"Received: {type(network).__name__}"
        )
    for layer in network.layers:
        if isinstance(layer, keras.layers.RNN):
            continue
        if any(isinstance(inner, keras.layers.RNN) for inner in keras_internals.layers_within(layer)):
            raise ValueError(
                "Only recurrent layers that stand in the keras.Sequential themselves carry their state from "
                f"batch to batch, not those inside another layer. Received: layer={layer.name!r}"
            )
    return [layer for layer in network.layers if isinstance(layer, keras.layers.RNN)]
