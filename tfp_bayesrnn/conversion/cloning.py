"""Copies a Keras network layer by layer, replacing some layers by others.

Beyond what `keras.models.clone_model` does, it copies networks within networks at any depth, the layers
inside `Bidirectional` and `TimeDistributed`, and the weights and other state of all layers. It compiles
nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import keras
from keras.layers import Layer

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.errors import InputError

Replace = Callable[[Layer], Layer | None]
Fill = Callable[[Layer, Layer], None]


def is_network(layer: Layer) -> bool:
    """Whether `layer` is made of its layers alone: a `keras.Sequential` or a `keras.Model(inputs, outputs)`.

    A subclass of either counts too, unless it has a `call` of its own.
    """
    kinds = (keras.Sequential, keras_internals.Functional)
    return any(isinstance(layer, kind) and type(layer).call is kind.call for kind in kinds)


def copy_network(network: keras.Model, replace: Replace, fill: Fill) -> keras.Model:
    """Returns a copy of `network` that shares no variable with it.

    A layer that is used several times is copied once and used as often. A layer that is not replaced is
    rebuilt from its `get_config()`, and has the state of its original.

    Args:
      network: the network to copy; see `is_network`.
      replace: a function from a layer to a new one of the same name that takes its place, or None to copy it.
        It is also called for the layers of networks inside the network and for those that `Bidirectional` and
        `TimeDistributed` wrap, but not for the parts of any other layer.
      fill: a function that sets the weights of a replacement, called with each replaced layer and its
        replacement once that is built.

    Raises:
      InputError: if the network has not been built, does not satisfy `is_network`, or has a layer that its
        own `get_config()` does not rebuild.
    """
    if not is_network(network):
        raise InputError(
            f"model {network.name!r} cannot be converted: it is a {type(network).__name__}, which says in "
            "code how it uses its layers. Accepted: a keras.Sequential, or a keras.Model(inputs, outputs)"
        )
    copier = _Copier(replace)
    copy = copier.copy(network)
    for source, target in copier.replaced:
        target.trainable = source.trainable
        fill(source, target)
        _copy_recurrent_state(source, target)
    for source, target in copier.kept:
        _copy_layer_state(source, target)
    return copy


# Arguments that are given as an object or a function as well as in serialised form.
_OBJECTS = (
    "activation",
    "recurrent_activation",
    "kernel_initializer",
    "recurrent_initializer",
    "bias_initializer",
    "embeddings_initializer",
)


class _Copier:
    """Makes the copies, and remembers which layer has become which."""

    def __init__(self, replace: Replace):
        self._replace = replace
        self._copies: dict[keras.Operation, keras.Operation] = {}
        self.replaced: list[tuple[Layer, Layer]] = []
        self.kept: list[tuple[Layer, Layer]] = []

    def copy(self, operation: keras.Operation) -> keras.Operation:
        """Returns the one copy of a layer, or of another operation of a network."""
        if operation not in self._copies:
            self._copies[operation] = self._copy(operation)
        return self._copies[operation]

    def _copy(self, operation: Any) -> Any:
        if not isinstance(operation, Layer):
            return _rebuilt(operation)
        if is_network(operation):
            return self._network(operation)
        if type(operation) is keras.layers.TimeDistributed:
            return _wrapped(operation, layer=self.copy(operation.layer))
        if type(operation) is keras.layers.Bidirectional:
            return self._bidirectional(operation)
        return self._layer(operation)

    def _layer(self, layer: Layer) -> Layer:
        replacement = self._replace(layer)
        if replacement is not None:
            self.replaced.append((layer, replacement))
            return replacement
        copy = _rebuilt(layer)
        self.kept.append((layer, copy))
        return copy

    def _bidirectional(self, layer: keras.layers.Bidirectional) -> keras.layers.Bidirectional:
        directions = ("forward_layer", "backward_layer")
        sources = [getattr(layer, direction) for direction in directions]
        replacements = [self._replace(source) for source in sources]
        parts = [new or _rebuilt(source) for source, new in zip(sources, replacements, strict=True)]
        copy = _wrapped(layer, layer=parts[0], backward_layer=parts[1])
        for direction, source, replacement in zip(directions, sources, replacements, strict=True):
            # Keras has made the forward layer anew.
            pairs = self.kept if replacement is None else self.replaced
            pairs.append((source, getattr(copy, direction)))
        return copy

    def _network(self, network: keras.Model) -> keras.Model:
        try:
            inputs = network.inputs
        except AttributeError:
            raise InputError(
                f"model {network.name!r} has no weights yet: build it, or call it on data, before it is "
                "converted"
            ) from None
        if isinstance(network, keras.Sequential):
            layers = [self.copy(layer) for layer in network.layers]
            copy = keras.Sequential(
                [_input(inputs[0]), *layers], name=network.name, trainable=network.trainable
            )
            if copy.built:
                return copy
            raise InputError(f"model {network.name!r} cannot be rebuilt from its layers")
        # Leaves out the original's optimizer and metrics, which Keras's copy would have too.
        plain = keras.Model(network.input, network.output, name=network.name)
        copy = keras.models.clone_model(
            plain,
            input_tensors=keras.tree.map_structure(_input, plain.input),
            clone_function=self.copy,
        )
        copy.trainable = network.trainable  # This sets its layers too; they are then set one by one.
        return copy


def _input(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Returns a new input like `tensor`, an input of another network."""
    layer = keras_internals.operation_of(tensor)
    return type(layer).from_config(layer.get_config()).output


