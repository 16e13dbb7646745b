"""The most probable token each time, or sampled ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tfp_bayesrnn import noise
from zoo.decoding.sequences import Constraints, Decoded, State, Step, rows_of

# Far beyond these, float32 gives 0 or infinity, and then 0 / 0 or inf / inf in place of a probability.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-30, 1e30


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
      step: the model, as `zoo.decoding.sequences` says.
      state: the state before the start tokens, B rows.
      start_tokens: int32 [B], what the model reads first; no part of the result.
      max_length: the largest number of tokens, L, the end token included.
      end_id: the token that ends a sequence; None where sequences run to `max_length`.
      forbidden: tokens that are never chosen, such as padding.
      min_length: the number of words that must come before the end token may, which is forbidden until then.
      pad_id: the token that fills the places after the end.

    Raises:
      ValueError: an argument is outside the range that is stated here.
    """
    constraints = Constraints(max_length, end_id, tuple(forbidden), min_length, pad_id)

    def choose(log_probs: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
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
    temperature: float | tf.Tensor = 1.0,
    top_k: int | tf.Tensor = 0,
    top_p: float | tf.Tensor = 1.0,
    min_length: int = 0,
    pad_id: int = 0,
) -> Decoded:
    """Tokens sampled from the model's distribution, restricted to what is allowed.

    The restrictions come in this order, each on the renormalised outcome of those before: what is forbidden,
    temperature, top k, nucleus. The same seed gives the same tokens, compiled or not (where rounding does not
    tip a balance of some 1e-7). A row's noise depends on the seed and the row's place in the batch only, so
    a further batch needs a further seed. A row stops where all allowed tokens have probability 0, as in
    `greedy`.

    Temperature, top k and nucleus may be tensors, the inputs of a graph: the tokens are those of the same
    settings as numbers, and what they are is for the caller to check.

    Args:
      step: the model, as `zoo.decoding.sequences` says.
      state: the state before the start tokens, B rows.
      start_tokens: int32 [B], what the model reads first; no part of the result.
      max_length: the largest number of tokens, L, the end token included.
      end_id: the token that ends a sequence; None where sequences run to `max_length`.
      forbidden: tokens that are never chosen.
      seed: int32 [2], as `tfp_bayesrnn.noise` makes it.
      temperature: the divisor of the log-probabilities: below 1 probable tokens gain; 0: the most probable
        token each time.
      top_k: sample from so many most probable tokens only; 0: from all.
      top_p: sample from the nucleus only (Holtzman et al., 2020): the smallest set of most probable tokens
        whose probability reaches `top_p`, which is more than 0; 1: from all.
      min_length: the number of words that must come before the end token may, which is forbidden until then.
      pad_id: the token that fills the places after the end.

    Raises:
      ValueError: an argument is outside the range that is stated here.
    """
    constraints = Constraints(max_length, end_id, tuple(forbidden), min_length, pad_id)
    distribution = _Distribution.of(temperature, top_k, top_p)
    seed = tf.convert_to_tensor(seed)
    if seed.dtype != tf.int32 or seed.shape != [2]:
        raise ValueError(f"seed must be int32 [2]. Received: {seed.dtype.name} {seed.shape.as_list()}")

    def choose(log_probs: tf.Tensor, time: tf.Tensor) -> tf.Tensor:
        # Multiples of 2**-24, which are exact: from 2**-24 to 1 - 2**-24.
        uniform = (noise.uniform([tf.shape(log_probs)[0]], noise.derive(seed, time)) + 1.0) / 2.0
        return distribution.sample(log_probs, uniform)

    return _decode(step, state, start_tokens, constraints, choose)


