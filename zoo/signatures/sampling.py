"""The settings of sampling as inputs of an exported model, and their checks."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfp_bayesrnn.export.saved_model import require
from zoo.decoding.sampling import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE

MAX_WORDS = 1000
"""Words of a continuation at most."""


class Settings(NamedTuple):
    """What `generate` and its like take beside a prompt, all scalars: the inputs of these names."""

    max_words: tf.Tensor
    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    end_at_eos: tf.Tensor
    allow_unk: tf.Tensor


SPECS = Settings(
    max_words=tf.TensorSpec([], tf.int32, "max_words"),
    temperature=tf.TensorSpec([], tf.float32, "temperature"),
    top_k=tf.TensorSpec([], tf.int32, "top_k"),
    top_p=tf.TensorSpec([], tf.float32, "top_p"),
    end_at_eos=tf.TensorSpec([], tf.bool, "end_at_eos"),
    allow_unk=tf.TensorSpec([], tf.bool, "allow_unk"),
)


def checked(settings: Settings) -> Settings:
    """The settings, if they are accepted."""
    max_words, temperature, top_k, top_p, *_ = settings
    lowest, highest = LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE
    checks = [
        require(
            (max_words >= 1) & (max_words <= MAX_WORDS),
            f"max_words must lie between 1 and {MAX_WORDS}. Received: max_words =",
            max_words,
        ),
        require(
            (temperature == 0.0) | ((temperature >= lowest) & (temperature <= highest)),
            f"temperature must be 0, or lie between {lowest:g} and {highest:g}. Received: temperature =",
            temperature,
        ),
        require(top_k >= 0, "top_k must not be negative. Received: top_k =", top_k),
        require(
            (top_p > 0.0) & (top_p <= 1.0),
            "top_p must be more than 0 and at most 1. Received: top_p =",
            top_p,
        ),
    ]
    with tf.control_dependencies(checks):
        return Settings(*(tf.identity(value) for value in settings))
