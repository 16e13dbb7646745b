import itertools
import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from tfp_bayesrnn.uncertainty import (
    area_under_risk_coverage,
    auroc,
    bootstrap_interval,
    rank_correlation,
    risk_coverage,
)


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
