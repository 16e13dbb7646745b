"""Initial values: every weight gets numbers of its own, whatever initializers the weights were given.

A Keras initializer without a seed takes one when it is made, and returns the same numbers at every call. So
one object that serves several weights would start all of them from the same numbers.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import keras
import tensorflow as tf

Initializer = Callable[..., Any]

# The number of weights that each initializer with a seed has served.
_served: weakref.WeakKeyDictionary[keras.initializers.Initializer, int] = weakref.WeakKeyDictionary()


class Amended(keras.initializers.Initializer):
    """An initializer that gives the values of another, changed by a function."""

    def __init__(self, initializer: Initializer, amend: Callable[[tf.Tensor], tf.Tensor]):
        """Takes the initializer, and the function from its values to those wanted."""
        self.initializer = initializer
        self.amend = amend

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
        """Returns the changed values."""
        return self.amend(self.initializer(shape, dtype=dtype))


def for_one_weight(initializer: Initializer) -> Initializer:
    """Returns the initializer of one more weight: like `initializer`, with numbers that no other weight has.

    Without a seed it gets one of its own, from Keras's generator, as every initializer that is made. With a
    seed, the first weight gets the very numbers that Keras's layers would, and each further one those of a
    seed that follows from that one. An initializer that holds no integer seed is returned as it is:
    constants, functions, and those with a `keras.random.SeedGenerator`, which goes on with every call.
    """
    if not _has_seed(initializer):
        return initializer
    seed = initializer.get_config()["seed"]
    if seed is None:
        return initializer.clone()
    if not isinstance(seed, int):
        return initializer
    before = _served.get(initializer, 0)
    _served[initializer] = before + 1
    return reseeded(initializer, named_seed(seed, str(before))) if before else initializer


def reseeded(initializer: Initializer, seed: int) -> Initializer:
    """An initializer like another whose numbers are a function of `seed`; itself if it has no seed."""
    if isinstance(initializer, Amended):
        return Amended(reseeded(initializer.initializer, seed), initializer.amend)
    if not _has_seed(initializer):
        return initializer
    return type(initializer).from_config({**initializer.get_config(), "seed": seed})


def named_seed(seed: int, name: str) -> int:
    """Returns an integer from 0 to 2**31 - 1: another one for every seed and name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def are_alike(one: Initializer, other: Initializer) -> bool:
    """Whether both were given the same seed and draw by the same distribution."""
    if not (_has_seed(one) and _has_seed(other) and type(one) is type(other)):
        return False
    config = one.get_config()
    return isinstance(config["seed"], int) and config == other.get_config()


def _has_seed(initializer: Initializer) -> TypeGuard[keras.initializers.Initializer]:
    return isinstance(initializer, keras.initializers.Initializer) and "seed" in initializer.get_config()
