"""Draws that a loaded export keeps between calls, so that these need not make them anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf


class DrawCache(tf.Module):
    """Draws of some weights, each found again by the seed that it was made from.

    It is empty in the file of an export, and takes memory once it is filled: 4 bytes for each element of the
    weights and each draw. Fill it before calls that use it run side by side with others.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]):
        """Makes its variables, of weights of these shapes."""
        super().__init__(name="draws")
        self._seeds = _growing([2], tf.int32, "seeds")
        self._values = [_growing(shape, tf.float32, "values") for shape in shapes]

    def fill(self, seeds: tf.Tensor, sample: Callable[[tf.Tensor], Sequence[tf.Tensor]]) -> None:
        """Keeps the draws of these seeds, int32 [S, 2], in place of those before.

        Args:
          seeds: the seeds; of none, nothing is kept.
          sample: a function from a seed, int32 [2], to the values of all weights.
        """
        count = tf.shape(seeds)[0]
        # What is being replaced must not be found meanwhile.
        emptied = self._seeds.assign(tf.zeros([0, 2], tf.int32), read_value=False)
        with tf.control_dependencies([emptied] if isinstance(emptied, tf.Operation) else []):
            arrays = [
                tf.TensorArray(tf.float32, count, element_shape=value.shape[1:]) for value in self._values
            ]
            _, written = tf.while_loop(
                lambda place, _: place < count,
                lambda place, written: (
                    place + 1,
                    [
                        array.write(place, value)
                        for array, value in zip(written, sample(seeds[place]), strict=True)
                    ],
                ),
                (tf.constant(0), arrays),
                parallel_iterations=1,
            )
        for variable, array in zip(self._values, written, strict=True):
            variable.assign(tf.reshape(array.stack(), [count, *variable.shape[1:]]))
        self._seeds.assign(seeds)

    def place(self, seed: tf.Tensor) -> tf.Tensor:
        """The place of the draw of a seed, int32 [2]; -1 where it is not kept."""
        found = tf.where(tf.reduce_all(self._seeds == seed, axis=1))
        return tf.cast(tf.reduce_max(tf.concat([found[:, 0], [-1]], 0)), tf.int32)

    def read(self, place: tf.Tensor) -> list[tf.Tensor]:
        """The values of all weights in the draw at a place, which is not -1."""
        return [value[place] for value in self._values]


def _growing(shape: Sequence[int], dtype: tf.DType, name: str) -> tf.Variable:
    """A variable of any number of tensors of a shape, at first none."""
    return tf.Variable(tf.zeros([0, *shape], dtype), shape=[None, *shape], trainable=False, name=name)
