"""Networks of one output or several: the targets, likelihood, weights and mask that belong to each.

Outputs are a tensor, or a list, a tuple or a dictionary of them, which may be nested. Targets have the same
structure, and so have likelihoods and weights, of which there may also be one for all outputs. Where a
functional network returns a list, a dictionary by the names of its outputs will do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfp_bayesrnn import keras_internals

_MISSING = object()


class Output(NamedTuple):
    """An output that has targets, and what belongs to it."""

    likelihood: Any
    targets: tf.Tensor
    values: tf.Tensor
    weights: tf.Tensor | None
    mask: tf.Tensor | None


def masks(outputs: Any) -> Any:
    """The masks that Keras's layers have handed on to the outputs, in their structure; None where is none."""
    return keras.tree.map_structure(keras_internals.mask_of, outputs)


def with_masks(outputs: Any, masks: Any) -> Any:
    """Returns the outputs with these masks, which they lose where a function returns them."""
    for output, mask in zip(keras.tree.flatten(outputs), keras.tree.flatten(masks), strict=True):
        if mask is not None:
            keras_internals.set_mask(output, mask)
    return outputs


def match(
    likelihood: Any, targets: Any, outputs: Any, weights: Any, masks: Any, names: Sequence[str] | None = None
) -> list[Output]:
    """Returns every output that has a likelihood, with what belongs to it.

    Args:
      likelihood: the likelihood, one for all outputs or a structure of them; None where an output has no
        targets.
      targets: the targets, in the structure of the outputs; those of outputs without a likelihood may be left
        out.
      outputs: the network's outputs.
      weights: the weights: None, one for all outputs or a structure of them.
      masks: the masks, in the structure of the outputs.
      names: the output names of a functional network.

    Raises:
      ValueError: if their structures differ.
    """
    found = spread("likelihood", likelihood, outputs, names, shared=True)
    columns = (
        spread("targets", targets, outputs, names, needed=[one is not None for one in found]),
        keras.tree.flatten(outputs),
        spread("sample_weight", weights, outputs, names, shared=True, needed=[False] * len(found)),
        keras.tree.flatten(masks),
    )
    return [Output(*row) for row in zip(found, *columns, strict=True) if row[0] is not None]


def spread(
    what: str,
    value: Any,
    outputs: Any,
    names: Sequence[str] | None = None,
    shared: bool = False,
    needed: Sequence[bool] | None = None,
) -> list[Any]:
    """Returns the value that belongs to every output, in the order of `keras.tree.flatten(outputs)`.

    Args:
      what: the value's name, for an error message.
      value: the structure of values.
      outputs: the network's outputs.
      names: the output names of a functional network.
      shared: whether one value will do for several outputs.
      needed: whether there must be a value, for each output; None for all. Others have None where there is
        none.

    Raises:
      ValueError: if `value` does not have the structure of the outputs.
    """
    paths = [tuple(path) for path, _ in keras.tree.flatten_with_path(outputs)]
    found = {tuple(path): one for path, one in keras.tree.flatten_with_path(value)}
    if len(paths) == 1 and len(found) == 1 and (not paths[0] or () in found):
        # As in Keras, a structure of one value is that value.
        (path,) = found
        if not path or names is None or path[-1] in (0, names[0]):
            found = {paths[0]: found[path]}
    elif names is not None and isinstance(value, Mapping) and len(names) == len(paths):
        places = {(name,): path for name, path in zip(names, paths, strict=True)}
        if not set(found) <= set(paths):
            found = {places.get(path, path): one for path, one in found.items()}
    if needed and sum(needed) == 1 and list(found) == [()]:
        found = {paths[needed.index(True)]: found[()]}
    values, unused = [], set(found)
    for path, must in zip(paths, needed or [True] * len(paths), strict=True):
        ends = range(len(path), -1, -1) if shared else [len(path)]
        key = next((path[:end] for end in ends if path[:end] in found), None)
        values.append(_MISSING if key is None and must else None if key is None else found[key])
        unused.discard(key)
    if unused or any(one is _MISSING for one in values):
        also = ", or one for all of them" if shared else ""
        raise ValueError(
            f"{what} must have the structure of the network's outputs{also}. Received: {what} with "
            f"{_described(found)}, outputs with {_described(paths)}"
            + (f", named {list(names)}" if names is not None else "")
        )
    return values


def _described(paths: Iterable[Any]) -> str:
    return ", ".join("/".join(map(str, path)) or "a single value" for path in paths)
