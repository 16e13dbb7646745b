"""Captions of scenes of shapes: those that can be said, and whether one is grammatical and true.

A caption speaks of one thing, or of two with or without how they stand to each other:

    CAPTION  = THING | there is THING | the picture shows THING
             | THING is WHERE THING | there is THING WHERE THING | THING WHERE THING | ...
             | THING contains THING | THING with THING inside it | ... | THING and THING | ...
    THING    = a [SIZE] COLOUR SHAPE | a SHAPE that is [SIZE and] COLOUR       (an before a vowel)
    WHERE    = left of | to the left of | on the left of | ... | above | over | below | under | inside | in

Each sentence has one meaning, and the parser is built from the very templates the captions are made of.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from zoo.data.captions import Caption
from zoo.data.grammar import SplitMix64
from zoo.data.shape_scenes import COLOURS, Scene, Thing, relation

SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross", "plus"),
    "diamond": ("diamond", "rhombus"),
}
WHERE_WORDS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "inside": ("inside", "in"),
    "around": ("around",),
}
_WITH_WORDS = {
    "left": "on its right",
    "right": "on its left",
    "above": "below it",
    "below": "above it",
    "around": "inside it",
}
"""From how the first thing stands to the second to the words in "FIRST with SECOND ...", which tell of the
second one's place."""

_ONE = ("{0}", "there is {0}", "the picture shows {0}", "this is {0}")
_UNRELATED = ("{0} and {1}", "there is {0} and {1}", "the picture shows {0} and {1}")
_RELATED = (
    "{0} is {where} {1}",
    "{0} {where} {1}",
    "there is {0} {where} {1}",
    "the picture shows {0} {where} {1}",
)
_WITH = ("{0} with {1} {where}", "there is {0} with {1} {where}")
_CONTAINS = ("{0} contains {1}", "{0} has {1} inside it")
_UNRELATED_PERCENT = 12
_SIZE_PERCENT = 75
_CLAUSE_PERCENT = 12  # "a circle that is red" rather than "a red circle"


class Description(NamedTuple):
    """A caption's description of one thing; `size` is None where it is not told."""

    shape: str
    colour: str
    size: str | None

    def fits(self, thing: Thing) -> bool:
        """Returns whether the description is true of the thing."""
        return self.shape == thing.shape and self.colour == thing.colour and self.size in (None, thing.size)


class Statement(NamedTuple):
    """A caption's statement: one or two things, and how the first stands to the second (None: not said)."""

    things: tuple[Description, ...]
    relation: str | None


def captions(scene: Scene, count: int, generator: SplitMix64) -> tuple[Caption, ...]:
    """Returns `count` different captions; each is true and tells of every thing in the scene."""
    found: dict[Caption, None] = {}
    while len(found) < count:
        found.setdefault(tuple(_caption(scene, generator).split()))
    return tuple(found)


def parse(caption: Sequence[str]) -> Statement | None:
    """Returns what a caption says; None where it is not grammatical."""
    text = " ".join(caption)
    if len(text.split(" ")) != len(caption):  # a word with a space in it, or an empty one
        return None
    for pattern, where in _patterns():
        match = pattern.fullmatch(text)
        if match:
            found = match.groupdict()
            things = tuple(
                Description(
                    _MEANING[found[f"shape{place}"] or found[f"that{place}"]],
                    found[f"colour{place}"] or found[f"thatcolour{place}"],
                    _MEANING.get(found[f"size{place}"] or found[f"thatsize{place}"]),
                )
                for place in range(2)
                if f"shape{place}" in found
            )
            return Statement(things, where)
    return None


def is_true(scene: Scene, caption: Sequence[str]) -> bool:
    """Returns whether a caption is grammatical and true of the scene; it need not tell of everything in it.

    A caption that speaks of two things is true only where these are two.
    """
    statement = parse(caption)
    return statement is not None and _is_true(scene, statement)


def is_complete(scene: Scene, caption: Sequence[str]) -> bool:
    """Returns whether a caption is grammatical and true and tells of every thing, as the references do."""
    statement = parse(caption)
    return statement is not None and _is_true(scene, statement) and len(statement.things) == len(scene.things)


def _is_true(scene: Scene, statement: Statement) -> bool:
    for things in itertools.permutations(scene.things, len(statement.things)):
        fits = all(told.fits(thing) for told, thing in zip(statement.things, things, strict=True))
        if fits and statement.relation in (None, relation(*things) if len(things) == 2 else None):
            return True
    return False


def _caption(scene: Scene, generator: SplitMix64) -> str:
    if len(scene.things) == 1:
        return _one_of(generator, _ONE).format(_name(scene.things[0], generator))
    things = scene.things if generator.below(2) else scene.things[::-1]
    names = [_name(thing, generator) for thing in things]
    if generator.below(100) < _UNRELATED_PERCENT:
        return _one_of(generator, _UNRELATED).format(*names)
    template, where = _one_of(generator, _related_templates(relation(*things)))
    return template.format(*names, where=where)


@functools.cache
def _related_templates(stands: str) -> tuple[tuple[str, str], ...]:
    """Templates and their words, for a relation of the first thing to the second."""
    templates = list(itertools.product(_RELATED, WHERE_WORDS[stands]))
    if stands in _WITH_WORDS:
        templates += itertools.product(_WITH, [_WITH_WORDS[stands]])
    if stands == "around":
        templates += itertools.product(_CONTAINS, [""])
    return tuple(templates)


def _name(thing: Thing, generator: SplitMix64) -> str:
    shape = _one_of(generator, SHAPE_WORDS[thing.shape])
    size = _one_of(generator, SIZE_WORDS[thing.size]) if generator.below(100) < _SIZE_PERCENT else ""
    if generator.below(100) < _CLAUSE_PERCENT:
        return f"a {shape} that is {f'{size} and ' if size else ''}{thing.colour}"
    words = f"{size} {thing.colour} {shape}".strip()
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@functools.cache
def _patterns() -> tuple[tuple[re.Pattern[str], str | None], ...]:
    """Every template as a regular expression, with the relation it tells of."""
    things = [_thing_pattern(0), _thing_pattern(1)]
    patterns: list[tuple[str, str | None]] = [
        (template.format(*things), None) for template in _ONE + _UNRELATED
    ]
    for stands in WHERE_WORDS:
        patterns += [
            (template.format(*things, where=where), stands) for template, where in _related_templates(stands)
        ]
    return tuple((re.compile(pattern), stands) for pattern, stands in patterns)


def _thing_pattern(place: int) -> str:
    size, shape = (
        "|".join(itertools.chain(*SIZE_WORDS.values())),
        "|".join(itertools.chain(*SHAPE_WORDS.values())),
    )
    colour = "|".join(COLOURS)
    return (
        rf"(?:(?:an(?= [aeiou])|a(?= [^aeiou])) (?:(?P<size{place}>{size}) )?"
        rf"(?P<colour{place}>{colour}) (?P<shape{place}>{shape})"
        rf"|a (?P<that{place}>{shape}) that is "
        rf"(?:(?P<thatsize{place}>{size}) and )?(?P<thatcolour{place}>{colour}))"
    )


_MEANING = {
    word: meaning
    for words in (SIZE_WORDS, SHAPE_WORDS)
    for meaning, synonyms in words.items()
    for word in synonyms
}


Choice = TypeVar("Choice")


def _one_of(generator: SplitMix64, choices: Sequence[Choice]) -> Choice:
    return choices[generator.below(len(choices))]
