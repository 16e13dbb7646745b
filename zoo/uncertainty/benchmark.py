"""The measurement: how sure a model is of the test text and how right it is there, and of other texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.prediction import uncertainty
from zoo.uncertainty.records import Records
from zoo.uncertainty.scorers import Progress, Scorer
from zoo.uncertainty.streams import TEST, Stream

HISTOGRAM_BINS = 40
_COVERAGES = np.arange(1, 11) / 10


def measure(
    scorer: Scorer,
    streams: Mapping[str, Stream],
    vocabulary_size: int,
    window: int = 35,
    bins: int = 15,
    progress: Callable[[str], Progress] = lambda label: iter,
) -> dict[str, Any]:
    """All figures of one model.

    Args:
      scorer: the model.
      streams: the streams that `make_streams` makes, "test" among them.
      vocabulary_size: the number of words the model knows.
      window: the number of consecutive predictions whose mean uncertainty tells a text from the test text.
      bins: the number of bins of the calibration error.
      progress: makes what goes through the windows of the text with a label.

    Returns:
      "name", "method", "weights", "layout", and in "streams" by the name of each text its figures, entropies
      in nats per word. What a model gives no answer to is None.

    Raises:
      InputError: there is nothing of the test text; what `Scorer.score` raises.
    """
    found: dict[str, dict[str, Any] | None] = {}
    test = None
    for name, stream in sorted(streams.items(), key=lambda item: item[0] != TEST):
        records = scorer.score(name, stream, progress(f"{scorer.name}, {scorer.weights}: {name}"))
        if records is None:
            if name == TEST:
                raise InputError(f"{scorer.name} says nothing of the test text, which all is compared with")
            found[name] = None
            continue
        figures = {**_entropies(records, vocabulary_size), **_likelihood(records)}
        if test is None:
            test = records
            figures |= calibration(records, bins)
        else:
            figures |= contrast(records, test, window)
        found[name] = figures
    return {
        "name": scorer.name,
        "method": scorer.method,
        "weights": scorer.weights,
        "layout": scorer.layout,
        "streams": found,
    }


def _entropies(records: Records, vocabulary_size: int) -> dict[str, Any]:
    # Rounding can make an entropy of log V a little larger, and one of 0 a little smaller.
    edges = np.linspace(0.0, math.log(vocabulary_size), HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(np.clip(records.entropy, edges[0], edges[-1]), edges)
    return {
        "predictions": len(records),
        "entropy": _mean(records.entropy),
        "aleatoric": _mean(records.aleatoric),
        "epistemic": _mean(records.epistemic),
        "entropy_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _likelihood(records: Records) -> dict[str, Any]:
    nll = None if records.log_prob is None else -float(np.mean(records.log_prob))
    return {
        "nll": nll,
        "perplexity": None if nll is None else math.exp(nll) if nll < 700.0 else math.inf,
        "error": None if records.correct is None else 1.0 - float(np.mean(records.correct)),
        "brier": _mean(records.brier),
    }


def calibration(records: Records, bins: int = 15) -> dict[str, Any]:
    """Measures whether a text's probabilities are right, and what trusting only the surest ones buys.

    The risk is the share of wrong predictions among the surest ones; an area is its mean over all coverages.
    """
    found: dict[str, Any] = dict.fromkeys(
        ("ece", "ece_equal_mass", "reliability", "reliability_equal_mass", "risk_coverage")
    )
    confidence, correct = records.confidence, records.correct
    if confidence is not None and correct is not None:
        confidence = np.clip(confidence, 0.0, 1.0)
        diagrams = [uncertainty.reliability(confidence, correct, bins, mass) for mass in (False, True)]
        found |= {
            "ece": diagrams[0].error,
            "ece_equal_mass": diagrams[1].error,
            "reliability": _as_lists(diagrams[0]),
            "reliability_equal_mass": _as_lists(diagrams[1]),
        }
    if correct is not None:
        wrong = 1.0 - correct
        signals = {"entropy": records.entropy, "epistemic": records.epistemic}
        signals["confidence"] = None if confidence is None else -confidence
        places = np.ceil(_COVERAGES * len(records) - 1e-9).astype(int) - 1
        curves = {
            name: uncertainty.risk_coverage(signal, wrong)[1]
            for name, signal in signals.items()
            if signal is not None
        }
        found["risk_coverage"] = {
            "error": _mean(wrong),
            "best_area": uncertainty.area_under_risk_coverage(wrong, wrong),
            "areas": {name: float(np.mean(curve)) for name, curve in curves.items()},
            "coverages": _COVERAGES.tolist(),
            "risks": {name: curve[places].tolist() for name, curve in curves.items()},
        }
    return found


def contrast(other: Records, test: Records, window: int = 35) -> dict[str, Any]:
    """Contrasts a text with the test text: the entropy gap, and the AUROC of telling its words from theirs.

    The gap (Fortunato et al., 2017, eq. 20) is the difference of mean entropies; its interval holds 95 % of
    the bootstrap's draws of windows. AUROC is the chance that the model is less sure of a word, or a window,
    of this text than of one of the test text.
    """
    pairs = {"entropy": (other.entropy, test.entropy), "epistemic": (other.epistemic, test.epistemic)}
    auroc: dict[str, dict[str, float | None]] = {"word": {}, "window": {}}
    for name, (of_other, of_test) in pairs.items():
        if of_other is None or of_test is None:
            auroc["word"][name] = auroc["window"][name] = None
            continue
        auroc["word"][name] = uncertainty.auroc(of_other, of_test)
        auroc["window"][name] = uncertainty.auroc(_windows(of_other, window), _windows(of_test, window))
    windows = [_windows(values, window) for values in (other.entropy, test.entropy)]
    interval = None
    if min(map(len, windows)) > 1:
        interval = list(
            uncertainty.bootstrap_interval(
                lambda one, two: float(np.mean(one) - np.mean(two)), *windows, paired=False
            )
        )
    return {
        "entropy_gap": float(np.mean(other.entropy)) - float(np.mean(test.entropy)),
        "entropy_gap_95": interval,
        "auroc": auroc,
    }


def _windows(values: np.ndarray, window: int) -> np.ndarray:
    """Means over windows that do not overlap; what is left over belongs to none, unless it is all."""
    whole = len(values) // window
    return (
        values[: whole * window].reshape(whole, window).mean(axis=1) if whole else values.mean(keepdims=True)
    )


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None else float(np.mean(values))


def _as_lists(diagram: uncertainty.Reliability) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in zip(diagram._fields, diagram, strict=True)}
