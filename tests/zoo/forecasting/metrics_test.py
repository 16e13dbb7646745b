"""Scores of forecasts against closed forms, definitions in loops, and examples by hand."""

import numpy as np
import pytest
from scipy import integrate, stats

from tfp_bayesrnn.prediction import uncertainty
from tfp_bayesrnn.prediction.scores import LEVELS
from zoo.forecasting import metrics

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("mean", "stddev", "value"), [(0.0, 1.0, 0.3), (-2.0, 0.5, 1.0), (5.0, 3.0, 5.0)])
def test_crps_of_normal_is_the_integral_that_defines_it(mean, stddev, value):
    def integrand(x):
        return (stats.norm.cdf(x, mean, stddev) - (x >= value)) ** 2

    expected = sum(
        integrate.quad(integrand, *ends, limit=200)[0]
        for ends in ((mean - 12 * stddev, value), (value, mean + 12 * stddev))
    )
    np.testing.assert_allclose(metrics.crps_of_normal(mean, stddev, value), expected, rtol=1e-6)


def test_crps_of_samples_comes_to_that_of_their_distribution():
    mean, stddev, values = np.array([0.0, 3.0]), np.array([1.0, 0.2]), np.array([1.5, 3.1])
    samples = RANDOM.normal(mean, stddev, [200_000, 2])
    # The score of P samples has an error of about stddev / sqrt(P), here 0.0022.
    np.testing.assert_allclose(
        uncertainty.crps_of_samples(samples, values), metrics.crps_of_normal(mean, stddev, values), atol=0.008
    )


def test_crps_of_samples_is_its_definition_over_pairs():
    samples, values = RANDOM.normal(size=[7, 3]), RANDOM.normal(size=3)
    pairs = np.abs(samples[:, None] - samples[None]).sum(axis=(0, 1)) / (7 * 6)
    expected = np.abs(samples - values).mean(axis=0) - pairs / 2
    np.testing.assert_allclose(uncertainty.crps_of_samples(samples, values), expected, rtol=1e-12)


def test_crps_of_few_samples_has_no_bias():
    samples = RANDOM.normal(size=[3, 200_000])
    mean = uncertainty.crps_of_samples(samples, np.full(200_000, 0.7)).mean()
    np.testing.assert_allclose(mean, metrics.crps_of_normal(0.0, 1.0, 0.7), atol=0.005)


def test_crps_of_one_sample_is_refused():
    with pytest.raises(ValueError, match=r"Received: 1 samples"):
        uncertainty.crps_of_samples(np.zeros([1, 2]), np.zeros(2))


def test_quantile_loss_is_least_at_the_quantile():
    values = RANDOM.exponential(size=20_000)
    candidates = np.linspace(0.5, 3.0, 251)
    losses = [metrics.quantile_loss(one, values, 0.8).mean() for one in candidates]
    np.testing.assert_allclose(candidates[np.argmin(losses)], np.quantile(values, 0.8), atol=0.011)


def test_quantile_loss_of_the_median_is_the_absolute_error():
    np.testing.assert_allclose(metrics.quantile_loss([1.0, 5.0], [3.0, 2.0], 0.5), [2.0, 3.0])


def test_weighted_quantile_loss_by_hand():
    samples = np.array([[1.0], [2.0], [3.0]])
    # The quantiles 0.25, 0.5, 0.75 of the three are 1.5, 2 and 2.5; the value is 4.
    expected = np.mean([2 * 2.5 * 0.25, 2 * 2 * 0.5, 2 * 1.5 * 0.75]) / 4
    found = metrics.weighted_quantile_loss(samples, [4.0], (0.25, 0.5, 0.75))
    np.testing.assert_allclose(found, expected)


def test_the_mean_over_quantile_losses_comes_to_the_crps():
    samples, values = RANDOM.normal(size=[4000, 3]), np.array([-1.0, 0.2, 2.0])
    levels = (np.arange(200) + 0.5) / 200
    found = metrics.weighted_quantile_loss(samples, values, levels) * np.abs(values).sum()
    np.testing.assert_allclose(found, uncertainty.crps_of_samples(samples, values).sum(), rtol=5e-3)


@pytest.mark.parametrize("level", LEVELS)
def test_intervals_of_many_samples_cover_what_they_say(level):
    samples, values = RANDOM.normal(size=[4000, 1]), RANDOM.normal(size=50_000)
    low, high = metrics.interval(samples, level)
    # Both ends have an error of about 0.02, so that the coverage has one of less than 0.02.
    assert abs(metrics.coverage(low, high, values) - level) < 0.02


def test_missing_values_count_nowhere():
    values = np.array([1.0, np.nan])
    assert metrics.coverage(np.zeros(2), np.full(2, 2.0), values) == 1.0
    samples = np.array([[0.0, 0.0], [1.0, 9.0], [2.0, 1.0]])
    alone = metrics.weighted_quantile_loss(samples[:, :1], values[:1])
    np.testing.assert_allclose(metrics.weighted_quantile_loss(samples, values), alone)
    np.testing.assert_allclose(metrics.mean_absolute_scaled_error([[3.0, 5.0]], [values], [2.0]), [1.0])


def test_mase_by_hand():
    history = np.array([1.0, 2.0, 4.0, 8.0, 3.0, 5.0])
    scale = metrics.naive_scale(history, 2)
    assert scale == np.mean([3.0, 6.0, 1.0, 3.0])
    found = metrics.mean_absolute_scaled_error([[1.0, 2.0]], [[2.0, 4.0]], [scale])
    np.testing.assert_allclose(found, [1.5 / scale])


@pytest.mark.parametrize(
    ("history", "season", "expected"),
    [
        ([1.0, 2.0, 4.0], 12, 1.5),  # Shorter than a season.
        ([1.0, 2.0, 1.0, 2.0], 2, 1.0),  # The seasonal naive forecast makes no error.
        ([3.0, 3.0, 3.0], 1, np.nan),
        ([3.0], 1, np.nan),
        ([1.0, np.nan, 4.0, 6.0], 1, 2.0),
    ],
)
def test_the_scale_of_odd_histories(history, season, expected):
    np.testing.assert_equal(metrics.naive_scale(history, season), expected)


def test_msis_is_the_mean_of_the_interval_scores():
    low, high = np.array([[0.0, 0.0, 0.0]]), np.array([[2.0, 2.0, 2.0]])
    values = np.array([[1.0, 3.0, -0.5]])
    expected = np.mean([2.0, 2.0 + 40.0 * 1.0, 2.0 + 40.0 * 0.5]) / 4.0
    found = metrics.mean_scaled_interval_score(low, high, values, [4.0])
    np.testing.assert_allclose(found, [expected])


def test_msis_is_least_for_the_right_interval():
    values = RANDOM.normal(size=[1, 100_000])
    scores = [
        metrics.mean_scaled_interval_score(np.full_like(values, -z), np.full_like(values, z), values, [1.0])
        for z in (1.4, 1.96, 2.8)
    ]
    assert scores[1] < min(scores[0], scores[2])
