"""Runs of forecasters by the command line: train, evaluate, forecast, report; series of one's own."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from quick_runs import quick  # noqa: F401

import absl_main
import zoo
from tfp_bayesrnn import InputError

SIZE = (
    *("--config.model.units=3", "--config.model.layers=1", "--config.model.context=3"),
    *("--config.train.epochs=2", "--config.evaluate.paths=6", "--jit_compile=off"),
    *("--config.train.batch=32", "--config.model.lags=(1,12)"),
)


def command(mode, workdir, *more):
    return absl_main.main(["absl_main.py", f"--mode={mode}", f"--workdir={workdir}", *map(str, more)])


def a_file(folder, counts=False, months=40, extra=0):
    """Three series of one's own with a covariate, known for half a year more, and a category."""
    random, lines = np.random.default_rng(0), ["series,time,value,warm,region"]
    for name, region in (("a", "north"), ("b", "south"), ("c", "south")):
        for month in range(months + 6):
            time = np.datetime64("2018-01", "M") + month
            value = random.poisson(20 + 8 * np.sin(month / 2)) + (0 if counts else 0.5)
            lines.append(f"{name},{time},{value if month < months + extra else ''},{month % 5},{region}")
    folder.mkdir(exist_ok=True)
    (folder / "series.csv").write_text("\n".join(lines) + "\n")
    return folder


OWN = (
    *("--config.data.name=series", "--config.data.frequency=monthly", "--config.data.season=12"),
    *("--config.data.horizon=3", "--config.data.covariates=warm", "--config.data.categories=region"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(workdir, data directory) of a Bayesian run on series of one's own, back-tested from two origins."""
    data = a_file(tmp_path_factory.mktemp("data"))
    workdir = tmp_path_factory.mktemp("runs") / "run"
    more = ("--config.data.origins=2", "--config.evaluate.num_samples=2", f"--data_dir={data}")
    assert command("train", workdir, "--preset=demo_forecast_bbb", *OWN, *SIZE, *more) == 0
    return workdir, data


def test_what_a_run_leaves(finished):
    workdir, _ = finished
    results = json.loads((workdir / "results.json").read_text())
    for key in ("valid", "valid_mc", "test", "test_mc"):
        assert results[key]["predictions"] == (9 if key.startswith("valid") else 18)
        assert results[key]["paths"] == 6
        assert {"nll", "crps", "wql", "mase", "msis", "coverage_90", "width_95"} <= set(results[key])
    assert results["seasonal_naive"]["mase"] > 0 and results["kl_per_training_value"] > 0
    assert (workdir / "vocabulary.txt").read_text() == "<unk>\nregion=north\nregion=south\n"
    epochs = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in epochs] == [1, 2] and "perplexity" not in epochs[0]


def test_evaluate_gives_the_same_figures(finished):
    workdir, data = finished
    before = json.loads((workdir / "results.json").read_text())
    assert command("evaluate", workdir, f"--data_dir={data}") == 0
    assert json.loads((workdir / "results.json").read_text()) == before


def test_other_data_are_refused(finished, tmp_path, capsys):
    workdir, _ = finished
    assert command("evaluate", workdir, f"--data_dir={a_file(tmp_path / 'other', extra=1)}") == 2
    assert "is not the one that the run in" in capsys.readouterr().err


def test_forecasts_as_numbers_and_as_a_chart(finished, tmp_path):
    workdir, data = finished
    chart = tmp_path / "fan.png"
    assert command("forecast", workdir, f"--data_dir={data}", f"--chart={chart}", "--num_samples=2") == 0
    rows = list(csv.DictReader((workdir / "forecast.csv").open()))
    assert [row["time"] for row in rows[:3]] == ["2021-05", "2021-06", "2021-07"]
    assert [row["series"] for row in rows] == [name for name in "abc" for _ in range(3)]
    for row in rows:
        levels = [float(row[name]) for name in row if name.startswith("q")]
        assert len(levels) == 9 and levels == sorted(levels)
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_newer_values_are_forecast_from(finished, tmp_path, capsys):
    workdir, _ = finished
    newer = a_file(tmp_path / "newer", extra=2)
    more = ("--output=-", "--series=b", "--samples", f"--chart={tmp_path / 'fan.svg'}")
    assert command("forecast", workdir, f"--data_dir={newer}", *more) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["time"] for row in rows] == ["2021-07", "2021-08", "2021-09"]
    assert len([name for name in rows[0] if name.startswith("sample_")]) == 6
    assert "<svg" in (tmp_path / "fan.svg").read_text()


