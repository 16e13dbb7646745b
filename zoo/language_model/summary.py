"""The final figures of a language model as a table of plain text."""

from __future__ import annotations

from typing import Any

from zoo.runs.figures import best_of

# The modes of evaluation by the suffix of their key in results.json.
_MODES = {
    "": "mean",
    "_mc": "{samples} samples",
    "_ensemble": "{weights}",
    "_sharpened_bound": "sharpened bound, batch {batch}, unroll {unroll}, KL {kl_per_token:.4f}/token",
    "_dynamic": "mean, dynamic{by}, batch {batch}, unroll {unroll}, rate {learning_rate:g}",
    "_dynamic_sharpened_bound": (
        "sharpened bound, dynamic{by}, batch {batch}, unroll {unroll}, rate {learning_rate:g}, "
        "KL {kl_per_token:.4f}/token"
    ),
}


def summary(results: dict[str, Any]) -> str:
    """A table of the perplexities, saying which weights each is of."""
    rows = [("split", "weights", "perplexity", "tokens", "layout")]
    for split in ("valid", "test"):
        for suffix, description in _MODES.items():
            figures = results.get(f"{split}{suffix}")
            if figures is not None:
                rows.append((split, *_row(description, figures)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{results['preset']} ({results['method']}), {best_of(results)}"]
    lines += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if any("perplexity_bound" in figures for figures in results.values() if isinstance(figures, dict)):
        lines.append(
            "  sharpened bound: estimate of an upper bound on the perplexity of the hierarchical model, "
            "another than the mean; its weights have seen each window's targets, and their KL is paid"
        )
    if "lowest_perplexity" in results:
        lines.append(
            f"  lowest perplexity any model can reach in expectation: {results['lowest_perplexity']:.2f}"
        )
    return "\n".join(lines)


def _row(description: str, figures: dict[str, Any]) -> tuple[str, str, str, str]:
    if "perplexity_bound" in figures:
        perplexity = f"<= {figures['perplexity_bound']:.2f} ± {figures['standard_error']:.2f}"
    else:
        perplexity = f"{figures['perplexity']:.2f}"
    if "mean_perplexity_of_same_rows" in figures:
        perplexity += f" (mean: {figures['mean_perplexity_of_same_rows']:.2f})"
    rule, decay = figures.get("rule", "sgd"), figures.get("decay", 0.0)
    by = "" if rule == "sgd" else f" by {rule}, decay {decay:g}"
    return description.format(**figures, by=by), perplexity, f"{figures['tokens']:,}", figures["layout"]
