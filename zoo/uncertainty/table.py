"""The benchmark's figures as plain text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.terminal.text import aligned
from zoo.uncertainty.signals import TITLES, WINDOW_SIGNALS
from zoo.uncertainty.streams import REVERSED, TEST, warning_of

_WHO = ("model", "method", "weights")
_TEST_HEAD = (
    *(*_WHO, "perplexity", "error", "ECE", "ECE, equal mass", "ECE, smooth", "Brier"),
    *("risk-coverage area", "by entropy", "best", "layout"),
)
_SELECTIVE_HEAD = (*_WHO, "signal", "AUGRC", "PRR", "error at 80 % coverage", "coverage at 5 % error")
_TEMPERATURE_HEAD = (
    *(*_WHO, "temperature", "perplexity", "at it", "ECE", "at it", "ECE, smooth", "at it"),
    *("NLL", "calibration", "refinement"),
)
_OTHER_HEAD = (
    *(*_WHO, "H[test]", "epistemic", "H[{name}]", "epistemic", "entropy gap", "95 %"),
    *("AUROC, word", "epistemic", "{window} words", "epistemic", "FPR95", "AUROC, known words only"),
)
_GENERATION_HEAD = (*_WHO, "decoding", "{loss}", "signal", "area", "best", "AUGRC", "PRR", "at 80 % coverage")


def summary(results: Mapping[str, Any]) -> str:
    """Tables of the test text, of every other text, of continuations, and of the models' differences.

    Args:
      results: the results that `zoo.uncertainty.comparison.compare_models` writes.
    """
    methods, streams = results["methods"], results["streams"]
    lines = [
        f"uncertainty on {results['data']}: {results['vocabulary']:,} words; entropies in nats per word",
        "",
        f"{TEST}: {streams[TEST]['predictions']:,} predictions{_unknown(streams[TEST])}",
        *aligned([_TEST_HEAD, *map(_test_row, methods)]),
    ]
    lines += _titled(
        "keeping only what a signal says is sure, of the test text", _SELECTIVE_HEAD, _selective(methods)
    )
    rows = [_temperature_row(method) for method in methods if method.get("temperature")]
    lines += _titled(
        "temperature that fits the validation text, and the test text at it", _TEMPERATURE_HEAD, rows
    )
    for name, stream in streams.items():
        if name == TEST or stream.get("severity") is not None:
            continue
        head = [column.format(name=name, window=results["window"]) for column in _OTHER_HEAD]
        rows = [_other_row(method, name) for method in methods if method["streams"].get(name)]
        lines += ["", f"{name}: {stream['description']}{_unknown(stream)}", *aligned([head, *rows])]
        if warning := warning_of(name, stream["predictions"], stream.get("unknown_words", 0)):
            lines.append(f"  warning: {warning}")
        if name == REVERSED:
            lines.append("  the paper's entropy gap is that of the reversed text; larger is better")
    lines += _of_severities(results)
    lines += _generated(methods)
    lines += _differences(results)
    return "\n".join(lines)


def _titled(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", title, *aligned([head, *rows])] if rows else []


def _unknown(stream: Mapping[str, Any]) -> str:
    share = stream.get("unknown_share")
    return "" if share is None else f"; {share:.1%} of the words unknown"


def _test_row(method: Mapping[str, Any]) -> list[str]:
    figures = method["streams"][TEST]
    risk = figures["risk_coverage"] or {"areas": {}}
    errors = ("error", "ece", "ece_equal_mass", "ece_smooth", "brier")
    return [
        *_who(method),
        _number(figures["perplexity"], 2),
        *(_number(figures[name], 4) for name in errors),
        _number(risk["areas"].get("confidence"), 4),
        _number(risk["areas"].get("entropy"), 4),
        _number(risk.get("best_area"), 4),
        method["layout"],
    ]


def _selective(methods: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for method in methods:
        risk = method["streams"][TEST]["risk_coverage"]
        for signal in risk["areas"] if risk else ():
            figures = [risk[name].get(signal) for name in ("augrc", "prr", "risk_at_80", "coverage_at_5")]
            rows.append([*_who(method), TITLES[signal], *(_number(figure, 4) for figure in figures)])
    return rows


def _temperature_row(method: Mapping[str, Any]) -> list[str]:
    before, found = method["streams"][TEST], method["temperature"]
    after = found["test"]
    pairs = [
        _number(of[name], digits)
        for name, digits in (("perplexity", 2), ("ece", 4), ("ece_smooth", 4))
        for of in (before, after)
    ]
    parts = found["nll_parts"]
    return [
        *_who(method),
        _number(found["temperature"], 3),
        *pairs,
        *(_number(one, 4) for one in (before["nll"], parts["calibration"], parts["refinement"])),
    ]


def _other_row(method: Mapping[str, Any], name: str) -> list[str]:
    test, figures = method["streams"][TEST], method["streams"][name]
    interval, auroc = figures["entropy_gap_95"], figures["auroc"]
    known = (figures["known"] or {}).get("auroc") or {}
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
        _number(figures["fpr95"]["window"]["entropy"], 3),
        _number(known.get("entropy"), 3),
    ]


def _of_severities(results: Mapping[str, Any]) -> list[str]:
    """AUROC over windows by the share of words that are not in their place, for each signal."""
    graded = {
        name: one["severity"] for name, one in results["streams"].items() if one.get("severity") is not None
    }
    rows = []
    for method in results["methods"]:
        known = [method["streams"].get(name) for name in graded]
        for signal in WINDOW_SIGNALS:
            values = [one["auroc"]["window"][signal] if one else None for one in known]
            if any(value is not None for value in values):
                rows.append([*_who(method), TITLES[signal], *(_number(value, 3) for value in values)])
    head = [*_WHO, "signal", *(f"{severity:.0%}" for severity in graded.values())]
    title = f"AUROC over windows of {results['window']} words, by the share of words swapped"
    return _titled(title, head, rows if graded else [])


def _generated(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    rows, loss, prompts = [], "", 0
    for method in methods:
        for decoding, figures in (method.get("generation") or {}).items():
            loss, prompts = figures["loss"], figures["prompts"]
            for signal in figures["areas"]:
                of_signal = [
                    _number(figures[name][signal], 4) for name in ("areas", "augrc", "prr", "risk_at_80")
                ]
                of_signal.insert(1, _number(figures["best_area"], 4))
                rows.append(
                    [*_who(method), decoding, _number(figures["error"], 4), TITLES[signal], *of_signal]
                )
    head = [column.format(loss=loss) for column in _GENERATION_HEAD]
    return _titled(
        f"continuations of {prompts} beginnings, keeping only those of low uncertainty", head, rows
    )


def _differences(results: Mapping[str, Any]) -> list[str]:
    """The differences from the first model, where there are several."""
    pairs = [pair for pair in results.get("differences", ()) if pair["first"] == 0]
    names = list(_shown(results["streams"]))
    rows = []
    for pair in pairs:
        cells = []
        for name in names:
            figure = pair["figures"].get(name)
            low, high = figure["interval"] if figure else (math.nan, math.nan)
            cells.append(f"{figure['difference']:+.3f} ({low:+.3f} to {high:+.3f})" if figure else "")
        rows.append([*_who(results["methods"][pair["second"]]), *cells])
    return _titled(
        "less the first model's, with 95 % of a bootstrap over the same windows", [*_WHO, *names], rows
    )


def _shown(streams: Mapping[str, Any]) -> Iterator[str]:
    yield from ("nll", "error", "brier", "ece", "augrc")
    if REVERSED in streams:
        yield from (f"{figure} {REVERSED}" for figure in ("entropy_gap", "auroc_entropy", "auroc_epistemic"))


def _who(method: Mapping[str, Any]) -> tuple[str, str, str]:
    return method["name"], method["method"], method["weights"]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"
