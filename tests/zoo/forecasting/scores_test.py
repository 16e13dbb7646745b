"""Scores of forecasts: of the truth, of worse ones, by series; the seasonal naive forecast."""

import numpy as np
import pytest

from tfp_bayesrnn.prediction.scores import LEVELS
from zoo.data.generated_series import generated_series
from zoo.data.series import Series, SeriesSet
from zoo.forecasting.scores import Forecasts, naive_scores, observed, score, truth_scores
from zoo.forecasting.splits import Places

MADE = generated_series()
PLACES = Places(np.repeat(np.arange(len(MADE)), 4), np.tile([84, 96, 108, 120], len(MADE)))


def drawn(factor, paths=400):
    """Forecasts of the generated series whose spread is the true one times a factor."""
    known = [MADE.truth(index, origin, 12) for index, origin in zip(*PLACES, strict=True)]
    means, deviations = (np.stack(each) for each in zip(*known, strict=True))
    noise = np.random.default_rng(1).normal(size=[paths, *means.shape])
    return Forecasts(PLACES, means + factor * deviations * noise)


def test_the_truth_is_calibrated_and_has_the_lowest_crps():
    found = {**score(drawn(1.0), MADE, 12), **truth_scores(drawn(1.0), MADE, 12)}
    # Quantiles of 400 paths have errors of up to 0.025, 0.016 on average; 4,320 values, not independent.
    assert found["calibration_error"] < 0.02
    assert found["true_coverage_90"] == pytest.approx(0.9, abs=0.01)
    assert found["crps"] == pytest.approx(found["lowest_crps"], rel=0.01)
    for level in LEVELS:
        assert found[f"coverage_{100 * level:.0f}"] == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_other_spreads_are_seen(factor):
    true, other = (
        {**score(each, MADE, 12), **truth_scores(each, MADE, 12)} for each in (drawn(1.0), drawn(factor))
    )
    for name in ("crps", "wql", "msis", "calibration_error"):
        assert other[name] > 1.02 * true[name], name
    assert other["width_90"] == pytest.approx(factor * true["width_90"], rel=0.02)
    assert (other["coverage_90"] < true["coverage_90"]) == (factor < 1)
    assert (other["true_coverage_90"] < 0.9) == (factor < 1)


def test_scores_are_means_over_series_in_their_own_units():
    values = [np.array([1.0, 3.0, 2.0, 4.0, 5.0]), np.array([100.0, 300.0, 200.0, 400.0, 500.0])]
    series = SeriesSet(tuple(Series(str(index), one) for index, one in enumerate(values)))
    places = Places(np.array([0, 1]), np.array([3, 3]))
    paths = np.array([[[3.0, 6.0], [300.0, 600.0]], [[5.0, 4.0], [500.0, 400.0]]])
    found = score(Forecasts(places, paths), series, 1)
    alone = score(Forecasts(Places(*(one[:1] for one in places)), paths[:, :1]), series, 1)
    for name in ("crps", "mase", "msis", "width_50", "width_90"):
        assert found[name] == pytest.approx(alone[name])
    assert truth_scores(Forecasts(places, paths), series, 1) == {}


def test_what_has_not_come_is_missing():
    series = SeriesSet((Series("a", np.arange(6.0)),))
    values, scales = observed(Forecasts(Places(np.array([0]), np.array([5])), np.zeros([2, 1, 3])), series, 1)
    np.testing.assert_equal(values, [[5.0, np.nan, np.nan]])
    assert scales == [1.0]


def test_the_seasonal_naive_forecast():
    values = np.array([1.0, 2.0, 1.5, 2.5, 1.0, 3.0, 2.0, 4.0, 1.0])
    series = SeriesSet((Series("a", values),))
    found = naive_scores(Places(np.array([0]), np.array([6])), series, 2, 3)
    scale = np.abs(values[2:6] - values[:4]).mean()
    expected = np.abs(values[6:9] - [1.0, 3.0, 1.0]).mean() / scale
    assert found["mase"] == pytest.approx(expected)
