"""Signals of words and windows, what they tell apart, and the temperature, of chains that are known."""

import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score
from uncertainty_models import SIZE, WORDS, chain, reads, scorer_of, streams_of, text_of

from tfp_bayesrnn import InputError
from zoo.uncertainty.benchmark import contrast, measure
from zoo.uncertainty.predictors import FunctionPredictor
from zoo.uncertainty.records import Records
from zoo.uncertainty.signals import WINDOW_SIGNALS, unknown_windows, window_signals, word_signals
from zoo.uncertainty.streams import Stream, make_streams, swapped


def test_signals_of_words_and_windows_are_those_of_the_chains_rows():
    transitions, tokens = chain(samples=3), text_of(chain(), 61)
    records = scorer_of(FunctionPredictor(reads(transitions))).score("test", Stream(tokens, ""))
    before, after = transitions[:, tokens[:-1]], tokens[1:]
    average = before.mean(axis=0)
    reverse = np.mean([scipy.stats.entropy(average, one, axis=-1) for one in before], axis=0)
    forward = np.mean([scipy.stats.entropy(one, average, axis=-1) for one in before], axis=0)
    found = word_signals(records)
    # Differences of float32 logarithms of some nats.
    np.testing.assert_allclose(found["reverse_information"], reverse, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(found["epistemic"], forward, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(found["pairwise_kl"], forward + reverse, rtol=1e-4, atol=4e-6)
    np.testing.assert_allclose(found["confidence"], -np.log(average.max(axis=-1)), rtol=1e-5)
    of_words = before[:, np.arange(60), after]
    np.testing.assert_allclose(records.sample_log_probs, np.log(of_words).T, rtol=1e-5)
    windows = window_signals(records, 7)
    assert set(windows) == set(WINDOW_SIGNALS)
    cut = of_words[:, :56].reshape(3, 8, 7)
    joint = np.log(cut.prod(axis=-1).mean(axis=0))
    np.testing.assert_allclose(windows["joint_nll"], -joint / 7, rtol=1e-5)
    information = (joint - np.log(cut.prod(axis=-1)).mean(axis=0)) / 7
    np.testing.assert_allclose(windows["joint_information"], information, rtol=1e-4, atol=1e-6)
    product = np.log(cut.mean(axis=0)).sum(axis=-1) / 7
    np.testing.assert_allclose(windows["nll"], -product, rtol=1e-5)
    whole = window_signals(records, 100)
    assert all(len(values) == 1 for values in whole.values())
    assert whole["joint_nll"][0] == pytest.approx(-np.log(of_words.prod(axis=1).mean()) / 60, rel=1e-5)


def test_one_set_of_weights_has_no_signals_of_disagreement():
    records = scorer_of(FunctionPredictor(reads(chain()))).score("test", Stream(text_of(chain(), 30), ""))
    assert set(window_signals(records, 7)) == {"entropy", "confidence", "nll"}
    assert set(word_signals(Records(np.ones(3)))) == {"entropy"}


def test_unknown_words_are_counted_with_the_word_before_a_window():
    is_unknown = np.array([1, 0, 0, 1, 0, 0, 0, 0, 1, 1], bool)
    # Windows of predictions 1-3, 4-6, 7-9; the words before are 0, 3, 6.
    np.testing.assert_array_equal(unknown_windows(is_unknown, 3), [2, 1, 2])
    np.testing.assert_array_equal(unknown_windows(is_unknown, 4), [2, 1])
    np.testing.assert_array_equal(unknown_windows(is_unknown, 50), [4])


def test_windows_without_unknown_words_are_contrasted_on_their_own():
    generator = np.random.default_rng(0)
    sides = []
    for shift in (0.5, 0.0):
        mask = generator.uniform(size=201) < 0.08
        # Unknown words make a model unsure wherever they are.
        entropy = generator.uniform(size=200) + shift + 2.0 * mask[1:]
        sides.append((Records(entropy), Stream(np.zeros(201, np.int32), "", is_unknown=mask)))
    found = contrast(*sides, window=5)
    kept, values = [], []
    for records, stream in sides:
        clean = [not stream.is_unknown[start : start + 6].any() for start in range(0, 200, 5)]
        kept.append(sum(clean))
        values.append(records.entropy.reshape(40, 5).mean(axis=1)[clean])
    assert found["known"]["windows"] == kept and 0 < min(kept) < 40
    labels = np.repeat([1, 0], kept)
    expected = roc_auc_score(labels, np.concatenate(values))
    assert found["known"]["auroc"]["entropy"] == pytest.approx(expected)
    assert found["known"]["auroc"]["epistemic"] is None
    counts = [
        [stream.is_unknown[start : start + 6].sum() for start in range(0, 200, 5)] for _, stream in sides
    ]
    alone = roc_auc_score(np.repeat([1, 0], 40), np.concatenate(counts))
    assert found["unknown"] == pytest.approx(alone)
    everywhere = Stream(np.zeros(201, np.int32), "", is_unknown=np.ones(201, bool))
    none_left = contrast((sides[0][0], everywhere), sides[1], window=5)["known"]
    assert none_left["windows"][0] == 0 and none_left["auroc"] is None
    without = contrast((sides[0][0], Stream(np.zeros(201), "")), sides[1], window=5)
    assert without["known"] is without["unknown"] is None


def test_the_rate_of_false_alarms_is_that_of_the_test_texts_windows():
    low, high = Records(np.repeat(np.arange(20.0), 5)), Records(np.repeat(np.arange(10.0, 30.0), 5))
    stream = Stream(np.zeros(101), "")
    found = contrast((high, stream), (low, stream), window=5)
    # 19 of the 20 windows of the other text are 11 or more; so are 9 of the test text's.
    assert found["fpr95"]["window"]["entropy"] == pytest.approx(9 / 20)
    assert found["fpr95"]["word"]["nll"] is None


def test_the_temperature_of_a_sharpened_chain_undoes_the_sharpening():
    transitions = chain()
    sharper = transitions**3 / np.sum(transitions**3, axis=1, keepdims=True)
    valid = Stream(text_of(transitions, 8_001, seed=5), "")
    tokens = text_of(transitions, 8_001)
    streams = {"test": Stream(tokens, "")}
    scorer = scorer_of(FunctionPredictor(reads(sharper)), unroll=1000)
    found = measure(scorer, streams, SIZE, valid=valid)
    temperature = found["temperature"]
    # A standard error of T over 8,000 words is about 0.04.
    assert temperature["temperature"] == pytest.approx(3.0, abs=0.15)
    assert temperature["valid_nll_tempered"] < temperature["valid_nll"]
    true = measure(scorer_of(FunctionPredictor(reads(transitions)), unroll=1000), streams, SIZE)
    assert true["temperature"] is None
    before, figures = found["streams"]["test"], temperature["test"]
    assert figures["nll"] == pytest.approx(true["streams"]["test"]["nll"], abs=1e-3)
    assert figures["ece"] < 0.03 < before["ece"] and figures["ece_smooth"] < 0.03 < before["ece_smooth"]
    assert figures["error"] == before["error"]
    parts = temperature["nll_parts"]
    assert parts["calibration"] + parts["refinement"] == pytest.approx(before["nll"])
    log_parts = before["parts"]["log"]
    assert log_parts["reliability"] > 0.05 and log_parts["score"] == pytest.approx(
        log_parts["reliability"] - log_parts["resolution"] + log_parts["uncertainty"]
    )


def test_the_temperature_is_of_the_average_over_samples_and_of_what_is_no_padding():
    transitions, tokens = chain(samples=3), text_of(chain(), 200)
    average = np.mean(transitions, axis=0)
    fits = [
        scorer_of(FunctionPredictor(reads(model)), rows=rows).fit_temperature(Stream(tokens, ""))
        for model, rows in ((transitions, 1), (transitions, 3), (average, 1))
    ]
    # 199 words in rows of 67 leave 2 places of padding, which count nothing.
    for fit in fits[1:]:
        assert tuple(fit) == pytest.approx(tuple(fits[0]), rel=1e-4)
    nll = -np.mean(np.log(average[tokens[:-1], tokens[1:]]))
    assert fits[0].nll_before == pytest.approx(nll, rel=1e-5)


# Texts.


def test_swapped_texts_have_the_same_words_of_which_more_and_more_are_moved():
    tokens = np.arange(1000, dtype=np.int32)
    moved = set()
    for severity in (5, 20, 50):
        found = swapped(tokens, severity, seed=3)
        assert found.severity == severity / 100 and sorted(found.tokens) == list(range(1000))
        now = set(np.flatnonzero(found.tokens != tokens))
        assert len(now) == 10 * severity and moved <= now
        moved = now
    np.testing.assert_array_equal(swapped(tokens, 50, seed=3).tokens, found.tokens)
    assert not np.array_equal(swapped(tokens, 50, seed=4).tokens, found.tokens)
    assert len(np.flatnonzero(swapped(tokens, 100).tokens != tokens)) == 1000
    np.testing.assert_array_equal(swapped(tokens[:3], 5).tokens, tokens[:3])
    for severity in (0, 101):
        with pytest.raises(InputError, match=f"{severity} % of the words swapped"):
            swapped(tokens, severity)


def test_unigrams_have_the_training_texts_frequencies_and_unknown_words_are_marked():
    train = np.repeat([1, 2, 4], [100, 300, 600])
    found = make_streams(np.arange(5).repeat(2000), WORDS, train=train, severities=[10, 30])
    assert list(found) == ["test", "reversed", "shuffled", "random", "unigram", "swapped_10", "swapped_30"]
    shares = np.bincount(found["unigram"].tokens, minlength=5) / 10_000
    np.testing.assert_allclose(shares, [0.0, 0.1, 0.3, 0.0, 0.6], atol=4 * math.sqrt(0.25 / 10_000))
    for stream in found.values():
        np.testing.assert_array_equal(stream.is_unknown, stream.tokens == WORDS.id("<unk>"))
    assert np.mean(streams_of(text_of(chain(), 50))["test"].is_unknown) < 1.0
