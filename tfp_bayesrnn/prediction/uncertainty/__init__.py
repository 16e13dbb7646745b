"""Uncertainty of predictions: its parts, and what it is worth.

The parts, `brier_score` and the temperature work on the predictive distributions themselves, in TensorFlow.
The others work on what is kept of each prediction (its confidence, its entropy, whether it is right), in
NumPy. Those that rank look only at the order of the uncertainties, so their unit and scale do not matter.
Dimensions: S samples of the weights, V classes, N predictions.
"""

from tfp_bayesrnn.prediction.uncertainty.bootstrap import bootstrap_interval
from tfp_bayesrnn.prediction.uncertainty.calibration import (
    Reliability,
    expected_calibration_error,
    reliability,
)
from tfp_bayesrnn.prediction.uncertainty.decomposition import ScoreParts, decompose_score
from tfp_bayesrnn.prediction.uncertainty.detection import auroc, false_positive_rate
from tfp_bayesrnn.prediction.uncertainty.parts import (
    TargetScores,
    Uncertainty,
    decompose,
    entropy,
    of_average,
    of_parts,
    reverse_mutual_information,
)
from tfp_bayesrnn.prediction.uncertainty.proper_scores import brier_score, crps_of_samples
from tfp_bayesrnn.prediction.uncertainty.selection import (
    area_under_generalized_risk_coverage,
    area_under_risk_coverage,
    coverage_at_risk,
    prediction_rejection_ratio,
    rank_correlation,
    risk_at_coverage,
    risk_coverage,
)
from tfp_bayesrnn.prediction.uncertainty.sequences import SequenceScores, score_sequences
from tfp_bayesrnn.prediction.uncertainty.smooth_calibration import smooth_calibration_error
from tfp_bayesrnn.prediction.uncertainty.temperature import Fit, TemperatureSearch, tempered

__all__ = [
    "Fit",
    "Reliability",
    "ScoreParts",
    "SequenceScores",
    "TargetScores",
    "TemperatureSearch",
    "Uncertainty",
    "area_under_generalized_risk_coverage",
    "area_under_risk_coverage",
    "auroc",
    "bootstrap_interval",
    "brier_score",
    "coverage_at_risk",
    "crps_of_samples",
    "decompose",
    "decompose_score",
    "entropy",
    "expected_calibration_error",
    "false_positive_rate",
    "of_average",
    "of_parts",
    "prediction_rejection_ratio",
    "rank_correlation",
    "reliability",
    "reverse_mutual_information",
    "risk_at_coverage",
    "risk_coverage",
    "score_sequences",
    "smooth_calibration_error",
    "tempered",
]
