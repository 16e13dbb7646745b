"""Sequences of tokens from a model of the next token: the most probable token each time, or sampled ones.

`zoo.decoding.beam_search` looks for the most probable sequences. All run in graphs, compiled by XLA or
not, with a batch of any size, and keep no Python state, so a `tf.function` that calls them can be exported.

The model is a function `step(tokens, state)`. It takes int32 tokens [N] and the state after all earlier
tokens, and returns log-probabilities [N, V] of the next token and the new state. A state is any nest of
tensors whose first axis has the N rows; its structure, shapes and dtypes stay. V is known when the graph is
built. Rows do not influence each other. Log-probabilities of any floating dtype are taken as float32, and
not-a-number as -inf.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_bayesrnn import noise

State = Any
Step = Callable[[tf.Tensor, State], tuple[tf.Tensor, State]]

_NO_TOKEN = -1

# Far beyond, float32 has 0 or infinity, and 0 / 0 or inf / inf in place of a probability.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-30, 1e30


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
    """What a sequence may be.

    Args:
      max_length: how many tokens at most, the end token included.
      end_id: the token that ends a sequence; None where sequences run to `max_length`.
      forbidden: tokens that are never chosen.
      min_length: how many words must come before the end token may.
      pad_id: what fills the places after the end; any integer.

    Raises:
      ValueError: for numbers that make no sense, or where the end token is forbidden.
    """

    max_length: int
    end_id: int | None
    forbidden: tuple[int, ...]
    min_length: int
    pad_id: int

    def __post_init__(self):
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
        """How many tokens may be words: they are neither forbidden nor the end token.

        Raises:
          ValueError: where an id is outside the vocabulary, or no token is left.
        """
        special = set(self.forbidden) | ({self.end_id} - {None})
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


def greedy(
    step: Step,
    state: State,
    start_tokens: tf.Tensor,
    max_length: int,
    end_id: int | None,
    forbidden: Sequence[int] = (),
    *,
    min_length: int = 0,
    pad_id: int = 0,
) -> Decoded:
    """The most probable token each time; of equally probable ones that with the lowest id.

    Where all tokens that are allowed have probability 0, a row stops: its log-probability is then -inf, and
    it is not finished.

    Args:
      step: the model, as the module says.
      state: the state before the start tokens, B rows.
      start_tokens: int32 [B], what the model reads first; no part of the result.
      max_length: L, how many tokens at most, the end token included.
      end_id: the token that ends a sequence; None where sequences run to `max_length`.
      forbidden: tokens that are never chosen, such as padding.
      min_length: how many words must come before the end token may, which is forbidden until then.
      pad_id: what fills the places after the end.

    Raises:
      ValueError: for arguments outside of what is said here.
    """
    constraints = Constraints(max_length, end_id, tuple(forbidden), min_length, pad_id)

    def choose(log_probs, time):
        del time
        return tf.argmax(log_probs, axis=1, output_type=tf.int32)

    return _decode(step, state, start_tokens, constraints, choose)


def sample(
    step: Step,
    state: State,
    start_tokens: tf.Tensor,
    max_length: int,
    end_id: int | None,
    forbidden: Sequence[int] = (),
    *,
    seed: tf.Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_length: int = 0,
    pad_id: int = 0,
) -> Decoded:
    """Tokens sampled from the model's distribution, restricted to what is allowed.

    The restrictions come in this order, each on the renormalised outcome of those before: what is forbidden,
    temperature, top k, nucleus. The same seed gives the same tokens, compiled or not (where rounding does not
    tip a balance of some 1e-7). A row's noise depends on the seed and the row's place in the batch only, so
    a further batch needs a further seed. A row stops where all allowed tokens have probability 0, as in
    `greedy`.

    Args:
      step: the model, as the module says.
      state: the state before the start tokens, B rows.
      start_tokens: int32 [B], what the model reads first; no part of the result.
      max_length: L, how many tokens at most, the end token included.
      end_id: the token that ends a sequence; None where sequences run to `max_length`.
      forbidden: tokens that are never chosen.
      seed: int32 [2], as `tfp_bayesrnn.noise` makes it.
      temperature: what log-probabilities are divided by, more than 0: below 1 probable tokens gain.
      top_k: sample from so many most probable tokens only; 0: from all.
      top_p: sample from the nucleus only (Holtzman et al., 2020): the smallest set of most probable tokens
        whose probability reaches `top_p`, which is more than 0; 1: from all.
      min_length: how many words must come before the end token may, which is forbidden until then.
      pad_id: what fills the places after the end.

    Raises:
      ValueError: for arguments outside of what is said here.
    """
    constraints = Constraints(max_length, end_id, tuple(forbidden), min_length, pad_id)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite. Received: temperature={temperature}")
    if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        raise ValueError(
            f"temperature must lie between {LOWEST_TEMPERATURE:g} and {HIGHEST_TEMPERATURE:g}, as float32 "
            f"divides by it. Received: temperature={temperature}"
        )
    if top_k < 0:
        raise ValueError(f"top_k must not be negative; 0 is for all tokens. Received: top_k={top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be more than 0 and at most 1. Received: top_p={top_p}")
    seed = tf.convert_to_tensor(seed)
    if seed.dtype != tf.int32 or seed.shape != [2]:
        raise ValueError(f"seed must be int32 [2]. Received: {seed.dtype.name} {seed.shape.as_list()}")

    def choose(log_probs, time):
        # In units of 2**-24, exact: from 2**-24 to 1 - 2**-24.
        uniform = (noise.uniform([tf.shape(log_probs)[0]], noise.derive(seed, time)) + 1.0) / 2.0
        size = log_probs.shape[1]
        ranked, ids = log_probs, None
        if 0 < top_k < size or top_p < 1:
            ranked, ids = tf.math.top_k(log_probs, min(top_k or size, size))
        largest = tf.reduce_max(ranked, axis=1, keepdims=True)
        ranked = tf.where(largest > -math.inf, ranked - largest, -math.inf)
        weights = tf.exp(ranked / temperature)
        if top_p < 1:
            before = tf.cumsum(weights, axis=1, exclusive=True)
            nucleus = before < top_p * tf.reduce_sum(weights, axis=1, keepdims=True)
            weights = tf.where(nucleus, weights, 0.0)
        place = _sample_place(weights, uniform)
        return place if ids is None else tf.gather(ids, place, batch_dims=1)

    return _decode(step, state, start_tokens, constraints, choose)


def _sample_place(weights: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """For each row of weights [N, M] the place where the cumulated weight passes the share `uniform` [N].

    A parallel cumulated sum need not be monotonic, so places of weight 0 are excluded in so many words. Where
    no place is left, by rounding, it is that of the largest weight.
    """
    cumulated = tf.cumsum(weights, axis=1)
    passed = tf.logical_and(weights > 0, cumulated > uniform[:, tf.newaxis] * cumulated[:, -1:])
    first = tf.argmax(tf.cast(passed, tf.int32), axis=1, output_type=tf.int32)
    largest = tf.argmax(weights, axis=1, output_type=tf.int32)
    return tf.where(tf.reduce_any(passed, axis=1), first, largest)


def rows_of(start_tokens: tf.Tensor) -> tuple[tf.Tensor, int | tf.Tensor]:
    """Start tokens as an int32 tensor [B], and B: an integer where it is known.

    Raises:
      ValueError: for another shape.
    """
    start_tokens = tf.cast(start_tokens, tf.int32)
    if start_tokens.shape.rank != 1:
        raise ValueError(f"start_tokens must have shape [rows]. Received: shape={start_tokens.shape}")
    rows = start_tokens.shape[0]
    return start_tokens, tf.shape(start_tokens)[0] if rows is None else rows


def _decode(step, state, start_tokens, constraints: Constraints, choose) -> Decoded:
    """The loop of `greedy` and `sample`; `choose(log_probs [B, V], time)` returns tokens [B]."""
    start_tokens, rows = rows_of(start_tokens)
    shape = [rows, constraints.max_length]

    def body(time, last, state, living, decoded):
        log_probs, state = step(last, state)
        log_probs = constraints.apply(log_probs, time)
        chosen = choose(log_probs, time)
        chosen_log_probs = tf.gather(log_probs, chosen, batch_dims=1)
        possible = tf.logical_and(living, chosen_log_probs > -math.inf)
        ended = chosen == constraints.end
        here = tf.range(constraints.max_length) == time
        decoded = decoded._replace(
            tokens=tf.where(
                tf.logical_and(here, possible[:, tf.newaxis]), chosen[:, tf.newaxis], decoded.tokens
            ),
            lengths=decoded.lengths + tf.cast(tf.logical_and(possible, ~ended), tf.int32),
            token_log_probs=tf.where(
                tf.logical_and(here, living[:, tf.newaxis]),
                chosen_log_probs[:, tf.newaxis],
                decoded.token_log_probs,
            ),
            finished=tf.logical_or(decoded.finished, tf.logical_and(possible, ended)),
        )
        return time + 1, chosen, state, tf.logical_and(possible, ~ended), decoded

    nothing = Decoded(
        tokens=tf.fill(shape, tf.constant(constraints.pad_id, tf.int32)),
        lengths=tf.zeros([rows], tf.int32),
        log_probs=tf.zeros([rows]),
        token_log_probs=tf.zeros(shape),
        finished=tf.zeros([rows], tf.bool),
    )
    *_, decoded = tf.while_loop(
        lambda time, last, state, living, decoded: tf.reduce_any(living),
        body,
        (tf.constant(0), start_tokens, state, tf.ones([rows], tf.bool), nothing),
        maximum_iterations=constraints.max_length,
        parallel_iterations=1,
    )
    return decoded._replace(log_probs=tf.reduce_sum(decoded.token_log_probs, axis=1))
