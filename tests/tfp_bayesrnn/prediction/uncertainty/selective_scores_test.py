"""Scores of an order of answers, and of what tells two kinds apart, against other ways to compute them."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from tfp_bayesrnn.prediction.uncertainty import (
    area_under_generalized_risk_coverage,
    auroc,
    coverage_at_risk,
    false_positive_rate,
    prediction_rejection_ratio,
    risk_at_coverage,
    risk_coverage,
)


def answers(distinct, count=120):
    """Uncertainties of so many values at most, and losses of 0 and 1."""
    generator = np.random.default_rng(distinct)
    uncertainty = generator.integers(distinct, size=count).astype(float)
    wrong = generator.uniform(size=count) < 0.2 + 0.6 * uncertainty / distinct
    return uncertainty, wrong.astype(float)


def generalized_area_by_thresholds(uncertainty, loss):
    """Trapezoids through the points that thresholds on the uncertainty can reach."""
    area, before = 0.0, (0.0, 0.0)
    for threshold in sorted(set(uncertainty)):
        kept = uncertainty <= threshold
        point = (kept.mean(), loss[kept].sum() / len(loss))
        area += (point[0] - before[0]) * (point[1] + before[1]) / 2
        before = point
    return area


@pytest.mark.parametrize("distinct", [1, 2, 7, 10_000])
def test_the_generalized_area_is_that_of_thresholds_and_follows_from_auroc(distinct):
    uncertainty, wrong = answers(distinct)
    area = area_under_generalized_risk_coverage(uncertainty, wrong)
    assert area == pytest.approx(generalized_area_by_thresholds(uncertainty, wrong), abs=1e-12)
    error, ranks = wrong.mean(), roc_auc_score(wrong, uncertainty)
    # Traub et al. (2024), equation 6: of errors the area is one of AUROC and the error rate.
    assert area == pytest.approx((1 - ranks) * error * (1 - error) + error**2 / 2, abs=1e-12)
    assert prediction_rejection_ratio(uncertainty, wrong) == pytest.approx(2 * ranks - 1, abs=1e-12)
    losses = np.random.default_rng(1).gamma(1.0, size=len(wrong))
    area = area_under_generalized_risk_coverage(uncertainty, losses)
    assert area == pytest.approx(generalized_area_by_thresholds(uncertainty, losses), abs=1e-12)


def test_tied_answers_are_kept_in_every_order_alike():
    uncertainty, loss = np.array([0.5, 0.1, 0.5, 0.7, 0.5]), np.array([2.0, 7.0, 3.0, 1.0, 10.0])
    areas = []
    for order in itertools.permutations(range(5)):
        if np.all(np.diff(uncertainty[list(order)]) >= 0):
            generalized = np.concatenate([[0.0], np.cumsum(loss[list(order)]) / 5])
            areas.append(np.trapezoid(generalized, dx=1 / 5))
    assert len(areas) == 6
    found = area_under_generalized_risk_coverage(uncertainty, loss)
    assert found == pytest.approx(np.mean(areas), abs=1e-14)


def test_the_rejection_ratio_of_the_best_the_worst_and_no_order():
    loss = np.random.default_rng(2).normal(size=50)
    assert prediction_rejection_ratio(loss, loss) == pytest.approx(1.0)
    assert prediction_rejection_ratio(-loss, loss) == pytest.approx(-1.0)
    assert prediction_rejection_ratio(np.zeros(50), loss) == pytest.approx(0.0, abs=1e-12)
    assert prediction_rejection_ratio(loss, loss + 7.0) == pytest.approx(1.0)
    assert math.isnan(prediction_rejection_ratio([1.0, 2.0], [3.0, 3.0]))
    assert math.isnan(prediction_rejection_ratio([1.0], [3.0]))


@pytest.mark.parametrize("distinct", [1, 2, 7, 10_000])
@pytest.mark.parametrize("coverage", [0.05, 0.8, 0.35, 1.0])
def test_the_risk_at_a_coverage_is_that_of_the_first_point_that_reaches_it(distinct, coverage):
    uncertainty, wrong = answers(distinct)
    coverages, risks = risk_coverage(uncertainty, wrong)
    expected = next(risk for share, risk in zip(coverages, risks, strict=True) if share >= coverage - 1e-9)
    assert risk_at_coverage(uncertainty, wrong, coverage) == expected


def test_a_coverage_that_answers_reach_exactly_needs_no_more():
    # 0.7 * 10 is 7.000000000000001 by rounding, and 0.1 * 3 / 0.3 as well.
    loss = np.arange(10.0)
    assert risk_at_coverage(loss, loss, 0.7) == pytest.approx(3.0)
    assert risk_at_coverage([5.0], [0.25], 0.8) == 0.25
    with pytest.raises(ValueError, match=r"Received: coverage=0\.0"):
        risk_at_coverage(loss, loss, 0.0)


@pytest.mark.parametrize("distinct", [1, 2, 7, 10_000])
@pytest.mark.parametrize("risk", [0.0, 0.05, 0.3, 0.5, 1.0])
def test_the_coverage_at_a_risk_is_the_last_point_within_it(distinct, risk):
    uncertainty, wrong = answers(distinct)
    coverages, risks = risk_coverage(uncertainty, wrong)
    within = [share for share, one in zip(coverages, risks, strict=True) if one <= risk + 1e-9]
    assert coverage_at_risk(uncertainty, wrong, risk) == max(within, default=0.0)


def test_coverages_at_risks_counted_by_hand():
    # The surest is wrong: nothing is below a risk of 0.4 until five answers are kept, of which one is wrong.
    assert coverage_at_risk([1, 2, 3, 4, 5], [1, 0, 0, 0, 0], 0.2) == 1.0
    assert coverage_at_risk([1, 2, 3, 4, 5], [1, 0, 0, 0, 0], 0.25) == 1.0
    assert coverage_at_risk([1, 2, 3, 4, 5], [0, 0, 1, 1, 1], 0.34) == 0.6
    assert coverage_at_risk([1, 2], [1, 1]) == 0.0
    # 0.1 + 0.2 is more than 0.3 by rounding only.
    assert coverage_at_risk([1, 2, 3], [0.1, 0.2, 0.6], 0.3) == 1.0
    with pytest.raises(ValueError, match="Received: risk=nan"):
        coverage_at_risk([1], [1], math.nan)


@pytest.mark.parametrize("distinct", [1, 2, 10, 10_000])
@pytest.mark.parametrize("sensitivity", [0.95, 0.5, 1.0])
def test_the_false_positive_rate_is_scikit_learns(distinct, sensitivity):
    generator = np.random.default_rng(distinct)
    positive = generator.integers(distinct, size=60) + distinct // 4
    negative = generator.integers(distinct, size=110)
    false, true, _ = roc_curve(
        np.repeat([1, 0], [60, 110]), np.concatenate([positive, negative]), drop_intermediate=False
    )
    expected = false[np.argmax(true >= sensitivity - 1e-12)]
    assert false_positive_rate(positive, negative, sensitivity) == pytest.approx(expected, abs=1e-12)


def test_false_positive_rates_of_separated_equal_and_unusable_scores():
    assert false_positive_rate([3.0, math.inf], [1.0, 2.0]) == 0.0
    assert false_positive_rate([1.0], [2.0, 3.0, 0.0, 0.0]) == 0.5
    assert false_positive_rate([1.0, 1.0], [1.0]) == 1.0 and auroc([1.0, 1.0], [1.0]) == 0.5
    # 0.95 * 20 are 19: the lowest of the positives need not be found.
    assert false_positive_rate(np.arange(20.0), [0.5]) == 0.0
    for arguments, message in (
        (([math.nan], [1.0]), "positive should hold no NaN"),
        (([1.0], []), "negative should be of shape"),
        (([1.0], [1.0], 0.0), r"Received: sensitivity=0\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            false_positive_rate(*arguments)


@pytest.mark.parametrize("function", [area_under_generalized_risk_coverage, prediction_rejection_ratio])
def test_answers_that_cannot_be_used(function):
    with pytest.raises(ValueError, match=r"of shape \[N\] with N > 0"):
        function([], [])
    with pytest.raises(ValueError, match="the same length"):
        function([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="should be finite"):
        function([1.0, 2.0], [1.0, math.inf])
