import itertools
import math

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from decoding_models import (
    END,
    LENGTH,
    PAD,
    SIZE,
    log_prob,
    node_of,
    recurrent_model,
    sequences_of,
    table_model,
    tables,
)

from tfp_bayesrnn import noise
from zoo.decoding.beam_search import beam_search
from zoo.decoding.sampling import greedy, sample


def compiled(function, jit_compile=False):
    return tf.function(function, jit_compile=jit_compile, autograph=False)


@pytest.mark.parametrize("minimum", [0, 2, LENGTH])
def test_greedy_takes_the_best_token_each_time_and_is_one_beam(minimum):
    table = tables(rows=100, seed=2)
    arguments = (*table_model(table), LENGTH, END, (1,))
    decoded = greedy(*arguments, min_length=minimum, pad_id=PAD)
    for row, sequence in zip(table, sequences_of(decoded), strict=True):
        expected = ()
        while len(expected) < LENGTH and END not in expected:
            allowed = [0, END, 3] if len(expected) >= minimum else [0, 3]
            expected += (max(allowed, key=lambda token: row[node_of(expected), token]),)
        assert sequence == expected
    assert np.all(np.asarray(decoded.lengths) >= minimum)
    assert np.any(decoded.finished) == (minimum < LENGTH)
    beams = beam_search(*arguments, beam_size=1, min_length=minimum, pad_id=PAD)
    for part, beam_part in zip(decoded, beams, strict=True):
        np.testing.assert_allclose(part, beam_part[:, 0], rtol=1e-6)


def test_greedy_and_sampling_stop_when_all_rows_are_finished():
    steps = []

    def step(tokens, state):
        steps.append(1)
        return tf.one_hot(tf.where(state < tf.range(len(tokens)), 0, 1), 2, 0.0, -math.inf), state + 1

    for run in (greedy, lambda *arguments: sample(*arguments, seed=noise.make_seed(0))):
        steps.clear()
        decoded = run(step, tf.zeros([3], tf.int32), tf.zeros([3], tf.int32), 50, 1)
        np.testing.assert_array_equal(decoded.lengths, [0, 1, 2])
        np.testing.assert_array_equal(decoded.finished, True)
        assert len(steps) == 3


def restricted(log_probs, temperature, top_k, top_p, forbidden=()):
    """The distribution that is sampled from, by its definition, for one row."""
    probabilities = np.exp(np.float64(log_probs) / temperature)
    probabilities[list(forbidden)] = 0
    probabilities /= probabilities.sum()
    order = sorted(range(len(probabilities)), key=lambda token: -probabilities[token])
    for token in order[top_k or len(order) :]:
        probabilities[token] = 0
    probabilities /= probabilities.sum()
    kept, total = [], 0.0
    for token in order:
        if total >= top_p:
            break
        kept.append(token)
        total += probabilities[token]
    result = np.zeros_like(probabilities)
    result[kept] = probabilities[kept]
    return result / result.sum()


@pytest.mark.slow(but=["1.0-0-1.0-forbidden0-False", "1.0-0-1e-06-forbidden7-False"])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "forbidden", "jit_compile"),
    [
        (1.0, 0, 1.0, (), False),
        (0.6, 0, 1.0, (1,), True),
        (2.0, 3, 1.0, (), False),
        (1.0, 0, 0.8, (), False),
        (1.5, 3, 0.7, (0,), False),
        (1.5, 3, 0.7, (0,), True),
        (1.0, 1, 1.0, (), False),
        (1.0, 0, 1e-6, (), False),
    ],
)
def test_whole_sequences_are_sampled_with_their_probabilities(
    temperature, top_k, top_p, forbidden, jit_compile
):
    draws = 20_000
    table = tables(rows=1, scale=1.0, seed=3)

    def run(seed):
        step, state, start = table_model(table)
        state, start = tf.nest.map_structure(lambda part: tf.repeat(part, draws, axis=0), (state, start))
        return sample(
            step, state, start, 3, END, forbidden,
            seed=seed, temperature=temperature, top_k=top_k, top_p=top_p, pad_id=PAD,
        )  # fmt: skip

    decoded = compiled(run, jit_compile)(noise.make_seed(5))
    expected = {}
    for sequence in itertools.product(range(SIZE), repeat=3):
        if END in sequence:
            sequence = sequence[: sequence.index(END) + 1]
        expected[sequence] = draws * math.prod(
            restricted(table[0, node_of(sequence[:time])], temperature, top_k, top_p, forbidden)[token]
            for time, token in enumerate(sequence)
        )
    expected = {sequence: count for sequence, count in expected.items() if count > 0}
    counts = dict.fromkeys(expected, 0)
    for sequence, total in zip(sequences_of(decoded), np.asarray(decoded.log_probs), strict=True):
        counts[sequence] += 1  # fails for a sequence outside the support
        assert total == pytest.approx(log_prob(table[0], sequence), rel=1e-4)
    assert sum(expected.values()) == pytest.approx(draws)
    if len(expected) > 1:
        assert scipy.stats.chisquare(list(counts.values()), list(expected.values())).pvalue > 0.01


