"""The benchmark's figures as files for other programs: a table as JSON and CSV, and the differences."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.filesystem.files import to_jsonable

_OF_METHOD = ("name", "method", "weights", "source", "layout")


def table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each model and text, and for each way of generating, of all figures that are one number.

    Names of figures within figures are joined by dots: "auroc.window.entropy".

    Args:
      results: the results that `zoo.uncertainty.comparison.compare_models` writes.
    """
    found = []
    for method in results["methods"]:
        who = {name: method[name] for name in _OF_METHOD}
        for text, figures in method["streams"].items():
            if figures is None:
                continue
            row = {**who, "text": text, **dict(_numbers(results["streams"][text]))}
            row |= dict(_numbers(figures))
            if text == "test" and method.get("temperature"):
                row |= {f"temperature.{name}": value for name, value in _numbers(method["temperature"])}
            found.append(row)
        for decoding, figures in (method.get("generation") or {}).items():
            found.append({**who, "text": f"generated, {decoding}", **dict(_numbers(figures))})
    return found


def differences_table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each pair of models and figure: the second's less the first's, and the interval's ends."""
    labels = [", ".join(filter(None, (one["name"], one["weights"]))) for one in results["methods"]]
    return [
        {
            "first": labels[pair["first"]],
            "second": labels[pair["second"]],
            "figure": name,
            "difference": figure["difference"],
            "low": figure["interval"][0],
            "high": figure["interval"][1],
        }
        for pair in results["differences"]
        for name, figure in pair["figures"].items()
    ]


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a list of JSON objects."""
    return json.dumps(to_jsonable(list(rows)), indent=1, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as CSV, with a column for each name that any of them has; what a row lacks is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(to_jsonable(list(rows)))
    return text.getvalue()


def _numbers(figures: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", number) for inner, number in _numbers(value))
        elif not isinstance(value, str | list | tuple):
            yield name, value
