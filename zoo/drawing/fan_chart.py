"""Fan charts: a series, and the intervals of its forecast as bands, the surer the darker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from zoo.drawing.picture import Dot, Line, Picture, Point, Polygon, Text
from zoo.drawing.theme import BANDS, GRID, INK, LINES, MEDIAN, SOFT

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 560, 190, 72, 30, 16, 34
_PANEL_WIDTH, _PANEL_HEIGHT = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM
_LEGEND = 24
_CAME = LINES[1]


class Fan(NamedTuple):
    """One series and its forecast.

    Attributes:
      title: what it is.
      history: the values before the forecast, NaN where one is missing.
      median: the forecast's median at each step.
      bands: (level, lower ends, upper ends) of central intervals.
      came: the values that came, NaN where none is known; None where none is.
      labels: the names of the first step drawn, of the forecast's first, and of its last.
    """

    title: str
    history: np.ndarray
    median: np.ndarray
    bands: Sequence[tuple[float, np.ndarray, np.ndarray]]
    came: np.ndarray | None = None
    labels: tuple[str, str, str] = ("", "", "")


def fan_charts(fans: Sequence[Fan], columns: int = 1) -> Picture:
    """The charts, row after row.

    Args:
      fans: the series, each with the same levels.
      columns: the number of charts beside each other.
    """
    shapes: list = []
    levels = sorted({level for fan in fans for level, _, _ in fan.bands}, reverse=True)
    colours = {level: BANDS[min(place, len(BANDS) - 1)] for place, level in enumerate(levels)}
    for number, fan in enumerate(fans):
        row, column = divmod(number, columns)
        shapes += _panel(fan, column * _PANEL_WIDTH + _LEFT, row * _PANEL_HEIGHT + _TOP, colours)
    rows = -(-len(fans) // columns)
    width, height = min(columns, len(fans)) * _PANEL_WIDTH, rows * _PANEL_HEIGHT
    shapes += _legend(colours, height + _LEGEND / 2, any(fan.came is not None for fan in fans))
    return Picture(width, height + _LEGEND, shapes)


def _panel(fan: Fan, left: float, top: float, colours: dict[float, str]) -> list:
    past, steps = len(fan.history), len(fan.median)
    drawn = [fan.history, fan.median, *(end for _, *ends in fan.bands for end in ends)]
    known = np.concatenate([*drawn, *([] if fan.came is None else [fan.came])])
    known = known[np.isfinite(known)]
    low, high = float(known.min()), float(known.max())
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def at(step: float, value: float) -> Point:
        across = (step + 0.5) / max(past + steps, 1)
        return left + _WIDTH * across, top + _HEIGHT * (high - value) / (high - low)

    shapes: list = [Text((left + _WIDTH / 2, top - 10), fan.title, "middle", 13)]
    for tick in _ticks(low, high):
        _, y = at(0, tick)
        shapes += [
            Line([(left, y), (left + _WIDTH, y)], GRID),
            Text((left - 6, y + 4), f"{tick:g}", "end", 11),
        ]
    x, _ = at(past - 0.5, low)
    shapes.append(Line([(x, top), (x, top + _HEIGHT)], SOFT))
    ahead = range(past, past + steps)
    for level, lower, upper in sorted(fan.bands, key=lambda band: -band[0]):
        edge = [at(step, value) for step, value in zip(ahead, upper, strict=True)]
        back = [at(step, value) for step, value in zip(ahead, lower, strict=True)]
        if steps == 1:  # A single step is as wide as a step.
            half = _WIDTH / (past + steps) / 2
            edge, back = ([(x - half, y), (x + half, y)] for ((x, y),) in (edge, back))
        shapes.append(Polygon([*edge, *reversed(back)], colours[level]))
    shapes += _curve([at(step, value) for step, value in zip(ahead, fan.median, strict=True)], MEDIAN)
    shapes += _curves(fan.history, 0, at, INK)
    if fan.came is not None:
        shapes += _curves(fan.came, past, at, _CAME)
    corners = [
        (left, top),
        (left + _WIDTH, top),
        (left + _WIDTH, top + _HEIGHT),
        (left, top + _HEIGHT),
        (left, top),
    ]
    shapes.append(Line(corners, INK))
    first, origin, last = fan.labels
    y = top + _HEIGHT + 16
    shapes += [Text((left, y), first, "start", 11), Text((left + _WIDTH, y), last, "end", 11)]
    return [*shapes, Text((x, y), origin, "middle", 11)]


def _curves(values: np.ndarray, first: int, at: Callable[[float, float], Point], colour: str) -> list:
    """The pieces of a line between values that are missing."""
    shapes: list = []
    piece: list[Point] = []
    for step, value in enumerate([*values, np.nan]):
        if np.isfinite(value):
            piece.append(at(first + step, float(value)))
        else:
            shapes += _curve(piece, colour)
            piece = []
    return shapes


def _curve(points: list[Point], colour: str) -> list:
    if len(points) == 1:
        return [Dot(points[0], colour)]
    return [Line(points, colour, 1.5)] if points else []


def _legend(colours: dict[float, str], y: float, has_came: bool) -> list:
    shapes: list = []
    x = float(_LEFT)
    for level, colour in colours.items():
        shapes.append(Polygon([(x, y - 6), (x + 18, y - 6), (x + 18, y + 6), (x, y + 6)], colour))
        shapes.append(Text((x + 24, y + 4), f"{100 * level:g} %", "start", 11))
        x += 74
    for colour, text in (
        (MEDIAN, "median"),
        (INK, "series"),
        *(((_CAME, "what came"),) if has_came else ()),
    ):
        shapes += [Line([(x, y), (x + 18, y)], colour, 1.5), Text((x + 24, y + 4), text, "start", 11)]
        x += 84
    return shapes


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between the two."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough)
    first = int(np.ceil(low / step))
    return [step * number for number in range(first, int(np.floor(high / step)) + 1)]
