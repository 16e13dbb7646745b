"""The uncertainty benchmark's figures: calibration, entropies, the entropy gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.page import published
from zoo.page.contents import Contents, understood
from zoo.page.markup import Markup, code, drawing, missing, number, paragraph, table, tag
from zoo.page.page import Section
from zoo.page.terms import explained
from zoo.registry import TASKS, task_of
from zoo.report import uncertainty_charts as charts
from zoo.report.uncertainty_charts import who
from zoo.runs.settings import RunConfig
from zoo.uncertainty.diagrams import entropies_svg, reliability_svg
from zoo.uncertainty.streams import REVERSED, TEST, warning_of

_PTB_TEST = 82_429  # The number of predictions in the whole test text.


def uncertainty(contents: Contents[RunConfig]) -> Section:
    """The section of what `--mode=uncertainty` has measured."""
    name, title = "uncertainty", "Calibration and entropy"
    if contents.uncertainty is not None:
        with understood(contents.directory.uncertainty_path, "uncertainty"):
            return Section(name, title, _content(contents, contents.uncertainty))
    if task_of(contents.config).scores_text:
        said = "No reliability diagram, entropies or entropy gap yet; this measures them:"
        line = missing(said, command=contents.command("uncertainty"))
    else:
        line = missing(f"Reliability, entropies and the entropy gap are measured of {_able()} only.")
    return Section(name, title, [line], is_missing=True)


def _able() -> str:
    return " and ".join(f"{task.label}s" for task in TASKS.values() if task.scores_text)


def _content(contents: Contents[RunConfig], found: Mapping[str, Any]) -> list[Any]:
    methods, streams = found["methods"], found["streams"]
    texts = [(code(name), f": {stream['description']}") for name, stream in streams.items()]
    # Of swapped words there are charts.
    plain = [name for name, stream in streams.items() if stream.get("severity") is None]
    gaps = [_gaps(found, name) for name in plain if name != TEST]
    parts = [
        paragraph(
            f"Measured on {found['data']}, {streams[TEST]['predictions']:,} words of the test text. Averages "
            f"are of the probabilities under {found['samples']} draws, each held for the whole text."
        ),
        _calibration(found),
        explained("error", "ECE", "Brier", "risk-coverage area"),
        charts.temperatures(methods),
        tag("h3", "Reliability"),
        tag(
            "p",
            "How often the most probable word came, by the probability it was given: on the diagonal a model "
            "is as often right as it says. The deeper a bar's colour, the more predictions it stands for.",
            class_="note",
        ),
        tag("div", [_reliability(method) for method in methods], class_="drawings"),
        charts.selection(methods),
        tag("h3", "Entropy by text"),
        tag("ul", [tag("li", text) for text in texts], class_="note"),
        tag("div", [_entropies(method, plain) for method in methods], class_="drawings"),
        tag("h3", "Entropy gap"),
        tag(
            "p",
            "By how much the mean entropy of a text is above that of the test text, in nats per word: larger "
            "is better, a model should be less sure of what is not its language. AUROC: the chance that it "
            "is less sure of a word, or of a window, of the text than of one of the test text.",
            class_="note",
        ),
        explained("epistemic part"),
        gaps,
        charts.severities(found),
        charts.continuations(methods),
        charts.differences(found),
    ]
    if found["data"] == "ptb":
        seen, config = streams[TEST]["predictions"], contents.config
        part = "" if seen == _PTB_TEST else f" Here {seen:,} words of the {_PTB_TEST:,} were read."
        size = published.units(config.model.layers, config.model.units)
        parts.append(
            paragraph(
                f"The paper's gaps, on the reversed text, are of models of {published.MEDIUM}, with 10 "
                f"samples; this workdir's model has {size}: not the same experiment.{part}"
            )
        )
    return parts


def _calibration(found: Mapping[str, Any]) -> Markup:
    rows = []
    for method in found["methods"]:
        figures = method["streams"][TEST]
        rows.append(
            [
                who(method),
                number(figures["perplexity"], 2),
                *(number(figures[name], 4) for name in ("error", "ece", "ece_equal_mass", "brier")),
                number((figures["risk_coverage"] or {"areas": {}})["areas"].get("confidence"), 4),
            ]
        )
    head = ["model and weights", "perplexity", "error", "ECE", "ECE, equal mass", "Brier"]
    head.append("risk-coverage area")
    return table("Calibration on the test text; ECE: expected calibration error", head, rows)


def _reliability(method: Mapping[str, Any]) -> Markup | None:
    figures = method["streams"][TEST]
    if not figures.get("reliability"):
        return None
    title = who(method)
    label = f"Reliability diagram of {title}: expected calibration error {number(figures['ece'], 4)}"
    return _plate(title, reliability_svg([_without_name(method)]), label)


def _entropies(method: Mapping[str, Any], streams: list[str]) -> Markup:
    title = who(method)
    means = [
        f"{name} {number(method['streams'][name]['entropy'], 2)}"
        for name in streams
        if method["streams"].get(name)
    ]
    label = f"Histograms of the entropies of words under {title}; means in nats: {', '.join(means)}"
    return _plate(title, entropies_svg([_without_name(method)], streams), label)


def _gaps(found: Mapping[str, Any], name: str) -> list[Markup]:
    window, is_ptb = found["window"], found["data"] == "ptb" and name == REVERSED
    head = ["model and weights", "entropy of test", f"of {name}", "epistemic part", f"of {name}", "gap"]
    head += (["gap in the paper"] if is_ptb else []) + ["95 %", "AUROC, word", f"AUROC, {window} words"]
    rows = []
    for method in found["methods"]:
        test, figures = method["streams"][TEST], method["streams"].get(name)
        if not figures:
            continue
        interval = figures["entropy_gap_95"]
        row = [
            who(method),
            number(test["entropy"], 3),
            number(figures["entropy"], 3),
            *(_if_known(of["epistemic"], 3) for of in (test, figures)),
            number(figures["entropy_gap"], 3),
        ]
        if is_ptb:
            is_average = method["weights"].startswith("average")
            row.append(published.PTB_ENTROPY_GAPS.get((method["method"], is_average), ""))
        row.append("" if interval is None else f"{number(interval[0], 3)} to {number(interval[1], 3)}")
        row += [_if_known(figures["auroc"][unit]["entropy"], 3) for unit in ("word", "window")]
        rows.append(row)
    stream = found["streams"][name]
    shown = table([code(name), f": {stream['description']}"], head, rows)
    warning = warning_of(name, stream["predictions"], stream.get("unknown_words", 0))
    return [shown, *([paragraph(f"Warning: {warning}.")] if warning else [])]


def _plate(title: str, svg: str, label: str) -> Markup:
    plate = tag("div", drawing(svg, label), class_="plate")
    return tag("figure", tag("figcaption", title), plate)


def _without_name(method: Mapping[str, Any]) -> dict[str, Any]:
    """The method without its name, for a diagram whose title stands above it."""
    return {**method, "name": "", "weights": ""}


def _if_known(value: float | None, digits: int) -> str:
    return "" if value is None else number(value, digits)
