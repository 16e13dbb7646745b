"""Plain line plots as SVG, which every browser shows and nothing has to be installed for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from zoo.drawing.theme import GRID, INK, LINES, PAPER, SOFT, themed

_DASHES = ("", "7 4", "2 3")
_WIDTH, _HEIGHT, _LEFT, _TOP, _LEGEND = 460, 300, 70, 40, 330
_PANEL = _TOP + _HEIGHT + 60
_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
_BEYOND = "beyond the top"

Point = tuple[float, float]


class Series(NamedTuple):
    """A line through points, marked by dots."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    """Above 0. Those above the axis are marked at its top, where the line leaves the plot and comes back; at
    one that is not a number, which is not known, the line is broken."""


class Panel(NamedTuple):
    """Lines over common axes."""

    title: str
    series: Sequence[Series]
    reference: float | None = None  # A y that a dotted line is drawn at.


def line_plot(panels: Sequence[Panel], x_label: str, y_label: str, highest: float = math.inf) -> str:
    """The panels, one under the other, as the text of an SVG file.

    Args:
      panels: the panels to draw, each with at least one point.
      x_label: the label of the x axis, which is linear and goes from 0 to 1.
      y_label: the label of the y axis, which is logarithmic.
      highest: the top of the y axis at most, as a multiple of the panel's smallest y.
    """
    width, height = _LEFT + _WIDTH + _LEGEND, _PANEL * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({_LEFT},{_TOP + number * _PANEL})">')
        parts += _panel(panel, x_label, y_label, highest)
        parts.append("</g>")
    return themed("\n".join([*parts, "</svg>", ""]))


def _panel(panel: Panel, x_label: str, y_label: str, highest: float) -> list[str]:
    known = [y for series in panel.series for y in series.ys if math.isfinite(y)]
    least = min(known)
    low, high = least / 1.05, min(max(known), least * highest) * 1.05

    def place(x: float, y: float) -> Point:
        return _WIDTH * x, _HEIGHT * math.log(high / y) / math.log(high / low)

    parts = [_text(_WIDTH / 2, -14, panel.title, "middle", ' font-weight="bold"')]
    for tenths in range(0, 11, 2):
        x, _ = place(tenths / 10, low)
        parts += [_line(x, 0, x, _HEIGHT, GRID), _text(x, _HEIGHT + 16, f"{tenths / 10:g}", "middle")]
    for tick in _ticks(low, high):
        _, y = place(0, tick)
        parts += [_line(0, y, _WIDTH, y, GRID), _text(-6, y + 4, f"{tick:g}", "end")]
    parts.append(_text(_WIDTH / 2, _HEIGHT + 36, x_label, "middle"))
    parts.append(_text(-_HEIGHT / 2, -48, y_label, "middle", ' transform="rotate(-90)"'))
    if panel.reference is not None:
        _, y = place(0, panel.reference)
        parts.append(_line(0, y, _WIDTH, y, SOFT, ' stroke-dasharray="1 3"'))
    for number, series in enumerate(panel.series):
        colour = LINES[number % len(LINES)]
        dash = _DASHES[number // len(LINES) % len(_DASHES)]
        style = f' stroke-width="2" stroke-dasharray="{dash}"' if dash else ' stroke-width="2"'
        points = [
            # What is not finite in the plot, but a number, is as far above as can be drawn.
            (*place(x, min(y, 1e300)), y)
            for x, y in zip(series.xs, series.ys, strict=True)
        ]
        parts += _drawn(points, colour, style)
        y = 10 + 18 * number
        parts.append(_line(_WIDTH + 14, y, _WIDTH + 44, y, colour, style))
        parts.append(_text(_WIDTH + 50, y + 4, series.label, "start"))
    if any(y > high for series in panel.series for y in series.ys):
        y = 10 + 18 * len(panel.series)
        parts += [_arrow(_WIDTH + 29, y - 5, INK, ""), _text(_WIDTH + 50, y + 4, _BEYOND, "start")]
    parts.append(f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="{INK}"/>')
    return parts


def _drawn(points: Sequence[tuple[float, float, float]], colour: str, style: str) -> list[str]:
    """A line and its points, (x, y) in the plot and the value; those above the plot as arrows at its top."""
    parts = []
    for piece in _visible([(x, y) for x, y, _ in points]):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"{style}/>')
    for x, y, value in points:
        if y >= 0:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        elif value == value:
            parts.append(_arrow(x, 0, colour, f"<title>{value:.4g}</title>"))
    return parts


def _visible(points: Sequence[Point]) -> Iterator[list[Point]]:
    """The pieces of a line that lie in the plot, y >= 0, up to where it is left; broken at NaN."""
    piece: list[Point] = []
    for (x1, y1), (x2, y2) in itertools.pairwise([*points, (math.nan, math.nan)]):
        if y1 >= 0:
            piece.append((x1, y1))
        if (y1 >= 0) != (y2 >= 0) and not math.isnan(y1 + y2):
            piece.append((x1 + (x2 - x1) * y1 / (y1 - y2), 0.0))
        if piece and not y2 >= 0:
            yield piece
            piece = []


def _arrow(x: float, y: float, colour: str, inside: str) -> str:
    path = f"M{x - 4:.1f},{y + 8:.1f}L{x:.1f},{y:.1f}L{x + 4:.1f},{y + 8:.1f}Z"
    return f'<path d="{path}" fill="{colour}">{inside}</path>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two, ten or fewer."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in (_STEPS, (1.0, 2.0, 5.0), (1.0,)):
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 10:
            break
    return ticks


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, style: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{style}/>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(text)}</text>'
