"""Shapes of targets, outputs and nats: one number for each target, never one for each pair."""

from __future__ import annotations

import tensorflow as tf


def one_for_each(nats: tf.Tensor, targets: tf.Tensor, outputs: tf.Tensor, axes: int) -> tf.Tensor:
    """Returns `nats` if it is one number for each target; sizes known later are compared when computed.

    Args:
      nats: the numbers.
      targets: the targets, [...].
      outputs: the outputs, for an error message.
      axes: how many of the targets' last axes belong to one target.

    Raises:
      ValueError: if it is not.
    """
    rank = targets.shape.rank - axes
    static, dynamic = targets.shape[:rank], tf.shape(targets)[:rank]
    accepted = [(static, dynamic)]
    # The axis must be known to be 1: [B] and [B, 1] would broadcast to [B, B], of which B may be unknown.
    if nats.shape.rank == rank + 1 and nats.shape[-1] == 1:
        accepted.append((static.concatenate([1]), tf.concat([dynamic, [1]], 0)))
    if rank > 1 and static[-1] == 1:
        accepted.append((static[:-1], dynamic[:-1]))
    for static, dynamic in accepted:
        if rank > 0 and nats.shape.is_compatible_with(static):
            return tf.ensure_shape(_of_one_shape(nats, static, dynamic), static)
    raise ValueError(
        "A likelihood gives one number in nats for each target: it neither broadcasts targets and outputs of "
        "different shapes, nor sums or averages over an axis (one that has a single number for a vector of "
        "targets is a JointLikelihood). "
        f"Received: targets of shape {targets.shape}, outputs of shape {outputs.shape}, "
        f"result of shape {nats.shape}"
    )


def has_classes_on_last_axis(targets: tf.Tensor, outputs: tf.Tensor) -> bool:
    """Whether targets have the axis of the outputs' classes, as one-hot ones do."""
    return targets.shape.rank == outputs.shape.rank and targets.shape[-1] == outputs.shape[-1] not in (
        1,
        None,
    )


def with_axes_of(shape: tf.TensorShape, targets: tf.Tensor) -> tf.Tensor:
    """Returns the targets with an axis of 1 added or removed at the end, if that gives them as many axes."""
    ranks = targets.shape.rank, shape.rank
    if None not in ranks and ranks[0] + 1 == ranks[1] and shape[-1] == 1:
        return targets[..., tf.newaxis]
    if None not in ranks and ranks[0] == ranks[1] + 1 and targets.shape[-1] == 1:
        return tf.squeeze(targets, -1)
    return targets


def like(
    targets: tf.Tensor, shape: tf.TensorShape, outputs: tf.Tensor, dtype: tf.DType | None = None
) -> tf.Tensor:
    """Returns the targets in the outputs' type or another, if they have the shape of the distribution.

    Args:
      targets: the targets.
      shape: the shape that they must have, of which unknown sizes are those of the outputs' leading axes.
      outputs: the outputs.
      dtype: the type; None for that of the outputs.

    Raises:
      ValueError: if they do not have it.
    """
    targets = tf.cast(targets, outputs.dtype if dtype is None else dtype)
    if not targets.shape.is_compatible_with(shape):
        raise ValueError(
            "Targets must have the shape that the outputs ask for. "
            f"Received: targets of shape {targets.shape}, outputs of shape {outputs.shape}, "
            f"which are for targets of shape {shape}"
        )
    leading = tf.shape(outputs)
    sizes = [leading[axis] if size is None else size for axis, size in enumerate(shape)]
    return _of_one_shape(targets, shape, tf.stack(sizes) if sizes else tf.zeros([0], tf.int32))


def _of_one_shape(values: tf.Tensor, static: tf.TensorShape, dynamic: tf.Tensor) -> tf.Tensor:
    """Returns the values, whose shape, if not known beforehand, must be `dynamic` when they are computed."""
    if values.shape.is_fully_defined() and static.is_fully_defined():
        return values
    # Unlike a sum this does not broadcast, and unlike an assertion XLA does not leave it out.
    return tf.add_n([values, tf.zeros(dynamic, values.dtype)], name="one_number_for_each_target")
