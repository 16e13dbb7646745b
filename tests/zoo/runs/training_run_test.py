"""How training ends and goes on: early stopping, steps back, another strategy, signals."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line_runs import TINY, metrics, one_line_error, run, write_corpus

import absl_main
from tfp_bayesrnn.loop.loop import TrainingDiverged
from zoo.runs.training_run import TrainingRun

WINDOWS = (2400 // 12 - 1) // 30  # Of the small text, in 12 rows.


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("text") / "data", ["a", "b", "c", "d"])


@pytest.fixture
def train(text, tmp_path):
    """A function that trains on a small text, in `tmp_path / name`: an epoch is a few steps."""

    def train(epochs, *arguments, name="run"):
        few = (f"--data_dir={text}", "--config.train.batch=12", f"--config.train.epochs={epochs}")
        return run("train", tmp_path / name, *few, *arguments, preset="text_small_bbb")

    return train


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def ours(caplog):
    """What the project's own log says."""
    return " / ".join(record.getMessage() for record in caplog.records if record.name == "absl")


@pytest.mark.slow
def test_early_stopping(train, tmp_path, caplog):
    still = "--config.train.learning_rate=1e-30"  # No epoch is better than the first.
    assert train(9, still, "--config.train.patience=2") == 0
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2, 3]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == WINDOWS
    assert train(9, still, "--config.train.patience=2") == 0  # Again: it is at its end.
    assert len(metrics(tmp_path / "run")) == 3
    assert train(9, still, "--config.train.patience=4") == 0
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2, 3, 4, 5]
    assert "patience" in ours(caplog)  # Why it ended before the ninth.


@pytest.mark.slow
def test_a_run_that_gets_better_is_not_stopped(train, tmp_path):
    steady = "--config.train.learning_rate=0.01"  # So low that no epoch arrives at the best there is.
    assert train(4, steady, "--config.train.patience=1") == 0
    lines = metrics(tmp_path / "run")
    assert len(lines) == 4 and lines[0]["nll"] > lines[1]["nll"] > lines[2]["nll"] > lines[3]["nll"]


@pytest.mark.slow
def test_an_exploded_run_ends_and_goes_on_with_another_limit(train, tmp_path, capsys):
    checkpoints = tmp_path / "run" / "checkpoints"
    assert train(1) == 0
    saved = {path: path.read_bytes() for path in checkpoints.rglob("ckpt*")}
    assert train(2, "--config.train.max_nll=0.01") == 2
    message = one_line_error(capsys)
    limit = 0.01 * math.log(5)  # Four words and the end of a line.
    assert f"above {limit:.3g}, at step {WINDOWS + 1}: training has diverged" in message
    assert f"checkpoint {WINDOWS} is good and kept" in message
    assert {path: path.read_bytes() for path in saved} == saved
    evidence = json.loads((tmp_path / "run" / "diverged.json").read_text())
    (last,) = evidence["last_steps"]
    assert last["step"] == evidence["step"] == WINDOWS + 1
    assert last["nll"] > limit
    assert {path.name.split(".")[0] for path in (checkpoints / "diverged").iterdir()} == {
        f"ckpt-{WINDOWS + 1}"
    }
    assert len(metrics(tmp_path / "run")) == 1

    assert train(2) == 0
    assert train(2, name="uninterrupted") == 0
    assert metrics(tmp_path / "run") == metrics(tmp_path / "uninterrupted")


@pytest.mark.slow
def test_steps_back_until_the_learning_rate_is_low_enough(train, tmp_path, caplog):
    """Powers of two are exact: after two steps back it is the run with a rate of 1 from the start."""
    wild = (f"--config.train.learning_rate={2**40}", f"--config.train.step_back_factor={2**-20}")
    assert train(2, *wild, "--config.train.step_backs=2") == 0
    backs = [line for line in warnings(caplog) if line.startswith("step back")]
    assert backs == [
        f"step back {n} of 2: on from step 0 with {2 ** (-20 * n):g} times the learning rate" for n in (1, 2)
    ]
    assert train(2, "--config.train.learning_rate=1", name="calm") == 0
    assert metrics(tmp_path / "run") == metrics(tmp_path / "calm")
    assert not (tmp_path / "run" / "diverged.json").exists()


