"""Beam search: the most probable sequences of tokens, found by extending the K best ones again and again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from zoo.decoding.decoding import Constraints, Decoded, State, Step, rows_of


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
      step: the model, as `zoo.decoding.decoding` says, for B * K rows; log-probabilities are not above 0.
      state: the state before the start tokens, B rows; K of each are made here, and reordered with the beams.
      start_tokens: int32 [B], what the model reads first; no part of the result.
      max_length: L, how many tokens at most, the end token included.
      end_id: the token that ends a sequence; None where sequences run to `max_length`.
      forbidden: tokens that are never chosen, such as padding.
      beam_size: K, at most the number of different sequences that are allowed.
      length_penalty: 0: none; the larger, the longer the sequences that win.
      min_length: how many words must come before the end token may, which is forbidden until then.
      pad_id: what fills the places after the end.

    Raises:
      ValueError: for arguments outside of what is said here.
    """
    constraints = Constraints(max_length, end_id, tuple(forbidden), min_length, pad_id)
    if beam_size < 1:
        raise ValueError(f"beam_size must be at least 1. Received: beam_size={beam_size}")
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty must be finite. Received: length_penalty={length_penalty}")
    start_tokens, rows = rows_of(start_tokens)

    def score(log_probs, sizes):
        return log_probs / ((5.0 + tf.cast(sizes, tf.float32)) / 6.0) ** length_penalty

    def best(beams, more):
        """The K best of both, best first; those of `beams` come before equally good ones of `more`."""
        both = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=1), beams, more)
        return _take(both, tf.math.top_k(score(both.log_probs, both.sizes), beam_size).indices)

    def body(time, last, state, living, finished):
        log_probs, state = step(last, state)
        log_probs = constraints.apply(log_probs, time)
        size = log_probs.shape[1]
        _check_beam_size(beam_size, constraints, size)
        log_probs = tf.reshape(log_probs, [rows, beam_size, size])
        # At most K extensions are by the end token, so twice K hold the K best others too.
        totals, places = tf.math.top_k(
            tf.reshape(living.log_probs[:, :, tf.newaxis] + log_probs, [rows, beam_size * size]),
            min(2, size) * beam_size,
        )
        token_log_probs = tf.gather(tf.reshape(log_probs, [rows, beam_size * size]), places, batch_dims=1)
        parents, tokens = places // size, places % size
        extended = _extend(
            _take(living, parents), time, totals, tokens, token_log_probs, tokens == constraints.end
        )

        ended = _where(extended.finished, extended)
        finished = best(finished, tf.nest.map_structure(lambda part: part[:, :beam_size], ended))

        unfinished = _where(~extended.finished, extended)
        chosen = tf.math.top_k(unfinished.log_probs, beam_size).indices
        living = _take(unfinished, chosen)
        offsets = beam_size * tf.range(rows)[:, tf.newaxis]
        sources = tf.reshape(offsets + tf.gather(parents, chosen, batch_dims=1), [-1])
        state = tf.nest.map_structure(lambda part: tf.gather(part, sources), state)
        last = tf.reshape(tf.gather(tokens, chosen, batch_dims=1), [-1])

        # A log-probability is not above 0 and can only fall; the largest divisor ahead is the kindest one.
        kindest = max_length if length_penalty > 0 else tf.minimum(time + 2, max_length)
        attainable = score(living.log_probs[:, :1], kindest)
        worst = score(finished.log_probs, finished.sizes)[:, -1:]
        living = _where(tf.broadcast_to(attainable > worst, [rows, beam_size]), living)
        return time + 1, last, state, living, finished

    nothing = _nothing(constraints, rows, beam_size)
    one_each = tf.where(tf.range(beam_size) == 0, tf.zeros([rows, beam_size]), -math.inf)
    sources = tf.repeat(tf.range(rows), beam_size)
    *_, living, finished = tf.while_loop(
        lambda time, last, state, living, finished: tf.reduce_any(living.log_probs > -math.inf),
        body,
        (
            tf.constant(0),
            tf.gather(start_tokens, sources),
            tf.nest.map_structure(lambda part: tf.gather(part, sources), state),
            nothing._replace(log_probs=one_each),
            nothing,
        ),
        maximum_iterations=max_length,
        parallel_iterations=1,
    )
    return _decoded(best(finished, living), constraints)


def sequences(words: int, max_length: int, may_end: bool, min_length: int = 0, enough: int = 2**31) -> int:
    """How many different sequences there are, `enough` where there are more.

    Args:
      words: tokens that may be words: neither forbidden nor the end token.
      max_length: as in `beam_search`.
      may_end: whether there is an end token.
      min_length: as in `beam_search`.
      enough: where to stop counting.
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
    """Of each row the beams with the indices [B, H]."""
    return tf.nest.map_structure(lambda part: tf.gather(part, indices, batch_dims=1), beams)


def _where(condition: tf.Tensor, beams: _Beams) -> _Beams:
    """The beams where the condition [B, H] holds; the others do not count any more."""
    return beams._replace(log_probs=tf.where(condition, beams.log_probs, -math.inf))


def _extend(beams: _Beams, time, log_probs, tokens, token_log_probs, ended) -> _Beams:
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
    """What is found, with empty sequences in place of beams that do not count."""
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
