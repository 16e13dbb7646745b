"""Agreement with other libraries, by figures recorded from them for the predictions made here.

They were recorded with scikit-learn 1.9.1 (`roc_auc_score`, `roc_curve`, `log_loss`), netcal 1.3.6
(`ECE(15)`, `TemperatureScaling`), relplot 1.0.3 (`smECE`, of the authors of the smooth calibration error) and
torch-uncertainty 0.13.0 on torch 2.14.1 (`AURC`, `AUGRC`, `RiskAt80Cov`, `CovAt5Risk`, `FPR95`,
`AdaptiveCalibrationError`, `BrierScore`, `MutualInformation`), each given the arrays of `predictions`.
"""

import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn.prediction import uncertainty

COUNT, CLASSES = 3_000, 5


@pytest.fixture(scope="module")
def predictions():
    """Log-probabilities [N, V] that are too sure of themselves, and the classes that came."""
    generator = np.random.default_rng(20)
    logits = 2.0 * generator.normal(size=(COUNT, CLASSES))
    noise = generator.gumbel(size=(COUNT, CLASSES))
    targets = np.argmax(0.6 * logits + noise, axis=1)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), targets


def judged(predictions):
    log_probs, targets = predictions
    return np.exp(log_probs).max(axis=1), (log_probs.argmax(axis=1) == targets).astype(float)


def test_calibration(predictions):
    confidence, correct = judged(predictions)
    netcal, torch_uncertainty, relplot = 0.13337957189802213, 0.13337959349155426, 0.1335067522361783
    assert uncertainty.expected_calibration_error(confidence, correct) == pytest.approx(netcal, abs=1e-9)
    adaptive = uncertainty.reliability(confidence, correct, equal_mass=True).error
    assert adaptive == pytest.approx(netcal, abs=1e-9)
    assert adaptive == pytest.approx(torch_uncertainty, abs=1e-6)  # It counts in float32.
    # relplot rounds the width up to a multiple of about 0.001, of which the error depends little.
    assert uncertainty.smooth_calibration_error(confidence, correct) == pytest.approx(relplot, abs=2e-4)


def test_the_temperature(predictions):
    log_probs, targets = predictions
    search = uncertainty.TemperatureSearch()
    search.add(tf.constant(log_probs), tf.constant(targets))
    found = search.result()
    # netcal searches by gradients, to about this.
    assert found.temperature == pytest.approx(1 / 0.60245546, rel=1e-4)
    assert found.nll_before == pytest.approx(1.3066757710304926, rel=1e-9)  # scikit-learn's log loss


def test_selective_prediction(predictions):
    confidence, correct = judged(predictions)
    wrong = 1.0 - correct
    risks = uncertainty.risk_coverage(-confidence, wrong)[1]
    # torch-uncertainty's areas are by trapezoids from a coverage of 1 / N on, divided by 1 - 1 / N.
    width = 1.0 - 1.0 / COUNT
    mean = 0.35400623225684275 * width + (risks[0] + risks[-1]) / 2 / COUNT
    area = uncertainty.area_under_risk_coverage(-confidence, wrong)
    assert area == pytest.approx(mean, abs=1e-6)
    generalized = 0.20562759810695108 * width + risks[0] / COUNT / 2 / COUNT
    found = uncertainty.area_under_generalized_risk_coverage(-confidence, wrong)
    assert found == pytest.approx(generalized, abs=1e-6)
    assert uncertainty.risk_at_coverage(-confidence, wrong) == pytest.approx(0.44708333333333333, abs=1e-9)
    assert uncertainty.coverage_at_risk(-confidence, wrong) == pytest.approx(0.002, abs=1e-6)


def test_detection_of_errors(predictions):
    log_probs, targets = predictions
    entropy = -np.sum(np.exp(log_probs) * log_probs, axis=1)
    wrong = log_probs.argmax(axis=1) != targets
    found = uncertainty.auroc(entropy[wrong], entropy[~wrong])
    assert found == pytest.approx(0.6599009621442757, abs=1e-12)
    rate = uncertainty.false_positive_rate(entropy[wrong], entropy[~wrong])
    assert rate == pytest.approx(0.8242978445460484, abs=1e-12)


def test_scores_and_information(predictions):
    log_probs, targets = predictions
    assert np.mean(uncertainty.brier_score(log_probs, targets)) == pytest.approx(0.657909631729126, abs=1e-6)
    logits = 2.0 * np.random.default_rng(21).normal(size=(COUNT, 4, CLASSES))
    samples = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    information = uncertainty.decompose(np.moveaxis(samples, 1, 0)).epistemic
    # torch-uncertainty keeps logarithms finite by an offset.
    assert np.mean(information) == pytest.approx(0.49681010842323303, rel=1e-7)
