"""Minibatches of what `predict` and `evaluate` of Keras take, one after another, for passes of our own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_DEFAULT_SIZE = 32


def of(
    x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None, steps: int | None = None
) -> Iterator[tuple[Any, Any, Any]]:
    """Yields (x, y, sample_weight) of every minibatch, in order; None for what is not there.

    Args:
      x: arrays or tensors in any structure, a `tf.data.Dataset`, a `keras.utils.PyDataset`, or an iterable of
        minibatches.
      y: the targets, if `x` is arrays.
      sample_weight: the weights, if `x` is arrays.
      batch_size: the number of rows in a minibatch of arrays; 32 by default.
      steps: the number of minibatches; None for all of them.

    Raises:
      ValueError: if arrays have different numbers of rows, or there are no minibatches.
    """
    found = _of_arrays(x, y, sample_weight, batch_size) if _is_arrays(x) else _of_dataset(x, y, sample_weight)
    count = 0
    for batch in found:
        if steps is not None and count == steps:
            return
        count += 1
        yield batch
    if not count:
        raise ValueError(f"There must be at least one minibatch. Received: x={x!r}")


def _is_arrays(x: Any) -> bool:
    leaves = keras.tree.flatten(x)
    return all(hasattr(leaf, "shape") or hasattr(leaf, "__array__") for leaf in leaves) and bool(leaves)


def _of_dataset(x: Any, y: Any, sample_weight: Any) -> Iterator[tuple[Any, Any, Any]]:
    if y is not None or sample_weight is not None:
        raise ValueError(
            "Targets and weights come with the minibatches of a data set: leave y and sample_weight out. "
            f"Received: x={x!r}, and y or sample_weight"
        )
    if isinstance(x, list | tuple | dict | str | float | int) or not (
        hasattr(x, "__iter__") or isinstance(x, keras.utils.PyDataset)
    ):
        raise ValueError(
            "x must be arrays or tensors, a tf.data.Dataset, a keras.utils.PyDataset, or an iterable of "
            f"minibatches; of a list of numbers make an array, np.asarray(x). Received: x={x!r}"
        )
    batches: Iterable = (x[index] for index in range(len(x))) if isinstance(x, keras.utils.PyDataset) else x
    for batch in batches:
        yield keras.utils.unpack_x_y_sample_weight(batch)


def _of_arrays(x: Any, y: Any, sample_weight: Any, batch_size: int | None) -> Iterator[tuple[Any, Any, Any]]:
    size = _DEFAULT_SIZE if batch_size is None else batch_size
    data = keras.tree.map_structure(_array, (x, y, sample_weight))
    rows = {len(leaf) for leaf in keras.tree.flatten(data) if leaf is not None}
    if len(rows) != 1:
        raise ValueError(f"All arrays must have the same number of rows. Received: {sorted(rows)} rows")
    for start in range(0, rows.pop(), size):
        yield keras.tree.map_structure(
            lambda leaf: None if leaf is None else leaf[start : start + size],  # noqa: B023
            data,
        )


def _array(leaf: Any) -> Any:
    """A leaf as an array; real numbers in Keras's default precision, as `predict` has them."""
    if leaf is None or isinstance(leaf, tf.Tensor):
        return leaf
    leaf = np.asarray(leaf)
    return leaf.astype(keras.config.floatx()) if np.issubdtype(leaf.dtype, np.floating) else leaf
