"""The Keras layers that are converted, each with its variational counterpart, and the way back."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import keras

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.conversion import cloning
from tfp_bayesrnn.distributions import Prior, VariationalFamily
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.layers import (
    Dropout,
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalLSTM,
)
from tfp_bayesrnn.layers.base import VariationalLayer

VARIATIONAL = {
    keras.layers.Embedding: VariationalEmbedding,
    keras.layers.LSTM: VariationalLSTM,
    keras.layers.GRU: VariationalGRU,
    keras.layers.Dense: VariationalDense,
}
_PLAIN = {Dropout: keras.layers.Dropout, **{ours: plain for plain, ours in VARIATIONAL.items()}}

# Options that the constructors hand on to the base classes of both kinds.
_COMMON = {"name", "trainable", "dtype", "activity_regularizer", "unroll", "zero_output_for_mask"}
_WEIGHTS = ("embeddings", "kernel", "recurrent_kernel", "bias")


def check_weights(layer: keras.layers.Layer) -> None:
    """Refuses weights that a variational layer could not have.

    Raises:
      InputError: if they do not exist yet, are not simply kernels and biases, or are trained in part.
    """
    if not layer.built:
        raise InputError(f"layer {layer.name!r} has no weights yet: build the model, or call it on data")
    for option in ("quantization_mode", "lora_rank"):
        if getattr(layer, option, None):
            raise InputError(_refusal(layer, option, getattr(layer, option)))
    for option in ("activation", "recurrent_activation"):
        if getattr(getattr(layer, option, None), "weights", None):
            raise InputError(_refusal(layer, f"{option} with weights", getattr(layer, option)))
    if len({variable.trainable for variable in weights(layer).values()}) == 2:
        raise InputError(
            f"layer {layer.name!r} cannot be converted: some of its weights are trainable and some are not. "
            "Accepted: all or none"
        )


def variational(
    layer: keras.layers.Layer, **distributions: Prior | VariationalFamily | None
) -> keras.layers.Layer:
    """Returns the variational counterpart of a Keras layer, not built, with the same options."""
    kind = VARIATIONAL[type(layer)]
    config = cloning.config_of(layer)
    accepted = _options(kind)
    for option in sorted(config.keys() - accepted):
        value = config.pop(option)
        if value is None:
            continue
        if not option.endswith("_regularizer"):
            raise InputError(_refusal(layer, option, getattr(layer, option, value)))
        warnings.warn(
            f"layer {layer.name!r}: its {option} is left out, since the KL divergence to the prior takes its "
            "place",
            stacklevel=2,
        )
    return kind(**config, **distributions)


def _refusal(layer: keras.layers.Layer, option: str, value: Any) -> str:
    return (
        f"layer {layer.name!r} cannot be converted: a variational {type(layer).__name__} has no {option}, "
        f"which is {value!r}"
    )


def plain(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """Returns a variational layer's Keras counterpart, not built, with its options; None to leave it."""
    kind = _PLAIN.get(type(layer))
    if kind is None:
        ours = (VariationalLayer, Dropout)
        for part in keras_internals.layers_within(layer):
            if isinstance(part, ours):
                raise InputError(
                    f"layer {layer.name!r} has no counterpart in Keras: it is or holds a "
                    f"{type(part).__name__}. Accepted: {', '.join(sorted(k.__name__ for k in _PLAIN))}, by "
                    "themselves, in Bidirectional and in TimeDistributed"
                )
        return None
    if getattr(layer, "attend_bias", False):
        raise InputError(
            f"layer {layer.name!r} has no counterpart in Keras: it is a VariationalEmbedding with "
            "attend_bias=True"
        )
    config = cloning.config_of(layer)
    accepted = _options(kind)
    return kind(**{option: value for option, value in config.items() if option in accepted})


def fill_plain(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Sets the weights of a Keras layer to the posterior means of a variational one."""
    variables = weights(target)
    for name, weight in weights(source).items():
        variables[name].assign(keras.ops.cast(weight.mean(), variables[name].dtype))
        if not weight.mean_is_trainable:
            variables[name].trainable = False


def _options(kind: type[keras.layers.Layer]) -> set[str]:
    """The names of a constructor's arguments, with the `**kwargs` of its base classes."""
    return {*inspect.signature(kind.__init__).parameters, *_COMMON} - {"self", "kwargs"}


def weights(layer: keras.layers.Layer) -> dict[str, Any]:
    """The variables of a Keras layer, or the `VariationalWeight`s of a variational one, by name."""
    holder = getattr(layer, "cell", layer)
    found = {name: getattr(holder, name, None) for name in _WEIGHTS}
    return {name: weight for name, weight in found.items() if weight is not None}
