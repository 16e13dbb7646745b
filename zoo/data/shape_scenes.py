"""Scenes of coloured shapes: what stands where, and its picture.

Pixels come from integer arithmetic alone: a shape's edge is smoothed by 4 x 4 samples a pixel, each of which
is in the shape or not.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

CANVAS = 64
"""Height and width of a picture in pixels."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
CONTAINERS = ("circle", "square", "diamond")
"""The shapes that can have another one inside them."""
COLOURS = {
    "red": (214, 40, 40),
    "orange": (240, 140, 20),
    "yellow": (238, 222, 50),
    "green": (40, 170, 60),
    "blue": (45, 85, 225),
    "purple": (140, 50, 170),
    "pink": (243, 150, 190),
    "white": (240, 240, 240),
}
SIZES = ("small", "large")

_SAMPLES = 4  # samples per pixel in each direction
_UNIT = 1000  # the radius in the outlines below
# Corners, x to the right and y downwards. The star's lie on circles of radius 1000 and 450.
_OUTLINES = {
    "square": ((-850, -850), (850, -850), (850, 850), (-850, 850)),
    "triangle": ((0, -1000), (950, 750), (-950, 750)),
    "diamond": ((0, -1000), (900, 0), (0, 1000), (-900, 0)),
    "cross": (
        *((-330, -1000), (330, -1000), (330, -330), (1000, -330), (1000, 330), (330, 330)),
        *((330, 1000), (-330, 1000), (-330, 330), (-1000, 330), (-1000, -330), (-330, -330)),
    ),
    "star": (
        *((0, -1000), (265, -364), (951, -309), (428, 139), (588, 809)),
        *((0, 450), (-588, 809), (-428, 139), (-951, -309), (-265, -364)),
    ),
}


@dataclass(frozen=True)
class Thing:
    """A shape in a picture.

    Attributes:
      shape: one of `SHAPES`.
      colour: one of `COLOURS`.
      size: one of `SIZES`.
      x: the pixel column of its centre, from the left.
      y: the pixel row of its centre, from the top.
      radius: the distance it reaches from there, in pixels.
      tint: the numbers added to the colour's red, green and blue.
    """

    shape: str
    colour: str
    size: str
    x: int
    y: int
    radius: int
    tint: tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """One or two things before a plain background.

    Attributes:
      things: the things; two differ in shape or colour.
      background: the background's red, green and blue.
    """

    things: tuple[Thing, ...]
    background: tuple[int, int, int]


def relation(first: Thing, second: Thing) -> str:
    """Returns where the first stands to the second: `left`, `right`, `above`, `below`, `inside` or `around`.

    One is inside the other where it reaches no further than the other on any side; else the larger one of
    the distances across and down decides.
    """
    across, down = second.x - first.x, second.y - first.y
    reach = max(abs(across), abs(down))
    if reach + first.radius <= second.radius:
        return "inside"
    if reach + second.radius <= first.radius:
        return "around"
    if abs(across) > abs(down):
        return "left" if across > 0 else "right"
    return "above" if down > 0 else "below"


def draw(scene: Scene) -> np.ndarray:
    """The picture, uint8 [64, 64, 3]; larger things are drawn first, so that what is inside is seen."""
    picture = np.empty([CANVAS, CANVAS, 3], np.int64)
    picture[:] = scene.background
    for thing in sorted(scene.things, key=lambda thing: -thing.radius):
        cover = _cover(thing.shape, thing.radius)[:, :, None]
        colour = np.clip(np.add(COLOURS[thing.colour], thing.tint), 0, 255)
        top, left = thing.y - thing.radius, thing.x - thing.radius
        part = picture[top : top + len(cover), left : left + len(cover)]
        whole = _SAMPLES**2
        part[:] = (part * (whole - cover) + colour * cover + whole // 2) // whole
    return picture.astype(np.uint8)


@functools.cache
def _cover(shape: str, radius: int) -> np.ndarray:
    """The number of samples of each pixel in a shape around the middle one, [2 radius + 1, 2 radius + 1]."""
    side = (2 * radius + 1) * _SAMPLES
    # The samples' places in units of half a sample, measured from the centre, times _UNIT.
    places = (2 * np.arange(side, dtype=np.int64) + 1 - side) * _UNIT
    y, x = places[:, None], places[None, :]
    scale = 2 * _SAMPLES * radius
    if shape == "circle":
        inside = x**2 + y**2 <= (_UNIT * scale) ** 2
    else:
        inside = _in_polygon(x, y, [(across * scale, down * scale) for across, down in _OUTLINES[shape]])
    return inside.reshape(2 * radius + 1, _SAMPLES, 2 * radius + 1, _SAMPLES).sum((1, 3))


def _in_polygon(x: np.ndarray, y: np.ndarray, corners: list[tuple[int, int]]) -> np.ndarray:
    """Tells whether points are in a polygon: a ray to the right crosses its sides an odd number of times."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        crosses_row = (y1 > y) != (y2 > y)
        # The point lies left of the side: x < x1 + (y - y1) (x2 - x1) / (y2 - y1), multiplied out.
        left = (x - x1) * (y2 - y1) < (y - y1) * (x2 - x1)
        inside ^= crosses_row & (left == (y2 > y1))
    return inside
