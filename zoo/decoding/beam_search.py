"""Beam search: the most probable sequences of tokens, found by extending the K best ones again and again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from zoo.decoding.sequences import Constraints, Decoded, State, Step, rows_of


class _Beams(NamedTuple):
    """H beams of each of B rows; those of log-probability -inf do not count.

    Attributes:
      log_probs: float32 [B, H], totals.
      tokens: int32 [B, H, L].
      token_log_probs: float32 [B, H, L].
      sizes: int32 [B, H], how many tokens, the end token included.
      finished: bool [B, H].
    """

    log_probs: tf.Tensor
    tokens: tf.Tensor
    token_log_probs: tf.Tensor
    sizes: tf.Tensor
    finished: tf.Tensor


class _Progress(NamedTuple):
    """A search after some tokens.

    Attributes:
      time: the number of tokens of the living beams.
      tokens: int32 [B * K], the last of each living beam, which the model has not read yet.
      state: the model's before it reads them.
      living: the beams that are extended.
      finished: the best that are not.
    """

    time: tf.Tensor
    tokens: tf.Tensor
    state: State
    living: _Beams
    finished: _Beams


@dataclasses.dataclass(frozen=True)
class _Search:
    """A search for K sequences for each of B rows; arguments as of `beam_search`."""

    model: Step
    constraints: Constraints
    rows: int | tf.Tensor
    beam_size: int
    length_penalty: float

    def start(self, start_tokens: tf.Tensor, state: State) -> _Progress:
        """One beam of no tokens for each row; the other K - 1 do not count."""
        nothing = _nothing(self.constraints, self.rows, self.beam_size)
        one_each = tf.where(tf.range(self.beam_size) == 0, tf.zeros([self.rows, self.beam_size]), -math.inf)
        sources = tf.repeat(tf.range(self.rows), self.beam_size)
        return _Progress(
            time=tf.constant(0),
            tokens=tf.gather(start_tokens, sources),
            state=tf.nest.map_structure(lambda part: tf.gather(part, sources), state),
            living=nothing._replace(log_probs=one_each),
            finished=nothing,
        )

    def step(self, progress: _Progress) -> _Progress:
        """The living beams extended by a token, and those that ended moved to the finished ones."""
        extended, parents, tokens, state = self._extensions(progress)
        ended = _where(extended.finished, extended)
        finished = self.best(
            progress.finished, tf.nest.map_structure(lambda part: part[:, : self.beam_size], ended)
        )

        unfinished = _where(~extended.finished, extended)
        chosen = tf.math.top_k(unfinished.log_probs, self.beam_size).indices
        offsets = self.beam_size * tf.range(self.rows)[:, tf.newaxis]
        sources = tf.reshape(offsets + tf.gather(parents, chosen, batch_dims=1), [-1])
        return _Progress(
            time=progress.time + 1,
            tokens=tf.reshape(tf.gather(tokens, chosen, batch_dims=1), [-1]),
            state=tf.nest.map_structure(lambda part: tf.gather(part, sources), state),
            living=self._hopeful(_take(unfinished, chosen), finished, progress.time),
            finished=finished,
        )

    def best(self, beams: _Beams, more: _Beams) -> _Beams:
        """The K best of both, best first; those of `beams` come before equally good ones of `more`."""
        both = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=1), beams, more)
        return _take(both, tf.math.top_k(self._score(both.log_probs, both.sizes), self.beam_size).indices)

    def _score(self, log_probs: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        return log_probs / ((5.0 + tf.cast(sizes, tf.float32)) / 6.0) ** self.length_penalty

    def _extensions(self, progress: _Progress) -> tuple[_Beams, tf.Tensor, tf.Tensor, State]:
        """The best extensions, the places of their parents and their tokens [B, H], the model's state."""
        log_probs, state = self.model(progress.tokens, progress.state)
        log_probs = self.constraints.apply(log_probs, progress.time)
        size = log_probs.shape[1]
        _check_beam_size(self.beam_size, self.constraints, size)
        log_probs = tf.reshape(log_probs, [self.rows, self.beam_size, size])
        flat = [self.rows, self.beam_size * size]
        # At most K extensions are by the end token, so twice K hold the K best others too.
        totals, places = tf.math.top_k(
            tf.reshape(progress.living.log_probs[:, :, tf.newaxis] + log_probs, flat),
            min(2, size) * self.beam_size,
        )
        token_log_probs = tf.gather(tf.reshape(log_probs, flat), places, batch_dims=1)
        parents, tokens = places // size, places % size
        ended = tokens == self.constraints.end
        beams = _take(progress.living, parents)
        return _extend(beams, progress.time, totals, tokens, token_log_probs, ended), parents, tokens, state

    def _hopeful(self, living: _Beams, finished: _Beams, time: tf.Tensor) -> _Beams:
        """The living beams, of rows where one of them can still become better than the worst finished one."""
        # A log-probability is not above 0 and can only fall; the largest divisor ahead is the kindest one.
        max_length = self.constraints.max_length
        kindest = max_length if self.length_penalty > 0 else tf.minimum(time + 2, max_length)
        attainable = self._score(living.log_probs[:, :1], kindest)
        worst = self._score(finished.log_probs, finished.sizes)[:, -1:]
        return _where(tf.broadcast_to(attainable > worst, [self.rows, self.beam_size]), living)


