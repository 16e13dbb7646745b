"""Stateless noise: the same numbers for the same seed, in eager mode, in a graph and under XLA.

A seed is an int32 tensor of shape [2]. Every random number of the library is a pure function of a seed that
is derived from (run seed, step, replica, ...) by `derive`, so a resumed run goes on with the noise it would
have had. TensorFlow's own `stateless_normal` gives other numbers under XLA than outside it, and on a CPU is
several times slower there; the integer bits of Philox (Salmon et al., 2011) are the same in both, so the
normal numbers are made from those bits by the inverse of the distribution function, which XLA fuses into
whatever consumes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

_ALGORITHM = "philox"


def make_seed(seed: int | tf.Tensor) -> tf.Tensor:
    """The root seed, int32 [2], of a run whose `--seed` is the integer `seed`."""
    return tf.stack([tf.cast(seed, tf.int32), tf.constant(0x5EED, tf.int32)])


def derive(seed: tf.Tensor, *data: int | tf.Tensor) -> tf.Tensor:
    """A new seed, int32 [2], for each value of the integers `data`: a hash of `seed` beside the integer."""
    for value in data:
        hashed = tf.random.stateless_uniform(
            [1], seed, minval=None, maxval=None, dtype=tf.int32, alg=_ALGORITHM
        )
        seed = tf.concat([hashed, tf.reshape(tf.cast(value, tf.int32), [1])], axis=0)
    return seed


def uniform(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Float32 numbers, uniform on the 2**23 mid-points of (-1, 1); -1, 0 and 1 themselves never occur."""
    bits = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg=_ALGORITHM)
    # 23 bits and not 24: with 24 the largest mid-point rounds to 1.0, whose inverse is infinite.
    bits = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.int32)
    return (tf.cast(bits, tf.float32) + 0.5) * 2.0**-22 - 1.0


def normal(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Standard normal float32 numbers of the given shape, |x| < 5.30 (the 2**-24 quantile)."""
    return math.sqrt(2.0) * tf.math.erfinv(uniform(shape, seed))


def normals(shapes: Sequence[Sequence[int]], seed: tf.Tensor, stream: int) -> list[tf.Tensor]:
    """Standard normal float32 numbers of several shapes, independent of those of another `stream` >= 0.

    They are cut from one vector, and each stream's vector has a length of its own, because XLA makes one
    function of all generators of equal shape and then, on a CPU, runs it several times slower. Philox makes
    numbers by fours.
    """
    sizes = [math.prod(shape) for shape in shapes]
    spare = -sum(sizes) % 4 + 4 * stream
    parts = tf.split(normal([sum(sizes) + spare], derive(seed, stream)), [*sizes, spare])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=False)]


def bernoulli(shape: Sequence[int] | tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Booleans that are true with the given probability."""
    return uniform(shape, seed) < 2.0 * probability - 1.0
