"""The number of rows in one pass over the training data, which the KL is shared out over.

It is given to the model, or `fit` counts it: of arrays, of a `keras.utils.PyDataset`, of a loader with a
length and of a `tf.data.Dataset` whose cardinality is known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

WARMUP = (300, 1000)
"""The fewest and the most steps over which the KL's weight rises by default."""


class TrainingRows:
    """The number, as it is given; or a variable that holds what `fit` has counted.

    A number that is given is a constant of the compiled step. The variable is not among the `weights` of its
    owner: nothing of the network depends on it.
    """

    def __init__(self, given: float | None):
        """Takes the number; None for one that is to be counted."""
        self.given = given
        self._is_counted = False
        self._variable: keras.Variable | None = None
        if given is None:
            self._variable = keras.Variable(
                1.0, dtype="float32", trainable=False, aggregation="only_first_replica", name="training_rows"
            )

    @property
    def number(self) -> float | None:
        """The number, None where it is neither given nor counted yet."""
        if self._variable is None or not self._is_counted:
            return self.given
        with tf.init_scope():
            return float(tf.convert_to_tensor(self._variable).numpy())

    @property
    def is_known(self) -> bool:
        """Whether there is a number, given or counted."""
        return self.given is not None or self._is_counted

    def count(self, rows: int) -> None:
        """Keeps what has been counted, if no number was given."""
        if self._variable is not None:
            self._variable.assign(float(rows))
            self._is_counted = True

    def read(self) -> float | tf.Tensor:
        """The number for the objective of a step: a Python number or a float32 scalar; 1 where unknown."""
        if self._variable is None:
            return self.given or 1.0
        return tf.convert_to_tensor(self._variable)

    def warmup_steps(self) -> float | tf.Tensor:
        """A third of the rows, but within `WARMUP`: ten passes in minibatches of about 32.

        It is as long as Adam takes to learn what the likelihood says, while the KL, which says that every
        weight should be what it is under the prior, cannot forestall that. Where data are many the KL of a
        row is small, and nothing depends on it.
        """
        if self._variable is None:
            return min(max((self.given or 0.0) / 3.0, WARMUP[0]), WARMUP[1])
        return tf.clip_by_value(self.read() / 3.0, *map(float, WARMUP))


class Epoch(NamedTuple):
    """One pass of `fit` over its data."""

    rows: int | None  # The number of rows in the data; None where they do not tell.
    slack: int  # The number of rows may be off by less than this: a last minibatch is smaller, or dropped.
    steps: int | None  # The number of minibatches of an epoch; None where it is not known beforehand.
    is_part: bool  # Whether `steps_per_epoch` says how long an epoch is, and not the data.
    is_uneven: bool  # Whether a minibatch may have fewer rows than the others.


def epoch_of(iterator: Any, counts: bool) -> Epoch:
    """Returns what the iterator of `fit` tells of an epoch.

    Args:
      iterator: Keras's iterator over the epochs of `fit`.
      counts: whether to look at a minibatch where the rows cannot be told without.
    """
    adapter = iterator.data_adapter
    names = ("num_batches", "batch_size", "partial_batch_size")
    batches, size, partial = (_told(adapter, name) for name in names)
    is_array = _told(adapter, "has_partial_batch") is not None
    rows, slack, is_uneven = None, 1, bool(partial) or size is None
    if batches and isinstance(getattr(adapter, "py_dataset", None), keras.utils.PyDataset):
        first, last = (_rows(adapter.py_dataset[index]) for index in (0, batches - 1))
        rows, is_uneven = (batches - 1) * first + last, first != last
    elif batches:
        if size is None and counts:
            size = _rows(next(iter(adapter.get_tf_dataset())))
        if size is not None:
            rows = batches * size - (size - (partial or size) if is_array else 0)
            slack = 1 if is_array else size
    return Epoch(rows, slack, iterator.num_batches, bool(iterator.steps_per_epoch), is_uneven)


def _told(adapter: Any, name: str) -> Any:
    """A property of Keras's adapter to some kind of data; None where that kind does not know it."""
    try:
        return getattr(adapter, name)
    except (AttributeError, IndexError, NotImplementedError, ValueError):
        return None


def _rows(batch: Any) -> int:
    return int(keras.tree.flatten(batch)[0].shape[0])