@pytest.mark.slow
def test_steps_back_are_counted(train, tmp_path, capsys, caplog):
    exploding = ("--config.train.max_nll=0.01", "--config.train.step_backs=2")
    assert train(1) == 0
    assert train(2, *exploding) == 2
    assert "at step" in one_line_error(capsys)
    assert [line.split(":")[0] for line in warnings(caplog) if line.startswith("step back")] == [
        "step back 1 of 2",
        "step back 2 of 2",
    ]
    steps = [
        line["step"] for line in json.loads((tmp_path / "run" / "diverged.json").read_text())["last_steps"]
    ]
    assert steps == [WINDOWS + 1] * 3  # Of every attempt.


@pytest.mark.slow
def test_a_step_back_takes_back_what_was_said_since(train, tmp_path, monkeypatch):
    """Past a damaged checkpoint, and so past an entry of metrics.jsonl."""
    on_step, diverged = TrainingRun.on_step, []

    def diverge_once(self, step, figures):
        if step == 2 * WINDOWS + 1 and not diverged:
            newest = tmp_path / "run" / "checkpoints" / f"ckpt-{2 * WINDOWS}.data-00000-of-00001"
            newest.write_bytes(newest.read_bytes()[:1000])
            diverged.append(step)
            raise TrainingDiverged("as the test wants it", step, [])
        on_step(self, step, figures)

    monkeypatch.setattr(TrainingRun, "on_step", diverge_once)
    constant = ("--config.train.hold_epochs=9", "--config.train.learning_rate=0.5")
    assert train(3, *constant, "--config.train.step_backs=1") == 0
    assert diverged
    lines = metrics(tmp_path / "run")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["learning_rate"] for line in lines] == [0.5, 0.25, 0.25]


@pytest.mark.slow
def test_another_strategy_goes_on_with_the_run(train, tmp_path, capsys, caplog):
    assert train(1) == 0
    one_device = json.loads((tmp_path / "run" / "results.json").read_text())
    # On as many replicas as conftest.py makes devices; without a step more the results are the same.
    assert train(1, "--strategy=mirrored") == 0
    assert f"training on 4 replica(s) / resuming at step {WINDOWS}" in ours(caplog)
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == one_device
    capsys.readouterr()
    assert train(1, "--strategy=mirrored", "--config.train.batch=10", name="other") == 2
    assert "10" in one_line_error(capsys)


def wait_for(path, process):
    for _ in range(600):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.1)


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(text, tmp_path, caplog):
    workdir = tmp_path / "run"
    # Many steps an epoch: the signal comes within one.
    few = (f"--data_dir={text}", "--config.train.batch=2", "--config.train.unroll=5")
    process = subprocess.Popen(
        [
            *(sys.executable, "absl_main.py", "--mode=train", "--preset=text_small_bbb"),
            *(f"--workdir={workdir}", *TINY, *few, "--config.train.epochs=1000"),
        ],
        cwd=Path(absl_main.__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "TF_CONFIG"},
    )
    try:
        wait_for(workdir / "metrics.jsonl", process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "Traceback" not in err
    step = max(int(path.stem.split("-")[1]) for path in (workdir / "checkpoints").glob("ckpt-*.index"))
    stopped = f"training stopped at step {step}; its checkpoint is saved; the same command again goes on"
    assert err.splitlines()[-1].startswith(stopped)
    assert err.count("training stopped") == 1
    assert not (workdir / "results.json").exists()

    epochs = metrics(workdir)[-1]["epoch"] + 1
    assert run("train", workdir, *few, f"--config.train.epochs={epochs}", preset="text_small_bbb") == 0
    assert f"resuming at step {step}" in ours(caplog)
    assert [line["epoch"] for line in metrics(workdir)] == list(range(1, epochs + 1))
