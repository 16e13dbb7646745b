"""Charts of lines as SVG in the page's own colours, so that they are readable on light and on dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from zoo.page.markup import Markup, significant, tag

_WIDTH, _HEIGHT = 420, 240
_LEFT, _TOP, _RIGHT, _BOTTOM = 58, 12, 14, 42
_LEGEND_ROW = 18
_STYLES = 3  # The number of line styles in the style sheet.


class Line(NamedTuple):
    """Points that are joined in the order they come in; where a y is not known there is a gap."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float | None]


def line_chart(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    is_logarithmic: bool = False,
    mark: float | None = None,
    note: str = "",
) -> Markup | None:
    """A figure with its title; None where no line has a point.

    Args:
      title: the quantity on the y axis, with its unit.
      lines: up to three.
      x_label: the label of the x axis, which is linear and has ticks at whole numbers.
      is_logarithmic: whether the y axis is; points that are not above 0 are left out then.
      mark: an x at which there is a dotted line.
      note: the text behind the title.

    Raises:
      ValueError: there are more lines than can be told apart.
    """
    if len(lines) > _STYLES:
        raise ValueError(f"A chart has up to {_STYLES} lines. Received: {len(lines)} lines")
    known = [_known(line, is_logarithmic) for line in lines]
    points = [point for pieces in known for piece in pieces for point in piece]
    if not points:
        return None
    plot = _plot(points, len(lines), is_logarithmic)
    parts = _axes(plot, x_label)
    if mark is not None:
        x = plot.x(mark)
        parts.append(_stroke(x, plot.top, x, plot.bottom, "best"))
    for place, (line, pieces) in enumerate(zip(lines, known, strict=True)):
        parts += _drawn(plot, line, pieces, place, x_label)
        if len(lines) > 1:
            parts += _key(line, place)
    said = [_said(line, pieces, x_label) for line, pieces in zip(lines, known, strict=True)]
    svg = tag(
        "svg",
        parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {plot.bottom + _BOTTOM}",
        role="img",
        aria_label=f"{title}: {'; '.join(said)}",
        class_="chart-lines",
    )
    return tag("figure", tag("figcaption", title, tag("small", f" {note}") if note else None), svg)


def ticks(low: float, high: float, most: int = 6, least_step: float = 0.0) -> list[float]:
    """Round numbers from low to high, at most so many, in steps of 1, 2 or 5 times a power of ten."""
    if not low < high:
        return [low]
    step = 10.0 ** math.floor(math.log10(max((high - low) / most, least_step)))
    for factor in (1, 2, 5, 10, 20):
        first, last = math.ceil(low / (step * factor) - 1e-9), math.floor(high / (step * factor) + 1e-9)
        if last - first < most:
            break
    return [number * step * factor for number in range(first, last + 1)]


class _Scale:
    """From values to places between `start` and `end`, in pixels."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, is_logarithmic: bool, is_padded: bool
    ):
        low, high = min(values), max(values)
        self._is_logarithmic = is_logarithmic
        if low == high:
            margin = abs(low) * 0.1 or 1.0
        else:
            margin = 0.0
        low, high = low - margin, high + margin
        self._start, self._end = start, end
        self._low, self._high = self._bent(low), self._bent(high)
        if is_padded and not margin:
            more = 0.05 * (self._high - self._low)
            self._low, self._high = self._low - more, self._high + more

    def __call__(self, value: float) -> float:
        share = (self._bent(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self, least_step: float = 0.0) -> list[float]:
        if not self._is_logarithmic:
            return ticks(self._low, self._high, least_step=least_step)
        low, high = 10.0**self._low, 10.0**self._high
        if high / low < 8.0:
            return [tick for tick in ticks(low, high) if tick > 0]
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [step * 10.0**power for power in powers for step in steps]
            found = [tick for tick in found if low <= tick <= high]
            if len(found) <= 7:
                break
        return found[:: math.ceil(len(found) / 7)]

    def _bent(self, value: float) -> float:
        return math.log10(value) if self._is_logarithmic else value


def _known(line: Line, is_logarithmic: bool) -> list[list[tuple[float, float]]]:
    """The points of a line in pieces without gaps."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.xs, line.ys, strict=True):
        if y is None or not math.isfinite(y) or (is_logarithmic and y <= 0):
            pieces.append([])
        else:
            pieces[-1].append((float(x), float(y)))
    return [piece for piece in pieces if piece]


