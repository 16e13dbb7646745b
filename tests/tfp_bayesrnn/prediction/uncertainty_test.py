import itertools
import math

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.metrics import roc_auc_score

from tfp_bayesrnn.prediction.uncertainty import (
    area_under_risk_coverage,
    auroc,
    bootstrap_interval,
    brier_score,
    decompose,
    entropy,
    expected_calibration_error,
    rank_correlation,
    reliability,
    risk_coverage,
)


def test_entropy_of_distributions_with_a_probability_of_zero():
    probs = np.random.default_rng(3).dirichlet(np.full(6, 0.5), size=4)
    probs[0] = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    with np.errstate(divide="ignore"):
        found = entropy(tf.constant(np.log(probs), tf.float32))
    np.testing.assert_allclose(found, scipy.stats.entropy(probs, axis=-1), rtol=1e-5, atol=1e-6)


def test_the_curve_without_ties_is_the_running_mean():
    coverage, risk = risk_coverage([0.3, 0.1, 0.9, 0.2], [4.0, 1.0, 8.0, 3.0])
    np.testing.assert_array_equal(coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(risk, [1.0, 2.0, 8 / 3, 4.0])
    assert area_under_risk_coverage([0.3, 0.1, 0.9, 0.2], [4.0, 1.0, 8.0, 3.0]) == pytest.approx(29 / 12)


def test_ties_count_as_the_mean_over_all_orders():
    uncertainty = np.array([0.5, 0.1, 0.5, 0.7, 0.5, 0.7])
    quality = np.array([2.0, 7.0, 3.0, 1.0, 10.0, 4.0])
    orders = []
    for order in itertools.permutations(range(6)):
        sure = uncertainty[list(order)]
        if np.all(np.diff(sure) >= 0):
            orders.append(np.cumsum(quality[list(order)]) / np.arange(1, 7))
    assert len(orders) == 6 * 2
    np.testing.assert_allclose(risk_coverage(uncertainty, quality)[1], np.mean(orders, axis=0), rtol=1e-14)


def test_the_order_of_the_answers_changes_nothing():
    generator = np.random.default_rng(0)
    uncertainty = generator.integers(5, size=200) / 7
    quality = generator.normal(size=200)
    expected = risk_coverage(uncertainty, quality)[1]
    for _ in range(5):
        order = generator.permutation(200)
        np.testing.assert_array_equal(risk_coverage(uncertainty[order], quality[order])[1], expected)


def test_the_area_of_useless_and_of_perfect_uncertainty():
    quality = np.random.default_rng(1).gamma(1.0, size=300)
    assert area_under_risk_coverage(np.zeros(300), quality) == pytest.approx(quality.mean())
    best = area_under_risk_coverage(-quality, quality)
    assert best == pytest.approx(np.mean(np.cumsum(np.sort(quality)[::-1]) / np.arange(1, 301)))
    noisy = area_under_risk_coverage(-quality + np.random.default_rng(2).normal(size=300), quality)
    assert quality.mean() < noisy < best
    assert area_under_risk_coverage([1.0, math.inf], [1.0, 0.0]) == 0.75


@pytest.mark.parametrize("distinct", [3, 20, 10_000])
def test_rank_correlation_is_scipys(distinct):
    generator = np.random.default_rng(distinct)
    first = generator.integers(distinct, size=150).astype(float)
    second = first * generator.normal(size=150) + generator.integers(distinct, size=150)
    expected = scipy.stats.spearmanr(first, second).statistic
    assert rank_correlation(first, second) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation(first, np.exp(first / distinct)) == pytest.approx(1.0, abs=1e-12)
    assert rank_correlation(first, -first) == pytest.approx(-1.0, abs=1e-12)


def test_a_constant_has_no_rank_correlation():
    assert math.isnan(rank_correlation([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]))
    assert math.isnan(rank_correlation([1.0], [2.0]))
    assert rank_correlation([1.0, math.inf, -math.inf], [2, 3, 1]) == 1.0


@pytest.mark.parametrize("distinct", [2, 10, 10_000])
def test_auroc_is_scikit_learns(distinct):
    generator = np.random.default_rng(distinct)
    positive = generator.integers(distinct, size=70) + distinct // 4
    negative = generator.integers(distinct, size=110)
    labels = np.repeat([1, 0], [70, 110])
    expected = roc_auc_score(labels, np.concatenate([positive, negative]))
    assert auroc(positive, negative) == pytest.approx(expected, abs=1e-12)
    assert auroc(negative, positive) == pytest.approx(1 - expected, abs=1e-12)


def test_auroc_of_separated_and_of_equal_scores():
    assert auroc([3.0, math.inf], [1.0, 2.0]) == 1.0
    assert auroc([1.0], [2.0, 3.0]) == 0.0
    assert auroc([1.0, 1.0], [1.0]) == 0.5


def test_the_bootstrap_of_a_mean_is_the_normal_interval():
    values = np.random.default_rng(3).normal(5.0, 2.0, size=400)
    low, high = bootstrap_interval(np.mean, values, resamples=2000)
    width = scipy.stats.norm.ppf(0.975) * values.std() / 20
    assert low == pytest.approx(values.mean() - width, abs=0.1 * width)
    assert high == pytest.approx(values.mean() + width, abs=0.1 * width)
    narrow = bootstrap_interval(np.mean, values, resamples=2000, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert bootstrap_interval(np.mean, values, resamples=2000) == (low, high)
    assert bootstrap_interval(np.mean, values, resamples=2000, seed=1) != (low, high)


def test_the_bootstrap_draws_pairs_together_and_others_apart():
    values = np.arange(30.0)
    assert bootstrap_interval(rank_correlation, values, values**2, resamples=50) == (1.0, 1.0)
    apart = bootstrap_interval(rank_correlation, values, values**2, resamples=50, paired=False)
    assert -0.6 < apart[0] < 0 < apart[1] < 0.6
    low, high = bootstrap_interval(auroc, values + 8, np.arange(20.0), paired=False, resamples=200)
    assert low < auroc(values + 8, np.arange(20.0)) < high


def test_draws_without_a_figure_are_left_out():
    # A quarter of the draws of two images are one image twice, another quarter the other.
    assert bootstrap_interval(rank_correlation, [1.0, 2.0], [3.0, 4.0], resamples=40) == (1.0, 1.0)
    assert all(math.isnan(end) for end in bootstrap_interval(rank_correlation, [1.0], [3.0], resamples=5))


@pytest.mark.parametrize("function", [risk_coverage, area_under_risk_coverage, rank_correlation])
def test_pairs_that_cannot_be_used(function):
    with pytest.raises(ValueError, match=r"should be of shape \[N\] with N > 0\. Received: shape=\(0,\)"):
        function([], [])
    with pytest.raises(ValueError, match=r"Received: shape=\(1, 2\)"):
        function([[1.0, 2.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"should hold no NaN\. Received: NaN at 1 of 2"):
        function([1.0, 2.0], [1.0, math.nan])
    with pytest.raises(ValueError, match=r"the same length\. Received: lengths=\[2, 1\]"):
        function([1.0, 2.0], [1.0])


def test_a_quality_is_finite():
    with pytest.raises(ValueError, match=r"quality should be finite\. Received"):
        risk_coverage([1.0, 2.0], [1.0, math.inf])


def test_scores_that_cannot_be_used():
    with pytest.raises(ValueError, match=r"negative should be of shape"):
        auroc([1.0], [])
    with pytest.raises(ValueError, match=r"positive should hold no NaN"):
        auroc([math.nan], [1.0])


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        ([], {}, r"at least one sample is needed\. Received: samples=\(\)"),
        ([[]], {}, "sample 0 should be of shape"),
        ([[1.0], [math.nan]], {}, "sample 1 should hold no NaN"),
        ([[1.0], [1.0, 2.0]], {}, r"same length\. Received: lengths=\[1, 2\]"),
        ([[1.0]], {"level": 1.0}, "Received: level=1.0"),
        ([[1.0]], {"level": 0.0}, "Received: level=0.0"),
        ([[1.0]], {"resamples": 0}, "Received: resamples=0"),
    ],
)
def test_bootstraps_that_cannot_be_made(samples, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(np.mean, *samples, **options)


# The predictive distributions themselves.


def random_log_probs(*shape, seed=0, scale=3.0):
    logits = np.random.default_rng(seed).normal(size=shape) * scale
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def test_the_parts_of_uncertainty_are_scipys():
    log_probs = random_log_probs(4, 3, 5, 11)
    probs = np.exp(log_probs)
    parts = decompose(log_probs)
    total = scipy.stats.entropy(probs.mean(0), axis=-1)
    aleatoric = scipy.stats.entropy(probs, axis=-1).mean(0)
    np.testing.assert_allclose(parts.total, total, rtol=1e-12)
    np.testing.assert_allclose(parts.aleatoric, aleatoric, rtol=1e-12)
    np.testing.assert_allclose(parts.epistemic, total - aleatoric, rtol=1e-9)
    # In float32 the two entropies, of some nats, are each right to about 1e-7 of their size.
    single = decompose(log_probs.astype(np.float32))
    assert single.total.dtype == tf.float32
    np.testing.assert_allclose(single.epistemic, total - aleatoric, atol=2e-6)
    assert decompose(tf.cast(log_probs, tf.bfloat16)).total.dtype == tf.float32


def test_the_mutual_information_of_samples_that_disagree_and_that_agree():
    certain = np.array([[[0.0, -np.inf]], [[-np.inf, 0.0]]])
    parts = decompose(certain)
    np.testing.assert_allclose(parts.total, [math.log(2.0)], rtol=1e-12)
    np.testing.assert_array_equal(parts.aleatoric, [0.0])
    np.testing.assert_allclose(parts.epistemic, [math.log(2.0)], rtol=1e-12)
    same = np.repeat(random_log_probs(1, 6, 9).astype(np.float32), 7, axis=0)
    epistemic = decompose(same).epistemic.numpy()
    assert np.all(epistemic >= 0.0) and epistemic.max() < 2e-6
    one = decompose(random_log_probs(1, 6, 9))
    np.testing.assert_array_equal(one.epistemic, np.zeros(6))
    np.testing.assert_array_equal(one.total, one.aleatoric)


def test_uncertainty_is_the_same_compiled():
    log_probs = random_log_probs(3, 4, 50).astype(np.float32)
    compiled = tf.function(decompose, jit_compile=True)(log_probs)
    for one, other in zip(compiled, decompose(log_probs), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_uncertainty_needs_samples_and_classes():
    with pytest.raises(ValueError, match=r"of shape \[S, \.\.\., V\]\. Received: shape=\(3,\)"):
        decompose([0.0, -1.0, -2.0])


def test_briers_score_is_the_squared_distance_from_what_came():
    log_probs = random_log_probs(5, 7, 13)
    log_probs[0, 0] = [0.0] + [-np.inf] * 12
    targets = np.random.default_rng(1).integers(13, size=(5, 7))
    targets[0, 0] = 3
    expected = np.sum((np.exp(log_probs) - np.eye(13)[targets]) ** 2, axis=-1)
    np.testing.assert_allclose(brier_score(log_probs, targets), expected, rtol=1e-12)
    assert expected[0, 0] == 2.0
    single = tf.function(brier_score, jit_compile=True)(log_probs.astype(np.float32), targets)
    np.testing.assert_allclose(single, expected, atol=1e-5)


# Calibration.


def judged(count, seed=0, power=1.0):
    """Predictions that are right with probability confidence ** power: calibrated where it is 1."""
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.05, 1.0, size=count)
    return confidence, generator.uniform(size=count) < confidence**power


@pytest.mark.parametrize("equal_mass", [False, True])
def test_calibrated_predictions_have_no_calibration_error(equal_mass):
    confidence, correct = judged(200_000)
    diagram = reliability(confidence, correct, equal_mass=equal_mass)
    # Of a bin's accuracy the standard error is at most half of 1 / sqrt(200,000 / 15).
    assert 0.0 < diagram.error < 0.5 / math.sqrt(200_000 / 15)
    # Right with probability c^2 at confidence c: the error is the mean of c - c^2.
    confidence, correct = judged(200_000, power=2.0)
    known = float(np.mean(confidence - confidence**2))
    error = reliability(confidence, correct, bins=100, equal_mass=equal_mass).error
    assert error == pytest.approx(known, abs=4 * 0.5 / math.sqrt(200_000))


def test_the_diagram_of_equal_widths_is_the_histogram():
    confidence, correct = judged(5_000, seed=1)
    confidence[:2] = 0.0, 1.0
    diagram = reliability(confidence, correct, bins=10)
    np.testing.assert_allclose(diagram.lower, np.arange(10) / 10)
    np.testing.assert_allclose(diagram.upper, np.arange(1, 11) / 10)
    for place in range(10):
        last = confidence <= diagram.upper[place] if place == 9 else confidence < diagram.upper[place]
        inside = (confidence >= diagram.lower[place]) & last
        assert diagram.count[place] == inside.sum()
        assert diagram.confidence[place] == pytest.approx(confidence[inside].mean(), rel=1e-12)
        assert diagram.accuracy[place] == pytest.approx(correct[inside].mean(), rel=1e-12)
    gaps = diagram.count * np.abs(diagram.accuracy - diagram.confidence)
    assert diagram.error == pytest.approx(gaps.sum() / 5_000, rel=1e-12)


def test_the_diagram_of_equal_masses_sorts_and_cuts():
    confidence, correct = judged(1_000, seed=2)
    diagram = reliability(confidence, correct, bins=8, equal_mass=True)
    assert diagram.count.sum() == 1_000 and np.ptp(diagram.count) <= 2
    order = np.argsort(confidence)
    start = 0
    for place, count in enumerate(diagram.count):
        inside = order[start : start + count]
        start += count
        assert diagram.confidence[place] == pytest.approx(confidence[inside].mean(), rel=1e-9)
        assert diagram.accuracy[place] == pytest.approx(correct[inside].mean(), rel=1e-9)
        assert diagram.lower[place] <= confidence[inside].min() * (1 + 1e-12)
    gaps = diagram.count * np.abs(diagram.accuracy - diagram.confidence)
    assert diagram.error == pytest.approx(gaps.sum() / 1_000, rel=1e-9)


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "expected"),
    [
        ([1.0, 1.0], [1, 1], 15, 0.0),
        ([1.0, 1.0], [0, 0], 15, 1.0),
        # One bin, one of two right at a confidence of 0.9 and 0.92: |1 / 2 - 0.91|.
        ([0.9, 0.92], [1, 0], 15, 0.41),
        # The same in two bins: nothing cancels: (|1 - 0.9| + |0 - 0.85|) / 2.
        ([0.9, 0.85], [1, 0], 15, 0.475),
        # 1 itself is in the last bin, with 0.95: |1 / 2 - 0.975|.
        ([1.0, 0.95], [0, 1], 15, 0.475),
        # Bins weigh by their examples: (3 * |2 / 3 - 0.9| + |1 - 0.65|) / 4.
        ([0.9, 0.9, 0.9, 0.65], [1, 1, 0, 1], 15, (0.7 + 0.35) / 4),
        # Fewer bins let more cancel: between 1 / 2 and 1 there is one of two.
        ([0.9, 0.65], [1, 0], 2, 0.275),
        ([0.9, 0.65], [1, 0], 15, 0.375),
    ],
)
def test_calibration_error_counted_by_hand(confidence, correct, bins, expected):
    assert expected_calibration_error(confidence, correct, bins) == pytest.approx(expected, abs=1e-12)


def test_the_calibration_error_is_the_diagrams_and_tfps():
    confidence, correct = judged(3_000, seed=3, power=1.7)
    error = expected_calibration_error(confidence, correct)
    assert error == reliability(confidence, correct, bins=15).error
    logits = np.log(np.stack([confidence, 1.0 - confidence], axis=1)).astype(np.float32)
    wrong = (~correct).astype(np.int32)
    tfps = tfp.stats.expected_calibration_error(15, logits, wrong, np.zeros_like(wrong))
    assert error == pytest.approx(float(tfps), abs=1e-5)


ON_ENDS = {
    "as they are written": lambda k, bins: k / bins,
    "of repeated addition": lambda k, bins: np.cumsum(np.full(bins, 1.0 / bins))[k - 1],
    "one less the rest": lambda k, bins: 1.0 - (bins - k) / bins,
    "float32": lambda k, bins: (k / bins).astype(np.float32),
    "of float32 logits": lambda k, bins: np.exp(np.log(k / bins, dtype=np.float32)),
    "of a float32 softmax": lambda k, bins: scipy.special.softmax(
        np.log([k / bins + 1e-12, 1.0 - k / bins + 1e-12]).astype(np.float32), axis=0
    )[0],
}


@pytest.mark.parametrize("bins", [10, 15, 20])
@pytest.mark.parametrize("confidence", ON_ENDS.values(), ids=ON_ENDS)
def test_confidences_on_the_ends_of_bins_share_one_bin(confidence, bins):
    """However they were rounded: each confidence is then a bin, and its error can be counted."""
    generator = np.random.default_rng(4)
    k = generator.integers(1, bins + 1, 20_000)
    correct = generator.uniform(size=len(k)) < (k / bins) ** 2
    places = np.minimum(k, bins - 1)  # A confidence of 1 lies in the last bin.
    gaps = np.bincount(places, correct - k / bins)
    expected = np.abs(gaps).sum() / len(k)
    found = np.clip(confidence(k, bins), 0.0, 1.0)
    diagram = reliability(found, correct, bins)
    np.testing.assert_array_equal(diagram.count, np.bincount(places, minlength=bins))
    assert diagram.error == pytest.approx(expected, abs=1e-7)
    assert expected_calibration_error(found, correct, bins) == diagram.error


def test_bins_of_equal_mass_do_not_part_what_only_rounding_does():
    k = np.repeat([3, 5, 7], 40)
    confidence = k / 10 + np.random.default_rng(5).uniform(-2e-7, 2e-7, len(k))
    diagram = reliability(confidence, np.arange(len(k)) % 2, bins=6, equal_mass=True)
    assert sorted(diagram.count.tolist()) == [0, 0, 0, 40, 40, 40]
    assert diagram.error == pytest.approx((0.2 + 0.0 + 0.2) / 3, abs=1e-6)


def test_empty_bins_count_nothing():
    diagram = reliability([0.05, 0.95], [0, 1], bins=10)
    assert diagram.count.tolist() == [1] + [0] * 8 + [1]
    assert np.isnan(diagram.accuracy[1:9]).all() and np.isnan(diagram.confidence[1:9]).all()
    assert diagram.error == pytest.approx(0.05)
    same = reliability(np.full(40, 0.3), np.arange(40) < 12, bins=5, equal_mass=True)
    assert same.count.sum() == 40 and np.isnan(same.accuracy).sum() == 4
    assert same.error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("function", [reliability, expected_calibration_error])
def test_predictions_that_cannot_be_judged(function):
    with pytest.raises(ValueError, match=r"bins should be at least 1\. Received: bins=0"):
        function([0.5], [1], 0)
    with pytest.raises(
        ValueError, match=r"confidence should be between 0 and 1\. Received: confidence from 0\.5"
    ):
        function([0.5, 1.5], [1, 0])
    with pytest.raises(ValueError, match=r"confidence and correct should have the same length"):
        function([0.5, 0.5], [1])
    with pytest.raises(ValueError, match="confidence should hold no NaN"):
        function([math.nan], [1])
