"""The smooth calibration error, parts of scores and the temperature, against other ways to compute them."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import tensorflow as tf
from sklearn.isotonic import IsotonicRegression

from tfp_bayesrnn.prediction.uncertainty import (
    TemperatureSearch,
    decompose_score,
    expected_calibration_error,
    smooth_calibration_error,
    tempered,
)


def judged(count, seed=0, power=1.0):
    """Predictions that are right with probability confidence ** power: calibrated where it is 1."""
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.02, 1.0, size=count)
    return confidence, (generator.uniform(size=count) < confidence**power).astype(float)


def smoothed_error(confidence, correct, width):
    """The integral with a kernel of that width, a sum over images behind 0 and 1, by the midpoint rule."""
    grid = (np.arange(1000) + 0.5) / 1000
    images = np.concatenate([shift + sign * confidence for shift in (-4, -2, 0, 2, 4) for sign in (1, -1)])
    kernels = np.exp(-(((grid[:, None] - images) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    return np.mean(np.abs(kernels @ np.tile(correct - confidence, 10))) / len(confidence)


@pytest.mark.parametrize(("count", "power"), [(60, 1.0), (60, 3.0), (3, 1.0)])
def test_the_smooth_error_is_the_width_at_which_kernel_sums_equal_it(count, power):
    confidence, correct = judged(count, seed=count, power=power)
    expected = scipy.optimize.brentq(
        lambda width: smoothed_error(confidence, correct, width) - width, 0.01, 1.0, xtol=1e-6
    )
    # Confidences move by at most half a cell, 6e-5, the error by no more than a small multiple of it.
    assert smooth_calibration_error(confidence, correct) == pytest.approx(expected, abs=3e-4)


def test_smooth_errors_that_are_known():
    assert smooth_calibration_error([1.0, 1.0], [1, 1]) < 1e-3
    assert smooth_calibration_error([0.0], [0]) < 1e-3
    # A residual of one sign is 1 under every kernel.
    assert smooth_calibration_error([1.0, 1.0], [0, 0]) == pytest.approx(1.0, abs=1e-9)
    assert smooth_calibration_error(np.full(10, 0.75), np.repeat([1, 0], 5)) == pytest.approx(0.25, abs=1e-4)
    # Right and wrong at one confidence cancel; at two that are near they nearly do, whatever bins would do.
    near = smooth_calibration_error([0.4999, 0.5001], [1, 0])
    assert near < 0.02 < expected_calibration_error([0.4999, 0.5001], [1, 0], bins=2)
    confidence, correct = judged(200_000)
    assert smooth_calibration_error(confidence, correct) < 0.01
    assert smooth_calibration_error(*judged(200_000, power=2.0)) == pytest.approx(1 / 6, abs=0.01)
    with pytest.raises(ValueError, match="confidence should be between 0 and 1"):
        smooth_calibration_error([1.5], [1])


@pytest.mark.parametrize("distinct", [1, 3, 40, 10_000])
@pytest.mark.parametrize("rule", ["brier", "log"])
def test_the_parts_are_those_of_scikit_learns_isotonic_regression(distinct, rule):
    generator = np.random.default_rng(distinct)
    confidence = (generator.integers(distinct, size=400) + 0.5) / distinct
    correct = (generator.uniform(size=400) < confidence**1.5).astype(float)
    loss = {
        "brier": lambda p: np.mean((p - correct) ** 2),
        "log": lambda p: (
            scipy.special.xlogy(correct, p).mean() * -1 - scipy.special.xlogy(1 - correct, 1 - p).mean()
        ),
    }[rule]
    recalibrated = IsotonicRegression().fit_transform(confidence, correct)
    share = np.full(400, correct.mean())
    parts = decompose_score(confidence, correct, rule)
    assert parts.score == pytest.approx(loss(confidence), rel=1e-12)
    assert parts.uncertainty == pytest.approx(loss(share), rel=1e-12)
    # scikit-learn's regression is right to about 1e-8.
    assert parts.refinement == pytest.approx(loss(recalibrated), abs=1e-7)
    assert parts.reliability == pytest.approx(loss(confidence) - loss(recalibrated), abs=1e-7)
    assert parts.score == pytest.approx(parts.reliability + parts.refinement, abs=1e-12)
    assert parts.reliability >= 0.0 and parts.resolution >= 0.0


def test_parts_that_are_known():
    # The same confidence for all resolves nothing; a perfect one resolves all that was uncertain.
    constant = decompose_score(np.full(4, 0.9), [1, 0, 1, 0])
    assert constant.resolution == 0.0 and constant.reliability == pytest.approx(0.16)
    perfect = decompose_score([1.0, 0.0, 1.0, 0.0], [1, 0, 1, 0], "log")
    assert (
        perfect[:2] == (0.0, 0.0) and perfect.resolution == pytest.approx(math.log(2)) == perfect.uncertainty
    )
    # A confidence in the wrong order is worth that of none.
    assert decompose_score([0.2, 0.8], [1, 0]).resolution == 0.0
    assert decompose_score([0.3], [1])[2:] == (0.0, 0.0)
    surely_wrong = decompose_score([1.0, 0.5], [0, 1], "log")
    assert surely_wrong.score == surely_wrong.reliability == math.inf
    assert surely_wrong.refinement == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match=r"one of brier, log\. Received: rule='zero'"):
        decompose_score([0.5], [1], "zero")


def random_log_probs(*shape, seed=0, scale=3.0):
    logits = np.random.default_rng(seed).normal(size=shape) * scale
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def drawn(log_probs, seed=0):
    """Classes that come with these probabilities."""
    noise = np.random.default_rng(seed).gumbel(size=log_probs.shape)
    return np.argmax(log_probs + noise, axis=-1).astype(np.int32)


@pytest.mark.parametrize("true", [0.5, 0.9, 1.3, 2.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_temperature_is_the_one_that_a_search_over_all_predictions_finds(true, dtype):
    log_probs = random_log_probs(6, 50, 40)
    targets = drawn(log_probs / true)

    def loss(temperature):
        scaled = log_probs / temperature
        of_targets = np.take_along_axis(scaled, targets[..., None], axis=-1)[..., 0]
        return float(np.mean(np.logaddexp.reduce(scaled, axis=-1) - of_targets))

    expected = scipy.optimize.minimize_scalar(
        loss, bounds=(0.25, 4.0), method="bounded", options={"xatol": 1e-6}
    )
    search = TemperatureSearch()
    for part in range(0, 6, 2):
        search.add(tf.constant(log_probs[part : part + 2], dtype), tf.constant(targets[part : part + 2]))
    found = search.result()
    # Sums of float32 losses leave about 1e-6 of the least loss, whose square root is what T can be off by.
    assert found.temperature == pytest.approx(expected.x, rel=1e-3)
    assert found.nll == pytest.approx(expected.fun, abs=1e-5)
    assert found.nll_before == pytest.approx(loss(1.0), abs=1e-5)
    # Standard errors over 300 predictions are some 5 %.
    assert found.temperature == pytest.approx(true, rel=0.25)


def test_temperatures_at_the_ends_masks_and_impossible_classes():
    log_probs = random_log_probs(20, 8)
    best, worst = np.argmax(log_probs, -1).astype(np.int32), np.argmin(log_probs, -1).astype(np.int32)
    for targets, expected in ((best, 0.25), (worst, 4.0)):
        search = TemperatureSearch()
        search.add(tf.constant(log_probs), tf.constant(targets))
        assert search.result().temperature == pytest.approx(expected)
        masked = TemperatureSearch()
        masked.add(tf.constant(log_probs), tf.constant(targets), np.zeros(20))
        with pytest.raises(ValueError, match="no prediction"):
            masked.result()
    impossible = log_probs.copy()
    impossible[0, worst[0]] = -np.inf
    with_one, without = TemperatureSearch(), TemperatureSearch()
    with_one.add(tf.constant(impossible), tf.constant(worst))
    without.add(tf.constant(log_probs[1:]), tf.constant(worst[1:]))
    assert with_one.result() == pytest.approx(without.result())


def test_tempered_probabilities_are_normalised_powers():
    log_probs = random_log_probs(4, 6)
    log_probs[0, 0] = -np.inf
    powers = np.exp(log_probs) ** (1 / 1.7)
    found = tempered(tf.constant(log_probs), 1.7)
    np.testing.assert_allclose(np.exp(found), powers / powers.sum(-1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(tempered(tf.constant(log_probs), 1.0)[1:], log_probs[1:], atol=1e-12)
