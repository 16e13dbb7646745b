"""Tables of a report that say how good captions are, and what uncertainty says of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.captioning.configuration import CaptioningConfig
from zoo.captioning.metrics import LABELS
from zoo.page.contents import Contents
from zoo.page.figures import named, rows_of
from zoo.page.markup import Markup, number, paragraph, table
from zoo.page.published import COCO, coco_figure
from zoo.page.terms import explained

_SIGNALS = {
    "entropy": "entropy",
    "mutual_information": "mutual information",
    "negative_log_probability": "negative log-probability",
}


def score_tables(contents: Contents[CaptioningConfig], found: Mapping[str, Any]) -> list[Markup]:
    """The tables of what `results.json` says of captions, besides perplexities."""
    scored = [row for row in rows_of(found) if any(name in row.figures for name in LABELS)]
    if not scored:
        return [paragraph("Captions were not scored: the scorers are an extra of the installation.")]
    names = [name for name in LABELS if any(name in row.figures for row in scored)]
    is_coco, method = contents.config.data.name == "coco_captions", contents.config.method
    head = ["weights", "split", *(LABELS[name] for name in names), "images", "beam"]
    rows = [
        [
            named(contents, row.figures["weights"]),
            row.split,
            *(number(_hundredfold(row.figures.get(name)), 1) for name in names),
            f"{row.figures['images']:,}",
            str(row.figures["beam"]),
        ]
        for row in scored
    ]
    if is_coco and any(row.method == method for row in COCO):
        figures = [coco_figure(method, name) for name in names]
        cells = ["" if figure is None else number(figure, 1) for figure in figures]
        rows.append(["paper, another model", "dev", *cells, "", ""])
    parts = [table("Scores of the captions, times 100", head, rows, texts=2)]
    parts.append(explained("BLEU, ROUGE-L, CIDEr", "beam"))
    for row in scored:
        signals = found.get(f"{row.key}_uncertainty")
        if signals:
            parts.append(_what_uncertainty_says(named(contents, row.figures["weights"]), signals))
    return parts


def _what_uncertainty_says(weights: str, signals: Mapping[str, Any]) -> Markup:
    rows = []
    for name, label in _SIGNALS.items():
        if name not in signals:
            continue
        correlation, (low, high) = (signals[name][key] for key in ("rank_correlation", "rank_correlation_95"))
        interval = f"{number(low, 3)} to {number(high, 3)}"
        rows.append([label, number(correlation, 3), interval, number(_hundredfold(signals[name]["area"]), 1)])
    mean, best = (number(_hundredfold(signals[name]), 1) for name in ("mean_cider", "best_area"))
    return table(
        f"What uncertainty says of a caption's CIDEr: {weights}. Area: mean CIDEr over all shares of "
        f"captions kept, the surest first; {mean} where it says nothing, {best} at best",
        ["uncertainty", "rank correlation", "95 %", "area"],
        rows,
    )


def _hundredfold(value: float | None) -> float | None:
    return None if value is None else 100.0 * value
