import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from decoding_models import (
    END,
    LENGTH,
    NODES,
    PAD,
    SIZE,
    log_prob,
    node_of,
    recurrent_model,
    sequences_of,
    table_model,
    tables,
)

from zoo.decoding.beam_search import beam_search


def score(total, sequence, penalty):
    return total / ((5 + len(sequence)) / 6) ** penalty


def all_sequences(end=END, forbidden=(), min_length=0):
    """Every sequence that may come out, by its definition."""
    words = [token for token in range(SIZE) if token != end and token not in forbidden]
    for length in range(min_length, LENGTH + 1):
        for sequence in itertools.product(words, repeat=length):
            if length == LENGTH:
                yield sequence
            elif end is not None:
                yield (*sequence, end)


def plain_beam_search(table, beam_size, penalty, end=END, forbidden=(), min_length=0):
    """As documented, for one row, with lists, and never stopping early: [(total, sequence)], best first."""
    living, finished = [(0.0, ())], []
    for time in range(LENGTH):
        extensions = [
            (total + float(table[node_of(sequence), token]), (*sequence, token))
            for total, sequence in living
            for token in range(SIZE)
            if token not in forbidden and (token != end or time >= min_length)
        ]
        extensions.sort(key=lambda extension: -extension[0])
        finished += [extension for extension in extensions[:beam_size] if extension[1][-1] == end]
        finished.sort(key=lambda beam: -score(*beam, penalty))
        del finished[beam_size:]
        living = [extension for extension in extensions if extension[1][-1] != end][:beam_size]
    return sorted(finished + living, key=lambda beam: -score(*beam, penalty))[:beam_size]


def compare(decoded, expected, table):
    """`expected` is, for each row, a list of (total, sequence)."""
    found = sequences_of(decoded)
    for row, beams in enumerate(expected):
        assert list(found[row]) == [sequence for _, sequence in beams]
        np.testing.assert_allclose(decoded.log_probs[row], [total for total, _ in beams], rtol=1e-5)
        for beam, (_, sequence) in enumerate(beams):
            parts = [table[row, node_of(sequence[:time]), token] for time, token in enumerate(sequence)]
            np.testing.assert_allclose(decoded.token_log_probs[row, beam, : len(parts)], parts, rtol=1e-6)


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("penalty", [0.0, 0.7, 3.0, -1.0])
@pytest.mark.parametrize(
    "limits", [{}, {"end": None, "forbidden": (END,)}, {"min_length": 2}, {"forbidden": (0,)}]
)
def test_a_wide_beam_is_exhaustive(penalty, limits):
    table = tables(rows=5)
    sequences = list(all_sequences(**limits))
    expected = [
        sorted(
            ((log_prob(row, sequence), sequence) for sequence in sequences),
            key=lambda beam: -score(*beam, penalty),
        )
        for row in table
    ]
    arguments = {"end_id": END, "beam_size": len(sequences)} | limits
    if "end" in arguments:
        arguments["end_id"] = arguments.pop("end")
    decoded = beam_search(*table_model(table), LENGTH, length_penalty=penalty, pad_id=PAD, **arguments)
    compare(decoded, expected, table)
    if not limits:
        np.testing.assert_allclose(np.exp(decoded.log_probs).sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.slow(but=["-2.0-0.0", "2.0--2.0"])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 4.0, -2.0])
@pytest.mark.parametrize("end_bias", [-2.0, 0.0, 2.0])
def test_narrow_beams_are_those_of_a_plain_search_that_never_stops_early(penalty, end_bias):
    table = tables(rows=60, seed=1, end_bias=end_bias)
    for beam_size, limits in ((1, {}), (2, {"forbidden": (3,)}), (3, {"min_length": 1}), (5, {})):
        decoded = beam_search(
            *table_model(table),
            LENGTH,
            END,
            beam_size=beam_size,
            length_penalty=penalty,
            pad_id=PAD,
            **limits,
        )
        compare(decoded, [plain_beam_search(row, beam_size, penalty, **limits) for row in table], table)


