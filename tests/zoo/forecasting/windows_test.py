"""Windows as arrays, against loops over values; passes over the training data; splits."""

import dataclasses

import numpy as np
import pytest

from tfp_bayesrnn import InputError
from zoo.configuration.config import with_overrides
from zoo.data.series import Series, SeriesSet
from zoo.data.vocabulary import Vocabulary
from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.minibatches import Minibatches
from zoo.forecasting.splits import Places, load_data, split_up, vocabulary_of
from zoo.forecasting.windows import Layout, Windows
from zoo.presets import get_preset

LAYOUT = Layout(4, 3, (1, 3), "steps", "mean_absolute", False, False)
LONG = np.array([4.0, 6.0, np.nan, 8.0, 2.0, 1.0, 5.0, 7.0, 3.0, 9.0])


def a_set(*values, **more):
    series = tuple(Series(f"s{index}", np.asarray(one, float)) for index, one in enumerate(values))
    return SeriesSet(series, **more)


def rows_of(series, layout, places, ends=None):
    return Windows(series, vocabulary_of(series), layout).rows(Places(*map(np.array, places)), ends)


@pytest.mark.parametrize("origin", [2, 5, 7, 10])
def test_rows_against_a_loop(origin):
    rows = rows_of(a_set([1.0] * 5, LONG), LAYOUT, ([1], [origin]))

    def at(step):
        return LONG[step] if 0 <= step < len(LONG) else np.nan

    context = [at(step) for step in range(origin - 4, origin)]
    scale = np.nanmean(np.abs(context))
    np.testing.assert_allclose(rows.scale, [[0.0, scale]], rtol=1e-6)
    for place, step in enumerate(range(origin - 4, origin + 3)):
        seen = np.array([at(step - 1), at(step - 3)]) / scale
        expected = [*np.nan_to_num(seen), *np.isfinite(seen)]
        np.testing.assert_allclose(rows.lags[0, place], expected, rtol=1e-6)
        counts = step >= origin and np.isfinite(at(step))
        assert rows.weights[0, place] == counts
        if counts:
            np.testing.assert_allclose(rows.targets[0, place], at(step) / scale, rtol=1e-6)
    before = np.array([at(step) for step in range(origin - 3, origin)]) / scale
    np.testing.assert_allclose(rows.history[0], [np.nan_to_num(before), np.isfinite(before)], rtol=1e-6)


def test_nothing_from_the_end_on_is_seen():
    changed = LONG.copy()
    changed[6:] = 1e6
    one, other = (rows_of(a_set(each), LAYOUT, ([0], [4]), np.array([6])) for each in (LONG, changed))
    for name in one._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    assert one.weights[0].tolist() == [0, 0, 0, 0, 1, 1, 0]


def test_location_and_scale():
    layout = LAYOUT._replace(scaling="location_scale")
    rows = rows_of(a_set(LONG, np.full(9, 5.0)), layout, ([0, 1], [4, 6]))
    np.testing.assert_allclose(rows.scale[0], [6.0, np.std([4.0, 6.0, 8.0])], rtol=1e-6)
    np.testing.assert_allclose(rows.scale[1], [5.0, 0.05], rtol=1e-6)  # Of a constant: a hundredth.
    np.testing.assert_allclose(rows.targets[0, 4], (2.0 - 6.0) / np.std([4.0, 6.0, 8.0]), rtol=1e-6)


def test_logarithms_and_counts():
    values = np.arange(10.0)
    rows = rows_of(a_set(values), LAYOUT._replace(is_logarithmic=True), ([0], [5]))
    scale = np.log1p(values[1:5]).mean()
    np.testing.assert_allclose(rows.targets[0, 4:], np.log1p(values[5:8]) / scale, rtol=1e-6)
    rows = rows_of(a_set(values), LAYOUT._replace(has_counts=True), ([0], [5]))
    np.testing.assert_array_equal(rows.targets[0, 4:], [5, 6, 7])
    np.testing.assert_allclose(rows.lags[0, 4, 0], 4 / 2.5)


@pytest.mark.parametrize(
    ("context", "expected"),
    [([0.0, 0.0, 0.0, 0.0], 1.0), ([np.nan] * 4, 3.0)],
    ids=["zeros", "nothing observed"],
)
def test_contexts_without_a_size(context, expected):
    rows = rows_of(a_set([2.0, 4.0, *context, 1.0, 1.0]), LAYOUT, ([0], [6]))
    assert rows.scale[0, 1] == expected
    assert all(np.isfinite(one).all() for one in rows)


