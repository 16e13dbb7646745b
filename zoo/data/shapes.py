"""The offline captioning data set: drawings of one or two shapes, each with five true captions.

    a small red circle is left of a large blue square
    there is a large blue box to the right of a little red circle

Everything is drawn from an integer generator and rasterised with integers, so pixels and captions are the
same on every machine. Certain pairs of a colour and a shape, and certain pairs of shapes in a relation, never
occur in training, though each word does: half the valid and test drawings have one (`held_out`), so that a
model which learned pictures by heart can be told from one that learned what the words mean.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TypeVar

from PIL import Image

from tfp_bayesrnn.errors import InputError
from zoo.data.captions import Caption, CaptionSplit
from zoo.data.grammar import SplitMix64
from zoo.data.photos import PhotoBytes
from zoo.data.shape_captions import captions
from zoo.data.shape_scenes import COLOURS, CONTAINERS, SHAPES, Scene, Thing, draw, relation

IMAGES = {"train": 9_600, "valid": 300, "test": 300}
CAPTIONS_PER_IMAGE = 5

HELD_OUT_PAIRS = frozenset(
    {
        ("red", "star"),
        ("green", "circle"),
        ("blue", "triangle"),
        ("yellow", "cross"),
        ("purple", "square"),
        ("orange", "diamond"),
    }
)
"""Colours and shapes that no training drawing combines."""

HELD_OUT_RELATIONS = frozenset(
    {
        ("left", "star", "cross"),
        ("left", "square", "circle"),
        ("left", "triangle", "diamond"),
        ("above", "circle", "triangle"),
        ("above", "cross", "square"),
        ("above", "diamond", "star"),
        ("inside", "star", "square"),
        ("inside", "triangle", "circle"),
    }
)
"""Relations and shapes, first and second, that no training drawing combines; "left" is "right" turned
round, "above" is "below" turned round."""

_SEEDS = {"train": 11, "valid": 12, "test": 13}
_KINDS = (None, "colour", None, "relation")  # what is held out, by the number of a valid or test drawing % 4
_SINGLE_PERCENT = 30


def builtin_shapes() -> dict[str, CaptionSplit]:
    """The three splits; drawings are made when they are read."""
    splits = {}
    for split in IMAGES:
        names = tuple(f"builtin_shapes/{split}/{number:05}.png" for number in range(IMAGES[split]))
        splits[split] = CaptionSplit(names, _references(split), PhotoBytes(names, _Drawings(scenes(split))))
    return splits


@functools.cache
def scenes(split: str) -> tuple[Scene, ...]:
    """The scenes that the drawings of a split show, in their order.

    Args:
      split: `train`, `valid` or `test`.

    Raises:
      InputError: there is no such split.
    """
    if split not in IMAGES:
        raise InputError(f"unknown split {split!r} of builtin_shapes: accepted {', '.join(IMAGES)}")
    generator = SplitMix64(_SEEDS[split])
    kinds = (None,) if split == "train" else _KINDS
    return tuple(_scene(generator, kinds[number % len(kinds)]) for number in range(IMAGES[split]))


def held_out(scene: Scene) -> str | None:
    """Tells which part of a scene never occurs in training.

    Returns:
      `"colour"` where a shape has a colour it never has there, `"relation"` where two shapes stand as they
      never do there, None where training has the like. A scene of the data set has at most one of the two.
    """
    if any((thing.colour, thing.shape) in HELD_OUT_PAIRS for thing in scene.things):
        return "colour"
    if len(scene.things) == 2:
        first, second = scene.things
        for one, other in ((first, second), (second, first)):
            if (relation(one, other), one.shape, other.shape) in HELD_OUT_RELATIONS:
                return "relation"
    return None


@functools.cache
def _references(split: str) -> tuple[tuple[Caption, ...], ...]:
    generator = SplitMix64(_SEEDS[split] + 100)
    return tuple(captions(scene, CAPTIONS_PER_IMAGE, generator) for scene in scenes(split))


def _scene(generator: SplitMix64, kind: str | None) -> Scene:
    """A scene with just this kind of combination held out; scenes are made until one is right."""
    if kind == "colour":
        colour, shape = _one_of(generator, sorted(HELD_OUT_PAIRS))
    while True:
        single = kind != "relation" and generator.below(100) < _SINGLE_PERCENT
        if kind == "relation":
            stands, first, second = _one_of(generator, sorted(HELD_OUT_RELATIONS))
        else:
            stands = _one_of(generator, ("left", "above", "inside"))
            first = _one_of(generator, SHAPES)
            second = _one_of(generator, CONTAINERS if stands == "inside" else SHAPES)
        looks = [(_one_of(generator, tuple(COLOURS)), first), (_one_of(generator, tuple(COLOURS)), second)]
        if kind == "colour":
            which = 0 if single else generator.below(2)
            if which == 1 and stands == "inside" and shape not in CONTAINERS:
                continue
            looks[which] = (colour, shape)
        looks = looks[:1] if single else looks
        scene = _placed(generator, looks, stands)
        if len(set(looks)) == len(looks) and _apart(scene) and held_out(scene) == kind:
            return scene


def _apart(scene: Scene) -> bool:
    """Returns whether every thing can be seen: what is inside another has another colour."""
    if len(scene.things) == 1:
        return True
    first, second = scene.things
    return relation(first, second) != "inside" or first.colour != second.colour


def _placed(generator: SplitMix64, looks: Sequence[tuple[str, str]], stands: str) -> Scene:
    """Things with these colours and shapes, the first one standing so to the second."""

    def near(middle: int, spread: int) -> int:
        return middle - spread + generator.below(2 * spread + 1)

    def thing(look: tuple[str, str], size: str, x: int, y: int, radius: int | None = None) -> Thing:
        radius = radius or near(6 if size == "small" else 13, 1)
        tint = near(0, 12), near(0, 12), near(0, 12)
        return Thing(look[1], look[0], size, x, y, radius, tint)

    background = near(45, 12), near(45, 12), near(45, 12)
    sizes = [_one_of(generator, ("small", "large")) for _ in looks]
    if len(looks) == 1:
        return Scene((thing(looks[0], sizes[0], near(32, 16), near(32, 16)),), background)
    if stands == "inside":
        x, y = near(32, 12), near(32, 12)
        inner = thing(looks[0], "small", near(x, 1), near(y, 1), radius=5)  # fits in all of CONTAINERS
        return Scene((inner, thing(looks[1], "large", x, y, radius=13 + generator.below(2))), background)
    # 31 pixels apart at least, where two large ones reach 14 each; 6 at most across.
    along, across = (near(16, 1), near(48, 1)), (near(32, 3), near(32, 3))
    xs, ys = (along, across) if stands == "left" else (across, along)
    things = [
        thing(look, size, xs[i], ys[i]) for i, (look, size) in enumerate(zip(looks, sizes, strict=True))
    ]
    if generator.below(2):
        things.reverse()  # which one is told of first by default says nothing about where it stands
    return Scene(tuple(things), background)


Choice = TypeVar("Choice")


def _one_of(generator: SplitMix64, choices: Sequence[Choice]) -> Choice:
    return choices[generator.below(len(choices))]


class _Drawings(Sequence[bytes]):
    """PNG files of scenes, drawn when they are asked for."""

    def __init__(self, shown: Sequence[Scene]):
        self._scenes = shown

    def __len__(self) -> int:
        return len(self._scenes)

    # Nobody asks for a slice of the drawings.
    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]
        file = io.BytesIO()
        Image.fromarray(draw(self._scenes[index])).save(file, "PNG", compress_level=1)
        return file.getvalue()
