"""The offline corpus: English-like sentences from a grammar whose exact entropy rate is known.

What there is to learn reaches over any distance: a verb agrees in number with the noun before its relative
clauses and prepositional phrases, and its choice with that noun's kind (people, animals, things); reflexive
pronouns agree in gender; `if` needs its `then`, `either` its `or`, a question its question mark.

    the little wolves near the king who knows them never sleep . <eos>

Words within a class are drawn with Zipf-like weights. The perplexity no model can go below is
exp(entropy rate), over an endless text; on a finite split `cross_entropy` is what the grammar itself scores.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from tfp_bayesrnn.errors import InputError
from zoo.data.grammar import Grammar, Production, SplitMix64
from zoo.data.vocabulary import EOS, Vocabulary

TOKENS = {"train": 60_000, "valid": 6_000, "test": 6_000}
"""At least so many tokens a split; it ends with the sentence that reaches them."""

_SEEDS = {"train": 1, "valid": 2, "test": 3}

# Every noun and adjective begins with a consonant, so that `a` is always right.
_NOUNS = {
    "m": "king man boy father brother prince monk baker knight farmer",
    "f": "queen woman girl mother sister princess nun dancer witch lady",
    "a": "dog cat horse wolf bird mouse bear fox sheepdog goat frog lion rabbit tiger",
    "o": "house river tree road stone book garden lamp bridge tower wall ship mountain window door table "
    "letter knife cloud star cart boat bell mirror drum wheel",
}
_PLURALS = {
    "man": "men",
    "woman": "women",
    "wolf": "wolves",
    "mouse": "mice",
    "knife": "knives",
}
_NAMES = {
    "m": "john peter thomas paul david mark simon henry",
    "f": "mary anna clara ruth helen julia martha rose",
}
_ADJECTIVES = (
    "kind little big young good black white new red long dark great small strange green cold tall quiet "
    "poor wise deep brave heavy soft proud sad golden blue hungry warm"
)
_BEFORE_VERB = "never always often sometimes seldom still"
_AFTER_VERB = "again slowly quietly today well gladly tomorrow suddenly badly here"
_PREPOSITIONS = "in near with behind under beside from before beyond"
_MODALS = "will can must may should"
# Intransitive and transitive verbs of people, animals and things.
_INTRANSITIVE = {
    "people": "sleep laugh wait sing work dream smile dance travel",
    "animals": "run sleep hide wait jump growl play",
    "things": "fall stand shine break move vanish burn",
}
_TRANSITIVE = {
    "people": "see know love find help follow want remember call hate build watch paint trust leave fear",
    "animals": "chase see bite follow fear smell",
    "things": "cover hit protect touch surround please",
}
_GIVING = "give show bring sell"
_SAYING = "say think believe hope forget"


# A noun's kind is what must agree with it. Singular kinds: m, f, a(nimal), o(ther); plural kinds by life.
_NUMBERS = {"one": ("m", "f", "a", "o"), "many": ("people", "animals", "things")}
_LIFE = {"people": "mf", "animals": "a", "things": "o"}
_NOUN_WEIGHT = {"m": 3, "f": 3, "a": 4, "o": 6, "people": 4, "animals": 3, "things": 4}
_SUBJECT_PRONOUN = {"m": "he", "f": "she", "o": "it", "people": "they"}
_OBJECT_PRONOUN = {"m": "him", "f": "her", "o": "it", "people": "them"}
_REFLEXIVE = {"m": "himself", "f": "herself", "a": "itself", "o": "itself"}


def builtin_corpus() -> tuple[Vocabulary, dict[str, np.ndarray], float]:
    """The vocabulary, the splits as int32 streams, and the entropy rate in nats per token."""
    grammar = builtin_grammar()
    vocabulary = Vocabulary(grammar.words)
    splits = {split: vocabulary.encode(_text(grammar, split)) for split in TOKENS}
    return vocabulary, splits, grammar.entropy_rate()


def cross_entropy(stream: np.ndarray) -> float:
    """The cross-entropy, nats per token, of a stream of whole sentences under the grammar that makes them.

    Raises:
      InputError: the stream is not that: it ends within a sentence, or has one the grammar lacks.
    """
    grammar = builtin_grammar()
    words = Vocabulary(grammar.words).decode(stream)
    total, sentence = 0.0, []
    for word in words:
        sentence.append(word)
        if word == EOS:
            total += grammar.log_prob(sentence)
            sentence = []
    if sentence or not words or total == -np.inf:
        raise InputError("the stream is not one of whole sentences of the builtin corpus")
    return -total / len(words)


def readable_words(sentence: Sequence[str]) -> int:
    """The number of a sentence's words, from the first on, that the grammar can begin a sentence with."""
    return builtin_grammar().readable(sentence)


