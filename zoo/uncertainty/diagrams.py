"""The benchmark's diagrams as SVG: reliability, and histograms of entropies; a panel for each model."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.drawing.theme import INK, LINES, PAPER, SOFT, themed
from zoo.uncertainty.streams import TEST

# Sizes of panels, in pixels.
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 320, 272, 46, 56, 14, 42
_INNER_WIDTH, _INNER_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_COLUMNS = 3
_UNTITLED_TOP = 20
_ROW = 14  # Of the legend, below the panel.
_LONGEST = 38  # Letters of the longest name that a panel shows whole.


def reliability_svg(methods: Sequence[Mapping[str, Any]], equal_mass: bool = False) -> str:
    """Accuracy against confidence on the test text: on the diagonal a model is as often right as it says.

    A bin is a bar from the accuracy's end to the axis, the deeper in colour the more predictions it holds.

    Args:
      methods: the methods of the benchmark's results; those that do not tell their confidence have no panel.
      equal_mass: whether the bins are those that hold equally many predictions.
    """
    field = "reliability_equal_mass" if equal_mass else "reliability"
    known = [method for method in methods if method["streams"][TEST].get(field)]
    error = "ece_equal_mass" if equal_mass else "ece"

    def panel(method: Any) -> list[str]:
        figures = method["streams"][TEST]
        diagram, parts = figures[field], []
        most = max(diagram["count"])
        bins = zip(*(diagram[name] for name in ("lower", "upper", "accuracy", "count")), strict=True)
        for lower, upper, accuracy, count in bins:
            if not count:
                continue
            left, right, top, bottom = _x(lower), _x(upper), _y(accuracy), _y(0.0)
            depth = 0.25 + 0.75 * count / most
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 0.5):.1f}" '
                f'height="{bottom - top:.1f}" fill="{LINES[0]}" fill-opacity="{depth:.2f}" stroke="{PAPER}" '
                f'stroke-width="0.5"><title>confidence {lower:.3f} to {upper:.3f}: accuracy {accuracy:.3f}, '
                f"{count} predictions</title></rect>"
            )
        parts.append(
            f'<path d="M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}" fill="none" stroke="{SOFT}" '
            'stroke-dasharray="4 3"/>'
        )
        ticks: list[Tick] = [(value, f"{value:g}") for value in (0, 0.25, 0.5, 0.75, 1)]
        parts.append(_text(_x(1), _TOP - 6, f"ECE {figures[error]:.4f}", anchor="end"))
        return [*_axes("confidence", "accuracy", ticks, ticks), *parts]

    return _grid(known, panel)


def entropies_svg(methods: Sequence[Mapping[str, Any]], streams: Sequence[str] | None = None) -> str:
    """Histograms of the entropies of the words of each text: the share of its words by their entropy.

    Args:
      methods: the methods of the benchmark's results.
      streams: the names of the texts; None for all.
    """
    if streams is None:
        streams = list(dict.fromkeys(name for method in methods for name in method["streams"]))
    styles = {name: _style(place) for place, name in enumerate(streams)}

    def panel(method: Any) -> list[str]:
        shares, edges = {}, [0.0, 1.0]
        for name in streams:
            figures = method["streams"].get(name)
            if figures:
                counts, edges = (figures["entropy_histogram"][key] for key in ("counts", "edges"))
                shares[name] = [count / sum(counts) for count in counts]
        highest = max((share for values in shares.values() for share in values), default=1.0)
        parts = []
        for name, values in shares.items():
            steps = [
                f"{_x(edge / edges[-1]):.1f} {_y(share / highest):.1f}"
                for place, share in enumerate(values)
                for edge in edges[place : place + 2]
            ]
            parts.append(f'<path d="M{"L".join(steps)}" fill="none" {styles[name]}/>')
        for row, name in enumerate(shares):
            y = _TOP + _INNER_HEIGHT + _BOTTOM + _ROW * row
            parts.append(f'<path d="M{_LEFT} {y}h24" fill="none" {styles[name]}/>')
            parts.append(_text(_LEFT + 30, y + 4, f"{name}, mean {method['streams'][name]['entropy']:.2f}"))
        nats = [(value / edges[-1], str(value)) for value in range(int(edges[-1]) + 1)]
        ticks = [(place / 2, f"{highest * place / 2:.1%}") for place in range(3)]
        return [*_axes("entropy, nats", "share of words", nats, ticks), *parts]

    return _grid(methods, panel, legend=_ROW * len(streams))


def _style(place: int) -> str:
    """The stroke of the lines of a text: a colour, dashed where there are more texts than colours."""
    dash = ' stroke-dasharray="6 3"' if place >= len(LINES) else ""
    return f'stroke="{LINES[place % len(LINES)]}" stroke-width="1.5"{dash}'


def _grid(
    methods: Sequence[Mapping[str, Any]], panel: Callable[[Mapping[str, Any]], list[str]], legend: int = 0
) -> str:
    """The panels of all methods, each with as much room below as its legend takes."""
    columns = max(min(_COLUMNS, len(methods)), 1)
    has_titles = any(method["name"] or method["weights"] for method in methods)
    lift = 0 if has_titles else _TOP - _UNTITLED_TOP
    of_panel = _HEIGHT - lift + legend
    width, height = columns * _WIDTH, max(-(-len(methods) // columns), 1) * of_panel
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
    ]
    for place, method in enumerate(methods):
        x, y = place % columns * _WIDTH, place // columns * of_panel - lift
        parts.append(f'<g transform="translate({x} {y})">')
        parts.append(_text(_LEFT, _TOP - 34, _shortened(method["name"]), extra=' font-weight="bold"'))
        parts.append(_text(_LEFT, _TOP - 20, method["weights"]))
        parts += [*panel(method), "</g>"]
    return themed("\n".join([*parts, "</svg>", ""]))


def _shortened(name: str) -> str:
    """The end of a name that is too long for a panel, such as a path."""
    return name if len(name) <= _LONGEST else f"\N{HORIZONTAL ELLIPSIS}{name[1 - _LONGEST :]}"


Tick = tuple[float, str]  # Its place on the axis, as a share of it, and its label.


def _axes(x_label: str, y_label: str, x_ticks: Sequence[Tick], y_ticks: Sequence[Tick]) -> list[str]:
    left, right, bottom, top = _x(0), _x(1), _y(0), _y(1)
    middle = (top + bottom) / 2
    parts = [
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="{INK}"/>',
        _text((left + right) / 2, bottom + 34, x_label, anchor="middle"),
        _text(12, middle, y_label, anchor="middle", extra=f' transform="rotate(-90 12 {middle:.1f})"'),
    ]
    for place, label in x_ticks:
        parts.append(_text(_x(place), bottom + 16, label, anchor="middle"))
        parts.append(f'<path d="M{_x(place):.1f} {bottom}v4" stroke="{INK}"/>')
    for place, label in y_ticks:
        parts.append(_text(left - 6, _y(place) + 4, label, anchor="end"))
        parts.append(f'<path d="M{left} {_y(place):.1f}h-4" stroke="{INK}"/>')
    return parts


def _x(share: float) -> float:
    return _LEFT + share * _INNER_WIDTH


def _y(share: float) -> float:
    return _TOP + (1.0 - share) * _INNER_HEIGHT


def _text(x: float, y: float, text: str, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{html.escape(text)}</text>'