def test_a_narrow_beam_can_miss_the_best_sequence():
    table = np.full((1, NODES, SIZE), math.log(0.25), np.float32)
    # Word 0 looks better at first, but only after word 1 is there no doubt.
    table[0, 0] = np.log([0.55, 0.4, 0.025, 0.025])
    table[0, node_of((1,))] = np.log([0.005, 0.005, 0.985, 0.005])
    narrow, wide = (
        beam_search(*table_model(table), LENGTH, END, beam_size=size, pad_id=PAD) for size in (1, 2)
    )
    assert sequences_of(narrow)[0, 0] == (0, 0, 0, 0)
    assert float(narrow.log_probs[0, 0]) == pytest.approx(math.log(0.55 / 64))
    assert sequences_of(wide)[0, 0] == (1, END)
    assert float(wide.log_probs[0, 0]) == pytest.approx(math.log(0.4 * 0.985))
    assert max(all_sequences(), key=lambda sequence: log_prob(table[0], sequence)) == (1, END)


def test_a_length_penalty_can_prefer_a_longer_sequence_to_a_more_probable_one():
    table = np.full((1, NODES, SIZE), math.log(1e-6), np.float32)
    table[0, 0] = np.log([0.45, 1e-6, 0.55, 1e-6])
    for length in (1, 2):
        table[0, node_of((0,) * length), 0] = 0.0
    table[0, node_of((0, 0, 0)), END] = 0.0
    for penalty, expected in ((0.0, (END,)), (0.5, (END,)), (0.9, (0, 0, 0, END))):
        # log 0.45 / log 0.55 = 1.336 = (9 / 6)**0.71
        decoded = beam_search(
            *table_model(table), LENGTH, END, beam_size=1, length_penalty=penalty, pad_id=PAD
        )
        assert sequences_of(decoded)[0, 0] == expected


@pytest.mark.slow(every=3)
@pytest.mark.parametrize(
    ("beam_size", "penalty", "steps"),
    [
        (1, 0.0, 1),
        # The second best sequence has 0.05 * 0.9; what lives then, 0.05 * 0.05.
        (2, 0.0, 2),
        # log 0.05**time / (55 / 6)**2 is -0.036, -0.071, -0.107; log 0.9 is -0.105.
        (1, 2.0, 3),
        (1, 30.0, 50),
        (1, -2.0, 1),
    ],
)
def test_the_search_stops_as_soon_as_nothing_better_can_come(beam_size, penalty, steps):
    """The end has probability 0.9 each time, two words 0.05."""
    calls = []

    def step(tokens, state):
        calls.append(1)
        return tf.math.log(tf.tile([[0.05, 0.05, 0.9]], [len(tokens), 1])), state

    start = tf.constant([0, 0])
    decoded = beam_search(step, (), start, 50, 2, beam_size=beam_size, length_penalty=penalty)
    assert len(calls) == steps
    if penalty <= 2.0:
        np.testing.assert_array_equal(decoded.lengths, [[0, 1][:beam_size]] * 2)


def test_a_negative_penalty_does_not_stop_the_search_before_a_better_end_soon():
    """Two beams are finished after two tokens; the next end is better than one, an end after 50 were not."""
    ends = tf.constant([0.6, 0.1, 0.9, 0.9])

    def step(tokens, time):
        end = tf.gather(ends, tf.minimum(time, 3))
        return tf.math.log(tf.stack([1 - end, end], axis=1)), time + 1

    start = tf.constant([0])
    decoded = beam_search(step, start, start, 50, 1, beam_size=2, length_penalty=-1.0)
    np.testing.assert_array_equal(decoded.lengths, [[0, 2]])
    np.testing.assert_allclose(decoded.log_probs, np.log([[0.6, 0.4 * 0.9 * 0.9]]), rtol=1e-5)


