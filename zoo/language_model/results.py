"""The final figures of a language model, as results.json has them and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from tfp_bayesrnn.evaluation import StreamEvaluator, StreamScore
from zoo import progress
from zoo.data.corpus import Corpus
from zoo.data.windows import evaluation_windows


def final_results(
    config: ConfigDict,
    evaluator: StreamEvaluator,
    corpus: Corpus,
    metrics: Sequence[dict[str, Any]],
    step: int,
    steps_per_epoch: int,
) -> dict[str, Any]:
    """Scores valid and test with the posterior mean, and by model averaging where samples are asked for.

    Args:
      config: of the run.
      evaluator: of the model, whose variables are those of the checkpoint to be scored.
      corpus: whose valid and test splits are scored, each as one stream unless configured otherwise.
      metrics: the evaluations during training, oldest first.
      step: of the checkpoint.
      steps_per_epoch: windows in one pass over the training data.
    """
    model = evaluator.model
    results = {
        "task": config.task,
        "preset": config.preset,
        "method": config.method,
        "data": config.data.name,
        "seed": config.seed,
        "steps": step,
        "epochs": step // steps_per_epoch,
        "epochs_trained": metrics[-1]["epoch"] if metrics else None,
        "train_seconds": metrics[-1]["seconds"] if metrics else None,
        "parameters": {
            "weights": sum(math.prod(weight.shape) for weight in model.posterior.weights),
            "trainable": sum(math.prod(variable.shape) for variable in model.trainable_variables),
        },
        "kl_per_training_token": next(
            (entry["kl_per_training_token"] for entry in metrics if entry["step"] == step), None
        ),
    }
    for split in ("valid", "test"):
        windows = evaluation_windows(
            getattr(corpus, split), rows=config.evaluate.final_rows, unroll=config.evaluate.final_unroll
        )
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
