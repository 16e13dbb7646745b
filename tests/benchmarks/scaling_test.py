"""The benchmarks of growth and of waiting: fits, tables, and how processes of points are asked."""

import io
import json
import sys
import time

import numpy as np
import pytest

from benchmarks import input_wait, scaling
from zoo.configuration.config import with_overrides
from zoo.presets import get_preset

# Answers as the process of a point does; its calls take so many milliseconds, and its third command ends it.
FAKE = """
import json, sys
for count, line in enumerate(sys.stdin):
    if count == 3:
        sys.exit("out of memory")
    print(json.dumps({"milliseconds": 2.0 + float(line), "peak_gib": 0.5}), flush=True)
"""


def figures():
    """Of exact laws: time 0.25 + 0.75 z by batch, memory constant in samples; a base of 40 ms and 0.5 GiB."""

    def row(value, ratio, memory_ratio):
        return {
            "value": value,
            "milliseconds": 40.0 * ratio,
            "ratio": ratio,
            "ratios": [0.8 * ratio, ratio, 1.2 * ratio],
            "peak_gib": 0.5 * memory_ratio,
            "memory_ratio": memory_ratio,
        }

    batch = [row(value, 0.25 + 0.75 * value / 20, 0.9 + 0.1 * value / 20) for value in (10, 20, 40, 80)]
    samples = [row(value, 0.1 + 0.9 * value, 1.0) for value in (1, 2, 5, 10, 20)]
    return {"machine": "x86_64", "cores": 2, "sweeps": {"batch": batch, "samples": samples}}


@pytest.mark.parametrize("coefficients", [[2.0], [0.25, 0.75], [0.5, -0.1, 0.6]])
def test_a_fit_to_exact_data_finds_the_polynomial(coefficients):
    z = np.array([0.5, 1.0, 2.0, 4.0])
    ratios = np.polynomial.polynomial.polyval(z, coefficients)
    found = scaling.fit(z, ratios, len(coefficients) - 1)
    np.testing.assert_allclose(found.coefficients, coefficients, atol=1e-9)
    np.testing.assert_allclose(found.at(z), ratios)
    assert found.r2 == (pytest.approx(1.0) if len(coefficients) > 1 else None)
    assert found.deviation == pytest.approx(0.0, abs=1e-9)


def test_a_fit_is_of_relative_errors():
    """Of 1 and 3 the constant with the least sum of ((y - a) / y)^2 is 1.2, whose error at 3 is 60 %."""
    found = scaling.fit([1.0, 2.0], [1.0, 3.0], 0)
    assert found.coefficients == pytest.approx([1.2])
    assert found.deviation == pytest.approx(0.6)


def test_r2_of_what_is_not_linear():
    """Of z^2 at 1, 2, 3 by a line with equal weights it would be 48 / 49; relative errors cost some of it."""
    found = scaling.fit([1.0, 2.0, 3.0], [1.0, 4.0, 9.0], 1)
    assert 0.8 < found.r2 < 48 / 49
    assert found.deviation > 0.05


def test_the_exponent_is_of_the_two_largest_values():
    rows = [{"value": value, "ratio": 7.0 * value**1.5} for value in (1, 4, 9)]
    assert scaling.exponent([{"value": 0.1, "ratio": 99.0}, *rows]) == pytest.approx(1.5)


def test_tables_are_of_the_quantities_measured():
    points, laws, note = scaling.tables(figures()).split("\n\n")
    assert len(points.splitlines()) == 2 + 4 + 5
    assert "| batch | 80 | 130.0 | 3.25 (2.60 to 3.90) | 3.25 | 0.65 | 1.30 | 1.30 |" in points
    assert laws.splitlines()[2:] == [
        "| batch | 0.250 + 0.750 z | 1.0000 | 0.0 % | 0.89 | 0.900 + 0.100 z | 1.0000 | 0.0 % |",
        "| samples | 0.100 + 0.900 z | 1.0000 | 0.0 % | 0.99 | 1.000 |  | 0.0 % |",
    ]
    assert "the same 2 cores" in note
    columns = (
        {line.count("|") for line in points.splitlines()},
        {line.count("|") for line in laws.splitlines()},
    )
    assert columns == ({9}, {9})


