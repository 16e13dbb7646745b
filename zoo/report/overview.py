"""The first sections: what was configured, and how training went."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zoo.configuration.methods import BAYESIAN_METHODS, LABELS, SHARPENED_METHODS
from zoo.page.charts import Line, line_chart
from zoo.page.contents import Contents, understood
from zoo.page.markup import Markup, code, details, missing, number, paragraph, significant, table, tag
from zoo.page.page import Section
from zoo.page.terms import explained
from zoo.registry import task_of
from zoo.runs.settings import RunConfig

_NAMES = {
    "preset": "Preset",
    "description": "Description",
    "task": "Task",
    "method": "Method",
    "seed": "Seed",
    "compute_dtype": "Computed in",
    "jit_compile": "Compiled by XLA",
}


_MEASURES = {"perplexity": "perplexity", "nll": "NLL"}


def facts(values: Mapping[str, Any]) -> Markup:
    """A list of names and values; values of None are left out."""
    items = [(tag("dt", name), tag("dd", value)) for name, value in values.items() if value is not None]
    return tag("dl", items, class_="facts")


def duration(seconds: float | None) -> str | None:
    """Seconds in words: "1 h 26 min"."""
    if seconds is None:
        return None
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def configuration(contents: Contents[RunConfig]) -> Section:
    """The section of every field; those of a table are folded up behind its name."""
    config, groups = contents.config, []
    values = config.to_dict()
    fields = {name: values[name] for name in (*_NAMES, *values) if name in values}
    for name in sorted(fields):
        if isinstance(fields[name], Mapping):
            unused = "" if _is_used(name, config.method) else " (not used by this method)"
            groups.append(details([code(name), unused], _fields(fields.pop(name))))
    said = {
        "preset": code(config.preset),
        "task": task_of(config).about,
        "method": f"{LABELS[config.method]} ({config.method})",
    }
    return Section(
        "configuration",
        "Configuration",
        [
            facts({_NAMES.get(name, name): said.get(name, _shown(value)) for name, value in fields.items()}),
            groups,
        ],
    )


def learning(contents: Contents[RunConfig]) -> Section:
    """The curves of training by epochs, and their numbers."""
    directory, name, title = contents.directory, "learning", "Learning curves"
    notes = []
    if contents.divergence is not None:
        with understood(directory.divergence_path, "train"):
            step, error = (contents.divergence[field] for field in ("step", "error"))
            notes.append(missing(f"Training diverged at step {step}: {error}"))
    if not contents.metrics:
        line = missing("No epoch has ended yet; this trains:", command=contents.command("train"))
        return Section(name, title, [notes, line], is_missing=True)
    with understood(directory.metrics_path, "train"):
        return Section(name, title, [notes, _curves(contents)])


def _is_used(table_name: str, method: str) -> bool:
    if table_name == "sharpening":
        return method in SHARPENED_METHODS
    return table_name not in ("prior", "posterior") or method in BAYESIAN_METHODS


def _fields(fields: Mapping[str, Any]) -> Markup:
    return facts({name: _shown(value) for name, value in fields.items()})


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _fields(value)
    if isinstance(value, str):
        return value or "(none)"
    return json.dumps(value)


class _History(NamedTuple):
    """The entries of every epoch of training, and the best one of them, if any has a figure."""

    metrics: Sequence[Mapping[str, Any]]
    epochs: Sequence[int]
    best: Mapping[str, Any] | None

    @classmethod
    def of(cls, metrics: Sequence[Mapping[str, Any]]) -> _History:
        epochs = [entry["epoch"] for entry in metrics]
        known = [entry for entry in metrics if entry["nll"] is not None]
        return cls(metrics, epochs, min(known, key=lambda entry: entry["nll"], default=None))

    def has(self, name: str) -> bool:
        return any(entry.get(name) for entry in self.metrics)

    def chart(self, title: str, lines: Mapping[str, str], **options: Any) -> Markup | None:
        """A chart of the lines, label -> figure, by epochs; the best epoch is marked."""
        ys = {label: [entry.get(name) for entry in self.metrics] for label, name in lines.items()}
        drawn = [Line(label, self.epochs, values) for label, values in ys.items()]
        mark = None if self.best is None else self.best["epoch"]
        return line_chart(title, drawn, "epoch", **{"mark": mark, **options})


def _curves(contents: Contents) -> list[Any]:
    history = _History.of(contents.metrics)
    charts = [*_charts_of_figures(contents, history), *_charts_of_training(contents, history)]
    predicted = "word" if contents.has_words else "prediction"
    return [
        paragraph("; ".join(_progress(contents, history)), "."),
        tag("div", [chart for chart in charts if chart], class_="charts"),
        explained("NLL", *(("KL",) if contents.is_bayesian else ())),
        details("The numbers of every epoch", _numbers(contents.metrics, predicted)),
    ]


def _charts_of_figures(contents: Contents, history: _History) -> Iterator[Markup | None]:
    """The charts of how well the model predicts."""
    weights = "posterior mean" if contents.is_bayesian else "no dropout"
    rows = history.metrics[-1].get("rows")
    if contents.has_words:
        yield history.chart(
            "Validation perplexity",
            {"validation": "perplexity"},
            is_logarithmic=True,
            note=f"({weights}{f', {rows} rows' if rows else ''}; logarithmic)",
        )
    yield history.chart(
        f"NLL, nats per {'word' if contents.has_words else 'prediction'}",
        {f"training, {_trained_with(contents.config.method)}": "train_nll", f"validation, {weights}": "nll"},
    )


def _charts_of_training(contents: Contents, history: _History) -> Iterator[Markup | None]:
    """The charts of what else moves: the KL divergences and the learning rate."""
    kl_weight = contents.config.train.kl_weight
    if history.has("kl_per_training_token"):
        tempered = f", weighed by {kl_weight:g}" if kl_weight != 1.0 else ""
        yield history.chart(
            "KL of the weights, nats per training word",
            {"KL": "kl_per_training_token"},
            note=f"(posterior to prior{tempered})",
        )
    if history.has("train_kl_sharpening"):
        yield history.chart("KL of sharpening, nats per training word", {"KL": "train_kl_sharpening"})
    yield history.chart(
        "Learning rate",
        {"learning rate": "learning_rate"},
        is_logarithmic=True,
        mark=None,
        note="(logarithmic)",
    )


def _progress(contents: Contents, history: _History) -> Iterator[str]:
    """Says in words how far training has come."""
    last, best = history.metrics[-1], history.best
    yield f"{last['epoch']} of {contents.config.train.epochs} epochs"
    if last.get("seconds") is not None:
        yield f"{duration(last['seconds'])} of training"
    if best is not None:
        measure = "perplexity" if contents.has_words else "nll"
        yield (
            f"best on valid is epoch {best['epoch']}, with {_MEASURES[measure]} {number(best[measure], 2)} "
            "(the dotted line)"
        )


def _trained_with(method: str) -> str:
    if "dropout" in method:
        return "with dropout"
    return "one draw of the weights" if method in BAYESIAN_METHODS else "same weights"


def _numbers(metrics: Sequence[Mapping[str, Any]], predicted: str) -> Markup:
    columns = {
        "nll": ("valid NLL", lambda value: number(value, 4)),
        "perplexity": ("valid perplexity", lambda value: number(value, 2)),
        "train_nll": ("train NLL", lambda value: number(value, 4)),
        "kl_per_training_token": ("KL per training word", lambda value: number(value, 4)),
        "train_kl_sharpening": ("sharpening KL", lambda value: number(value, 5)),
        "learning_rate": ("learning rate", significant),
        "gradient_norm": ("gradient norm", significant),
        "seconds": ("seconds", lambda value: number(value, 0)),
    }
    shown = {name: column for name, column in columns.items() if any(entry.get(name) for entry in metrics)}
    rows = [
        [str(entry["epoch"]), *(form(entry.get(name)) for name, (_, form) in shown.items())]
        for entry in metrics
    ]
    return table(
        f"Training by epochs, in nats per {predicted}",
        ["epoch", *(heading for heading, _ in shown.values())],
        rows,
    )