class _Plot(NamedTuple):
    """The plot that points are drawn in: from values to pixels, between the upper edge and the x axis."""

    x: _Scale
    y: _Scale
    top: int
    bottom: int


def _plot(points: Sequence[tuple[float, float]], lines: int, is_logarithmic: bool) -> _Plot:
    """The plot that has room for the points, below the keys of the lines where there are several."""
    top = _TOP + (_LEGEND_ROW * lines if lines > 1 else 0)
    bottom = top + _HEIGHT - _TOP - _BOTTOM
    x = _Scale([x for x, _ in points], _LEFT, _WIDTH - _RIGHT, False, is_padded=False)
    y = _Scale([y for _, y in points], bottom, top, is_logarithmic, is_padded=True)
    return _Plot(x, y, top, bottom)


def _drawn(
    plot: _Plot, line: Line, pieces: Sequence[Sequence[tuple[float, float]]], place: int, x_label: str
) -> list[Markup]:
    """The pieces of a line, and a dot for each point that says its values."""
    parts = []
    for piece in pieces:
        path = " ".join(f"{plot.x(x):.1f},{plot.y(y):.1f}" for x, y in piece)
        parts.append(tag("polyline", points=path, class_=f"line line-{place}"))
        parts += [
            tag(
                "circle",
                tag("title", f"{line.label}, {x_label} {x:g}: {significant(y, 4)}"),
                cx=f"{plot.x(x):.1f}",
                cy=f"{plot.y(y):.1f}",
                r="2.5",
                class_=f"dot-{place}",
            )
            for x, y in piece
        ]
    return parts


def _key(line: Line, place: int) -> list[Markup]:
    """A line's row of the legend."""
    y = _TOP + _LEGEND_ROW * place
    return [
        _stroke(_LEFT, y, _LEFT + 26, y, f"line line-{place}"),
        _text(_LEFT + 32, y + 4, line.label),
    ]


def _axes(plot: _Plot, x_label: str) -> list[Markup]:
    right, bottom, parts = _WIDTH - _RIGHT, plot.bottom, []
    for tick in plot.y.ticks():
        y = plot.y(tick)
        parts += [_stroke(_LEFT, y, right, y, "grid"), _text(_LEFT - 7, y + 4, f"{tick:.4g}", "end")]
    for tick in plot.x.ticks(least_step=1.0):
        x = plot.x(tick)
        parts += [_stroke(x, bottom, x, bottom + 4, "axis"), _text(x, bottom + 18, f"{tick:.4g}", "middle")]
    parts.append(tag("path", d=f"M{_LEFT} {plot.top}V{bottom}H{right}", class_="axis"))
    parts.append(_text((_LEFT + right) / 2, bottom + 36, x_label, "middle"))
    return parts


def _said(line: Line, pieces: Sequence[Sequence[tuple[float, float]]], x_label: str) -> str:
    points = [point for piece in pieces for point in piece]
    if not points:
        return f"{line.label}: no values"
    (first_x, first_y), (last_x, last_y) = points[0], points[-1]
    best_x, best_y = min(points, key=lambda point: point[1])
    return (
        f"{line.label} from {significant(first_y, 4)} at {x_label} {first_x:g} to "
        f"{significant(last_y, 4)} at {x_label} {last_x:g}, "
        f"lowest {significant(best_y, 4)} at {x_label} {best_x:g}"
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=kind)


def _text(x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
