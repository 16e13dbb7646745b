"""What a report shows of a forecaster: its scores, and forecasts of test beside what came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from zoo.data.series import SeriesSet
from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.forecast import charts
from zoo.forecasting.model import load_data, restorable
from zoo.forecasting.paths import PathSampler
from zoo.forecasting.results import cell
from zoo.forecasting.scores import NAMES, Forecasts, forecast
from zoo.forecasting.splits import Places
from zoo.forecasting.windows import Layout, Windows
from zoo.page.computed import computed_section
from zoo.page.contents import Contents
from zoo.page.figures import named
from zoo.page.markup import Markup, drawing, number, paragraph, scrolled, table, tag
from zoo.page.page import Section
from zoo.runs.restored import restored
from zoo.runs.run_data import check_data

_SHOWN = 6

# Athanasopoulos et al. (2011), and the Monash archive's baselines (Godahewa et al., 2021): MASE on test.
PUBLISHED = {
    "tourism_monthly": {"DeepAR": 1.409, "ETS": 1.526, "feed-forward network": 1.382},
    "tourism_quarterly": {"DeepAR": 1.597, "ETS": 1.592, "feed-forward network": 1.678},
}


class _Shown(NamedTuple):
    forecasts: Forecasts
    series: SeriesSet
    season: int


def fans(contents: Contents[ForecastingConfig]) -> Section:
    """The section of forecasts of test, or of why there is none."""
    return computed_section(contents, "forecasts", "Forecasts of test, and what came", _compute, _drawn)


def _compute(contents: Contents[ForecastingConfig]) -> _Shown:
    """The last forecasts of some series of test, with the best checkpoint."""
    config = contents.config
    model, vocabulary, _ = restored(restorable, config, contents.directory)
    data = load_data(config, contents.found_data_dir)
    check_data(contents.directory, data)
    layout, places = Layout.of(config), data.places["test"]
    last = np.flatnonzero(np.append(places.series[1:] != places.series[:-1], True))
    chosen = last[np.linspace(0, len(last) - 1, min(_SHOWN, len(last))).round().astype(int)]
    found = forecast(
        PathSampler(model, layout),
        Windows(data.series, vocabulary, layout),
        Places(*(one[chosen] for one in places)),
        config.evaluate.paths,
        contents.samples if config.method != "deterministic" else 0,
        config.seed,
        config.evaluate.batch,
    )
    return _Shown(found, data.series, config.data.season)


def _drawn(found: _Shown, weights: str) -> list[Any]:
    picture = charts(found.forecasts, found.series, found.season, range(len(found.forecasts.places.series)))
    names = ", ".join(found.series.series[index].name for index in found.forecasts.places.series)
    label = f"Fan charts of forecasts of {names}, with the values that came"
    return [
        paragraph(
            f"{len(found.forecasts.paths)} sample paths of each, under {weights}. The bands are the central "
            "intervals of 50, 80, 90 and 95 %."
        ),
        scrolled(tag("div", drawing(picture.svg(), label), class_="plate wide"), "Fan charts"),
    ]


def score_tables(contents: Contents[ForecastingConfig], found: Mapping[str, Any]) -> list[Markup]:
    """The tables of what `results.json` says of forecasts."""
    rows = [
        [
            named(contents, figures["weights"]),
            key.removesuffix("_mc"),
            number(figures["nll"], 4),
            *(cell(name, figures.get(name)) for name in NAMES),
        ]
        for key in ("valid", "valid_mc", "test", "test_mc")
        if (figures := found.get(key)) is not None
    ]
    parts = [
        table(
            "Scores of the forecasts",
            ["weights", "split", "NLL, scaled values", *NAMES.values()],
            rows,
            texts=2,
        ),
        paragraph(
            "CRPS, MASE and MSIS are divided by the mean absolute error of the seasonal naive forecast in "
            "the values before a forecast. Columns of percents: how many values lay in the interval."
        ),
    ]
    others = {
        "seasonal naive": found["seasonal_naive"]["mase"],
        **PUBLISHED.get(contents.config.data.name, {}),
    }
    line = "; ".join(f"{name} {number(value, 3)}" for name, value in others.items())
    parts.append(paragraph(f"MASE of others on test: {line}."))
    known = found.get("test_mc") or found["test"]
    if "calibration_error" in known:
        parts.append(
            paragraph(
                "The distribution of these series is known. On test, the probability below a quantile "
                f"differs from what the quantile says by {number(known['calibration_error'], 3)} on "
                f"average; that of the 90 % interval is {number(100 * known['true_coverage_90'], 1)} %; the "
                f"lowest CRPS that any forecast can expect is {number(known['lowest_crps'], 3)}."
            )
        )
    return parts
