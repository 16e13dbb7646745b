"""Sequences of tokens from a model of the next token: what is found, and what it may be.

`zoo.decoding.sampling` takes the most probable token each time or samples one, `zoo.decoding.beam_search`
looks for the most probable sequences. All run in graphs, compiled by XLA or not, with a batch of any size,
and keep no Python state, so a `tf.function` that calls them can be exported.

The model is a function `step(tokens, state)`. It takes int32 tokens [N] and the state after all earlier
tokens, and returns log-probabilities [N, V] of the next token and the new state. A state is any nest of
tensors whose first axis has the N rows; its structure, shapes and dtypes stay. V is known when the graph is
built. Rows do not influence each other. Log-probabilities of any floating dtype are taken as float32, and
not-a-number as -inf.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.draws import Draws

State = Any
Step = Callable[[tf.Tensor, State], tuple[tf.Tensor, State]]

_NO_TOKEN = -1


def averaged_step(run: Callable[[Draw, tf.Tensor, State], tuple[tf.Tensor, State]], draws: Draws) -> Step:
    """The model of the next token that averages a network over draws, each with a state of its own.

    Args:
      run: the network under a draw: from tokens [N, 1] and a state to logits [N, 1, V] and the new state.
      draws: the draws.
    """

    def step(tokens: tf.Tensor, states: State) -> tuple[tf.Tensor, State]:
        def next_token(draw: Draw, state: State) -> tuple[tf.Tensor, State]:
            logits, state = run(draw, tokens[:, tf.newaxis], state)
            return logits[:, 0], state

        return draws.predict(next_token, states)

    return step


class Decoded(NamedTuple):
    """Sequences of at most L tokens for B rows; from beam search for B rows by K beams, the best beam first.

    A sequence is its words and then, where it came within the L tokens, the end token. Log-probabilities are
    the model's own, whatever distribution the tokens were chosen from: the probability of what is forbidden
    is not shared out among the rest.

    Attributes:
      tokens: int32 [B, L] or [B, K, L], the words and the end token, then the padding.
      lengths: int32 [B] or [B, K], how many words, without the end token.
      log_probs: float32 [B] or [B, K], the log-probability of the words and the end token: the sum of
        `token_log_probs`.
      token_log_probs: float32, as `tokens`, 0 after the last token.
      finished: bool [B] or [B, K], whether the end token came.
    """

    tokens: tf.Tensor
    lengths: tf.Tensor
    log_probs: tf.Tensor
    token_log_probs: tf.Tensor
    finished: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Constraints:
    """The constraints on a sequence.

    Args:
      max_length: the largest number of tokens, the end token included.
      end_id: the token that ends a sequence; None where sequences run to `max_length`.
      forbidden: tokens that are never chosen.
      min_length: the number of words that must come before the end token may.
      pad_id: the token that fills the places after the end; any integer.

    Raises:
      ValueError: a number makes no sense, or the end token is forbidden.
    """

    max_length: int
    end_id: int | None
    forbidden: tuple[int, ...]
    min_length: int
    pad_id: int

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length must be at least 1. Received: max_length={self.max_length}")
        if not 0 <= self.min_length <= self.max_length:
            raise ValueError(
                "min_length must lie between 0 and max_length. "
                f"Received: min_length={self.min_length}, max_length={self.max_length}"
            )
        if self.end_id in self.forbidden:
            raise ValueError(
                "the end token must not be forbidden; end_id=None and the token in forbidden lets sequences "
                f"run to max_length. Received: end_id={self.end_id}, forbidden={self.forbidden}"
            )

    @property
    def end(self) -> int:
        """The end token, or where there is none an id that no token has."""
        return _NO_TOKEN if self.end_id is None else self.end_id

    def words(self, vocabulary_size: int) -> int:
        """The number of tokens that may be words: they are neither forbidden nor the end token.

        Raises:
          ValueError: where an id is outside the vocabulary, or no token is left.
        """
        special = {*self.forbidden, *([] if self.end_id is None else [self.end_id])}
        if not all(0 <= token < vocabulary_size for token in special):
            raise ValueError(
                f"end_id and forbidden must lie between 0 and {vocabulary_size - 1}, as the model's tokens. "
                f"Received: end_id={self.end_id}, forbidden={self.forbidden}"
            )
        if len(special) == vocabulary_size:
            raise ValueError(
                f"forbidden must leave at least one of the {vocabulary_size} tokens besides the end token. "
                f"Received: end_id={self.end_id}, forbidden={self.forbidden}"
            )
        return vocabulary_size - len(special)

    def apply(self, log_probs: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
        """Log-probabilities [N, V] as float32, with -inf for what may not come after `time` words.

        Raises:
          ValueError: where the shape is not [N, V] with a known V, or V does not fit the constraints.
        """
        if log_probs.shape.rank != 2 or log_probs.shape[1] is None:
            raise ValueError(
                "step must return log-probabilities [rows, tokens] with a known number of tokens. "
                f"Received: log_probs.shape={log_probs.shape}"
            )
        size = log_probs.shape[1]
        self.words(size)
        log_probs = tf.cast(log_probs, tf.float32)
        allowed = tf.constant([token not in self.forbidden for token in range(size)])
        too_early = tf.logical_and(tf.range(size) == self.end, time < self.min_length)
        usable = tf.logical_and(allowed, tf.logical_not(too_early)) & ~tf.math.is_nan(log_probs)
        return tf.where(usable, log_probs, -math.inf)


def rows_of(start_tokens: tf.Tensor) -> tuple[tf.Tensor, int | tf.Tensor]:
    """Start tokens as an int32 tensor [B], and B: an integer where it is known.

    Raises:
      ValueError: the tensor has another shape.
    """
    start_tokens = tf.cast(start_tokens, tf.int32)
    if start_tokens.shape.rank != 1:
        raise ValueError(f"start_tokens must have shape [rows]. Received: shape={start_tokens.shape}")
    rows = start_tokens.shape[0]
    return start_tokens, tf.shape(start_tokens)[0] if rows is None else rows
