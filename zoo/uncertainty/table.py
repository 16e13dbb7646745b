"""The benchmark's figures as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.terminal.text import aligned
from zoo.uncertainty.streams import REVERSED, TEST, warning_of

_WHO = ("model", "method", "weights")
_TEST_HEAD = (
    *(*_WHO, "perplexity", "error", "ECE", "ECE, equal mass", "Brier", "risk-coverage area"),
    *("by entropy", "best", "layout"),
)
_OTHER_HEAD = (
    *(*_WHO, "H[test]", "epistemic", "H[{name}]", "epistemic", "entropy gap", "95 %"),
    *("AUROC, word", "epistemic", "{window} words", "epistemic"),
)


def summary(results: Mapping[str, Any]) -> str:
    """Three tables: the test text, the entropy gap on the reversed text, and every other text.

    Args:
      results: the results that `zoo.uncertainty.comparison.compare_models` writes.
    """
    methods = results["methods"]
    lines = [
        f"uncertainty on {results['data']}: {results['vocabulary']:,} words; entropies in nats per word",
        "",
        f"{TEST}: {results['streams'][TEST]['predictions']:,} predictions",
        *aligned([_TEST_HEAD, *map(_test_row, methods)]),
    ]
    for name in results["streams"]:
        if name != TEST:
            lines += ["", f"{name}: {results['streams'][name]['description']}"]
            rows = [_other_row(method, name) for method in methods if method["streams"].get(name)]
            head = [column.format(name=name, window=results["window"]) for column in _OTHER_HEAD]
            lines += aligned([head, *rows])
            stream = results["streams"][name]
            if warning := warning_of(name, stream["predictions"], stream.get("unknown_words", 0)):
                lines.append(f"  warning: {warning}")
            if name == REVERSED:
                lines.append("  the paper's entropy gap is that of the reversed text; larger is better")
    return "\n".join(lines)


def _test_row(method: Mapping[str, Any]) -> list[str]:
    figures = method["streams"][TEST]
    risk = figures["risk_coverage"] or {"areas": {}}
    return [
        *_who(method),
        _number(figures["perplexity"], 2),
        *(_number(figures[name], 4) for name in ("error", "ece", "ece_equal_mass", "brier")),
        _number(risk["areas"].get("confidence"), 4),
        _number(risk["areas"].get("entropy"), 4),
        _number(risk.get("best_area"), 4),
        method["layout"],
    ]


def _other_row(method: Mapping[str, Any], name: str) -> list[str]:
    test, figures = method["streams"][TEST], method["streams"][name]
    interval, auroc = figures["entropy_gap_95"], figures["auroc"]
    return [
        *_who(method),
        *(_number(of[field], 3) for of in (test, figures) for field in ("entropy", "epistemic")),
        _number(figures["entropy_gap"], 3),
        "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
        *(
            _number(auroc[unit][field], 3)
            for unit in ("word", "window")
            for field in ("entropy", "epistemic")
        ),
    ]


def _who(method: Mapping[str, Any]) -> tuple[str, str, str]:
    return method["name"], method["method"], method["weights"]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
