"""What is written down of a score, in `metrics.jsonl` and `results.json`."""

from __future__ import annotations

from typing import Any

from tfp_bayesrnn.model.evaluation import StreamScore


def figures(score: StreamScore) -> dict[str, Any]:
    """Of any predictions."""
    return {"nll": score.nll, "predictions": score.predictions}


def word_figures(score: StreamScore) -> dict[str, Any]:
    """Of words, each of which is a prediction."""
    return {"nll": score.nll, "perplexity": score.perplexity, "tokens": score.predictions}