def _text(grammar: Grammar, split: str) -> list[str]:
    generator = SplitMix64(_SEEDS[split])
    words: list[str] = []
    while len(words) < TOKENS[split]:
        words += grammar.sample(generator)
    return words


@functools.cache
def builtin_grammar() -> Grammar:
    """The grammar of the builtin corpus."""
    rules: dict[str, list[Production]] = {
        "SENTENCE": [
            _to(66, "CLAUSE MORE . <eos>"),
            _to(8, "if CLAUSE then CLAUSE . <eos>"),
            _to(6, "either CLAUSE or CLAUSE . <eos>"),
            _to(6, "when CLAUSE , CLAUSE . <eos>"),
            _to(7, "does ASKED:one ? <eos>"),
            _to(7, "do ASKED:many ? <eos>"),
        ],
        "MORE": [_to(75, ""), _to(25, "CONJUNCTION CLAUSE")],
        "ADJECTIVES": [_to(66, ""), _to(30, "ADJECTIVE ADJECTIVES"), _to(4, "very ADJECTIVE")],
        "QUALITY": [_to(70, "ADJECTIVE"), _to(30, "very ADJECTIVE")],
        "ADVERBIAL": [_to(45, ""), _to(25, "AFTER-VERB"), _to(30, "PREPOSITION OBJECT")],
        "DETERMINER:any": _zipf("the my your our no"),
        "DETERMINER:one": _zipf("a every this"),
        "DETERMINER:many": _zipf("some many these two"),
        "CONJUNCTION": _zipf("and but because while so"),
        "ADJECTIVE": _zipf(_ADJECTIVES),
        "BEFORE-VERB": _zipf(_BEFORE_VERB),
        "AFTER-VERB": _zipf(_AFTER_VERB),
        "PREPOSITION": _zipf(_PREPOSITIONS),
        "MODAL": _zipf(_MODALS),
    }
    rules |= _noun_phrase("CLAUSE", ("one", "many"), "VERB", _SUBJECT_PRONOUN)
    rules |= _noun_phrase("GAPPED", ("one", "many"), "GAP", _SUBJECT_PRONOUN)
    rules |= _noun_phrase("ASKED:one", ("one",), "BASE", _SUBJECT_PRONOUN)
    rules |= _noun_phrase("ASKED:many", ("many",), "BASE", _SUBJECT_PRONOUN)
    rules |= _noun_phrase("OBJECT", ("one", "many"), "", _OBJECT_PRONOUN)
    for kind, names in _NAMES.items():
        rules[f"NAME:{kind}"] = _zipf(names)
    for life, kinds in _LIFE.items():
        for kind in kinds:
            rules |= _kind(kind, life, _NOUNS[kind].split(), singular=True)
        nouns = [
            _PLURALS.get(noun, _s(noun))
            for group in zip(*(_NOUNS[kind].split() for kind in kinds), strict=True)
            for noun in group
        ]
        rules |= _kind(life, life, nouns, singular=False)
    return Grammar("SENTENCE", rules)


