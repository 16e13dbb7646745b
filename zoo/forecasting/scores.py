"""Forecasts of a split, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tfp_bayesrnn.prediction import uncertainty
from tfp_bayesrnn.prediction.scores import LEVELS
from zoo.data.series import SeriesSet
from zoo.forecasting import metrics
from zoo.forecasting.paths import PathSampler
from zoo.forecasting.splits import Places
from zoo.forecasting.windows import Windows
from zoo.terminal import progress

_TRUTH_LEVELS = np.arange(1, 20) / 20


class Forecasts(NamedTuple):
    """Forecasts, in the units of the series.

    Attributes:
      places: the series and the origin of each of the N forecasts.
      paths: sample paths, float64 [P, N, H].
    """

    places: Places
    paths: np.ndarray


def forecast(
    sampler: PathSampler,
    windows: Windows,
    places: Places,
    paths: int,
    num_samples: int,
    seed: int,
    batch: int,
    label: str = "forecasts",
) -> Forecasts:
    """Makes forecasts, some at a time; the arguments are those of `PathSampler.sample`.

    Args:
      sampler: draws the paths.
      windows: the windows of the series.
      places: the series and the origin of each forecast.
      paths: sample paths of each.
      num_samples: draws of the weights that they are shared out over; 0 for the mean.
      seed: the seed of draws and paths.
      batch: how many forecasts are made at once.
      label: what the progress bar says.
    """
    found = []
    for part in progress.batches(label)(range(0, len(places.origins), batch)):
        some = Places(*(one[part : part + batch] for one in places))
        rows = windows.rows(some, some.origins)  # Nothing from the origin on is there to be seen.
        found.append(sampler.sample(rows, paths, num_samples, seed, part))
    return Forecasts(places, np.concatenate(found, axis=1))


def score(forecasts: Forecasts, series: SeriesSet, season: int) -> dict[str, float]:
    """The scores of forecasts by the values that came.

    "crps", "mase", "msis" and "width_90" (and so on) are scaled (`zoo.forecasting.metrics`), averaged over
    the steps of a forecast and then over forecasts, without those that nothing can be scaled by; "wql" and
    "coverage_90" are of all values together. The forecast of MASE is the median.
    """
    values, scales = observed(forecasts, series, season)
    paths = forecasts.paths
    found = {
        "crps": _mean(uncertainty.crps_of_samples(paths, values), scales),
        "wql": metrics.weighted_quantile_loss(paths, values),
        "mase": _nanmean(metrics.mean_absolute_scaled_error(np.median(paths, axis=0), values, scales)),
    }
    for level in LEVELS:
        low, high = metrics.interval(paths, level)
        percent = f"{100 * level:.0f}"
        if level == 0.95:
            found["msis"] = _nanmean(metrics.mean_scaled_interval_score(low, high, values, scales, level))
        found[f"coverage_{percent}"] = metrics.coverage(low, high, values)
        found[f"width_{percent}"] = _mean(high - low, scales)
    return found


def truth_scores(forecasts: Forecasts, series: SeriesSet, season: int) -> dict[str, float]:
    """What is known of forecasts where the values' distribution is; else nothing.

    "calibration_error" is the mean distance of the true probability below a forecast quantile from what the
    quantile says, over the levels 0.05, 0.10 ... 0.95, all steps and all forecasts: 0 for the truth.
    "true_coverage_90" is the true probability of the interval, and "lowest_crps" the score of the truth.
    """
    if series.truth is None:
        return {}
    horizon = forecasts.paths.shape[2]
    means, deviations = (
        np.stack(each)
        for each in zip(
            *(
                series.truth(index, origin, horizon)
                for index, origin in zip(*(one.tolist() for one in forecasts.places), strict=True)
            ),
            strict=True,
        )
    )
    values, scales = observed(forecasts, series, season)
    quantiles = np.quantile(forecasts.paths, _TRUTH_LEVELS, axis=0)
    reached = metrics.normal_cdf((quantiles - means) / deviations)
    found = {
        "calibration_error": float(np.abs(reached - _TRUTH_LEVELS[:, np.newaxis, np.newaxis]).mean()),
        "lowest_crps": _mean(metrics.crps_of_normal(means, deviations, values), scales),
    }
    for level in LEVELS:
        low, high = (
            metrics.normal_cdf((end - means) / deviations) for end in metrics.interval(forecasts.paths, level)
        )
        found[f"true_coverage_{100 * level:.0f}"] = float((high - low).mean())
    return found


def naive_scores(places: Places, series: SeriesSet, season: int, horizon: int) -> dict[str, float]:
    """MASE of the seasonal naive forecast: the last value of each place in the season; of a split."""
    steps = np.arange(horizon) % season
    paths = np.stack(
        [
            series.series[index].values[origin - season + steps]
            if origin >= season
            else np.full(horizon, np.nan)
            for index, origin in zip(*(one.tolist() for one in places), strict=True)
        ]
    )
    values, scales = observed(Forecasts(places, paths[np.newaxis]), series, season)
    return {"mase": _nanmean(metrics.mean_absolute_scaled_error(paths, values, scales))}


def observed(forecasts: Forecasts, series: SeriesSet, season: int) -> tuple[np.ndarray, np.ndarray]:
    """The values that came [N, H], NaN where there is none, and the scale of each forecast [N]."""
    horizon = forecasts.paths.shape[2]
    values, scales = np.full([len(forecasts.places.origins), horizon], np.nan), []
    for number, (index, origin) in enumerate(zip(*forecasts.places, strict=True)):
        came = series.series[index].values[origin : origin + horizon]
        values[number, : len(came)] = came
        scales.append(metrics.naive_scale(series.series[index].values[:origin], season))
    return values, np.array(scales)


def _mean(errors: np.ndarray, scales: np.ndarray) -> float:
    return _nanmean(metrics.scaled_mean(errors, scales))


def _nanmean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


NAMES: Mapping[str, str] = {
    "crps": "CRPS",
    "wql": "weighted quantile loss",
    "mase": "MASE",
    "msis": "MSIS",
    **{f"coverage_{100 * level:.0f}": f"in {100 * level:.0f} %" for level in LEVELS},
}
"""Scores that tables show, and what they are called there."""
