"""The final figures of a language model, as results.json has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfp_bayesrnn.model.dynamic_evaluation import DynamicRule
from tfp_bayesrnn.model.evaluation import (
    SharpenedBound,
    StreamEvaluator,
    StreamScore,
    average_of_models,
)
from zoo.data.corpus import Corpus
from zoo.data.windows import Windows, evaluation_windows
from zoo.language_model.configuration import Evaluation, LanguageModelConfig
from zoo.language_model.dynamic import WEIGHTS
from zoo.runs.figures import bound_figures, of_samples, word_figures
from zoo.terminal import progress


def lowest_perplexity(corpus: Corpus) -> dict[str, float]:
    """The perplexity that no model can go below, where that is known."""
    if corpus.entropy_rate is None:
        return {}
    return {"lowest_perplexity": math.exp(corpus.entropy_rate)}


def split_results(
    split: str,
    tokens: np.ndarray,
    config: LanguageModelConfig,
    evaluator: StreamEvaluator,
    rule: DynamicRule | None = None,
    members: Mapping[str, StreamEvaluator] | None = None,
) -> dict[str, dict[str, Any]]:
    """The figures of one split, a dictionary for each mode of evaluation that is asked for.

    Args:
      split: the split's name.
      tokens: the ids of the split's words.
      config: the run's configuration.
      evaluator: the evaluator of the model, whose variables are those of the checkpoint to be scored.
      rule: the rule of dynamic evaluation; None for none.
      members: the evaluators of models that form an ensemble with it, by their workdirs.
    """
    settings = config.evaluate
    windows = evaluation_windows(tokens, rows=settings.final_rows, unroll=settings.final_unroll)
    score = evaluator.mean(windows.dataset(), progress=progress.windows(split))
    results = {split: {**_figures(score, windows), "weights": "mean"}}
    if settings.num_samples:
        samples = settings.num_samples
        score = evaluator.average(windows.dataset(), samples, progress=progress.windows(f"{split}, samples"))
        results[f"{split}_mc"] = {**_figures(score, windows), **of_samples(samples)}
    if members:
        results[f"{split}_ensemble"] = _of_ensemble(split, windows, settings, evaluator, members)
    if evaluator.model.sharpening or rule:
        windows = evaluation_windows(tokens, rows=settings.rows, unroll=settings.unroll)
        results.update(_results_by_window(split, windows, settings, evaluator, rule))
    return results


def _of_ensemble(
    split: str,
    windows: Windows,
    settings: Evaluation,
    evaluator: StreamEvaluator,
    members: Mapping[str, StreamEvaluator],
) -> dict[str, Any]:
    """The figures of the average of several models' probabilities, under their means or draws of each."""
    evaluators, samples = [evaluator, *members.values()], settings.num_samples
    label = progress.windows(f"{split}, ensemble")
    score = average_of_models(evaluators, windows.dataset(), samples, progress=label)
    of_each = f"{samples} samples" if samples else "the mean"
    return {
        **_figures(score, windows),
        "weights": f"ensemble of {len(evaluators)} models, {of_each} of each",
        "members": list(members),
    }


def _results_by_window(
    split: str,
    windows: Windows,
    settings: Evaluation,
    evaluator: StreamEvaluator,
    rule: DynamicRule | None,
) -> dict[str, dict[str, Any]]:
    """The modes that depend on batch and unroll, beside the mean on the same rows."""
    same_rows = evaluator.mean(windows.dataset(), progress=progress.windows(f"{split}, mean"))
    common: dict[str, Any] = {
        "batch": windows.batch,
        "unroll": windows.unroll,
        "mean_perplexity_of_same_rows": same_rows.perplexity,
    }
    results, sharpened = {}, evaluator.model.sharpening is not None
    if sharpened:
        bound = evaluator.sharpened_bound(windows.dataset(), progress=progress.windows(f"{split}, bound"))
        results[f"{split}_sharpened_bound"] = {**_bound_figures(bound, windows, "mean"), **common}
    if rule:
        moved = WEIGHTS[settings.dynamic_rule]
        score = evaluator.mean(windows.dataset(), rule, progress=progress.windows(f"{split}, dynamic"))
        common |= {"rule": settings.dynamic_rule, "learning_rate": rule.learning_rate}
        common["decay"] = settings.dynamic_decay
        results[f"{split}_dynamic"] = {**_figures(score, windows), "weights": moved, **common}
        if sharpened:
            bound = evaluator.sharpened_bound(
                windows.dataset(), rule, progress=progress.windows(f"{split}, dynamic bound")
            )
            results[f"{split}_dynamic_sharpened_bound"] = {
                **_bound_figures(bound, windows, moved),
                **common,
            }
    return results


def _figures(score: StreamScore, windows: Windows) -> dict[str, Any]:
    return {**word_figures(score), "layout": _layout(windows)}


def _bound_figures(bound: SharpenedBound, windows: Windows, phi: str) -> dict[str, Any]:
    return {
        **bound_figures(bound),
        "layout": _layout(windows),
        "weights": f"phi: {phi}; theta: a draw for every window, which has seen its targets",
    }


def _layout(windows: Windows) -> str:
    return "one stream" if windows.batch == 1 else f"{windows.batch} rows"
