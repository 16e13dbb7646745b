"""The command `forecast`: what comes after the ends of series, as a CSV file and as fan charts."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from tfp_bayesrnn.errors import InputError, quoted, unknown_name
from tfp_bayesrnn.filesystem.paths import local_path
from tfp_bayesrnn.prediction.scores import LEVELS
from zoo.data import calendar
from zoo.data.series import Series, SeriesSet
from zoo.drawing.fan_chart import Fan, fan_charts
from zoo.drawing.picture import Picture
from zoo.filesystem.files import check_output, write_whole
from zoo.filesystem.writable import check_writable
from zoo.forecasting import metrics
from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.model import restorable
from zoo.forecasting.paths import PathSampler
from zoo.forecasting.scores import Forecasts, forecast, observed
from zoo.forecasting.splits import Places, load_series, words_of
from zoo.forecasting.windows import Layout, Windows
from zoo.runs.restored import restored
from zoo.runs.run_data import data_dir_of
from zoo.runs.workdir import Workdir

QUANTILES = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
CHARTS = 12
"""Series that a chart has at most, where none are named."""
_PAST = 4  # Horizons of the past that a chart shows.


class Files(NamedTuple):
    """Where the command writes; None for stdout."""

    numbers: Path | None
    chart: Path


def forecast_series(
    config: ForecastingConfig,
    workdir: str | os.PathLike[str],
    data_dir: str | None = None,
    output: str | os.PathLike[str] | None = None,
    chart: str | os.PathLike[str] | None = None,
    names: Sequence[str] = (),
    quantiles: Sequence[str] = (),
    samples: bool = False,
    back: int = 0,
) -> Forecasts:
    """Forecasts series with a run's best checkpoint; writes the numbers and the charts.

    The series need not be those of training: newer values, or other series, will do if they have the same
    step, covariates and categories. A category's word that training did not have is as good as none.

    Args:
      config: the run's configuration, resolved.
      workdir: the run's directory.
      data_dir: the directory of the series, where they need one; None for that of the run.
      output: the CSV file; "-" for stdout; `forecast.csv` in the workdir if left out.
      chart: the chart, SVG or PNG; `forecast.svg` in the workdir if left out.
      names: the series to forecast; all if there is none.
      quantiles: the quantiles of the CSV file; `QUANTILES` if there is none.
      samples: whether the CSV file has the sample paths instead.
      back: how many steps before its end each series is forecast from.

    Raises:
      InputError: a series, a quantile or a path is not accepted, a series is too short or its covariates
        are not known for the horizon, or nothing can be written.
    """
    directory = Workdir(workdir, create=False)
    files = _files(directory, output, chart)
    levels = [_level(text) for text in quantiles] or list(QUANTILES)
    series = load_series(config, data_dir_of(directory, config.data.name, data_dir))
    places = _places(series, config, names, back)
    model, vocabulary, _ = restored(restorable, config, directory)
    unknown = {word for index in places.series for word in words_of(series, index) if word not in vocabulary}
    if unknown:
        logging.warning("training had none of the kind: %s", ", ".join(sorted(unknown)[:10]))
    layout, settings = Layout.of(config), config.evaluate
    found = forecast(
        PathSampler(model, layout),
        Windows(series, vocabulary, layout),
        places,
        settings.paths,
        settings.num_samples,
        config.seed,
        settings.batch,
    )
    shown = len(places.series) if names else min(CHARTS, len(places.series))
    picture = charts(found, series, config.data.season, range(shown))
    _write(files, _as_csv(found, series, levels, samples), picture)
    print(
        f"{len(places.series)} series, {config.data.horizon} steps each, {len(found.paths)} paths: "
        f"{files.numbers or 'stdout'}; {shown} of them drawn: {files.chart}",
        file=sys.stderr if files.numbers is None else sys.stdout,
    )
    return found


def _write(files: Files, numbers: str, picture: Picture) -> None:
    if files.numbers is None:
        sys.stdout.write(numbers)
    else:
        write_whole(files.numbers, numbers)
    is_png = files.chart.suffix.lower() == ".png"
    write_whole(files.chart, picture.png() if is_png else picture.svg())


def charts(found: Forecasts, series: SeriesSet, season: int, shown: Iterable[int]) -> Picture:
    """Fan charts of forecasts.

    Args:
      found: the forecasts.
      series: their series.
      season: steps of a season.
      shown: the numbers of the forecasts to be drawn.
    """
    values, _ = observed(found, series, season)
    fans = []
    for number in shown:
        index, origin = (int(one[number]) for one in found.places)
        one, paths = series.series[index], found.paths[:, number]
        horizon = paths.shape[1]
        first = max(0, origin - _PAST * horizon)
        times = _times(one, series.frequency, origin + horizon)
        fans.append(
            Fan(
                one.name,
                one.values[first:origin],
                np.median(paths, axis=0),
                [(level, *metrics.interval(paths, level)) for level in LEVELS],
                values[number] if np.isfinite(values[number]).any() else None,
                (times[first], times[origin], times[-1]),
            )
        )
    return fan_charts(fans, columns=1 if len(fans) == 1 else 2)


def _times(one: Series, frequency: str, steps: int) -> list[str]:
    """The times of the steps of a series: dates, or their numbers from 1."""
    if one.start is None or frequency == "steps":
        return [str(step + 1) for step in range(steps)]
    times = calendar.FREQUENCIES[frequency].times(one.start, steps)
    unit = {"yearly": "Y", "daily": "D", "weekly": "D"}.get(frequency)
    return [str(time) for time in (times.astype(f"datetime64[{unit}]") if unit else times)]


def _as_csv(found: Forecasts, series: SeriesSet, levels: Sequence[float], samples: bool) -> str:
    """A line for each step of each forecast."""
    if samples:
        names = [f"sample_{number}" for number in range(1, len(found.paths) + 1)]
        numbers = np.moveaxis(found.paths, 0, 2)
    else:
        names = ["mean", *(f"q{level:g}" for level in levels)]
        numbers = np.stack([found.paths.mean(axis=0), *np.quantile(found.paths, levels, axis=0)], axis=2)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series", "step", "time", *names])
    for number, (index, origin) in enumerate(zip(*found.places, strict=True)):
        one, horizon = series.series[index], numbers.shape[1]
        times = _times(one, series.frequency, origin + horizon)
        for step in range(horizon):
            cells = [f"{value:.7g}" for value in numbers[number, step]]
            writer.writerow([one.name, step + 1, times[origin + step], *cells])
    return text.getvalue()


def _places(series: SeriesSet, config: ForecastingConfig, names: Sequence[str], back: int) -> Places:
    """The series to forecast, and the steps to forecast them from."""
    known = [one.name for one in series.series]
    for name in names:
        if name not in known:
            raise unknown_name("series", name, known)
    chosen = [known.index(name) for name in dict.fromkeys(names)] or list(range(len(known)))
    origins = []
    for index in chosen:
        one, horizon = series.series[index], config.data.horizon
        origin = len(one) - back
        if not np.isfinite(one.values[: max(origin, 0)]).any():
            raise InputError(f"series {one.name!r} has no value before its last {back} steps")
        if series.covariates and one.known < origin + horizon:
            raise InputError(
                f"series {one.name!r} has covariates for {one.known - origin} steps after its value at step "
                f"{origin}, and a forecast needs {horizon}: give all of {', '.join(series.covariates)}"
            )
        origins.append(origin)
    return Places(np.array(chosen), np.array(origins))


def _level(text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = 0.0
    if not 0.0 < level < 1.0:
        raise InputError(f"--quantile={quoted(text)} is not accepted: it must be a number between 0 and 1")
    return level


def _files(
    directory: Workdir, output: str | os.PathLike[str] | None, chart: str | os.PathLike[str] | None
) -> Files:
    """The paths of what is written, checked before the work."""
    drawn = local_path(chart, "--chart") if chart is not None else directory.path / "forecast.svg"
    if drawn.suffix.lower() not in (".svg", ".png"):
        raise InputError(f"--chart={drawn} is not accepted: a chart is SVG or PNG, name it so (.svg, .png)")
    numbers = None
    if output is None:
        numbers = directory.path / "forecast.csv"
    elif os.fspath(output) != "-":
        numbers = local_path(output, "--output")
    for path in (numbers, drawn):
        if path is not None:
            check_output(path)
            check_writable(path)
    return Files(numbers, drawn)
