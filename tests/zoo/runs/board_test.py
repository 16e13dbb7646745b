"""What TensorBoard is shown: the event files of a board, read back."""

import errno
import math
import os
import resource
import signal

import numpy as np
import pytest
import tensorflow as tf
from small_models import language_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfp_bayesrnn import PointMass
from tfp_bayesrnn.errors import InputError
from zoo.runs.board import STEPS, Board

FIGURES = {"loss": 2.5, "nll": 1.75, "kl": 130.0, "gradient_norm": 0.3}
ENTRY = {"step": 7, "epoch": 1, "split": "valid", "nll": 1.5, "perplexity": math.exp(1.5), "tokens": 60}


@pytest.fixture
def model():
    """The softmax's bias is a point mass."""
    return language_model()


class Clock:
    """Stands in for the time: `now` is set by the test."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("zoo.runs.board.time", clock)
    return clock


@pytest.fixture
def board(tmp_path, model):
    return Board(tmp_path, model, predictions_per_step=20.0, unit="tokens")


@pytest.fixture
def written(board, tmp_path):
    """A function that reads what has been written: tag -> [(step, value)]."""

    def read():
        board._writer.flush()
        accumulator = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
        return {
            tag: [(event.step, tf.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
            for tag in accumulator.Tags()["tensors"]
        }

    return read


def test_training_curves_every_so_many_steps(board, written, model):
    for step in range(1, 2 * STEPS + 2):
        board.step(step, {name: value + step for name, value in FIGURES.items()})
    curves = written()
    for name, value in FIGURES.items():
        assert [(step, float(seen)) for step, seen in curves[f"step/{name}"]] == [
            (STEPS, pytest.approx(value + STEPS)),
            (2 * STEPS, pytest.approx(value + 2 * STEPS)),
        ]
    assert set(curves) == {f"step/{name}" for name in FIGURES} | {"step/tokens_per_second"}


def speeds(written):
    return [(step, float(speed)) for step, speed in written().get("step/tokens_per_second", [])]


def test_the_speed_is_of_the_steps_since_the_last_point(board, written, clock):
    for step in range(1, 3 * STEPS + 1):
        clock.now += 0.01 if step <= 2 * STEPS else 0.04
        board.step(step, FIGURES)
    assert speeds(written) == [
        (2 * STEPS, pytest.approx(20.0 / 0.01, rel=1e-4)),
        (3 * STEPS, pytest.approx(20.0 / 0.04, rel=1e-4)),
    ]


def test_evaluation_does_not_slow_the_curve(board, written, clock):
    for step in range(1, 3 * STEPS + 1):
        clock.now += 0.01
        board.step(step, FIGURES)
        if step == STEPS + 50:
            board.evaluation(step, ENTRY)
            clock.now += 100.0
    assert speeds(written) == [(3 * STEPS, pytest.approx(20.0 / 0.01, rel=1e-4))]


def test_a_step_back_gives_no_speed(board, written, clock):
    for step in (2 * STEPS, STEPS):
        clock.now += 1.0
        board.step(step, FIGURES)
    assert speeds(written) == []


def test_an_evaluations_figures(board, written):
    board.evaluation(7, ENTRY)
    curves = written()
    assert [(step, float(value)) for step, value in curves["nll"]] == [(7, 1.5)]
    assert float(curves["perplexity"][0][1]) == pytest.approx(math.exp(1.5))
    assert not {"split", "epoch", "step"} & set(curves)


def check_histogram(buckets, expected):
    """Buckets are [left, right, count]: TensorFlow's, of `expected`."""
    assert buckets[:, 2].sum() == expected.size
    assert (buckets[0, 0], buckets[-1, 1]) == pytest.approx((expected.min(), expected.max()), rel=1e-4)
    edges = [*buckets[:, 0], buckets[-1, 1]]
    edges[0], edges[-1] = -np.inf, np.inf
    # A value at an edge, to the last bit, may be on either side of it.
    assert np.abs(np.histogram(expected, edges)[0] - buckets[:, 2]).sum() <= 2


def test_how_each_weight_spreads(board, written, model):
    for weight in model.posterior.variational:  # Not one sigma for all.
        rho = np.random.default_rng(0).uniform(-5.0, 1.0, weight.rho.shape)
        weight.rho.assign(rho)
    board.evaluation(7, ENTRY)
    shown = written()
    assert len(model.posterior.variational) == 5
    for weight in model.posterior.variational:
        mu, rho = (np.asarray(variable, np.float64) for variable in (weight.mu, weight.rho))
        sigma = np.log1p(np.exp(rho)) + 1e-5
        with np.errstate(divide="ignore"):
            decibels = np.maximum(20 * np.log10(np.abs(mu) / sigma), -400.0)
        for tag, values in (("sigma", sigma), ("signal_to_noise_db", decibels)):
            ((step, buckets),) = shown[f"{tag}/{weight.path}"]
            assert step == 7
            check_histogram(buckets, values)
        ((step, mean),) = shown[f"sigma_mean/{weight.path}"]
        assert (step, float(mean)) == (7, pytest.approx(sigma.mean(), rel=1e-5))
        ((step, median),) = shown[f"signal_to_noise_db_median/{weight.path}"]
        assert (step, float(median)) == (7, pytest.approx(np.median(decibels), rel=1e-4, abs=1e-3))


def test_a_point_mass_has_no_spread(board, written, model):
    board.evaluation(7, ENTRY)
    spreads = [tag for tag in written() if tag.startswith(("sigma", "signal"))]
    points = [weight.path for weight in model.posterior.weights if not weight.is_variational]
    assert len(points) == 1 and len(spreads) == 4 * len(model.posterior.variational)
    assert not [tag for tag in spreads if tag.endswith(points[0])]


def test_a_model_of_point_masses_only(tmp_path):
    model = language_model(posterior=PointMass(), training_rows=None)
    Board(tmp_path, model, 20.0, "tokens").evaluation(7, ENTRY)
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["tensors"]
    assert set(tags) == {"nll", "perplexity"}


def test_a_folder_that_cannot_be_written_to(tmp_path, model):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file: File exists"):
        Board(tmp_path / "file", model, 20.0, "tokens")


def test_a_foreign_folder(tmp_path, model, monkeypatch):
    def denied(**_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("zoo.runs.board.tempfile.TemporaryFile", denied)
    with pytest.raises(InputError, match=r"cannot write to .*: Permission denied"):
        Board(tmp_path, model, 20.0, "tokens")


def test_training_goes_on_where_the_disk_is_full(board, caplog):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        for step in (STEPS, 2 * STEPS, 3 * STEPS):
            board.step(step, FIGURES)
            board.evaluation(step, ENTRY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (warning,) = (one.getMessage() for one in caplog.records if "TensorBoard" in one.getMessage())
    assert "File too large" in warning
