"""The final figures of a language model, as results.json has them and as a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tfp_bayesrnn.evaluation import StreamScore
from zoo import progress

if TYPE_CHECKING:
    from zoo.language_model.experiment import Experiment


def final_results(experiment: Experiment, step: int) -> dict[str, Any]:
    """Scores valid and test with the posterior mean, and by model averaging where samples are asked for."""
    config, model, corpus = experiment.config, experiment.model, experiment.corpus
    metrics = experiment.workdir.read_metrics()
    evaluator = experiment.evaluator
    weights = model.posterior.weights
    results = {
        "task": config.task,
        "preset": config.preset,
        "method": config.method,
        "data": config.data.name,
        "seed": config.seed,
        "steps": step,
        "epochs": step // len(experiment.windows),
        "epochs_trained": metrics[-1]["epoch"] if metrics else None,
        "train_seconds": metrics[-1]["seconds"] if metrics else None,
        "parameters": {
            "weights": sum(math.prod(weight.shape) for weight in weights),
            "trainable": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        },
        "kl_per_training_token": next(
            (m["kl_per_training_token"] for m in metrics if m["step"] == step), None
        ),
    }
    for split in ("valid", "test"):
        windows = experiment.final_windows(split)
        score = evaluator.mean(windows.dataset(), progress=progress.windows(split))
        results[split] = {**_figures(score, windows.batch), "weights": "mean"}
        if config.evaluate.num_samples:
            score = evaluator.average(
                windows.dataset(), config.evaluate.num_samples, progress=progress.windows(f"{split}, samples")
            )
            results[f"{split}_mc"] = {
                **_figures(score, windows.batch),
                "samples": config.evaluate.num_samples,
            }
    if corpus.entropy_rate is not None:
        results["lowest_perplexity"] = math.exp(corpus.entropy_rate)
    return results


def _figures(score: StreamScore, rows: int) -> dict[str, Any]:
    layout = "one stream" if rows == 1 else f"{rows} rows"
    return {
        "perplexity": score.perplexity,
        "nll": score.nll,
        "tokens": score.predictions,
        "layout": layout,
    }


def summary(results: dict[str, Any]) -> str:
    """A table of the perplexities, saying which weights each is of."""
    rows = [("split", "weights", "perplexity", "tokens", "layout")]
    for split in ("valid", "test"):
        for key in (split, f"{split}_mc"):
            if key in results:
                figures = results[key]
                weights = figures.get("weights") or f"{figures['samples']} samples"
                rows.append(
                    (
                        split,
                        weights,
                        f"{figures['perplexity']:.2f}",
                        f"{figures['tokens']:,}",
                        figures["layout"],
                    )
                )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        f"{results['preset']} ({results['method']}), best of {results['epochs_trained']} epochs: "
        f"epoch {results['epochs']}"
    ]
    lines += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if "lowest_perplexity" in results:
        lines.append(
            f"  lowest perplexity any model can reach in expectation: {results['lowest_perplexity']:.2f}"
        )
    return "\n".join(lines)