def test_top_k_and_the_nucleus_have_exactly_their_tokens():
    rows, size, draws = 50, 12, 2000
    logits = np.random.default_rng(4).normal(size=(rows, size)).astype(np.float32)

    def step(tokens, state):
        return tf.nn.log_softmax(state), state

    def run(seed, **arguments):
        state = tf.repeat(tf.constant(logits), draws, axis=0)
        decoded = sample(step, state, tf.zeros([rows * draws], tf.int32), 1, None, seed=seed, **arguments)
        return tf.reshape(decoded.tokens, [rows, draws])

    for arguments in ({"top_k": 4}, {"top_p": 0.5}, {"top_k": 5, "top_p": 0.9}, {"top_k": 100, "top_p": 1.0}):
        tokens = np.asarray(run(noise.make_seed(6), **arguments))
        for row in range(rows):
            expected = restricted(logits[row], 1.0, arguments.get("top_k", 0), arguments.get("top_p", 1.0))
            found = np.bincount(tokens[row], minlength=size)
            assert np.all(found[expected == 0] == 0)
            assert np.all(found[expected > 0.01] > 0)
    # Of equal tokens the first ones.
    logits[:] = 0
    assert set(np.unique(run(noise.make_seed(6), top_k=3))) == {0, 1, 2}
    assert set(np.unique(run(noise.make_seed(6), top_p=0.3))) == {0, 1, 2, 3}