def beam_search(
    step: Step,
    state: State,
    start_tokens: tf.Tensor,
    max_length: int,
    end_id: int | None,
    forbidden: Sequence[int] = (),
    *,
    beam_size: int,
    length_penalty: float = 0.0,
    min_length: int = 0,
    pad_id: int = 0,
) -> Decoded:
    """The K sequences with the best scores that were found, the best first.

    A score is the log-probability divided by ((5 + |Y|) / 6)**length_penalty (Wu et al., 2016), where |Y|
    counts all tokens of the sequence, the end token too. Each time the K most probable living beams are
    extended by all tokens. An extension by the end token is finished if it is among the K most probable
    extensions; it is kept, unchanged, while it is among the K best finished ones. The K most probable others
    live on. A row's search ends where no living beam can come to a better score than the worst of K finished
    ones. What is alive after L tokens competes, unfinished, with what is finished.

    One beam without a length penalty is `greedy`. With as many beams as there are beginnings, the search is
    exhaustive. Where fewer than K sequences with a probability above 0 were found, the other places are
    empty: no words, not finished, log-probability -inf.

    Args:
      step: the model, as `zoo.decoding.sequences` says, for B * K rows; log-probabilities are not above 0.
      state: the state before the start tokens, B rows; K of each are made here, and reordered with the beams.
      start_tokens: int32 [B], what the model reads first; no part of the result.
      max_length: the largest number of tokens, L, the end token included.
      end_id: the token that ends a sequence; None where sequences run to `max_length`.
      forbidden: tokens that are never chosen, such as padding.
      beam_size: the number of beams, K, at most the number of different sequences that are allowed.
      length_penalty: 0: none; the larger, the longer the sequences that win.
      min_length: the number of words that must come before the end token may, which is forbidden until then.
      pad_id: the token that fills the places after the end.

    Raises:
      ValueError: an argument is outside the range that is stated here.
    """
    constraints = Constraints(max_length, end_id, tuple(forbidden), min_length, pad_id)
    if beam_size < 1:
        raise ValueError(f"beam_size must be at least 1. Received: beam_size={beam_size}")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty must be finite. Received: length_penalty={length_penalty}")
    start_tokens, rows = rows_of(start_tokens)
    search = _Search(step, constraints, rows, beam_size, length_penalty)
    last = _Progress(
        *tf.while_loop(
            lambda *parts: tf.reduce_any(_Progress(*parts).living.log_probs > -math.inf),
            lambda *parts: tuple(search.step(_Progress(*parts))),
            tuple(search.start(start_tokens, state)),
            maximum_iterations=max_length,
            parallel_iterations=1,
        )
    )
    return _decoded(search.best(last.finished, last.living), constraints)