@pytest.mark.slow
def test_a_finished_row_does_not_change_while_other_rows_go_on():
    table = tables(rows=30, seed=12, end_bias=1.0)
    for penalty in (0.0, 1.5, -1.0):
        arguments = {"beam_size": 3, "length_penalty": penalty, "pad_id": PAD}
        together = beam_search(*table_model(table), LENGTH, END, **arguments)
        for row in range(len(table)):
            alone = beam_search(*table_model(table[row : row + 1]), LENGTH, END, **arguments)
            for part, part_alone in zip(together, alone, strict=True):
                np.testing.assert_array_equal(part[row], part_alone[0])


def test_finished_beams_are_frozen():
    """A longer search returns what a shorter one has finished, or better ones in its place."""
    table = tables(rows=50, seed=13)
    shorter = beam_search(*table_model(table), 2, END, beam_size=4, pad_id=PAD)
    longer = beam_search(*table_model(table), LENGTH, END, beam_size=4, pad_id=PAD)
    kept = 0
    for row, (before, after) in enumerate(zip(sequences_of(shorter), sequences_of(longer), strict=True)):
        for beam in np.flatnonzero(shorter.finished[row]):
            if before[beam] in list(after):
                place = list(after).index(before[beam])
                kept += 1
                assert longer.log_probs[row, place] == shorter.log_probs[row, beam]
                np.testing.assert_array_equal(
                    longer.token_log_probs[row, place], [*shorter.token_log_probs[row, beam], 0.0, 0.0]
                )
            else:
                assert np.all(longer.log_probs[row] >= shorter.log_probs[row, beam])
    assert kept > 50


@pytest.mark.parametrize("beam_size", [3, 60])
def test_all_parts_of_the_state_go_with_their_beams(beam_size):
    step, state, start, table = recurrent_model(rows=6)
    table = table()
    decoded = beam_search(
        step, state, start, LENGTH, END, beam_size=beam_size, length_penalty=1.0, pad_id=PAD
    )
    expected = [plain_beam_search(row, beam_size, 1.0) for row in table]
    found = sequences_of(decoded)
    for row in range(6):
        assert list(found[row]) == [sequence for _, sequence in expected[row]]
        np.testing.assert_allclose(
            decoded.log_probs[row], [total for total, _ in expected[row]], rtol=1e-4, atol=1e-5
        )


def test_forbidden_tokens_never_come_and_the_others_keep_their_probabilities():
    table = tables(rows=20, seed=10)
    table[:, :, [0, 3]] = -1e-6
    table[:, :, [1, END]] -= 60
    decoded = beam_search(*table_model(table), LENGTH, END, (0, 3), beam_size=3, pad_id=PAD)
    compare(decoded, [plain_beam_search(row, 3, 0.0, forbidden=(0, 3)) for row in table], table)
    assert np.all(np.asarray(decoded.log_probs) < -60)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam_size": 0}, "beam_size must be at least 1. Received: beam_size=0"),
        ({"length_penalty": math.nan}, "length_penalty must be finite. Received: length_penalty=nan"),
        ({"beam_size": 5, "max_length": 1}, "beam_size must be at most 4, .*Received: beam_size=5"),
        ({"beam_size": 5, "end_id": None, "max_length": 1}, "beam_size must be at most 4, "),
        ({"beam_size": 4, "forbidden": (0,), "max_length": 1}, "beam_size must be at most 3, "),
        ({"beam_size": 122}, "beam_size must be at most 121, "),  # 1 + 3 + 9 + 27 + 81
        ({"beam_size": 118, "min_length": 2}, "beam_size must be at most 117, "),
        ({"beam_size": 82, "min_length": 4}, "beam_size must be at most 81, "),
    ],
)
def test_arguments_of_beam_search_that_make_no_sense(changes, message):
    arguments = {"beam_size": 1, "max_length": LENGTH, "end_id": END} | changes
    with pytest.raises(ValueError, match=message):
        beam_search(*table_model(tables(rows=1)), **arguments)
    if changes.get("beam_size"):
        arguments["beam_size"] -= 1
        assert np.all(beam_search(*table_model(tables(rows=1)), **arguments).log_probs > -math.inf)
