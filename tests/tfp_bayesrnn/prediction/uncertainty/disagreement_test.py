"""How samples disagree: about the next class, and about a whole sequence."""

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from tfp_bayesrnn.prediction.uncertainty import decompose, reverse_mutual_information, score_sequences


def random_log_probs(*shape, seed=0, scale=3.0):
    logits = np.random.default_rng(seed).normal(size=shape) * scale
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def divergence(first, second):
    return np.sum(scipy.special.rel_entr(first, second), axis=-1)


@pytest.mark.parametrize("samples", [2, 5])
def test_the_information_is_the_mean_divergence_and_its_sum_that_of_pairs(samples):
    log_probs = random_log_probs(samples, 3, 4, 30)
    probs = np.exp(log_probs)
    average = probs.mean(axis=0)
    reverse = reverse_mutual_information(log_probs).numpy()
    np.testing.assert_allclose(reverse, np.mean([divergence(average, one) for one in probs], 0), rtol=1e-9)
    pairs = [divergence(one, other) for one, other in itertools.product(probs, repeat=2)]
    np.testing.assert_allclose(decompose(log_probs).epistemic + reverse, np.mean(pairs, 0), rtol=1e-9)
    # In float32, sums of 30 terms of up to some nats.
    single = tf.function(reverse_mutual_information, jit_compile=True)(log_probs.astype(np.float32))
    assert single.dtype == tf.float32
    np.testing.assert_allclose(single, reverse, rtol=1e-5, atol=1e-5)


def test_information_of_one_sample_of_equal_ones_and_of_impossible_classes():
    one = reverse_mutual_information(random_log_probs(1, 6, 9))
    np.testing.assert_array_equal(one, np.zeros(6))
    same = np.repeat(random_log_probs(1, 6, 9).astype(np.float32), 7, axis=0)
    found = reverse_mutual_information(same).numpy()
    assert np.all(found >= 0.0) and found.max() < 2e-6
    with np.errstate(divide="ignore"):
        log_probs = np.log([[[0.0, 0.5, 0.5]], [[0.0, 0.25, 0.75]]])
        disjoint = np.log([[[1.0, 0.0]], [[0.0, 1.0]]])
    expected = np.mean([scipy.stats.entropy([0.375, 0.625], other) for other in ([0.5, 0.5], [0.25, 0.75])])
    np.testing.assert_allclose(reverse_mutual_information(log_probs), [expected], rtol=1e-12)
    np.testing.assert_array_equal(reverse_mutual_information(disjoint), [np.inf])
    assert reverse_mutual_information(tf.zeros([2, 3, 1], tf.bfloat16)).dtype == tf.float32


def test_sequences_are_scored_word_by_word_and_as_a_whole():
    log_probs = np.log(np.random.default_rng(1).uniform(0.01, 1.0, size=(4, 3, 6)))
    probs = np.exp(log_probs)
    scores = score_sequences(log_probs)
    np.testing.assert_allclose(scores.product_of_expectations, np.log(probs.mean(0).prod(-1)), rtol=1e-12)
    np.testing.assert_allclose(scores.expectation_of_products, np.log(probs.prod(-1).mean(0)), rtol=1e-12)
    expected = np.log(probs.prod(-1).mean(0)) - np.log(probs.prod(-1)).mean(0)
    np.testing.assert_allclose(scores.reverse_information, expected, rtol=1e-12)


def test_sequences_of_one_sample_long_ones_and_impossible_ones():
    one = score_sequences(np.full((1, 2, 5), -1.0))
    np.testing.assert_array_equal(one.product_of_expectations, [-5.0, -5.0])
    np.testing.assert_array_equal(one.expectation_of_products, [-5.0, -5.0])
    np.testing.assert_array_equal(one.reverse_information, [0.0, 0.0])
    # Their probability is less than any number of float64, their logarithm is not.
    long = score_sequences(np.full((2, 5000), -10.0))
    assert long.expectation_of_products == pytest.approx(-50_000.0)
    impossible = score_sequences([[[-np.inf, -1.0], [-np.inf, 0.0]], [[-1.0, -1.0], [-np.inf, 0.0]]])
    np.testing.assert_allclose(impossible.expectation_of_products, [-2.0 - np.log(2.0), -np.inf])
    np.testing.assert_array_equal(impossible.reverse_information, [np.inf, 0.0])
    for values, message in ((np.zeros(3), r"Received: shape=\(3,\)"), ([[np.nan]], "no NaN")):
        with pytest.raises(ValueError, match=message):
            score_sequences(values)
