"""Plain line plots as SVG, which every browser shows and nothing has to be installed for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

# Colours that those who see colours differently can tell apart too (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("", "7 4", "2 3")
_WIDTH, _HEIGHT, _LEFT, _TOP, _LEGEND = 460, 300, 70, 40, 330
_PANEL = _TOP + _HEIGHT + 60
_STEPS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)


class Series(NamedTuple):
    """A line through points, marked by dots."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]  # Above 0. Those that are not finite, or beyond the axis, are not drawn.


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
      highest: the largest y that is drawn, as a multiple of the panel's smallest.
    """
    width, height = _LEFT + _WIDTH + _LEGEND, _PANEL * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({_LEFT},{_TOP + number * _PANEL})">')
        parts += _panel(panel, x_label, y_label, highest)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, x_label: str, y_label: str, highest: float) -> list[str]:
    known = [y for series in panel.series for y in series.ys if math.isfinite(y)]
    least = min(known)
    low, high = least / 1.05, min(max(known), least * highest) * 1.05

    def place(x: float, y: float) -> tuple[float, float]:
        return _WIDTH * x, _HEIGHT * math.log(high / y) / math.log(high / low)

    parts = [_text(_WIDTH / 2, -14, panel.title, "middle", ' font-weight="bold"')]
    for tenths in range(0, 11, 2):
        x, _ = place(tenths / 10, low)
        parts += [_line(x, 0, x, _HEIGHT, "#dddddd"), _text(x, _HEIGHT + 16, f"{tenths / 10:g}", "middle")]
    for tick in _ticks(low, high):
        _, y = place(0, tick)
        parts += [_line(0, y, _WIDTH, y, "#dddddd"), _text(-6, y + 4, f"{tick:g}", "end")]
    parts.append(_text(_WIDTH / 2, _HEIGHT + 36, x_label, "middle"))
    parts.append(_text(-_HEIGHT / 2, -48, y_label, "middle", ' transform="rotate(-90)"'))
    if panel.reference is not None:
        _, y = place(0, panel.reference)
        parts.append(_line(0, y, _WIDTH, y, "#666666", ' stroke-dasharray="1 3"'))
    for number, series in enumerate(panel.series):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
        style = f' stroke-width="2" stroke-dasharray="{dash}"' if dash else ' stroke-width="2"'
        points = [
            place(x, y) for x, y in zip(series.xs, series.ys, strict=True) if math.isfinite(y) and y <= high
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"{style}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        y = 10 + 18 * number
        parts.append(_line(_WIDTH + 14, y, _WIDTH + 44, y, colour, style))
        parts.append(_text(_WIDTH + 50, y + 4, series.label, "start"))
    parts.append(f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#333333"/>')
    return parts


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
