"""Unambiguous probabilistic grammars: sampling, exact sentence probabilities, exact entropy.

A grammar rewrites a nonterminal X by one of its productions, drawn with probability weight / total weight,
until only words are left. It must be LL(1): the next word of a sentence always decides which production was
used. Then every sentence has exactly one derivation, so its probability is that of its derivation, and

    H(sentence) = H(derivation) = sum over X of  v(X) h(X)
    E[length]                   = sum over X of  v(X) t(X)

where h(X) is the entropy of the choice among X's productions, t(X) the expected number of words standing
directly in the chosen one, and v(X) the expected number of X in a derivation:
v = start + M^T v with M[X, Y] the expected number of Y in the production chosen for X (Grenander, 1967;
Booth & Thompson, 1973).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tfp_bayesrnn.errors import InputError

Production = tuple[int, tuple[str, ...]]
"""A weight and the symbols: names of nonterminals, or words."""

_MASK = (1 << 64) - 1
_END = ""  # stands for the next word where the sentence is over


class SplitMix64:
    """Steele, Lea & Flood's (2014) generator: the same integers on every machine and version of anything."""

    def __init__(self, seed: int):
        self._state = seed & _MASK

    def below(self, bound: int) -> int:
        """An integer from 0 to `bound - 1`, uniform up to `bound * 2**-64`."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        bits = self._state
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((bits ^ (bits >> 31)) * bound) >> 64


class Grammar:
    """A probabilistic LL(1) grammar.

    Args:
      start: the nonterminal every sentence comes from.
      rules: the productions of each nonterminal; every other symbol is a word. A production is a positive
        integer weight and its symbols.

    Raises:
      InputError: where the grammar is not LL(1), or its sentences grow without bound.
    """

    def __init__(self, start: str, rules: Mapping[str, Sequence[Production]]):
        self.start = start
        self.rules = {name: tuple(productions) for name, productions in rules.items()}
        self._cumulative = {
            name: list(itertools.accumulate(weight for weight, _ in productions))
            for name, productions in self.rules.items()
        }
        self.words = tuple(sorted(self._symbols() - self.rules.keys()))
        self._chosen = self._parse_table()
        self._visits = self._expected_visits()

    def sample(self, generator: SplitMix64) -> list[str]:
        """The words of one sentence."""
        words: list[str] = []
        stack = [self.start]
        while stack:
            symbol = stack.pop()
            productions = self.rules.get(symbol)
            if productions is None:
                words.append(symbol)
                continue
            cumulative = self._cumulative[symbol]
            index = 0 if len(productions) == 1 else bisect_right(cumulative, generator.below(cumulative[-1]))
            stack.extend(reversed(productions[index][1]))
        return words

    def log_prob(self, sentence: Iterable[str]) -> float:
        """The natural logarithm of the probability of a sentence; -inf where the grammar lacks it."""
        result = 0.0
        stack = [self.start]
        for word in itertools.chain(sentence, [_END]):
            while stack and stack[-1] in self.rules:
                symbol = stack.pop()
                index = self._chosen[symbol].get(word)
                if index is None:
                    return -math.inf
                weight, symbols = self.rules[symbol][index]
                result += math.log(weight / self._cumulative[symbol][-1])
                stack.extend(reversed(symbols))
            if (stack.pop() if stack else _END) != word:
                return -math.inf
        return result

    def readable(self, words: Sequence[str]) -> int:
        """The number of words, from the first on, that some sentence begins with."""
        stack = [self.start]
        for place, word in enumerate(words):
            while stack and stack[-1] in self.rules:
                symbol = stack.pop()
                index = self._chosen[symbol].get(word)
                if index is None:
                    return place
                stack.extend(reversed(self.rules[symbol][index][1]))
            if not stack or stack.pop() != word:
                return place
        return len(words)

    def sentence_entropy(self) -> float:
        """The entropy in nats per sentence."""
        return sum(
            self._visits[name] * -sum(p * math.log(p) for p, _ in self._probabilities(name))
            for name in self.rules
        )

    def expected_length(self) -> float:
        """The expected number of words per sentence."""
        return sum(self.expected_counts().values())

    def entropy_rate(self) -> float:
        """The entropy rate, nats per word of an endless text of independent sentences.

        That is H(sentence) / E[length], where the last word of every sentence comes nowhere else in it, as
        `<eos>` does. A text and its sequence of sentences then determine each other; n sentences have
        n H(sentence) nats, and their length is n E[length] in the limit (law of large numbers), so
        -log P(text) / length tends to the ratio.
        """
        return self.sentence_entropy() / self.expected_length()

    def expected_counts(self) -> dict[str, float]:
        """The average number of times that each word comes in a sentence."""
        counts = dict.fromkeys(self.words, 0.0)
        for name in self.rules:
            for probability, symbols in self._probabilities(name):
                for symbol in symbols:
                    if symbol in counts:
                        counts[symbol] += self._visits[name] * probability
        return counts

    def unigram_entropy(self) -> float:
        """The entropy, nats per word, for the best model that knows no context."""
        counts = np.array(list(self.expected_counts().values()))
        shares = counts / counts.sum()
        return float(-(shares * np.log(shares)).sum())

    def _probabilities(self, name: str) -> list[tuple[float, tuple[str, ...]]]:
        total = self._cumulative[name][-1]
        return [(weight / total, symbols) for weight, symbols in self.rules[name]]

    def _symbols(self) -> set[str]:
        return {
            symbol for productions in self.rules.values() for _, symbols in productions for symbol in symbols
        }

    def _expected_visits(self) -> dict[str, float]:
        names = list(self.rules)
        place = {name: index for index, name in enumerate(names)}
        children = np.zeros([len(names), len(names)])
        for name in names:
            for probability, symbols in self._probabilities(name):
                for symbol in symbols:
                    if symbol in place:
                        children[place[name], place[symbol]] += probability
        if max(abs(np.linalg.eigvals(children))) >= 1:
            raise InputError(f"the sentences of grammar {self.start!r} have no finite expected length")
        start = np.zeros(len(names))
        start[place[self.start]] = 1
        return dict(zip(names, np.linalg.solve(np.eye(len(names)) - children.T, start), strict=True))

    def _parse_table(self) -> dict[str, dict[str, int]]:
        """The production to take for each nonterminal and next word."""
        first, nullable = self._first_words()
        follow: dict[str, set[str]] = {name: set() for name in self.rules}
        follow[self.start].add(_END)
        for _ in _until_stable(follow):
            for name, productions in self.rules.items():
                for _, symbols in productions:
                    after = set(follow[name])  # the words that may come after the symbol in hand
                    for symbol in reversed(symbols):
                        if symbol in self.rules:
                            follow[symbol] |= after
                            after = first[symbol] | (after if symbol in nullable else set())
                        else:
                            after = {symbol}
        table: dict[str, dict[str, int]] = {name: {} for name in self.rules}
        for name, productions in self.rules.items():
            for index, (_, symbols) in enumerate(productions):
                words: set[str] = set()
                for symbol in symbols:
                    words |= first.get(symbol, {symbol})
                    if symbol not in nullable:
                        break
                else:
                    words |= follow[name]
                for word in sorted(words):
                    if word in table[name]:
                        raise InputError(
                            f"grammar {self.start!r} is ambiguous: {name!r} before word {word!r}"
                        )
                    table[name][word] = index
        return table

    def _first_words(self) -> tuple[dict[str, set[str]], set[str]]:
        """The words each nonterminal can begin with, and the nonterminals that can vanish."""
        first: dict[str, set[str]] = {name: set() for name in self.rules}
        nullable: set[str] = set()
        for _ in _until_stable(first, nullable):
            for name, productions in self.rules.items():
                for _, symbols in productions:
                    for symbol in symbols:
                        first[name] |= first.get(symbol, {symbol})
                        if symbol not in nullable:
                            break
                    else:
                        nullable.add(name)
        return first, nullable


def _until_stable(words: dict[str, set[str]], *others: set[str]) -> Iterable[None]:
    """Yields until a round adds nothing to any of the sets."""
    before = -1
    while (size := sum(map(len, words.values())) + sum(map(len, others))) != before:
        before = size
        yield
