"""The RNN states that a model carries from minibatch to minibatch, and the order of the rows that go on.

Where rows have an `is_first`, row r of a minibatch goes on from row r of the minibatch before. So minibatches
have one size, and come in the order in which they are given.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import keras_internals, replicas
from tfp_bayesrnn.model import training as steps
from tfp_bayesrnn.model.recurrence import CarriedState
from tfp_bayesrnn.model.training import Minibatch


def in_order(x: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `fit` under which rows that go on from one another keep their order.

    Args:
      x: the data that it was given, which Keras shuffles by default if they are arrays or a `PyDataset`.
      arguments: the other arguments that it was given.

    Raises:
      ValueError: if rows that go on are to be shuffled.
    """
    data = x[0] if isinstance(x, keras.utils.PyDataset) and x.num_batches != 0 else (x,)
    if steps.unpack(data).is_first is None:
        return arguments
    if arguments.get("shuffle"):
        raise ValueError(
            "`is_first` says that rows go on from minibatch to minibatch, in the order in which they are "
            f"given: leave `shuffle` out. Received: shuffle={arguments['shuffle']!r}"
        )
    return {**arguments, "shuffle": False}


class StateCarrier(keras_internals.Model):
    """The part of `BayesianModel` that carries RNN states, another one in evaluation than in training."""

    network: keras.Model

    def forget_states(self) -> None:
        """Has every row start afresh, in minibatches of any size."""
        self._carried_train: CarriedState | None = None
        self._carried_test: CarriedState | None = None
        self._carried_predict: CarriedState | None = None

    def batch_of(self, data: Any) -> Minibatch:
        """Unpacks the data of a step, for which the model is built: only weights that exist can be drawn."""
        batch = steps.unpack(data)
        if not self.built:
            self(batch.inputs)
        return batch

    def make_state_for(self, data: Any) -> None:
        """Makes the state carried in training before the first step, so that callbacks can restore it."""
        if not isinstance(data, tf.data.Dataset) or self._carried_train is not None:
            return
        is_first = steps.unpack(data.element_spec).is_first
        if is_first is not None and is_first.shape[0] is not None:
            strategy = self.distribute_strategy
            rows = replicas.rows_of_replica(is_first.shape[0], strategy.num_replicas_in_sync)
            with strategy.scope():
                self._carried_train = CarriedState(self.network, rows)

    def carried(self, slot: str, batch: Minibatch) -> CarriedState | None:
        """The state carried for "train", "test" or "predict"; None where rows are independent.

        It is made at its first use.

        Raises:
          ValueError: if the batch size is unknown or changes.
        """
        if batch.is_first is None:
            return None
        rows, name = batch.is_first.shape[0], f"_carried_{slot}"
        if getattr(self, name) is None and rows is not None:
            with tf.init_scope():
                setattr(self, name, CarriedState(self.network, rows))
        carried = getattr(self, name)
        # Keras's functions drop the static batch size when a second one comes.
        if rows is None or carried.batch_size != rows:
            raise ValueError(
                "Carrying RNN state needs one batch size, known beforehand: batch the data with "
                "drop_remainder=True (of arrays choose a batch_size that divides their rows; of a generator "
                "or a PyDataset, which do not tell it, make a tf.data.Dataset, or run eagerly), and compile "
                "the model again before going to another batch size (StreamEvaluator takes any). "
                f"Received: is_first.shape={batch.is_first.shape}"
            )
        return carried