def config_of(layer: Layer) -> dict[str, Any]:
    """Returns the constructor's arguments, with functions and initializers as the objects themselves.

    Their serialised forms do not identify a function that is not registered with Keras.
    """
    config = layer.get_config()
    holder = getattr(layer, "cell", layer)
    live = {name: getattr(holder, name) for name in _OBJECTS if name in config and hasattr(holder, name)}
    # Layers are left out: two layers would share their weights.
    return {**config, **{name: value for name, value in live.items() if not isinstance(value, Layer)}}


def _rebuilt(operation: keras.Operation) -> keras.Operation:
    kind = type(operation)
    try:
        if kind is keras.layers.Lambda:
            shape = keras_internals.output_shape_of(operation)
            live = {"function": operation.function, "mask": operation.mask, "output_shape": shape}
            return kind(**{**operation.get_config(), **live})
        # It is unknown what the `from_config` of a class outside Keras does with objects.
        is_keras_s = isinstance(operation, Layer) and kind.__module__.startswith("keras.")
        return kind.from_config(config_of(operation) if is_keras_s else operation.get_config())
    except Exception as error:
        raise InputError(
            f"layer {operation.name!r} cannot be copied: {type(operation).__name__}.get_config() does not "
            f"rebuild it ({error})"
        ) from error


def _wrapped(wrapper: Layer, **parts: Layer) -> Layer:
    """Returns a wrapper like another, around other layers."""
    return type(wrapper)(**{**wrapper.get_config(), **parts})


def _copy_recurrent_state(source: Layer, target: Layer) -> None:
    """Copies the state that a recurrent layer with `stateful=True` has kept from its last call."""
    if getattr(source, "stateful", False):
        states = (keras.tree.flatten(layer.states) for layer in (source, target))
        for old, new in zip(*states, strict=True):
            new.assign(old)


def _copy_layer_state(source: Layer, target: Layer) -> None:
    """Copies the variables and vocabularies of a layer and all its parts, and which of them are trained."""
    pairs = list(zip(*map(keras_internals.layers_within, (source, target)), strict=False))
    try:
        for old, new in pairs:
            new.trainable = old.trainable  # The layer before its parts, since this sets theirs too.
            store: dict[str, Any] = {}
            old.save_own_variables(store)
            new.load_own_variables(store)
            if hasattr(old, "save_assets"):  # A vocabulary that has been learned by `adapt`.
                with tempfile.TemporaryDirectory() as directory:
                    old.save_assets(directory)
                    new.load_assets(directory)
        for old, new in zip(source.variables, target.variables, strict=True):
            if new.trainable != old.trainable:  # A variable that was set by itself.
                new.trainable = old.trainable
    except Exception as error:
        raise InputError(
            f"layer {source.name!r} cannot be copied: a {type(source).__name__} that its get_config() has "
            f"rebuilt does not take its weights ({error})"
        ) from error
