"""Stateless noise: the same numbers for the same seed, in eager mode, in a graph and under XLA.

A seed is an int32 tensor of shape [2], 64 bits. Every random number of the library is a pure function of a
seed that is derived from (run seed, step, replica, ...) by `derive`, so a resumed run goes on with the noise
it would have had, and no two steps of a run have the same seed. TensorFlow's own `stateless_normal` gives
other numbers under XLA than outside it, and on a CPU is several times slower there; the integer bits of
Philox (Salmon et al., 2011) are the same in both, so the normal numbers are made from those bits.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

import tensorflow as tf

_ALGORITHM = "philox"


@enum.unique
class Stream(enum.IntEnum):
    """All streams of noise: the first number that `derive` is given with a seed, so no two may be equal.

    Those from 0 up come from the seed of a draw. Those below 0 come from the root seed of a run, with which
    the numbers from 0 up are the steps of training.
    """

    # Streams of a draw's seed.
    WEIGHTS = 0
    MASKS = 1  # Masks of dropout.
    SHARPENING = 2
    MIRRORED = 3  # The seed of masks and sharpening under a draw of opposite noise.

    # Streams of a run's root seed.
    EVALUATION_DRAWS = -1  # The draws that predictions average over: the same seed, the same draws.
    EVALUATION_SHARPENING = -2
    DESCRIPTION_DRAWS = -3  # The draws under which an input is described in words.
    DESCRIPTION_NOISE = -4
    CONTINUATION_DRAWS = -5  # The draws under which words are continued.
    CONTINUATION_NOISE = -6
    PRUNED_KL = -7  # The draw by which a pruned posterior's KL is estimated.
    PREDICTIVE_NOISE = -8  # The noise of targets that are sampled from a predictive distribution.
    PREDICTIVE_CHOICE = -10  # Which of its draws such a target is of.
    FORECAST_NOISE = -9  # The values of sample paths.


def make_seed(seed: int | tf.Tensor) -> tf.Tensor:
    """Returns the root seed, int32 [2], of a run whose `--seed` is `seed`: another for every integer.

    Raises:
      ValueError: if the integer has more than 64 bits.
    """
    if isinstance(seed, int) and not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed must be an integer of 64 bits. Received: seed={seed}")
    return _halves(_mixed(tf.cast(seed, tf.int64)))


def derive(seed: tf.Tensor, *data: int | tf.Tensor) -> tf.Tensor:
    """Returns a new seed, int32 [2], for each value of the integers `data`.

    It is a step of SplitMix64 (Steele et al., 2014). For a given seed, no two integers give the same new
    seed, and for a given integer no two seeds do; so all steps of a run have different seeds, and so have all
    replicas of a step. Seeds of other histories coincide with the probability of two random numbers of 64
    bits.
    """
    state = tf.bitcast(seed, tf.int64)
    for value in data:
        state = _mixed(state + _INCREMENT * (tf.cast(value, tf.int64) + 1))
    return _halves(state)


def _signed(bits: int) -> int:
    """Returns the int64 number that has these 64 bits."""
    return bits - 2**64 if bits >= 2**63 else bits


# Constants of SplitMix64. All are odd, so multiplying by one, modulo 2**64, can be undone.
_INCREMENT, *_FACTORS = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _mixed(state: tf.Tensor) -> tf.Tensor:
    """A permutation of the int64 numbers in which every bit depends on all bits."""
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        state = _folded(state, shift) * factor
    return _folded(state, 31)


def _folded(state: tf.Tensor, shift: int) -> tf.Tensor:
    """`state` with its upper bits, shifted down, added to the lower ones without carry."""
    bits = tf.bitcast(state, tf.uint64)  # The shift of signed numbers would draw ones in.
    bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64)))
    return tf.bitcast(bits, tf.int64)


def _halves(state: tf.Tensor) -> tf.Tensor:
    return tf.bitcast(state, tf.int32)


def uniform(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Float32 numbers, uniform on the 2**23 mid-points of (-1, 1); -1, 0 and 1 themselves never occur."""
    # 23 bits and not 24: with 24 the largest mid-point would round to 1.0.
    return (_high_bits(_bits(shape, seed)) + 0.5) * 2.0**-22 - 1.0


def normal(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Standard normal float32 numbers of the given shape, |x| < 5.77.

    By the method of Box and Muller (1958): a point of the plane with normal coordinates has the radius
    sqrt(-2 ln u) and any angle. So two uniform numbers make two normal ones, with one logarithm; on a CPU,
    XLA takes less than half the time that it takes for the inverse of the distribution function.
    """
    count = tf.reduce_prod(shape) if isinstance(shape, tf.Tensor) else math.prod(shape)
    pairs = (count + 1) // 2
    bits = tf.reshape(_bits([2 * pairs], seed), [2, pairs])
    radius = tf.sqrt(-2.0 * tf.math.log((_high_bits(bits[0]) + 0.5) * 2.0**-23))
    sine, cosine = _sine_and_cosine(((_high_bits(bits[1]) + 0.5) * 2.0**-22 - 1.0) * (math.pi / 4))
    # Turned by an eighth, the quarter of the circle is the first one, all of it; two more bits choose signs.
    radius *= math.sqrt(0.5)
    numbers = tf.concat(
        [radius * (cosine + sine) * _sign(bits[1], 0), radius * (cosine - sine) * _sign(bits[1], 1)], axis=0
    )
    return tf.reshape(numbers[:count], shape)


def _bits(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg=_ALGORITHM)


def _high_bits(bits: tf.Tensor) -> tf.Tensor:
    """The upper 23 bits as a float32 number: with half a unit added, that is the most that can be exact."""
    return tf.cast(tf.bitcast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.int32), tf.float32)


def _sign(bits: tf.Tensor, which: int) -> tf.Tensor:
    """1 or -1, by one of the lower bits."""
    bit = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(bits, tf.constant(which, tf.uint32)), tf.constant(1, tf.uint32)
    )
    return 1.0 - 2.0 * tf.cast(tf.bitcast(bit, tf.int32), tf.float32)


def _sine_and_cosine(angle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sine and cosine up to pi / 4, to float32's precision, by power series: XLA's own are slow on a CPU."""
    square = tf.square(angle)
    sine = 1 / 362_880
    for coefficient in (-1 / 5040, 1 / 120, -1 / 6, 1.0):
        sine = sine * square + coefficient
    cosine = 1 / 40_320
    for coefficient in (-1 / 720, 1 / 24, -1 / 2, 1.0):
        cosine = cosine * square + coefficient
    return angle * sine, cosine


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
    """Returns booleans that are true with the given probability."""
    return uniform(shape, seed) < 2.0 * probability - 1.0