def _noun_phrase(
    name: str, numbers: tuple[str, ...], role: str, pronouns: dict[str, str]
) -> dict[str, list[Production]]:
    """A noun phrase, followed by what agrees with it: the nonterminal `role:kind`, nothing without a role.

    The noun itself decides the kind, after determiner and adjectives: the next word always decides.
    """

    def then(kind: str) -> str:
        return f"{role}:{kind}" if role else ""

    kinds = [kind for number in numbers for kind in _NUMBERS[number]]
    rules = {
        name: [_to(40, f"DETERMINER:any ADJECTIVES {name}:HEAD")],
        f"{name}:HEAD": [_to(_NOUN_WEIGHT[kind], f"NOUN:{kind} TAIL:{kind} {then(kind)}") for kind in kinds],
    }
    for number in numbers:
        head = f"{name}:HEAD:{number}"
        rules[name].append(_to(18, f"DETERMINER:{number} ADJECTIVES {head}"))
        rules[head] = [
            _to(_NOUN_WEIGHT[kind], f"NOUN:{kind} TAIL:{kind} {then(kind)}") for kind in _NUMBERS[number]
        ]
    rules[name] += [_to(6, f"NAME:{kind} {then(kind)}") for kind in kinds if kind in _NAMES]
    rules[name] += [_to(3, f"{pronouns[kind]} {then(kind)}") for kind in kinds if kind in pronouns]
    return rules


def _kind(kind: str, life: str, nouns: list[str], singular: bool) -> dict[str, list[Production]]:
    """The noun, what may follow it, and the predicates that agree with it."""
    who, whom = ("who", "whom") if life == "people" else ("that", "which")
    people = life == "people"
    finite = _s if singular else str
    rules = {
        f"NOUN:{kind}": _zipf(nouns),
        f"TAIL:{kind}": [
            _to(70, ""),
            _to(14, "PREPOSITION OBJECT"),
            _to(10, f"{who} VERB:{kind}"),
            _to(6, f"{whom} GAPPED"),
        ],
        f"VERB:{kind}": [
            *_phrases(kind, people, "FINITE", weight=7),
            _to(100, f"{'is' if singular else 'are'} QUALITY"),
            _to(60, f"BEFORE-VERB STEADY:{kind}"),
            _to(90, f"MODAL ABLE:{kind}"),
            _to(60, f"{'does' if singular else 'do'} not BASE:{kind}"),
        ],
        f"STEADY:{kind}": _phrases(kind, people, "FINITE"),
        f"ABLE:{kind}": [*_phrases(kind, people, "BASE", weight=4), _to(100, "be QUALITY")],
        f"BASE:{kind}": _phrases(kind, people, "BASE"),
        f"GAP:{kind}": [_to(80, f"TRANSITIVE:{kind}:FINITE"), _to(20, f"MODAL TRANSITIVE:{kind}:BASE")],
        f"GOAL:{kind}": [
            _to(95, "OBJECT"),
            _to(5, _REFLEXIVE[kind] if singular else "themselves"),
        ],
    }
    for form, inflect in (("FINITE", finite), ("BASE", str)):
        rules[f"INTRANSITIVE:{kind}:{form}"] = _zipf(map(inflect, _INTRANSITIVE[life].split()))
        rules[f"TRANSITIVE:{kind}:{form}"] = _zipf(map(inflect, _TRANSITIVE[life].split()))
        if people:
            rules[f"GIVING:{kind}:{form}"] = _zipf(map(inflect, _GIVING.split()))
            rules[f"SAYING:{kind}:{form}"] = _zipf(map(inflect, _SAYING.split()))
    return rules


def _phrases(kind: str, people: bool, form: str, weight: int = 1) -> list[Production]:
    """The productions of what can be said of a noun with a verb in this form."""
    phrases = [
        _to(40 * weight, f"INTRANSITIVE:{kind}:{form} ADVERBIAL"),
        _to(50 * weight, f"TRANSITIVE:{kind}:{form} GOAL:{kind}"),
    ]
    if people:
        phrases.append(_to(5 * weight, f"GIVING:{kind}:{form} OBJECT to OBJECT"))
        phrases.append(_to(5 * weight, f"SAYING:{kind}:{form} that CLAUSE"))
    return phrases


def _to(weight: int, symbols: str) -> Production:
    return weight, tuple(symbols.split())


def _zipf(words: str | Iterable[str]) -> list[Production]:
    """One of the words, the n-th with a probability in proportion to about 1 / (n + 1)."""
    words = words.split() if isinstance(words, str) else words
    return [(10_000 // place, (word,)) for place, word in enumerate(words, 2)]


def _s(word: str) -> str:
    """The third person of a verb, the regular plural of a noun."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