def test_calendar_covariates_and_categories():
    series = tuple(
        Series(name, np.ones(6), np.datetime64(start, "M"), np.arange(8.0)[:, None], (kind,))
        for name, start, kind in (("a", "2020-01", "dry"), ("b", "2020-04", "wet wood"))
    )
    made = SeriesSet(series, "monthly", ("x",), ("kind",))
    vocabulary = vocabulary_of(made)
    assert vocabulary.words == ("<unk>", "kind=dry", "kind=wet%20wood")
    layout = LAYOUT._replace(frequency="monthly")
    rows = Windows(made, vocabulary, layout).rows(Places(np.array([0, 1]), np.array([6, 6])))
    assert rows.categories.tolist() == [[1], [2]]
    assert rows.known[0, :, -1].tolist() == [2, 3, 4, 5, 6, 7, 0]  # Known for two steps of the horizon.
    np.testing.assert_allclose(rows.known[1, 0, 0], np.sin(2 * np.pi * 5 / 12), rtol=1e-6)
    other = Windows(made, Vocabulary(["<unk>", "kind=dry"]), layout).rows(
        Places(np.array([1]), np.array([6]))
    )
    assert other.categories.tolist() == [[0]]


def config_of(**overrides):
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return with_overrides(ForecastingConfig(), {"data.horizon": 3, "model.context": 4, **named})


def test_a_pass_predicts_every_value_once_on_average():
    series = a_set(np.arange(1.0, 60.0), np.arange(1.0, 25.0))
    config = config_of()
    data = split_up(series, config)
    batches = Minibatches(data, Windows(series, data.vocabulary, Layout.of(config)), 4)
    predicted = sum((59 - 6 - 4, 24 - 6 - 4))  # All of training that have a whole context before them.
    assert batches.rows == 24 and len(batches) == 6  # 21 windows of 3 steps, and 3 that fill up.
    assert predicted == 63 and batches.predictions_per_row == 3
    seen = np.zeros(60)
    for number in range(300):
        places = batches._pass(number, 0)
        for origin in places.origins[places.series == 0]:
            assert 4 <= origin <= 59 - 6 - 3
            seen[origin : origin + 3] += 1
    # In the middle each value is seen once a pass and, of the windows that fill up, a little more.
    np.testing.assert_allclose(seen[10:45].mean() / 300, 16 * 24 / 21 / 49 * 3, rtol=0.05)


def test_training_goes_on_from_any_step():
    config = config_of(model__lags=(1, 3))
    data = split_up(a_set(np.arange(1.0, 40.0)), config)
    batches = Minibatches(data, Windows(data.series, data.vocabulary, Layout.of(config)), 2)

    def take(step, count):
        return list(batches.training(step, 5).take(count))

    from_start, later = take(0, len(batches) + 3), take(len(batches) + 1, 2)
    for (inputs, targets, weights), (others, same, also) in zip(from_start[-2:], later, strict=True):
        np.testing.assert_array_equal(inputs["lags"], others["lags"])
        np.testing.assert_array_equal(targets, same)
        np.testing.assert_array_equal(weights, also)
    assert not np.array_equal(from_start[0][1], from_start[1][1])


def test_series_that_are_shorter_than_a_window_are_learnt_from():
    config = config_of()
    data = split_up(a_set([1.0] * 40, [5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 2.0, 3.0]), config)
    assert data.ends["train"].tolist() == [34, 2]
    batches = Minibatches(data, Windows(data.series, data.vocabulary, Layout.of(config)), 4)
    places = batches._pass(0, 0)
    assert set(places.origins[places.series == 1]) == {1}
    rows = batches._rows(Places(np.array([1]), np.array([1])))
    assert rows.weights[0].tolist() == [0, 0, 0, 0, 1, 0, 0]


def test_splits_and_rolling_origins():
    config = config_of(data__origins=3, data__stride=2)
    data = split_up(a_set(np.arange(30.0), np.arange(20.0)), config)
    assert {name: ends.tolist() for name, ends in data.ends.items()} == {
        "train": [20, 10],
        "valid": [23, 13],
        "test": [30, 20],
    }
    assert data.places["valid"].origins.tolist() == [20, 10]
    assert data.places["test"].series.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.places["test"].origins.tolist() == [23, 25, 27, 13, 15, 17]
    whole = split_up(data.series, with_overrides(config, {"data.hold_out_valid": False}))
    assert whole.ends["train"].tolist() == [23, 13]
    assert whole.places["valid"].origins.tolist() == [20, 10]
    prints = data.fingerprints()
    changed = split_up(a_set(np.arange(30.0), np.r_[np.arange(19.0), 5.0]), config).fingerprints()
    assert [name for name in prints if prints[name] != changed[name]] == ["test"]


def test_what_does_not_go_together_is_refused():
    with pytest.raises(InputError, match=r"series 's0' has 7 values; .* need at least 8"):
        split_up(a_set(np.arange(7.0)), config_of())
    config = get_preset("demo_forecast_bbb")
    for overrides, said in (
        ({"data.frequency": "daily"}, "accepted is 'monthly'"),
        ({"data.covariates": "rain"}, "covariate 'rain'"),
        ({"model.head": "negative_binomial"}, "not all counts"),
    ):
        with pytest.raises(InputError, match=said):
            load_data(with_overrides(config, overrides))
    negative = dataclasses.replace(ForecastingConfig().model, transform="log", head="negative_binomial")
    with pytest.raises(InputError, match="accepted with it are"):
        dataclasses.replace(ForecastingConfig(), model=negative).check()
