"""The activation that a network ends in, which must not be one that its likelihood applies too."""

from __future__ import annotations

from typing import Any

import keras

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.objective import outputs as outputs_of

# Layers that hand on what they get, as far as an activation matters.
_HANDING_ON = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Identity,
    keras.layers.Dropout,
)


def check(network: keras.Model, likelihood: Any) -> None:
    """Refuses a network whose probabilities would be read as logits, or whose scales are positive already.

    Args:
      network: the network. What a subclass computes is not known beforehand, and not looked at.
      likelihood: the likelihood of its outputs, or a structure of them.

    Raises:
      InputError: if it ends in such an activation.
    """
    for last, one in _ends(network, likelihood):
        inner = last.layer if isinstance(last, keras.layers.TimeDistributed) else last
        activation = getattr(inner, "activation", None)
        name = getattr(activation, "__name__", type(inner).__name__).lower()
        if one is not None and name in one.refused_activations:
            instead = (
                f"{type(one).__name__}(from_logits=False), or a model that ends in logits"
                if one.is_classes
                else "a model that ends without an activation"
            )
            raise InputError(
                f"model {network.name!r} ends in the {name} of {last.name!r}, but its likelihood, {one!r}, "
                f"takes outputs as they are before it. Accepted: {instead}"
            )


def _ends(network: keras.Model, likelihood: Any) -> list[tuple[Any, Any]]:
    """The operation that every output comes from, and the likelihood of that output."""
    if isinstance(network, keras.Sequential) and not network.built:
        layers = [layer for layer in network.layers if not isinstance(layer, _HANDING_ON)]
        if not layers or len(keras.tree.flatten(likelihood)) != 1:
            return []
        return [(_last(layers[-1]), keras.tree.flatten(likelihood)[0])]
    if not isinstance(network, keras.Sequential | keras_internals.Functional):
        return []
    structure = network.outputs[0] if isinstance(network, keras.Sequential) else network.output
    names = getattr(network, "output_names", None)
    found = outputs_of.spread("likelihood", likelihood, structure, names, shared=True)
    ends = [_last(keras_internals.operation_of(output)) for output in keras.tree.flatten(structure)]
    return list(zip(ends, found, strict=True))


def _last(operation: Any) -> Any:
    """The operation that says what an output is: within networks, and before what hands it on."""
    while True:
        is_network = isinstance(operation, keras.Sequential | keras_internals.Functional)
        if is_network and operation.built and len(operation.outputs) == 1:
            operation = keras_internals.operation_of(operation.outputs[0])
        elif isinstance(operation, _HANDING_ON) and keras.tree.flatten(getattr(operation, "input", ())):
            operation = keras_internals.operation_of(keras.tree.flatten(operation.input)[0])
        else:
            return operation
