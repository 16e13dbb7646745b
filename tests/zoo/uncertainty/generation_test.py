"""Selective generation by chains of which all is known."""

import itertools
import math

import numpy as np
import pytest
from uncertainty_models import SIZE, WORDS, chain, reads

from tfp_bayesrnn import InputError
from tfp_bayesrnn.prediction import uncertainty
from zoo.data import load_corpus
from zoo.data.builtin import readable_words
from zoo.data.corpus import Corpus
from zoo.data.vocabulary import Vocabulary
from zoo.uncertainty.generation import MAX_WORDS, Generation, make_prompts
from zoo.uncertainty.predictors import FunctionPredictor
from zoo.uncertainty.prompting import make_generation
from zoo.uncertainty.sources import Settings

EOS, UNK = WORDS.id("<eos>"), WORDS.id("<unk>")


def prompts_of(count=300):
    words = np.random.default_rng(0).integers(2, SIZE, size=(count, 3))
    return np.concatenate([np.full([count, 1], EOS), words], axis=1).astype(np.int32)


def predictor(samples=None, seed=0):
    return FunctionPredictor(reads(chain(seed=seed, samples=samples)))


@pytest.mark.parametrize("at_once", [300, 70])
def test_greedy_continuations_take_the_most_probable_word_but_no_unknown_one(at_once):
    transitions = chain()
    found = Generation(prompts_of(), WORDS, at_once=at_once).continued(predictor(), "greedy")
    for prompt, words, size, records in zip(prompts_of(), *found, strict=True):
        last, nats = prompt[-1], []
        for place in range(size):
            allowed = transitions[last].copy()
            allowed[UNK] = 0.0
            assert words[place] == np.argmax(allowed)
            nats.append(np.log(transitions[last, words[place]]))
            last = words[place]
            assert (last == EOS) == (place == size - 1) or size == MAX_WORDS
        np.testing.assert_allclose(records.log_prob, nats, rtol=1e-5)
        assert len(records) == size


def test_sampled_continuations_have_the_chains_frequencies():
    transitions = chain()
    found = Generation(prompts_of(2000), WORDS, at_once=2000).continued(predictor(), "sampled")
    last = prompts_of(2000)[:, -1]
    for word in (2, 3, 4):
        allowed = transitions[word].copy()
        allowed[UNK] = 0.0
        rows = last == word
        shares = np.bincount(found.words[rows, 0], minlength=SIZE) / rows.sum()
        np.testing.assert_allclose(shares, allowed / allowed.sum(), atol=4 * 0.5 / math.sqrt(rows.sum()))
    again = Generation(prompts_of(2000), WORDS, at_once=2000).continued(predictor(), "sampled")
    np.testing.assert_array_equal(again.words, found.words)
    other = Generation(prompts_of(2000), WORDS, seed=1, at_once=2000).continued(predictor(), "sampled")
    assert not np.array_equal(other.words, found.words)


def test_the_judge_scores_the_words_of_a_continuation_and_no_more():
    judged = chain(seed=5, samples=2)
    generation = Generation(prompts_of(40), WORDS, judge=predictor(2, seed=5), at_once=15)
    texts = generation.continued(predictor(), "sampled")
    expected = []
    for prompt, words, size in zip(prompts_of(40), texts.words, texts.sizes, strict=True):
        read = [prompt[-1], *words[:size]]
        nats = [-np.log(judged[:, one, then].mean()) for one, then in itertools.pairwise(read)]
        expected.append(np.mean(nats))
    np.testing.assert_allclose(generation.losses(texts), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="there must be a judge"):
        Generation(prompts_of(2), WORDS).losses(texts)


def test_figures_are_those_of_the_losses_and_always_have_the_greedy_continuation():
    def readable(words):  # "c" is no word of this language.
        return words.index("c") if "c" in words else len(words)

    generation = Generation(prompts_of(200)[:, [0, 1, 1, 2]] % 4, WORDS, readable)
    found = generation.figures(predictor(samples=3))
    assert set(found) == {"greedy", "sampled"}
    texts = generation.continued(predictor(samples=3), "sampled")
    loss = generation.losses(texts)
    sentences = zip(generation.prompts, texts.words, texts.sizes, strict=True)
    said = [4 in [*prompt[1:], *words[:size]] for prompt, words, size in sentences]
    np.testing.assert_array_equal(loss, said)
    assert found["sampled"]["error"] == pytest.approx(loss.mean()) and 0.0 < loss.mean() < 1.0
    greedy = generation.continued(predictor(samples=3), "greedy")
    nats = [-records.log_prob.sum() for records in greedy.records]
    for decoding, text in (("greedy", greedy), ("sampled", texts)):
        own = [-records.log_prob.sum() for records in text.records]
        losses = generation.losses(text)
        for signal, values in (("greedy_nll", nats), ("sequence_nll", own)):
            area = uncertainty.area_under_risk_coverage(values, losses)
            assert found[decoding]["areas"][signal] == pytest.approx(area)
        assert {"entropy", "epistemic", "joint_nll"} < set(found[decoding]["prr"])
    joint = [-np.log(np.exp(one.sample_log_probs.sum(0)).mean()) / len(one) for one in texts.records]
    area = uncertainty.area_under_risk_coverage(joint, loss)
    assert found["sampled"]["areas"]["joint_nll"] == pytest.approx(area)


def test_prompts_are_beginnings_of_sentences_spread_over_the_text():
    corpus = load_corpus("builtin")
    found = make_prompts(corpus.test, corpus.vocabulary, 50)
    assert found.shape == (50, 4) and found.dtype == np.int32
    assert len(np.unique(found, axis=0)) > 40
    for row in found:
        first, *words = corpus.vocabulary.decode(row)
        assert first == "<eos>" and "<eos>" not in words and readable_words(words) == 3
    end = corpus.vocabulary.id("<eos>")
    short = np.array([end, 5, end, 6, 7, 8, 9, end, 5, 6], np.int32)
    np.testing.assert_array_equal(make_prompts(short, corpus.vocabulary, 10), [[end, 6, 7, 8]])
    with pytest.raises(InputError, match="no sentence of more than 3 words"):
        make_prompts(short[:3], corpus.vocabulary, 10)
    bare = Vocabulary(["a", "b", "c"])
    assert make_prompts(np.arange(20) % 3, bare, 3).shape == (3, 4)


def test_what_continuations_are_judged_by_is_known_before_they_are_made(tmp_path):
    corpus, settings = load_corpus("builtin"), Settings(samples=2)
    assert make_generation(corpus, None, None, settings).prompts.shape == (200, 4)
    assert make_generation(corpus, 0, None, settings) is None
    with pytest.raises(InputError, match=r"--judge='x' is not accepted: the language of 'builtin'"):
        make_generation(corpus, None, "x", settings)
    with pytest.raises(InputError, match="-1 prompts: accepted 0 or more"):
        make_generation(corpus, -1, None, settings)
    other = Corpus("text", corpus.vocabulary, corpus.train, corpus.valid, corpus.test)
    assert make_generation(other, None, None, settings) is None
    with pytest.raises(InputError, match=r"--prompts=5 needs --judge=SOURCE"):
        make_generation(other, 5, None, settings)
    np.savez(tmp_path / "scores.npz", test_entropy=np.ones(4))
    with pytest.raises(InputError, match="gives no probabilities of every word"):
        make_generation(other, None, str(tmp_path / "scores.npz"), settings)
