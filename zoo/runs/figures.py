"""The figures of a score that are written to `metrics.jsonl` and `results.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfp_bayesrnn.model.evaluation import SharpenedBound, StreamScore


def figures(score: StreamScore) -> dict[str, Any]:
    """The figures of any predictions."""
    return {"nll": score.nll, "predictions": score.predictions}


def word_figures(score: StreamScore) -> dict[str, Any]:
    """The figures of words, each of which is a prediction."""
    return {"nll": score.nll, "perplexity": score.perplexity, "tokens": score.predictions}


def of_samples(samples: int) -> dict[str, Any]:
    """What is said of the weights where an average over so many samples of them is scored."""
    return {"weights": f"average over {samples} samples", "samples": samples}


def bound_figures(bound: SharpenedBound) -> dict[str, Any]:
    """The figures of words under the sharpened posterior, with the KL that is paid for it."""
    return {
        "perplexity_bound": bound.perplexity_bound,
        "standard_error": bound.perplexity_bound * bound.standard_error,
        "kl_per_token": bound.kl,
        "tokens": bound.predictions,
    }


def best_of(results: Mapping[str, Any]) -> str:
    """Which checkpoint the figures of `results.json` are of, in words."""
    if results["epochs_trained"] is None:
        return f"step {results['steps']}, before the end of the first epoch"
    return f"best of {results['epochs_trained']} epochs: epoch {results['epochs']}"