class _Distribution(NamedTuple):
    """The distribution that tokens are sampled from; the fields are the arguments of `sample` as scalars."""

    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor

    @classmethod
    def of(
        cls, temperature: float | tf.Tensor, top_k: int | tf.Tensor, top_p: float | tf.Tensor
    ) -> _Distribution:
        """The distribution of some settings.

        Raises:
          ValueError: one that is a number is not accepted.
        """
        if not tf.is_tensor(temperature):
            _check_temperature(temperature)
        if not tf.is_tensor(top_k) and top_k < 0:
            raise ValueError(f"top_k must not be negative; 0 is for all tokens. Received: top_k={top_k}")
        if not tf.is_tensor(top_p) and not 0 < top_p <= 1:
            raise ValueError(f"top_p must be more than 0 and at most 1. Received: top_p={top_p}")
        scalars = ((temperature, tf.float32), (top_k, tf.int32), (top_p, tf.float32))
        return cls(*(tf.convert_to_tensor(value, dtype) for value, dtype in scalars))

    def sample(self, log_probs: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """Tokens [N], from log-probabilities [N, V] and numbers [N] between 0 and 1."""
        best = tf.argmax(log_probs, axis=1, output_type=tf.int32)
        is_whole = (self._kept(log_probs) == log_probs.shape[1]) & (self.top_p >= 1.0)
        sampled = tf.cond(
            is_whole,
            lambda: _sample_place(self._weights(log_probs), uniform),
            lambda: self._sample_of_some(log_probs, uniform),
        )
        return tf.where(self.temperature == 0.0, best, sampled)

    def _kept(self, log_probs: tf.Tensor) -> tf.Tensor:
        """How many tokens top k leaves."""
        size = log_probs.shape[1]
        return tf.where((self.top_k == 0) | (self.top_k > size), size, self.top_k)

    def _weights(self, log_probs: tf.Tensor) -> tf.Tensor:
        """Weights [N, V] in proportion to the probabilities at the temperature, the largest 1."""
        largest = tf.reduce_max(log_probs, axis=1, keepdims=True)
        scaled = tf.where(largest > -math.inf, log_probs - largest, -math.inf)
        return tf.exp(scaled / tf.where(self.temperature == 0.0, 1.0, self.temperature))

    def _sample_of_some(self, log_probs: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """`sample` where top k or the nucleus leaves out tokens: it goes from the most probable one on."""
        size = log_probs.shape[1]
        ranked, ids = tf.math.top_k(log_probs, size)
        weights = tf.where(tf.range(size) < self._kept(log_probs), self._weights(ranked), 0.0)
        before = tf.cumsum(weights, axis=1, exclusive=True)
        nucleus = before < self.top_p * tf.reduce_sum(weights, axis=1, keepdims=True)
        weights = tf.where((self.top_p >= 1.0) | nucleus, weights, 0.0)
        return tf.gather(ids, _sample_place(weights, uniform), batch_dims=1)


def _check_temperature(temperature: float) -> None:
    """Raises ValueError for a temperature that `sample` does not accept."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and at least 0. Received: temperature={temperature}")
    if temperature and not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE:
        raise ValueError(
            f"temperature must be 0, or lie between {LOWEST_TEMPERATURE:g} and {HIGHEST_TEMPERATURE:g}, as "
            f"float32 divides by it. Received: temperature={temperature}"
        )


def _sample_place(weights: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """The place in each row of weights [N, M] where the cumulated weight passes the share `uniform` [N].

    A parallel cumulated sum need not be monotonic, so places of weight 0 are excluded in so many words. Where
    no place is left, by rounding, it is that of the largest weight.
    """
    cumulated = tf.cumsum(weights, axis=1)
    passed = tf.logical_and(weights > 0, cumulated > uniform[:, tf.newaxis] * cumulated[:, -1:])
    first = tf.argmax(tf.cast(passed, tf.int32), axis=1, output_type=tf.int32)
    largest = tf.argmax(weights, axis=1, output_type=tf.int32)
    return tf.where(tf.reduce_any(passed, axis=1), first, largest)


def _decode(
    step: Step,
    state: State,
    start_tokens: tf.Tensor,
    constraints: Constraints,
    choose: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
) -> Decoded:
    """The loop of `greedy` and `sample`; `choose(log_probs [B, V], time)` returns tokens [B]."""
    start_tokens, rows = rows_of(start_tokens)
    shape = [rows, constraints.max_length]

    def body(time: tf.Tensor, last: tf.Tensor, state: State, living: tf.Tensor, decoded: Decoded) -> tuple:
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
