"""The processes of a `tf.distribute` strategy: which one writes, and what all of them agree on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from tfp_bayesrnn import replicas
from tfp_bayesrnn.errors import InputError


def are_several(strategy: tf.distribute.Strategy) -> bool:
    """Whether the strategy has several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


class WorkerLost(InputError):
    """Another worker has gone; this one cannot go on alone."""


class Workers:
    """The workers of a strategy: one process only, unless it is a `MultiWorkerMirroredStrategy`."""

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.are_several = are_several(strategy)
        self.count, self.is_chief = 1, True
        if self.are_several:
            resolver = strategy.cluster_resolver
            spec = resolver.cluster_spec()
            self.count = sum(spec.num_tasks(job) for job in spec.jobs)
            self.is_chief = resolver.task_type == "chief" or (
                "chief" not in spec.jobs and resolver.task_id == 0
            )
        self._total = tf.function(
            lambda values: strategy.run(self._total_in_replica, args=(values,)), autograph=False
        )

    def total(self, values: Sequence[float]) -> list[float]:
        """Returns each value summed over the workers, in float64; called by all of them."""
        if not self.are_several:
            return [float(value) for value in values]
        summed = self._total(tf.constant([float(value) for value in values], tf.float64))
        return replicas.first(self._strategy, summed).numpy().tolist()

    def chiefs(self, value: float) -> float:
        """Returns the chief's value; called by all workers."""
        return self.total([value if self.is_chief else 0.0])[0]

    def agree(self, value: float) -> bool:
        """Whether all workers have the same value; called by all of them."""
        return not any(self.total([value != self.chiefs(value)]))

    @contextlib.contextmanager
    def needed(self) -> Iterator[None]:
        """Turns the errors that TensorFlow raises where another worker has gone into `WorkerLost`."""
        try:
            yield
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            if not self.are_several:
                raise
            raise WorkerLost(
                "another worker has gone: start all workers again, and they go on from the last checkpoint"
            ) from error

    def _total_in_replica(self, own: tf.Tensor) -> tf.Tensor:
        replicas_of_one = replicas.count() // self.count
        is_first = tf.equal(replicas.index() % replicas_of_one, 0)
        return replicas.total([tf.where(is_first, own, tf.zeros_like(own))])[0]
