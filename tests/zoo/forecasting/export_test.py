"""Exported forecasters against the paths that the zoo draws itself."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn.export.saved_model import ExportedPosterior, write_saved_model
from zoo.configuration.config import with_overrides
from zoo.data import calendar
from zoo.data.generated_series import generated_series
from zoo.data.series import Series, SeriesSet
from zoo.forecasting.export import ForecastExport, _phase, export
from zoo.forecasting.model import build_model
from zoo.forecasting.paths import PathSampler
from zoo.forecasting.splits import Places, vocabulary_of
from zoo.forecasting.windows import Layout, Windows
from zoo.presets import get_preset

RANDOM = np.random.default_rng(0)
SMALL = {
    "model.units": 3,
    "model.layers": 1,
    "model.context": 5,
    "data.horizon": 3,
    "model.lags": (1, 3),
    "jit_compile": "off",
}


def half_hourly():
    start = np.datetime64("2019-12-31T21:30", "m")
    values = [RANDOM.gamma(2.0, 3.0, 12), np.r_[np.nan, np.nan, RANDOM.gamma(2.0, 3.0, 4)], [4.0, 5.0]]
    return SeriesSet(
        tuple(Series(f"s{index}", np.asarray(one), start) for index, one in enumerate(values)), "half_hourly"
    )


def counts():
    return SeriesSet((Series("a", RANDOM.poisson(9.0, 20).astype(float)),))


CASES = {
    "calendar, covariate, category": (
        lambda: generated_series().selected(["promotion"], ["kind"]),
        {"model.scaling": "location_scale"},
    ),
    "half hours, logarithms": (
        half_hourly,
        {
            "data.frequency": "half_hourly",
            "data.covariates": "",
            "data.categories": "",
            "model.head": "student_t",
            "model.transform": "log",
            "model.scaling": "location_scale",
        },
    ),
    "counts": (
        counts,
        {
            "data.frequency": "steps",
            "data.covariates": "",
            "data.categories": "",
            "model.scaling": "mean_absolute",
            "model.head": "negative_binomial",
        },
    ),
}


def made(case):
    """(configuration, series, model, their windows)."""
    make, overrides = CASES[case]
    series = make()
    config = with_overrides(get_preset("demo_forecast_bbb"), {**SMALL, **overrides})
    vocabulary = vocabulary_of(series)
    model = build_model(config, len(vocabulary), 1, 1)
    return config, series, model, vocabulary


def inputs_of(series, config, chosen):
    """What a caller of the signatures gives, of series forecast from their ends."""
    values = [series.series[index].values for index in chosen]
    longest = max(map(len, values))
    given = np.stack([np.pad(one, (longest - len(one), 0), constant_values=np.nan) for one in values])
    context, horizon = config.model.context, config.data.horizon
    covariates = np.stack(
        [
            series.series[index].covariates[len(series.series[index]) - context :][: context + horizon]
            if series.covariates
            else np.zeros([context + horizon, 0])
            for index in chosen
        ]
    )
    kind = calendar.FREQUENCIES[series.frequency]
    times = [
        kind.times(one.start, len(one) + 1)[-1].astype(np.int64) if one.start is not None else 0
        for one in (series.series[index] for index in chosen)
    ]
    categories = [series.series[index].categories for index in chosen]
    return {
        "values": tf.constant(given, tf.float32),
        "covariates": tf.constant(covariates, tf.float32),
        "categories": tf.reshape(tf.constant(categories, tf.string), [len(chosen), len(series.categories)]),
        "time": tf.constant(times, tf.int64),
        "quantiles": tf.constant([0.1, 0.5, 0.97]),
        "num_paths": tf.constant(6),
        "seed": tf.constant(4),
    }


@pytest.mark.slow(but=["half hours, logarithms"])
@pytest.mark.parametrize("case", CASES)
def test_exported_forecasts_are_those_of_the_zoo(case, tmp_path):
    config, series, model, vocabulary = made(case)
    exported = ExportedPosterior(model.network)
    holder = ForecastExport(config, model, exported, vocabulary, tmp_path)
    signatures = holder.signatures()
    chosen = [index for index in (0, 1, 2) if index < len(series)]
    given = inputs_of(series, config, chosen)
    layout = Layout.of(config)
    places = Places(np.array(chosen), np.array([len(series.series[index]) for index in chosen]))
    # Ages begin with the first value there is.
    rows = Windows(trimmed(series), vocabulary, layout).rows(*trimmed_places(series, places))
    sampler = PathSampler(model, layout)
    for samples, name, more in ((0, "forecast", {}), (2, "forecast_mc", {"num_samples": tf.constant(2)})):
        found = signatures[name](**given, **more)
        expected = np.moveaxis(sampler.sample(rows, 6, samples, seed=4), 0, 2)
        np.testing.assert_allclose(found["paths"], expected, rtol=2e-3, err_msg=name)
        np.testing.assert_allclose(found["mean"], expected.mean(axis=2), rtol=2e-3)
        quantiles = np.moveaxis(np.quantile(expected, [0.1, 0.5, 0.97], axis=2), 0, 2)
        np.testing.assert_allclose(found["quantiles"], quantiles, rtol=2e-3)
    signatures["load_draws"](num_samples=tf.constant(2), seed=given["seed"])
    again = signatures["forecast_mc"](**given, num_samples=tf.constant(2))
    np.testing.assert_array_equal(again["paths"], found["paths"])


def trimmed(series):
    """The series without what is missing at their start."""
    found = []
    for one in series.series:
        first = int(np.flatnonzero(np.isfinite(one.values))[0])
        start = one.start
        if first:
            start = calendar.FREQUENCIES[series.frequency].times(one.start, first + 1)[-1]
        found.append(Series(one.name, one.values[first:], start, one.covariates, one.categories))
    return SeriesSet(tuple(found), series.frequency, series.covariates, series.categories)


def trimmed_places(series, places):
    firsts = [int(np.flatnonzero(np.isfinite(series.series[index].values))[0]) for index in places.series]
    origins = places.origins - firsts
    return Places(places.series, origins), origins


def test_a_saved_model_says_what_it_takes_and_forecasts(tmp_path):
    config, series, model, vocabulary = made("calendar, covariate, category")
    (tmp_path / "assets").mkdir()
    holder, about = export(config, model, ExportedPosterior(model.network), vocabulary, tmp_path / "assets")
    assert about["horizon"] == 3 and about["covariates"] == ["promotion"] and about["categories"] == ["kind"]
    write_saved_model(tmp_path / "model", holder.module, holder.signatures())
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    given = inputs_of(series, config, [0])
    found = loaded.signatures["forecast"](**given)
    assert found["quantiles"].shape == (1, 3, 3)
    assert np.all(np.diff(found["quantiles"], axis=2) >= 0)
    assert eval(about["example"], {"tf": tf, "model": loaded}).shape == (1, 3, 3)
    wrong = {**given, "values": tf.fill([1, 20], np.nan)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="every series must have a value"):
        loaded.signatures["forecast"](**wrong)


@pytest.mark.parametrize("cycle", ["day", "week", "year"])
def test_places_in_cycles_are_those_of_the_calendar(cycle):
    times = np.arange("1895-12-30T00:17", "2105-01-03", 60_001, dtype="datetime64[m]")
    found = _phase(tf.constant(times.astype(np.int64)), cycle, in_months=False)
    np.testing.assert_allclose(found, calendar.phases(times, cycle), atol=1e-9)
