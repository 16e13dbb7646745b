"""The replicas of a `tf.distribute` strategy: how rows are shared out, what is summed, what is agreed on.

Each of R replicas takes B / R contiguous rows of a minibatch of B, under weights drawn by itself, from the
RNN state of its own rows. Its free energy has its own rows as denominator; `share` of it, summed over
replicas, is that of the whole minibatch:

    sum_r (B_r / B) (NLL_r / B_r + KL_r / training_rows) = NLL / B + mean KL_r / training_rows

so B, "the batch size", is always that of all replicas together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.errors import InputError

_LARGEST_GROUP, _GROUP_BYTES = 64, 2**20  # The most minibatches, and bytes, fetched at a time.


def count() -> int:
    """R, the number of replicas of the strategy in whose scope or replica this is called."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def index() -> int | tf.Tensor:
    """The index of this replica among the R; 0 outside of them."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def share(rows: tf.Tensor, are_equal: bool = False) -> float | tf.Tensor:
    """The share B_r / B of this replica; called in every replica.

    Args:
      rows: any tensor of the replica's minibatch, [B_r, ...].
      are_equal: whether all replicas have as many rows, so that they need not be counted. That one replica's
        number is known beforehand does not imply it.
    """
    if count() == 1:
        return 1.0
    if are_equal:
        return 1.0 / count()
    own = tf.cast(tf.shape(rows)[0], tf.float32)
    return tf.math.divide_no_nan(own, total([own])[0])


def total(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the values, each summed over all replicas; called in every replica."""
    if count() == 1:
        return list(values)
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(values))


def variable(value: tf.Tensor, name: str) -> tf.Variable:
    """Makes a variable of which each replica has a value of its own."""
    return tf.Variable(
        value,
        trainable=False,
        name=name,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def stream(strategy: tf.distribute.Strategy, dataset: Callable[[int], Iterable], first_step: int) -> Iterator:
    """The minibatches of `dataset(first_step)`, each shared out over the replicas of this worker.

    Args:
      strategy: the strategy whose replicas share the rows.
      dataset: a function from a step to a stream that starts with that step's minibatch, of all B rows.
      first_step: the step to start from.

    Raises:
      InputError: if B is not a multiple of R.
    """
    count = strategy.num_replicas_in_sync
    for batch in _in_groups(dataset(first_step)):
        if count == 1:
            yield batch
        else:
            # A distributed `tf.data` iterator is avoided: letting go of one can take half a minute.
            yield strategy.experimental_distribute_values_from_function(
                lambda context, batch=batch: _rows_of(batch, context.replica_id_in_sync_group, count)
            )


def _in_groups(dataset: Iterable) -> Iterator:
    """Yields the elements of `dataset`; small ones are fetched many at a time, as each fetch is slow."""
    if not isinstance(dataset, tf.data.Dataset) or (group := _group_size(dataset.element_spec)) == 1:
        yield from dataset
        return
    for elements in dataset.batch(group).prefetch(2).as_numpy_iterator():
        for element in zip(*tf.nest.flatten(elements), strict=True):
            yield tf.nest.pack_sequence_as(elements, element)


def _group_size(spec: Any) -> int:
    """How many elements of this spec to fetch at a time: 1 unless they are small and all alike."""
    if not all(
        isinstance(one, tf.TensorSpec) and one.shape.is_fully_defined() for one in tf.nest.flatten(spec)
    ):
        return 1
    size = sum(one.shape.num_elements() * one.dtype.size for one in tf.nest.flatten(spec))
    return int(np.clip(_GROUP_BYTES // max(size, 1), 1, _LARGEST_GROUP))


def _rows_of(batch: Any, replica: int, count: int) -> Any:
    def cut(tensor: Any) -> tf.Tensor:
        rows = rows_of_replica(tensor.shape[0], count)
        return tf.convert_to_tensor(tensor[replica * rows : (replica + 1) * rows])

    return tf.nest.map_structure(cut, batch)


def rows_of_replica(rows: int | None, replicas: int) -> int:
    """Returns B / R.

    Raises:
      InputError: if B is unknown, or not a multiple of R.
    """
    if rows is None or rows % replicas:
        raise InputError(
            f"a minibatch of {rows or 'unknown size'} cannot be shared out over {replicas} replicas: the "
            f"batch size, which is that of all replicas together, must be a multiple of {replicas}"
        )
    return rows // replicas


# Operations outside of the replicas, the same on every worker.


def first(strategy: tf.distribute.Strategy, values: Any) -> Any:
    """Returns the first value of this worker's replicas, for a structure of what `strategy.run` returned."""
    return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], values)


def _index() -> tf.Tensor:
    return tf.convert_to_tensor(index())


class ReplicaVariables:
    """Variables of which each replica has a value of its own, as a checkpoint holds them: with all values.

    Args:
      strategy: the strategy whose replicas hold the values.
      variables: variables made by `variable`, or those of metrics.
      rows: whether a value's first axis is the replica's rows. Then the values of all replicas, one after the
        other, are that of the whole minibatch, which does not depend on their number; else they are stacked.
    """

    def __init__(self, strategy: tf.distribute.Strategy, variables: Sequence[tf.Variable], rows: bool):
        self.variables = list(variables)
        self._strategy = strategy
        self._rows = rows
        self._read = tf.function(self._read_all, autograph=False)
        self._replicas = tf.function(lambda: strategy.run(_index), autograph=False)

    def shapes(self) -> list[tuple[int | None, ...]]:
        """The shape of what `read` returns for each variable; None where any size will do."""
        count = self._strategy.num_replicas_in_sync
        if self._rows:
            return [(count * each.shape[0], *each.shape[1:]) for each in self.variables]
        return [(None, *each.shape) for each in self.variables]

    def read(self) -> list[tf.Tensor]:
        """Returns each variable's values. Called by all workers."""
        return self._read()

    def _read_all(self) -> list[tf.Tensor]:
        return [self._strategy.gather(value, axis=0) for value in self._strategy.run(self._own)]

    def _own(self) -> list[tf.Tensor]:
        values = [tf.convert_to_tensor(each) for each in self.variables]
        return values if self._rows else [value[tf.newaxis] for value in values]

    def write(self, values: Sequence[np.ndarray]) -> None:
        """Sets each variable on each replica of this worker."""
        count = self._strategy.num_replicas_in_sync
        local = self._strategy.experimental_local_results(self._replicas())
        for each, value in zip(self.variables, values, strict=True):
            if self._rows:
                value = value.reshape([count, -1, *value.shape[1:]])
            elif len(value) != count:
                # From another number of replicas: sums, which the first replica can hold for all.
                value = np.stack([value.sum(axis=0), *[np.zeros_like(value[0])] * (count - 1)])
            for replica, own in zip(local, self._strategy.experimental_local_results(each), strict=True):
                own.assign(value[int(replica)])


def is_distributed(strategy: tf.distribute.Strategy) -> bool:
    """Whether there is more than one replica."""
    return strategy.num_replicas_in_sync > 1