def test_what_came_is_drawn_where_it_is_known(finished, tmp_path):
    workdir, data = finished
    chart = tmp_path / "fan.svg"
    assert command("forecast", workdir, f"--data_dir={data}", f"--chart={chart}", "--back=4") == 0
    assert "what came" in chart.read_text()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--series=d",), "unknown series 'd'"),
        (("--quantile=1.5",), "--quantile='1.5' is not accepted"),
        (("--chart=fan.pdf",), "a chart is SVG or PNG"),
        (("--back=40",), "has no value before its last 40 steps"),
    ],
)
def test_what_cannot_be_forecast_is_refused_in_one_line(finished, capsys, flags, said):
    workdir, data = finished
    assert command("forecast", workdir, f"--data_dir={data}", *flags) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_covariates_must_be_known_for_the_horizon(finished, tmp_path, capsys):
    workdir, _ = finished
    assert command("forecast", workdir, f"--data_dir={a_file(tmp_path / 'late', extra=4)}") == 2
    assert (
        "has covariates for 2 steps after its value at step 44, and a forecast needs 3"
        in capsys.readouterr().err
    )


def test_pruning_does_not_speak_of_perplexity(finished, tmp_path, capsys):
    copy, data = shutil.copytree(finished[0], tmp_path / "run"), finished[1]
    assert command("prune", copy, f"--data_dir={data}", "--prune=0.5") == 0
    assert command("report", copy, f"--data_dir={data}") == 0
    shown = [capsys.readouterr().out, (copy / "pruning.svg").read_text(), (copy / "report.html").read_text()]
    for text in shown:
        assert "exp(NLL)" in text and "erplexity" not in text


def test_the_report_has_scores_and_fan_charts(finished, tmp_path):
    workdir, data = finished
    page = tmp_path / "page.html"
    assert command("report", workdir, f"--data_dir={data}", f"--output={page}") == 0
    text = page.read_text()
    assert "Scores of the forecasts" in text and "seasonal naive" in text
    assert "Fan charts of forecasts of a, b, c" in text


@pytest.mark.slow(but=["dropout"])
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("deterministic", ("--config.model.head=student_t", "--config.model.transform=log")),
        ("dropout", ("--config.model.head=negative_binomial", "--config.model.scaling=mean_absolute")),
        ("bbb_sharpened", ("--config.data.name_as_category=true", "--config.model.cell=gru")),
    ],
    ids=["deterministic", "dropout", "bbb_sharpened"],
)
def test_methods_and_heads(tmp_path, method, more):
    data, workdir = a_file(tmp_path / "data", counts=True), tmp_path / "run"
    preset = (f"--preset=demo_forecast_{method}", "--config.train.epochs=1")
    samples = () if method == "deterministic" else ("--config.evaluate.num_samples=2",)
    flags = (*OWN, *SIZE, *more, *samples, f"--data_dir={data}", *preset)
    assert command("train", workdir, *flags) == 0
    results = json.loads((workdir / "results.json").read_text())
    assert results["test"]["crps"] > 0
    if method == "dropout":
        assert results["test_mc"]["samples"] == 2
    assert command("forecast", workdir, f"--data_dir={data}") == 0


def test_a_task_without_series_does_not_forecast(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert command("forecast", tmp_path) == 2
    assert "\n" not in capsys.readouterr().err.strip()


def test_models_of_presets_without_a_run():
    small = {"model.units": 2, "model.layers": 1, "model.context": 3}
    model = zoo.from_preset("demo_forecast_bbb", small)
    windows = model.training_rows
    # 90 series of 132 - 24 months for training, whose first 3 are only read.
    assert 90 * (108 - 3) / 12 <= windows <= 90 * (108 - 3) / 12 + 32 + 90 / 2
    with pytest.raises(InputError, match=r"pass corpus=zoo\.forecasting\.splits\.load_data"):
        zoo.from_preset("demo_forecast_bbb", {**small, "data.name": "series"})
