import heapq
import itertools
import math

import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.builtin import builtin_grammar
from zoo.data.grammar import Grammar, SplitMix64

# S -> a S (1/4) | b E (3/4);  E -> nothing (2/3) | c S (1/3)
TOY = {"S": [(1, ("a", "S")), (3, ("b", "E"))], "E": [(2, ()), (1, ("c", "S"))]}


def likeliest_sentences(grammar, count):
    """Derivations from the likeliest down: (log probability, sentence), found without the parser."""
    order = itertools.count()
    heap = [(0.0, next(order), (), (grammar.start,))]
    found = []
    while heap and len(found) < count:
        cost, _, words, stack = heapq.heappop(heap)
        while stack and stack[0] not in grammar.rules:
            words, stack = (*words, stack[0]), stack[1:]
        if not stack:
            found.append((-cost, words))
            continue
        total = sum(weight for weight, _ in grammar.rules[stack[0]])
        for weight, symbols in grammar.rules[stack[0]]:
            heapq.heappush(heap, (cost - math.log(weight / total), next(order), words, symbols + stack[1:]))
    return found


def test_splitmix64_matches_its_reference_values():
    # The first outputs for seed 1234567 (Vigna's reference implementation).
    generator = SplitMix64(1234567)
    assert [generator.below(1 << 64) for _ in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    assert all(0 <= SplitMix64(seed).below(3) < 3 for seed in range(50))


def test_toy_grammar_by_hand():
    grammar = Grammar("S", TOY)
    assert grammar.words == ("a", "b", "c")
    assert math.isclose(grammar.log_prob("a b c b".split()), math.log(1 / 4 * 3 / 4 * 1 / 3 * 3 / 4 * 2 / 3))
    for wrong in ("a", "", "b b", "b c", "z", "b z"):
        assert grammar.log_prob(wrong.split()) == -math.inf
    # v(S) = 1 + v(S)/4 + v(E)/3 and v(E) = 3/4 v(S) give v(S) = 2, v(E) = 1.5.
    counts = grammar.expected_counts()
    assert counts == pytest.approx({"a": 0.5, "b": 1.5, "c": 0.5})
    assert grammar.expected_length() == pytest.approx(2.5)
    binary = lambda p: -p * math.log(p) - (1 - p) * math.log(1 - p)  # noqa: E731
    assert grammar.sentence_entropy() == pytest.approx(2 * binary(1 / 4) + 1.5 * binary(1 / 3))
    assert grammar.entropy_rate() == pytest.approx(grammar.sentence_entropy() / 2.5)
    assert grammar.unigram_entropy() == pytest.approx(-0.4 * math.log(0.2) - 0.6 * math.log(0.6))


def test_readable_words_are_those_that_some_sentence_begins_with():
    """Of every sequence of words up to five, against all sentences up to a length that shows them."""
    rules = {
        "S": [(1, ("a", "X", "b")), (2, ("c", "S"))],
        "X": [(1, ()), (3, ("d", "X")), (1, ("e", "c"))],
    }
    for grammar, words in ((Grammar("S", TOY), "abc"), (Grammar("S", rules), "abcde")):
        begun = {
            sentence[:length]
            for _, sentence in likeliest_sentences(grammar, 3000)
            for length in range(len(sentence) + 1)
        }
        for count in range(5):
            for sequence in itertools.product(words, repeat=count):
                expected = max(length for length in range(count + 1) if sequence[:length] in begun)
                assert grammar.readable(sequence) == expected, sequence
    assert Grammar("S", TOY).readable(["z"]) == 0


def test_toy_entropy_is_that_of_the_enumerated_sentences():
    grammar = Grammar("S", TOY)
    found = likeliest_sentences(grammar, 3000)
    assert len({words for _, words in found}) == len(found)
    assert sum(math.exp(log_prob) for log_prob, _ in found) == pytest.approx(1, abs=2e-3)
    entropy = sum(-log_prob * math.exp(log_prob) for log_prob, _ in found)
    assert entropy == pytest.approx(grammar.sentence_entropy(), rel=0.01)
    for log_prob, words in found:
        assert grammar.log_prob(words) == pytest.approx(log_prob)


def test_the_builtin_grammar_has_one_derivation_a_sentence():
    grammar = builtin_grammar()
    found = likeliest_sentences(grammar, 1500)
    assert len({words for _, words in found}) == len(found)
    for log_prob, words in found:
        assert grammar.log_prob(words) == pytest.approx(log_prob, rel=1e-9)


@pytest.mark.parametrize(
    "rules",
    [
        {"S": [(1, ("a", "b")), (1, ("a", "c"))]},
        {"S": [(1, ("X", "b")), (1, ("a",))], "X": [(1, ("a",))]},
        {"S": [(1, ("X", "a"))], "X": [(1, ()), (1, ("a",))]},
        {"S": [(1, ("X",)), (1, ())], "X": [(1, ()), (1, ("a",))]},
    ],
)
def test_ambiguous_grammars_are_refused(rules):
    with pytest.raises(InputError, match="ambiguous"):
        Grammar("S", rules)


def test_endless_sentences_are_refused():
    with pytest.raises(InputError, match="no finite expected length"):
        Grammar("S", {"S": [(1, ("a",)), (1, ("b", "S", "S"))]})
