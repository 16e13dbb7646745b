"""Antithetic training: the two halves of a minibatch run under draws of opposite noise, +eps and -eps.

The two draws lie symmetrically about the mean, so what the free energy's gradient has of first order in the
noise cancels as far as the halves agree (Hammersley and Morton, 1956; for variational networks the aim of
Wen et al., "Flipout", 2018). Each half sees a whole draw, so a step costs one draw of noise and two of
weights.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_bayesrnn.model import training
from tfp_bayesrnn.model.recurrence import State
from tfp_bayesrnn.model.training import Minibatch, Objective, Step


def free_energy_gradients(
    objective: Objective,
    batch: Minibatch,
    state: State,
    seed: tf.Tensor,
    kl_weight: tf.Tensor,
    share: float | tf.Tensor = 1.0,
    with_outputs: bool = False,
    loss_scale: float | tf.Tensor = 1.0,
) -> Step:
    """Does what `training.free_energy_gradients` does, its second half of rows under the mirrored draw.

    Of an odd number of rows the first half has one more. The KL is the average of both draws'.

    Args:
      objective: the objective to minimise.
      batch: the minibatch, of B rows.
      state: the RNN state that each row goes on from; None where the network starts from zeros.
      seed: the seed of this step and replica, int32 [2].
      kl_weight: the weight of the KL, a float32 scalar.
      share: this replica's share of the rows of the whole minibatch.
      with_outputs: whether to return the network's outputs too.
      loss_scale: the factor of the loss in between; see `training.free_energy_gradients`.
    """
    rows = _rows(batch)
    middle = (rows + 1) // 2
    parts = []
    for mirrored, (start, stop) in enumerate(((0, middle), (middle, rows))):
        some_batch, some_state = _rows_from(start, stop, (batch, state))
        part = (stop - start) / rows if isinstance(rows, int) else tf.cast((stop - start) / rows, tf.float32)
        parts.append(
            (
                training.free_energy_gradients(
                    objective,
                    some_batch,
                    some_state,
                    seed,
                    kl_weight,
                    share * part,
                    with_outputs,
                    loss_scale,
                    bool(mirrored),
                ),
                part,
            )
        )
    return _together(parts)


def _rows(batch: Minibatch) -> int | tf.Tensor:
    first = tf.nest.flatten(batch.inputs)[0]
    return tf.shape(first)[0] if first.shape[0] is None else first.shape[0]


def _rows_from(start: Any, stop: Any, values: Any) -> Any:
    return tf.nest.map_structure(lambda value: None if value is None else value[start:stop], values)


def _together(parts: list[tuple[Step, Any]]) -> Step:
    """The step of all rows, from those of its halves, each with its part of the rows."""
    (first, _), (second, _) = parts
    own = [training.shared(*each) for each in parts]  # A minibatch of one row has no second half.
    energy, other = first.energy, second.energy
    both = energy.nll._replace(
        nats=tf.concat([energy.nll.nats, other.nll.nats], 0),
        weights=tf.concat([energy.nll.weights, other.nll.weights], 0),
    )
    step = first._replace(
        energy=energy._replace(nll=both),
        state=_joined(first.state, second.state),
        outputs=_joined(first.outputs, second.outputs),
        masks=_joined(first.masks, second.masks),
    )
    return training.of_sums(step, [tf.add_n(each) for each in zip(*own, strict=True)])


def _joined(first: Any, second: Any) -> Any:
    return tf.nest.map_structure(lambda a, b: None if a is None else tf.concat([a, b], 0), first, second)