def sequences(words: int, max_length: int, may_end: bool, min_length: int = 0, enough: int = 2**31) -> int:
    """The number of different sequences, `enough` where there are more.

    Args:
      words: tokens that may be words: neither forbidden nor the end token.
      max_length: the largest length, as for `beam_search`.
      may_end: whether there is an end token.
      min_length: the smallest number of words, as for `beam_search`.
      enough: the number to stop counting at.
    """
    count = 0
    for length in range(max_length + 1):
        if length == max_length or (may_end and length >= min_length):
            count += words**length
        if count >= enough:
            return enough
    return count


def _check_beam_size(beam_size: int, constraints: Constraints, vocabulary_size: int) -> None:
    """Raises ValueError where there are fewer than `beam_size` different sequences."""
    words, may_end = constraints.words(vocabulary_size), constraints.end_id is not None
    count = sequences(words, constraints.max_length, may_end, constraints.min_length, enough=beam_size)
    if count < beam_size:
        raise ValueError(
            f"beam_size must be at most {count}, the number of different sequences of up to "
            f"{constraints.max_length} tokens that are allowed. Received: beam_size={beam_size}"
        )


def _nothing(constraints: Constraints, rows: int | tf.Tensor, beam_size: int) -> _Beams:
    """No beams at all."""
    return _Beams(
        log_probs=tf.fill([rows, beam_size], -math.inf),
        tokens=tf.fill([rows, beam_size, constraints.max_length], tf.constant(constraints.pad_id, tf.int32)),
        token_log_probs=tf.zeros([rows, beam_size, constraints.max_length]),
        sizes=tf.zeros([rows, beam_size], tf.int32),
        finished=tf.zeros([rows, beam_size], tf.bool),
    )


def _take(beams: _Beams, indices: tf.Tensor) -> _Beams:
    """The beams with the indices [B, H] of each row."""
    return tf.nest.map_structure(lambda part: tf.gather(part, indices, batch_dims=1), beams)


def _where(condition: tf.Tensor, beams: _Beams) -> _Beams:
    """The beams where the condition [B, H] holds; the others do not count any more."""
    return beams._replace(log_probs=tf.where(condition, beams.log_probs, -math.inf))


def _extend(
    beams: _Beams,
    time: tf.Tensor,
    log_probs: tf.Tensor,
    tokens: tf.Tensor,
    token_log_probs: tf.Tensor,
    ended: tf.Tensor,
) -> _Beams:
    """Each beam with one more token; all arguments [B, H], `time` a scalar."""
    here = tf.range(beams.tokens.shape[2]) == time
    return _Beams(
        log_probs=log_probs,
        tokens=tf.where(here, tokens[:, :, tf.newaxis], beams.tokens),
        token_log_probs=tf.where(here, token_log_probs[:, :, tf.newaxis], beams.token_log_probs),
        sizes=tf.fill(tf.shape(tokens), time + 1),
        finished=ended,
    )


def _decoded(beams: _Beams, constraints: Constraints) -> Decoded:
    """The sequences that were found, with empty ones in place of beams that do not count."""
    counts = beams.log_probs > -math.inf
    finished = tf.logical_and(beams.finished, counts)
    first = tf.range(constraints.max_length) == 0
    return Decoded(
        tokens=tf.where(counts[:, :, tf.newaxis], beams.tokens, tf.constant(constraints.pad_id, tf.int32)),
        lengths=tf.where(counts, beams.sizes - tf.cast(finished, tf.int32), 0),
        log_probs=beams.log_probs,
        token_log_probs=tf.where(
            counts[:, :, tf.newaxis], beams.token_log_probs, tf.where(first, -math.inf, 0.0)
        ),
        finished=finished,
    )
