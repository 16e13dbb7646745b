"""The uncertainty benchmark's selections, severities, temperatures and differences, as charts and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.page.charts import Line, line_chart
from zoo.page.markup import Markup, number, table, tag
from zoo.uncertainty.signals import TITLES
from zoo.uncertainty.streams import TEST

_SELECTING = ("entropy", "epistemic", "confidence")
_TELLING = ("entropy", "epistemic", "nll")
_CONTINUING = ("entropy", "epistemic", "greedy_nll")


def who(method: Mapping[str, Any]) -> str:
    """The model and its weights."""
    return ", ".join(filter(None, (method["name"], method["weights"])))


def selection(methods: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Errors among the predictions that are kept, by their share; nothing of models that do not tell them."""
    charts = []
    for method in methods:
        risk = method["streams"][TEST]["risk_coverage"]
        if risk:
            title = f"Share of wrong words, {who(method)}"
            charts.append(_by_coverage(title, risk, _SELECTING, "words kept, %"))
    said = "How often the most probable word is wrong, where only the words with the lowest signal are kept."
    return _section("Selective prediction", said, charts)


def severities(found: Mapping[str, Any]) -> list[Markup]:
    """AUROC by the share of words that are not in their place."""
    graded = [(name, one.get("severity")) for name, one in found["streams"].items()]
    graded = [(name, severity) for name, severity in graded if severity is not None]
    charts = []
    for method in found["methods"]:
        known = [(severity, method["streams"].get(name)) for name, severity in graded]
        lines = [
            Line(
                TITLES[signal],
                [100 * severity for severity, _ in known],
                [of["auroc"]["window"].get(signal) if of else None for _, of in known],
            )
            for signal in _TELLING
        ]
        charts.append(line_chart(f"AUROC, {who(method)}", _with_points(lines), "words swapped, %"))
    said = (
        f"The chance that a signal is higher in a window of {found['window']} words where some of the test "
        "text's words are in one another's places than in one of the test text itself."
    )
    return _section("Swapped words", said, charts)


def continuations(methods: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """What is left of bad continuations where only those of low uncertainty are kept."""
    charts = [
        _by_coverage(
            f"{figures['loss']}, {decoding}, {who(method)}", figures, _CONTINUING, "continuations kept, %"
        )
        for method in methods
        for decoding, figures in (method.get("generation") or {}).items()
    ]
    said = "How bad continuations are, where only those with the lowest signal are kept."
    return _section("Selective generation", said, charts)


def temperatures(methods: Sequence[Mapping[str, Any]]) -> Markup | None:
    """The temperature that fits the validation text, and the test text at it."""
    rows = []
    for method in methods:
        found, before = method.get("temperature"), method["streams"][TEST]
        if found:
            pairs = [
                number(of[name], digits)
                for name, digits in (("perplexity", 2), ("ece", 4))
                for of in (before, found["test"])
            ]
            rows.append([who(method), number(found["temperature"], 3), *pairs])
    head = ["model and weights", "temperature", "perplexity", "at it", "ECE", "at it"]
    caption = "The temperature that fits the validation text best, and the test text at it"
    return table(caption, head, rows) if rows else None


def differences(found: Mapping[str, Any]) -> Markup | None:
    """Differences from the first model, with their intervals."""
    names = ("nll", "error", "ece", "augrc", "entropy_gap reversed", "auroc_entropy reversed")
    rows = []
    for pair in found.get("differences", ()):
        if pair["first"] == 0:
            row = [who(found["methods"][pair["second"]])]
            for name in names:
                figure = pair["figures"].get(name)
                row.append(
                    "{} ({} to {})".format(
                        *(number(one, 3) for one in (figure["difference"], *figure["interval"]))
                    )
                    if figure
                    else ""
                )
            rows.append(row)
    caption = (
        f"Less the figures of {who(found['methods'][0])}, with 95 % of a bootstrap over the same windows"
    )
    return table(caption, ["model and weights", *names], rows) if rows else None


def _by_coverage(
    title: str, figures: Mapping[str, Any], signals: Sequence[str], x_label: str
) -> Markup | None:
    shares = [100 * share for share in figures["coverages"]]
    lines = [
        Line(TITLES[name], shares, figures["risks"][name]) for name in signals if name in figures["risks"]
    ]
    return line_chart(title, lines, x_label)


def _with_points(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if any(y is not None for y in line.ys)]


def _section(title: str, said: str, charts: Sequence[Markup | None]) -> list[Markup]:
    shown = [chart for chart in charts if chart is not None]
    if not shown:
        return []
    return [tag("h3", title), tag("p", said, class_="note"), tag("div", shown, class_="charts")]
