"""The results: every set of weights by its name, with the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.page import published
from zoo.page.contents import Contents, understood
from zoo.page.figures import Row, named, rows_of
from zoo.page.markup import Markup, details, missing, number, paragraph, table, tag
from zoo.page.page import Section
from zoo.page.terms import explained
from zoo.registry import task_of
from zoo.report.overview import duration, facts
from zoo.runs.settings import RunConfig


def results(contents: Contents[RunConfig]) -> Section:
    """The tables of results.json."""
    name, title = "results", "Results"
    if contents.results is None:
        said = "No final figures yet; this makes them, of a run that has been trained for an epoch:"
        line = missing(said, command=contents.command("evaluate"))
        return Section(name, title, [line], is_missing=True)
    with understood(contents.directory.results_path, "evaluate"):
        return Section(name, title, _content(contents, contents.results))


def _content(contents: Contents[RunConfig], found: Mapping[str, Any]) -> list[Any]:
    parameters, config = found["parameters"], contents.config
    per_word = found.get("kl_per_training_token")
    parts = [
        facts(
            {
                "Best epoch": f"{found['epochs']} of {found['epochs_trained'] or 1}",
                "Step": f"{found['steps']:,}",
                "Training took": duration(found.get("train_seconds")),
                "Weights": f"{parameters['weights']:,}",
                "Trained parameters": f"{parameters['trainable']:,}",
                "KL of the weights": (
                    None
                    if per_word is None or not contents.is_bayesian
                    else f"{number(per_word, 4)} nats per training word"
                ),
            }
        ),
    ]
    rows = rows_of(found)
    if rows:
        parts.append(_perplexities(contents, rows))
        bayesian = ("posterior mean", "KL") if contents.is_bayesian else ()
        parts.append(explained("perplexity", "NLL", *bayesian))
    if any(row.is_bound for row in rows):
        parts.append(
            paragraph(
                "\N{LESS-THAN OR EQUAL TO}: the estimate of an upper bound on a perplexity, of sharpened "
                "weights. They have seen the words that they are scored on, so their NLL counts only "
                "together with the KL beside it."
            )
        )
    if any("dynamic" in row.key for row in rows):
        parts.append(paragraph("A step after every window: dynamic evaluation, the weights go on learning."))
    if "lowest_perplexity" in found:
        lowest = number(found["lowest_perplexity"], 2)
        parts.append(
            paragraph(f"No model can have a perplexity below {lowest} on these data, in expectation.")
        )
    tables = task_of(config).report_tables
    if tables is not None:
        parts += tables(contents, found)
    return [*parts, *_the_paper(contents)]


def _perplexities(contents: Contents[RunConfig], rows: Sequence[Row]) -> Markup:
    config = contents.config
    beside = config.data.name == "ptb"
    same_rows = any("mean_perplexity_of_same_rows" in row.figures for row in rows)
    has_bound, has_layout = any(row.is_bound for row in rows), any("layout" in row.figures for row in rows)
    head = ["weights", "split", "perplexity", "NLL, nats per word"]
    head += ["KL, nats per word"] if has_bound else []
    head += ["mean on the same rows"] if same_rows else []
    head += ["words"] + (["read as"] if has_layout else [])
    head += ["paper, another model"] if beside else []
    cells = []
    for row in rows:
        figures = row.figures
        line = [_weights(contents, row), row.split, _perplexity(row), number(row.nll, 4)]
        line += [number(row.kl, 4) if row.is_bound else ""] if has_bound else []
        if same_rows:
            mean = figures.get("mean_perplexity_of_same_rows")
            line.append("" if mean is None else number(mean, 2))
        line.append(f"{figures['tokens']:,}")
        line += [figures.get("layout", "")] if has_layout else []
        if beside:
            figure = published.ptb_figure(config.method, row.key)
            at_most = "\N{LESS-THAN OR EQUAL TO} " if row.is_bound else ""
            line.append("" if figure is None else f"{at_most}{figure:.1f}")
        cells.append(line)
    return table("Perplexity by split and weights", head, cells, texts=2)


def _weights(contents: Contents[RunConfig], row: Row) -> str:
    figures, said = row.figures, [named(contents, row.figures["weights"])]
    if row.is_bound:
        said[0] = f"sharpened; {said[0]}"
    if "learning_rate" in figures:
        said.append(f"rate {figures['learning_rate']:g}")
        said += [f"decay {figures['decay']:g}"] if figures.get("decay") else []
    said += [f"{name} {figures[name]}" for name in ("batch", "unroll") if name in figures]
    return ", ".join(said)


def _perplexity(row: Row) -> str:
    if not row.is_bound:
        return number(row.perplexity, 2)
    error = row.figures.get("standard_error")
    margin = "" if error is None else f" \N{PLUS-MINUS SIGN} {number(error, 2)}"
    return f"\N{LESS-THAN OR EQUAL TO} {number(row.perplexity, 2)}{margin}"


def _the_paper(contents: Contents[RunConfig]) -> list[Any]:
    config, method = contents.config, contents.config.method
    if config.data.name == "ptb":
        rows = [[row.model, *map(_of_paper, _splits(row))] for row in published.PTB]
        head = ["model", *published.PTB_COLUMNS.values()]
        caption = (
            f"The paper's perplexities on Penn Treebank: models of {published.MEDIUM}, that without "
            f"regularisation of {published.SMALL}"
        )
        differences, marked = published.ptb_differences(config), _marked(published.PTB, method)
    elif config.data.name == "coco_captions":
        names = ("perplexity", "bleu4", "cider")
        rows = [[row.model, *(number(row.figures[name], 1) for name in names)] for row in published.COCO]
        head, caption = ["model", "perplexity", "BLEU-4", "CIDEr"], "The paper's figures on MSCOCO, dev"
        differences = published.coco_differences(config)
        marked = _marked(published.COCO, method)
    else:
        return [paragraph("The paper has no figures for these data.")]
    return [
        tag("h3", "Beside the paper"),
        paragraph("Not the same experiment. ", " ".join(differences)),
        details(
            "The paper's table",
            table(caption, head, rows, marked=marked),
            tag("p", f"{published.SOURCE}. The row of this run's method stands out.", class_="note"),
            is_open=True,
        ),
    ]


def _splits(row: published.Published) -> list[tuple[float, bool] | None]:
    return [published.of_split(row, column) for column in published.PTB_COLUMNS]


def _of_paper(figure: tuple[float, bool] | None) -> str:
    if figure is None:
        return ""
    value, is_bound = figure
    return f"\N{LESS-THAN OR EQUAL TO} {value:.1f}" if is_bound else f"{value:.1f}"


def _marked(rows: Sequence[published.Published], method: str) -> list[int]:
    return [place for place, row in enumerate(rows) if row.method == method]