@pytest.mark.slow(but=["False"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_settings_that_are_inputs_give_the_tokens_of_those_that_are_numbers(jit_compile):
    rows, size = 40, 30
    logits = tf.constant(np.random.default_rng(5).normal(scale=2.0, size=(rows, size)), tf.float32)

    def run(temperature, top_k, top_p):
        return sample(
            lambda tokens, state: (tf.nn.log_softmax(tf.roll(state, tokens[0], axis=1)), state),
            logits, tf.zeros([rows], tf.int32), 2, None,
            seed=noise.make_seed(8), temperature=temperature, top_k=top_k, top_p=top_p,
        ).tokens  # fmt: skip

    scalars = [tf.TensorSpec([], dtype) for dtype in (tf.float32, tf.int32, tf.float32)]
    of_inputs = tf.function(run, scalars, jit_compile=jit_compile, autograph=False)
    found = set()
    for settings in itertools.product((0.0, 0.6, 1.0, 2.0), (0, 1, 5, 99), (1e-3, 0.7, 1.0)):
        of_numbers = np.asarray(run(*settings))
        np.testing.assert_array_equal(of_inputs(*map(tf.constant, settings)), of_numbers)
        is_greedy = settings[0] == 0.0 or settings[1] == 1 or settings[2] == 1e-3
        assert np.array_equal(of_numbers[:, 0], np.argmax(logits, axis=1)) == is_greedy
        found.add(of_numbers.tobytes())
    # All the greedy ones are one; of the others, 0 and 99 are both all tokens.
    assert len(found) == 1 + 3 * 2 * 2


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_noise_belongs_to_the_seed_and_the_place_of_a_row(jit_compile):
    def sampled(table, seed):
        return sample(*table_model(table), LENGTH, END, seed=seed, pad_id=PAD).tokens

    run = compiled(sampled, jit_compile)
    table = tables(rows=30, scale=0.5, seed=7, end_bias=-9.0)
    tokens = np.asarray(run(table, noise.make_seed(1)))
    np.testing.assert_array_equal(run(table, noise.make_seed(1)), tokens)
    np.testing.assert_array_equal(sampled(table, noise.make_seed(1)), tokens)
    assert np.any(run(table, noise.make_seed(2)) != tokens)
    np.testing.assert_array_equal(run(table[:5], noise.make_seed(1)), tokens[:5])
    # Equal rows differ by their noise, and so do the tokens of a row.
    tokens = np.asarray(run(np.repeat(table[:1], 30, axis=0), noise.make_seed(1)))
    assert len(np.unique(tokens, axis=0)) > 15
    assert np.any(tokens[:, 1:] != tokens[:, :1], axis=0).all()


def three_ways(step, state, start):
    return (
        greedy(step, state, start, LENGTH, END, (0,), pad_id=PAD),
        sample(
            step, state, start, LENGTH, END, (0,), seed=noise.make_seed(3), top_k=3, top_p=0.9, pad_id=PAD
        ),
        beam_search(step, state, start, LENGTH, END, (0,), beam_size=3, length_penalty=0.7, pad_id=PAD),
    )


def assert_equal(results, others):
    for part, other in zip(tf.nest.flatten(results), tf.nest.flatten(others), strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_eager_graph_xla_and_an_exported_model_agree_for_any_number_of_rows(tmp_path):
    step, state, start, _ = recurrent_model(rows=7)
    expected = three_ways(step, state, start)
    for decoded in expected:
        assert not np.any(np.asarray(decoded.tokens) == 0)
        assert np.any(np.asarray(decoded.tokens) != np.asarray(decoded.tokens)[:1])

    def signature(part):
        return tf.TensorSpec([None, *part.shape[1:]], part.dtype)

    module = tf.Module()
    for jit_compile in (False, True):
        run = module.run = tf.function(
            lambda state, start: three_ways(step, state, start),
            input_signature=tf.nest.map_structure(signature, (state, start)),
            jit_compile=jit_compile,
            autograph=False,
        )
        assert_equal(run(state, start), expected)
        for rows in (3,) if jit_compile else (3, 0):
            first = tf.nest.map_structure(lambda part, rows=rows: part[:rows], (state, start, expected))
            assert_equal(run(first[0], first[1]), first[2])
    tf.saved_model.save(module, str(tmp_path))
    assert_equal(tf.saved_model.load(str(tmp_path)).run(state, start), expected)


def test_log_probabilities_of_lower_precision_are_summed_as_float32():
    def rounded(values):
        return np.asarray(tf.cast(tf.cast(values, tf.bfloat16), tf.float32))

    for decoded in three_ways(*recurrent_model(rows=20, dtype=tf.bfloat16)[:3]):
        sequences_of(decoded)  # dtypes and sums
        np.testing.assert_array_equal(rounded(decoded.token_log_probs), decoded.token_log_probs)
        assert np.any(rounded(decoded.log_probs) != decoded.log_probs)


@pytest.mark.slow(but=["-inf-False"])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("nothing", [-math.inf, math.nan])
def test_a_row_without_any_possible_token_stops(nothing, jit_compile):
    table = tables(rows=3, seed=9)
    table[:, :, 0] = math.log(0.9)  # forbidden, and yet the most probable
    table[0, 0, 1:] = nothing
    table[1, 0, 1:] = [0.0, nothing, nothing]
    table[1, node_of((1,)), 1:] = nothing
    table[2, 0, 1:] = [nothing, 0.0, nothing]
    model = table_model(table)
    taken, sampled, beams = compiled(lambda: three_ways(*model), jit_compile)()
    for decoded in (taken, sampled):
        assert list(sequences_of(decoded)) == [(), (1,), (END,)]
        np.testing.assert_array_equal(decoded.log_probs, [-math.inf, -math.inf, 0.0])
        np.testing.assert_array_equal(decoded.finished, [False, False, True])
    assert sequences_of(beams).tolist() == [[(), (), ()], [(), (), ()], [(END,), (), ()]]
    np.testing.assert_array_equal(
        beams.log_probs, [[-math.inf] * 3, [-math.inf] * 3, [0, -math.inf, -math.inf]]
    )


def test_forbidden_tokens_never_come_however_probable():
    table = tables(rows=40, seed=10)
    table[:, :, [0, 3]] = -1e-6
    table[:, :, [1, END]] -= 60
    step, state, start = table_model(table)
    for seed in range(5):
        decoded = sample(
            step, state, start, LENGTH, END, (0, 3), seed=noise.make_seed(seed), temperature=5.0, pad_id=PAD
        )
        assert set().union(*sequences_of(decoded)) <= {1, END}


def test_a_pad_token_that_is_the_end_token_and_other_integer_types():
    table = tables(rows=4, seed=11)
    step, state, start = table_model(table)
    plain = greedy(step, state, start, LENGTH, END, pad_id=PAD)
    other = greedy(step, state, tf.cast(start, tf.int64), LENGTH, np.int64(END), np.array([]), pad_id=END)
    np.testing.assert_array_equal(np.where(np.asarray(plain.tokens) == PAD, END, plain.tokens), other.tokens)
    np.testing.assert_array_equal(plain.lengths, other.lengths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 0}, "max_length must be at least 1. Received: max_length=0"),
        ({"min_length": -1}, "min_length must lie between 0 and max_length. Received: min_length=-1"),
        ({"min_length": 5}, "Received: min_length=5, max_length=4"),
        (
            {"forbidden": (1, END)},
            r"the end token must not be forbidden.* Received: end_id=2, forbidden=\(1, 2\)",
        ),
        ({"forbidden": (SIZE,)}, r"between 0 and 3.* Received: end_id=2, forbidden=\(4,\)"),
        ({"forbidden": (-1,)}, r"between 0 and 3.* Received: end_id=2, forbidden=\(-1,\)"),
        ({"end_id": SIZE}, r"between 0 and 3.* Received: end_id=4"),
        ({"end_id": -1}, r"between 0 and 3.* Received: end_id=-1"),
        ({"forbidden": (0, 1, 3)}, r"at least one of the 4 tokens besides the end token. Received"),
        ({"start_tokens": [[1]]}, r"start_tokens must have shape \[rows\]. Received: shape=\(1, 1\)"),
        ({"step": lambda tokens, state: (tf.zeros([1]), state)}, r"Received: log_probs.shape=\(1,\)"),
    ],
)
@pytest.mark.parametrize("decode", [greedy, sample, beam_search])
def test_arguments_of_all_that_make_no_sense(decode, changes, message):
    step, state, start = table_model(tables(rows=1))
    arguments = {"step": step, "state": state, "start_tokens": start, "max_length": LENGTH, "end_id": END}
    own = {greedy: {}, sample: {"seed": noise.make_seed(0)}, beam_search: {"beam_size": 1}}[decode]
    with pytest.raises(ValueError, match=message):
        decode(**(arguments | own | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 1e-320}, r"temperature must be 0, or lie between 1e-30 and 1e\+30"),
        ({"temperature": 1e300}, r"temperature must be 0, or lie between 1e-30 and 1e\+30"),
        ({"temperature": -1.0}, "Received: temperature=-1.0"),
        ({"temperature": math.inf}, "Received: temperature=inf"),
        ({"temperature": math.nan}, "Received: temperature=nan"),
        ({"top_k": -1}, "top_k must not be negative; 0 is for all tokens. Received: top_k=-1"),
        ({"top_p": 0.0}, "top_p must be more than 0 and at most 1. Received: top_p=0.0"),
        ({"top_p": 1.5}, "Received: top_p=1.5"),
        ({"seed": tf.constant([1, 2, 3])}, r"seed must be int32 \[2\]. Received: int32 \[3\]"),
        ({"seed": tf.constant([1.0, 2.0])}, r"Received: float32 \[2\]"),
    ],
)
def test_arguments_of_sampling_that_make_no_sense(changes, message):
    arguments = {"seed": noise.make_seed(0)} | changes
    with pytest.raises(ValueError, match=message):
        sample(*table_model(tables(rows=1)), LENGTH, END, **arguments)
