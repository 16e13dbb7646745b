"""The table of forecasters in docs, from the results of runs of several seeds: no figure of it is typed.

    .venv/bin/python -m benchmarks.forecast_table runs/tourism_*

prints Markdown: a row for each preset, in the order in which they come first, and for each way of evaluating
it, with the mean over its seeds of every figure and, where there are several, the smallest and the largest.
The lowest mean of a data set is in bold where lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import results_table

# A figure's key in results.json, its name, its digits, its factor, and whether lower is better.
FIGURES = (
    ("mase", "MASE", 3, 1.0, True),
    ("crps", "CRPS", 3, 1.0, True),
    ("msis", "MSIS", 1, 1.0, True),
    ("coverage_90", "in 90 %", 1, 100.0, False),
)
WAYS = ("test", "test_mc")


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """The results of runs, as results.json has them, as a table in Markdown."""
    rows = [
        (data, preset, way, [one[way] for one in of_preset])
        for data, preset, of_preset in _by_preset(results)
        for way in WAYS
        if all(way in one for one in of_preset)
    ]
    lines = [["preset", "weights", "seeds", *(name for _, name, *_ in FIGURES)]]
    lines.append(["---"] * len(lines[0]))
    for data, preset, _, found in rows:
        rivals = [others for other, _, _, others in rows if other == data]
        cells = [f"`{preset}`", _weights(found[0]), str(len(found))]
        lines.append([*cells, *(_cell(found, rivals, *figure) for figure in FIGURES)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_preset(
    results: Sequence[Mapping[str, Any]],
) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    presets = dict.fromkeys((one["data"], one["preset"]) for one in results)
    return [(data, name, [one for one in results if one["preset"] == name]) for data, name in presets]


def _weights(found: Mapping[str, Any]) -> str:
    return f"{found['samples']} samples" if "samples" in found else "mean"


def _cell(
    found: Sequence[Mapping[str, Any]],
    rivals: Sequence[Sequence[Mapping[str, Any]]],
    key: str,
    name: str,
    digits: int,
    factor: float,
    is_lower_better: bool,
) -> str:
    values = [factor * one[key] for one in found]
    text = f"{np.mean(values):.{digits}f}"
    means = [f"{np.mean([factor * one[key] for one in others]):.{digits}f}" for others in rivals]
    if is_lower_better and len(means) > 1 and float(text) == min(map(float, means)):
        text = f"**{text}**"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    results_table.print_table(table, __doc__, "forecasters", arguments)


if __name__ == "__main__":
    main()
