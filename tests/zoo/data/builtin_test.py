import hashlib
import itertools
import math

import numpy as np
import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.builtin import TOKENS, builtin_corpus, builtin_grammar, cross_entropy
from zoo.data.grammar import SplitMix64


def test_streams_are_the_same_everywhere():
    vocabulary, splits, _ = builtin_corpus()
    text = "\n".join(" ".join(vocabulary.decode(splits[split])) for split in ("train", "valid", "test"))
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "b55c97d944eef27aa0c980c2a5188e4be0365c25827c8ed935cb9a2a91aed22f"
    )
    assert vocabulary.fingerprint() == "ac7dd1c4f6cf2bac79a1013876393eb5c3d29ce9aa73014a0b5aa901572cea7a"


def test_sizes():
    vocabulary, splits, _ = builtin_corpus()
    assert 250 <= len(vocabulary) <= 400
    eos = vocabulary.id("<eos>")
    for split, stream in splits.items():
        assert TOKENS[split] <= len(stream) < TOKENS[split] + 100
        assert stream[-1] == eos
    # Three texts, not one: hardly a sentence of test was seen in training.
    sentences = {
        split: {
            tuple(part)
            for end, part in itertools.groupby(stream.tolist(), lambda word: word == eos)
            if not end
        }
        for split, stream in splits.items()
    }
    assert len(sentences["test"] & sentences["train"]) < 0.1 * len(sentences["test"])


def test_every_word_can_occur_and_does():
    vocabulary, splits, _ = builtin_corpus()
    counts = builtin_grammar().expected_counts()
    assert set(counts) == set(vocabulary.words) and min(counts.values()) > 0
    assert len(np.unique(splits["train"])) > 0.97 * len(vocabulary)


def test_the_entropy_rate_is_what_long_texts_show():
    grammar = builtin_grammar()
    generator = SplitMix64(2024)
    sentences = [grammar.sample(generator) for _ in range(10_000)]
    log_probs = np.array([grammar.log_prob(sentence) for sentence in sentences])
    lengths = np.array([len(sentence) for sentence in sentences])
    rate = grammar.entropy_rate()
    # The ratio estimator's standard error: the spread of -log p - rate * length.
    error = np.std(-log_probs - rate * lengths) / math.sqrt(len(sentences)) / lengths.mean()
    assert error < 0.003 * rate
    assert abs(-log_probs.sum() / lengths.sum() - rate) < 3 * error
    assert abs(lengths.mean() - grammar.expected_length()) < 3 * lengths.std() / math.sqrt(len(sentences))
    # Each sentence ends with its only <eos>.
    assert all(sentence.index("<eos>") == len(sentence) - 1 for sentence in sentences)


def test_there_is_much_to_learn():
    grammar = builtin_grammar()
    assert 15 < math.exp(grammar.entropy_rate()) < 30
    assert math.exp(grammar.unigram_entropy()) > 5 * math.exp(grammar.entropy_rate())


def test_the_grammar_scores_its_own_splits():
    _, splits, rate = builtin_corpus()
    for stream in splits.values():
        assert cross_entropy(stream) == pytest.approx(rate, rel=0.03)


@pytest.mark.parametrize(
    ("sentence", "right"),
    [
        ("the little wolves near the king who knows them never sleep .", True),
        ("the little wolves near the king who knows them never sleeps .", False),
        ("the little wolves near the king who know them never sleep .", False),
        ("the queen whom the dogs that chase him follow loves herself .", True),
        ("the queen whom the dogs that chase him follow loves himself .", False),
        ("does the queen laugh ?", True),
        ("does the queen laugh .", False),
        ("either anna sings or the doors will fall .", True),
        ("either anna sings then the doors will fall .", False),
        ("the stone laughs .", False),
    ],
)
def test_what_the_grammar_accepts(sentence, right):
    assert (builtin_grammar().log_prob([*sentence.split(), "<eos>"]) > -math.inf) == right


def test_streams_of_something_else_are_refused():
    vocabulary, splits, _ = builtin_corpus()
    eos = vocabulary.id("<eos>")
    for stream in (splits["test"][:-1], splits["test"][1:], np.array([eos]), np.array([], np.int32)):
        with pytest.raises(InputError, match="whole sentences"):
            cross_entropy(stream)
