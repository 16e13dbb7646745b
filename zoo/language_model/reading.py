"""What a language model says after prompts: the next word, and how sure it is of given words.

Both are functions for graphs. Dimensions: N rows of a batch, T words of a padded prompt, L words that follow,
S draws of the weights, V words of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction import uncertainty
from tfp_bayesrnn.prediction.uncertainty import TargetScores
from zoo.decoding import decoding


def prime(
    network: keras.Model, prompt: tf.Tensor, lengths: tf.Tensor, draws: Sequence[Draw]
) -> tuple[decoding.Step, decoding.State, tf.Tensor]:
    """A network that has read prompts, as `zoo.decoding.decoding` and `zoo.decoding.beam_search` take it.

    It starts from a state of zeros. Every draw has a state of its own, so each stands for one network that
    reads the words; the probabilities of the next word are averaged over them. Dropout is off. All of it can
    be traced with N and T unknown.

    Args:
      network: ids [N, T] -> logits [N, T, V], with a state as `tfp_bayesrnn.model.recurrence` takes it.
      prompt: int32 [N, T], padded at the end.
      lengths: int32 [N], words of each row that are not padding, at least 1.
      draws: of the network's weights.

    Returns:
      `step`; `state`, after all words of a prompt but its last; and `last`, int32 [N], those last words.

    Raises:
      ValueError: there is no draw.
    """
    if not draws:
        raise ValueError(f"There must be at least one draw. Received: draws={draws!r}")
    prompt, lengths = tf.cast(prompt, tf.int32), tf.cast(lengths, tf.int32)
    draws = [draw.without_dropout() for draw in draws]

    def read(time, states):
        goes_on = time < lengths - 1
        read_states = [
            _run(network, prompt[:, time, tf.newaxis], state, draw)[1]
            for draw, state in zip(draws, states, strict=True)
        ]
        return time + 1, tf.nest.map_structure(
            lambda new, old: tf.where(tf.reshape(goes_on, [-1] + [1] * (old.shape.rank - 1)), new, old),
            read_states,
            states,
        )

    def step(tokens, states):
        results = [
            _run(network, tokens[:, tf.newaxis], state, draw)
            for draw, state in zip(draws, states, strict=True)
        ]
        return uncertainty.average([log_probs[:, 0] for log_probs, _ in results]), [
            state for _, state in results
        ]

    start = [recurrence.initial_state(network, tf.shape(prompt)[0]) for _ in draws]
    longest = tf.reduce_max(lengths)
    _, states = tf.while_loop(
        lambda time, states: time < longest - 1, read, (tf.constant(0), start), parallel_iterations=1
    )
    return step, states, tf.gather(prompt, lengths - 1, batch_dims=1)


def _run(network: keras.Model, ids: tf.Tensor, state, draw: Draw) -> tuple[tf.Tensor, Any]:
    """Log-probabilities, float32 [N, T, V], and the state after the last of the ids [N, T]."""
    with draw.in_force():
        logits, state = recurrence.run(network, ids, state, training=False)
    return tf.nn.log_softmax(tf.cast(logits, tf.float32)), state


def score_words(
    network: keras.Model,
    prompt: tf.Tensor,
    lengths: tf.Tensor,
    words: tf.Tensor,
    sizes: tf.Tensor,
    draw_of: Callable[[tf.Tensor], Draw],
    draws: int | tf.Tensor,
) -> TargetScores:
    """Scores given words that follow prompts, each read after those before it.

    The draws are made and run one after another, so memory is that of one of them, however many there are.

    Args:
      network: as for `prime`.
      prompt: as for `prime`.
      lengths: as for `prime`.
      words: int32 [N, L], ids.
      sizes: int32 [N], how many words of a row count.
      draw_of: from a number, a tensor from 0 to S - 1, to the draw of that number.
      draws: S.
    """
    words = tf.cast(words, tf.int32)

    def add(index, probabilities, chosen, entropies):
        draw = draw_of(index).without_dropout()
        _, (state,), last = prime(network, prompt, lengths, [draw])
        before = tf.concat([last[:, tf.newaxis], words[:, :-1]], axis=1)
        log_probs, _ = _run(network, before, state, draw)
        # What is chosen is summed as logarithms: its probability may be too small for a float32.
        more = tf.gather(log_probs, words, batch_dims=2)
        chosen = tf.reduce_logsumexp(tf.stack([chosen, more]), axis=0)
        return (
            index + 1,
            probabilities + tf.exp(log_probs),
            chosen,
            entropies + uncertainty.entropy(log_probs),
        )

    nothing = tf.zeros_like(words, tf.float32)
    start = (tf.constant(0), nothing[:, :, tf.newaxis], nothing - math.inf, nothing)  # V is not known yet.
    shapes = tf.nest.map_structure(lambda value: tf.TensorShape([None] * value.shape.rank), start)
    _, probabilities, chosen, entropies = tf.while_loop(
        lambda index, *_: index < draws, add, start, shape_invariants=shapes, parallel_iterations=1
    )
    count = tf.cast(draws, tf.float32)
    total = uncertainty.entropy(tf.math.log(probabilities / count))
    weights = tf.sequence_mask(sizes, tf.shape(words)[1], tf.float32)
    epistemic = tf.where(tf.equal(draws, 1), tf.zeros_like(total), tf.maximum(total - entropies / count, 0.0))
    # A word that counts may have the logarithm -inf, one that does not must not make a NaN of it.
    log_probs = tf.math.multiply_no_nan(chosen - tf.math.log(count), weights)
    return TargetScores(log_probs, total * weights, epistemic * weights)
