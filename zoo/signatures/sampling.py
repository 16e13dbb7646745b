"""Sampling of words by an exported model, where the settings are inputs and not numbers."""

from __future__ import annotations

import math

import tensorflow as tf

from tfp_bayesrnn.export.saved_model import require

MAX_WORDS = 1000
"""Words of a continuation at most."""


def checked(
    max_words: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor, end_at_eos: tf.Tensor
) -> list[tf.Tensor]:
    """The settings, all scalars, in this order, if they are accepted."""
    checks = [
        require(
            (max_words >= 1) & (max_words <= MAX_WORDS),
            f"max_words must lie between 1 and {MAX_WORDS}. Received: max_words =",
            max_words,
        ),
        require(
            (temperature >= 0.0) & (temperature < math.inf),
            "temperature must be at least 0 and finite. Received: temperature =",
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
        return [tf.identity(value) for value in (max_words, temperature, top_k, top_p, end_at_eos)]


def restricted(log_probs: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor) -> tf.Tensor:
    """The weights to sample from, as logarithms [N, V]: the settings are inputs, not numbers.

    Temperature, top k and nucleus come in this order, as in `zoo.decoding.sampling`; temperature 0 leaves the
    most probable word alone.
    """
    size = log_probs.shape[1]
    is_greedy = temperature == 0.0
    largest = tf.reduce_max(log_probs, axis=1, keepdims=True)
    scaled = (log_probs - largest) / tf.where(is_greedy, 1.0, temperature)
    top_k = tf.where((top_k == 0) | (top_k > size), size, top_k)

    def cut() -> tf.Tensor:
        ranked, order = tf.math.top_k(scaled, size)
        weights = tf.where(tf.range(size) < top_k, tf.exp(ranked), 0.0)
        before = tf.cumsum(weights, axis=1, exclusive=True)
        nucleus = before < top_p * tf.reduce_sum(weights, axis=1, keepdims=True)
        kept = tf.minimum(tf.reduce_sum(tf.cast(nucleus, tf.int32), axis=1, keepdims=True), top_k)
        ranks = tf.argsort(order, axis=1)
        return tf.where(ranks < kept, scaled, -math.inf)

    restricted = tf.cond((top_k < size) | (top_p < 1.0), cut, lambda: scaled)
    best = tf.argmax(log_probs, axis=1, output_type=tf.int32)[:, tf.newaxis]
    return tf.where(is_greedy & (tf.range(size) != best), -math.inf, restricted)
