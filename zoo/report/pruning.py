"""The cost of pruning: perplexity against the fraction of weights dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.page.contents import Contents, understood
from zoo.page.markup import Markup, code, details, drawing, missing, number, paragraph, scrolled, table, tag
from zoo.page.page import Section
from zoo.page.terms import explained
from zoo.pruning import cost as measured
from zoo.runs.settings import RunConfig

_NAMES = {"signal_to_noise": "signal to noise", "magnitude": "magnitude"}
_PAPER_FRACTION = 0.8


def pruning(contents: Contents[RunConfig]) -> Section:
    """The section of what `--mode=prune` has measured."""
    name, title, found = "pruning", "Pruning", contents.pruning
    line = missing("No pruning curve yet; this measures it:", command=contents.command("prune"))
    if found is None:
        return Section(name, title, [line], is_missing=True)
    # Files of earlier versions do not say it.
    found = {"measure": "perplexity" if contents.has_words else "exp(NLL)", **found}
    with understood(contents.directory.pruning_path, "prune"):
        if "curves" in found:
            return Section(name, title, _content(found))
        return Section(name, title, [paragraph(_made(found, found["measure"])), line], is_missing=True)


def _content(found: Mapping[str, Any]) -> list[Any]:
    by, curves = found["by"], found["curves"]
    names = _short([weight["name"] for weight in found["weights"]])
    main = _points(curves, by, "network")
    label = (
        f"Validation {found['measure']} against the fraction of weights dropped, from "
        f"{number(main[0]['valid'], 2)} with none dropped to {number(main[-1]['valid'], 2)} at "
        f"{main[-1]['fraction']:.4g}"
    )
    picture = drawing(measured.plot(_drawable(found, names)), label)
    parts = [
        paragraph(
            f"{_title(found)} of the posterior mean ({found['layout']}) by the fraction of "
            f"{found['elements']:,} weights that are dropped, those of the lowest {_NAMES[by]} first.",
            _at_the_papers_fraction(main, by),
        ),
        explained(*dict.fromkeys((_NAMES[by], "magnitude"))),
        scrolled(tag("div", picture, class_="plate wide"), "Pruning curves"),
        _whole(found, main),
    ]
    alone = [curve for curve in curves if curve["weight"] is not None]
    if alone:
        parts.append(
            details("What dropping a fraction of one weight alone costs", _alone(alone, found, names))
        )
    if "pruned" in found:
        made = _made(found["pruned"], found["measure"])
        parts.append(paragraph(code(found["pruned"]["workdir"]), ": ", made))
    return parts


def _made(found: Mapping[str, Any], measure: str) -> str:
    return (
        f"A pruned model, with {found['kept']:,} of {found['elements']:,} weights ({found['fraction']:.4g} "
        f"dropped, the lowest {_NAMES[found['by']]} first) and a valid {measure} of "
        f"{number(found['valid'], 2)}."
    )


def _title(found: Mapping[str, Any]) -> str:
    measure = found["measure"]
    return measure[0].upper() + measure[1:] if measure.isalpha() else measure


def _at_the_papers_fraction(points: Sequence[Mapping[str, Any]], by: str) -> str:
    point = next((point for point in points if math.isclose(point["fraction"], _PAPER_FRACTION)), None)
    if point is None or None in (point["valid"], points[0]["valid"]):
        return ""
    more = point["valid"] / points[0]["valid"] - 1.0
    paper = " The paper says that about 80 % can go with little impact." if by == "signal_to_noise" else ""
    return (
        f" With 80 % dropped it is {number(point['valid'], 2)} on valid, {abs(more):.1%} "
        f"{'above' if more >= 0 else 'below'} the {number(points[0]['valid'], 2)} of all weights.{paper}"
    )


def _whole(found: Mapping[str, Any], main: Sequence[Mapping[str, Any]]) -> Markup:
    by, curves = found["by"], found["curves"]
    columns = {f"valid, by {_NAMES[by]}": (main, "valid")}
    if any("test" in point for point in main):
        columns["test"] = (main, "test")
    if by != "magnitude":
        columns["valid, by magnitude"] = (_points(curves, "magnitude", "network"), "valid")
    columns["valid, the same fraction of each weight"] = (_points(curves, by, "weight"), "valid")
    of_fraction = {
        heading: {point["fraction"]: point.get(split) for point in points}
        for heading, (points, split) in columns.items()
    }
    rows = [
        [
            f"{point['fraction']:.4g}",
            f"{found['elements'] - point['dropped']:,}",
            *(number(values.get(point["fraction"]), 2) for values in of_fraction.values()),
        ]
        for point in main
    ]
    return table(f"{_title(found)} by the fraction dropped", ["dropped", "weights left", *columns], rows)


def _alone(alone: Sequence[Mapping[str, Any]], found: Mapping[str, Any], names: Mapping[str, str]) -> Markup:
    sizes = {weight["name"]: weight["elements"] for weight in found["weights"]}
    head = ["weight", "elements", *(f"{point['fraction']:.4g} dropped" for point in alone[0]["points"][1:])]
    rows = [
        [
            names[curve["weight"]],
            f"{sizes[curve['weight']]:,}",
            *(number(point["valid"], 2) for point in curve["points"][1:]),
        ]
        for curve in alone
    ]
    return table(f"Validation {found['measure']}, one weight pruned alone", head, rows)


def _points(curves: Sequence[Mapping[str, Any]], by: str, scope: str) -> Sequence[Mapping[str, Any]]:
    wanted = (by, scope, None)
    return next(
        curve["points"] for curve in curves if (curve["by"], curve["scope"], curve["weight"]) == wanted
    )


def _short(names: Sequence[str]) -> dict[str, str]:
    """Maps full names to names without the folders that all of them are in."""
    common = 0
    for level in zip(*(name.split("/")[:-1] for name in names), strict=False):
        if len(set(level)) > 1:
            break
        common += 1
    return {name: "/".join(name.split("/")[common:]) for name in names}


def _drawable(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The results with names that fit the drawing, and NaN for what is not known."""
    curves = [
        {
            **curve,
            "weight": None if curve["weight"] is None else names[curve["weight"]],
            "points": [
                {**point, "valid": math.nan if point["valid"] is None else point["valid"]}
                for point in curve["points"]
            ],
        }
        for curve in found["curves"]
    ]
    return {**found, "curves": curves}