def test_a_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    scaling.draw(figures(), tmp_path / "new" / "plot.png")
    assert (tmp_path / "new" / "plot.png").stat().st_size > 1000


def test_a_process_answers_every_command():
    answers, calls = io.StringIO(), []

    def work():
        calls.append(1)
        time.sleep(0.002)

    scaling.serve(work, io.StringIO("0.0\n0.1\n"), answers)
    short, long = (scaling.Timing(**json.loads(line)) for line in answers.getvalue().splitlines())
    assert short.milliseconds >= 2.0
    assert long.milliseconds >= 2.0
    assert 4 < len(calls) <= 2 + 1 + 51  # An untimed one of each command first.
    assert 0.01 < short.peak_gib <= long.peak_gib


def test_a_process_is_asked_until_it_ends():
    with scaling.Child([sys.executable, "-c", FAKE]) as child:
        assert child.time(1.0) == scaling.Timing(3.0, 0.5)
        child.time(1.0)
        with pytest.raises(RuntimeError, match="ended with status 1: out of memory"):
            child.time(1.0)
    assert child._process.returncode == 1


def test_a_sweep_pairs_each_timing_with_one_of_the_base_point():
    """A machine that gets slower by a tenth with every timing: ratios are off by that, and not by more."""
    asked = []

    class Fake:
        def __init__(self, point):
            self.point = point

        def time(self, seconds):
            asked.append(self.point.batch)
            return scaling.Timing(self.point.batch * 1.1 ** len(asked), 0.5 + self.point.batch / 100)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    sweep = scaling.Sweep("batch", (10, 20, 40), 1, 1)
    rows = scaling.measure_sweep(sweep, 2, 0.1, start=Fake)
    assert asked == [20, 20, 20, 10, 20, 10, 20, 40, 20, 40]
    assert [row["value"] for row in rows] == [10, 20, 40]
    assert [row["ratio"] for row in rows] == pytest.approx([0.55, 1.0, 2.2])
    assert [row["memory_ratio"] for row in rows] == pytest.approx([0.6 / 0.7, 1.0, 0.9 / 0.7])


def test_each_sweep_passes_through_its_base_point():
    for sweep in scaling.SWEEPS.values():
        assert sweep.base_value in sweep.values
        assert len(sweep.values) > sweep.degree


def test_waits_and_steps_are_told_apart():
    def dataset(first_step):
        for step in range(first_step, first_step + 3):
            time.sleep(0.02)
            yield step

    stopwatch = input_wait.Stopwatch(steps=3)
    stream = stopwatch.timed(dataset)(7)
    for step in (7, 8, 9):
        assert not stopwatch.should_stop()
        assert next(stream) == step
        time.sleep(0.005)
        stopwatch.on_step(step, {})
    assert stopwatch.should_stop()
    assert len(stopwatch.waits) == len(stopwatch.durations) == 3
    assert min(stopwatch.waits) >= 0.02
    assert min(stopwatch.durations) >= 0.005


def test_the_share_is_of_all_time():
    found = input_wait.input_wait([0.0, 0.001, 0.002], [0.1, 0.097, 0.1])
    assert found == (pytest.approx(0.01), 0.001, 0.002, 0.1)


@pytest.mark.slow
def test_training_is_timed_on_the_stream_of_the_loop(eagerly):
    changed = {"model.units": 4, "model.embedding_units": 4, "jit_compile": "off"}
    config = with_overrides(get_preset("demo_bbb"), changed)
    found, alone = input_wait.run(config, None, steps=3, warmup=1)
    assert 0.0 < found.share < 1.0
    assert found.wait <= found.longest
    assert found.step > 0.0
    assert alone > 0.0
