"""Figures of how right a model is on one text: likelihood, calibration, what trusting the surest buys."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfp_bayesrnn.prediction import uncertainty
from zoo.uncertainty.records import Records
from zoo.uncertainty.signals import word_signals

COVERAGE, RISK = 0.8, 0.05
"""The coverage at which the risk is told, and the risk at which the coverage is."""

_COVERAGES = np.arange(1, 11) / 10
# Of what came itself, no choice of the surest can be made.
_SELECTING = ("entropy", "epistemic", "reverse_information", "pairwise_kl", "confidence")


def likelihood(records: Records) -> dict[str, Any]:
    """Nats and perplexity of what came, error and Brier score."""
    nll = None if records.log_prob is None else -float(np.mean(records.log_prob))
    return {
        "nll": nll,
        "perplexity": perplexity(nll),
        "error": None if records.correct is None else 1.0 - float(np.mean(records.correct)),
        "brier": mean(records.brier),
    }


def calibration(records: Records, bins: int = 15) -> dict[str, Any]:
    """Measures whether a text's probabilities are right, and what trusting only the surest ones buys.

    The risk is the share of wrong predictions among the surest ones; an area is its mean over all coverages.
    "parts" are those of the scores of the confidence that the most probable word comes.
    """
    errors = ("ece", "ece_equal_mass", "ece_smooth")
    found: dict[str, Any] = dict.fromkeys(
        (*errors, "reliability", "reliability_equal_mass", "parts", "risk_coverage")
    )
    confidence, correct = records.confidence, records.correct
    if confidence is not None and correct is not None:
        confidence = np.clip(confidence, 0.0, 1.0)
        diagrams = [uncertainty.reliability(confidence, correct, bins, mass) for mass in (False, True)]
        found |= {
            "ece": diagrams[0].error,
            "ece_equal_mass": diagrams[1].error,
            "ece_smooth": uncertainty.smooth_calibration_error(confidence, correct),
            "reliability": _as_lists(diagrams[0]),
            "reliability_equal_mass": _as_lists(diagrams[1]),
            "parts": {
                rule: {**parts._asdict(), "refinement": parts.refinement}
                for rule in ("brier", "log")
                for parts in [uncertainty.decompose_score(confidence, correct, rule)]
            },
        }
    if correct is not None:
        signals = word_signals(records)
        chosen = {name: signals[name] for name in _SELECTING if name in signals}
        found["risk_coverage"] = selection(chosen, 1.0 - correct)
    return found


def selection(signals: Mapping[str, np.ndarray], loss: np.ndarray) -> dict[str, Any]:
    """What it buys to keep only the answers that a signal says are sure.

    Args:
      signals: uncertainties of the answers, [N] each, by name.
      loss: the loss of each answer, [N]; the coverage at a risk is of losses of 0 and 1 only.
    """
    places = np.ceil(_COVERAGES * len(loss) - 1e-9).astype(int) - 1
    curves = {name: uncertainty.risk_coverage(signal, loss)[1] for name, signal in signals.items()}
    scores: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "augrc": uncertainty.area_under_generalized_risk_coverage,
        "prr": uncertainty.prediction_rejection_ratio,
        "risk_at_80": lambda signal, loss: uncertainty.risk_at_coverage(signal, loss, COVERAGE),
    }
    if np.isin(loss, (0.0, 1.0)).all():
        scores["coverage_at_5"] = lambda signal, loss: uncertainty.coverage_at_risk(signal, loss, RISK)
    return {
        "error": mean(loss),
        "best_area": uncertainty.area_under_risk_coverage(loss, loss),
        "areas": {name: float(np.mean(curve)) for name, curve in curves.items()},
        **{
            score: {name: function(signal, loss) for name, signal in signals.items()}
            for score, function in scores.items()
        },
        "coverages": _COVERAGES.tolist(),
        "risks": {name: curve[places].tolist() for name, curve in curves.items()},
    }


def at_temperature(fit: uncertainty.Fit, records: Records, before: Mapping[str, Any]) -> dict[str, Any]:
    """The temperature, and what it changes on the test text.

    The loss at that temperature is the refinement of the loss before it, the rest is calibration.

    Args:
      fit: the temperature that fits the validation text.
      records: those of the test text at that temperature.
      before: the figures of the test text.
    """
    judged = calibration(records)
    figures = {name: judged[name] for name in ("ece", "ece_equal_mass", "ece_smooth")}
    figures |= {**likelihood(records), "entropy": mean(records.entropy)}
    return {
        "temperature": fit.temperature,
        "valid_nll": fit.nll_before,
        "valid_nll_tempered": fit.nll,
        "test": figures,
        "nll_parts": {"calibration": before["nll"] - figures["nll"], "refinement": figures["nll"]},
    }


def perplexity(nll: float | None) -> float | None:
    """The perplexity of a mean of so many nats; infinite where it is beyond all numbers."""
    return None if nll is None else math.exp(nll) if nll < 700.0 else math.inf


def mean(values: np.ndarray | None) -> float | None:
    """The mean; None of what is not known."""
    return None if values is None else float(np.mean(values))


def _as_lists(diagram: uncertainty.Reliability) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in zip(diagram._fields, diagram, strict=True)}
