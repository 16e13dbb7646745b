"""Reading prompts with a language model: the next word, and how sure the model is of given words.

Both are functions for graphs. Dimensions: N rows of a batch, T words of a padded prompt, L words that follow,
S draws of the weights, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.draws import Draws
from tfp_bayesrnn.prediction.uncertainty import TargetScores
from zoo.decoding.sequences import State, Step, averaged_step


def prime(
    network: keras.Model, prompt: tf.Tensor, lengths: tf.Tensor, draws: Draws
) -> tuple[Step, State, tf.Tensor]:
    """A network that has read prompts, as `zoo.decoding.sequences` and `zoo.decoding.beam_search` take it.

    It starts from a state of zeros. Every draw has a state of its own, so each stands for one network that
    reads the words; the probabilities of the next word are averaged over them. Dropout is off. All of it can
    be traced with N and T unknown.

    Args:
      network: ids [N, T] -> logits [N, T, V], with a state as `tfp_bayesrnn.model.recurrence` takes it.
      prompt: int32 [N, T], padded at the end.
      lengths: int32 [N], words of each row that are not padding, at least 1.
      draws: the draws of the network's weights, such as `GivenDraws`.

    Returns:
      `step`; `state`, after all words of a prompt but its last; and `last`, int32 [N], those last words.
    """
    prompt, lengths = tf.cast(prompt, tf.int32), tf.cast(lengths, tf.int32)
    states = draws.start(lambda draw: _read(network, prompt, lengths, draw))
    step = averaged_step(lambda draw, ids, state: _run(network, ids, state, draw), draws)
    return step, states, tf.gather(prompt, lengths - 1, batch_dims=1)


def _read(network: keras.Model, prompt: tf.Tensor, lengths: tf.Tensor, draw: Draw) -> Any:
    start = recurrence.initial_state(network, tf.shape(prompt)[0])
    return state_after(lambda ids, state: _run(network, ids, state, draw), prompt, lengths, start)


def state_after(
    run: Callable[[tf.Tensor, State], tuple[tf.Tensor, State]],
    prompt: tf.Tensor,
    lengths: tf.Tensor,
    state: State,
) -> State:
    """The state after all words of prompts but the last one of each.

    Args:
      run: the network: from ids [N, 1] and a state to logits and the new state.
      prompt: int32 [N, T], padded at the end.
      lengths: int32 [N], words of each row that are not padding, at least 1.
      state: the state before the first word.
    """

    def read(time: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        goes_on = time < lengths - 1
        _, new_state = run(prompt[:, time, tf.newaxis], state)
        return time + 1, tf.nest.map_structure(
            lambda new, old: tf.where(tf.reshape(goes_on, [-1] + [1] * (old.shape.rank - 1)), new, old),
            new_state,
            state,
        )

    steps = longest(lengths) - 1
    _, state = tf.while_loop(
        lambda time, _: time < steps, read, (tf.constant(0), state), parallel_iterations=1
    )
    return state


def longest(lengths: tf.Tensor) -> tf.Tensor:
    """The largest of lengths [N], 0 where there are no rows."""
    return tf.reduce_max(tf.concat([lengths, [0]], axis=0))


def _run(network: keras.Model, ids: tf.Tensor, state: Any, draw: Draw) -> tuple[tf.Tensor, Any]:
    """Logits, float32 [N, T, V], and the state after the last of the ids [N, T]."""
    logits, state = draw.without_dropout().run(recurrence.run, network, ids, state, training=False)
    return tf.cast(logits, tf.float32), state


def score_words(
    network: keras.Model,
    prompt: tf.Tensor,
    lengths: tf.Tensor,
    words: tf.Tensor,
    sizes: tf.Tensor,
    draws: Draws,
) -> TargetScores:
    """Scores given words that follow prompts, each read after those before it.

    Args:
      network: the network that `prime` takes.
      prompt: int32 [N, T], padded at the end.
      lengths: int32 [N], words of each row that are not padding, at least 1.
      words: int32 [N, L], ids.
      sizes: int32 [N], the number of words of each row that count.
      draws: the draws of its weights; `FreshDraws` are made and run one after another, in the memory of one.
    """
    prompt, lengths, words = (tf.cast(ids, tf.int32) for ids in (prompt, lengths, words))
    last = tf.gather(prompt, lengths - 1, batch_dims=1)
    before = tf.concat([last[:, tf.newaxis], words[:, :-1]], axis=1)

    def run(draw: Draw, state: Any) -> tuple[tf.Tensor, Any]:
        return _run(network, before, _read(network, prompt, lengths, draw), draw)[0], state

    scores, _ = draws.score(run, (), words)
    return scores.of_first(sizes)
