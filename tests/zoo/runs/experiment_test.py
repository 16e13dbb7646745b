"""Whole runs through the command line: what a workdir receives, resume, and bad input."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import absl_main
import zoo
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import TrainingDiverged
from zoo.data import load_corpus
from zoo.runs.training_run import TrainingRun

TINY = (
    "--config.model.units=8",
    "--config.model.embedding_units=8",
    "--config.model.layers=1",
    "--config.train.batch=50",
    "--config.train.unroll=30",
    "--jit_compile=off",
)


def run(mode, workdir, *arguments, preset="demo_bbb"):
    named = [f"--preset={preset}", *TINY] if mode == "train" else []
    return absl_main.main(["absl_main.py", f"--mode={mode}", f"--workdir={workdir}", *named, *arguments])


def metrics(workdir):
    """The evaluations without their wall-clock fields."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    assert run("train", workdir, "--config.train.epochs=2") == 0
    return workdir


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_what_a_workdir_receives(trained):
    assert {path.name for path in trained.iterdir()} == {
        "checksums.txt",
        "config.json",
        "metrics.jsonl",
        "results.json",
        "vocabulary.txt",
        "data.json",
        "checkpoints",
        "tensorboard",
    }
    config = json.loads((trained / "config.json").read_text())
    assert config["preset"] == "demo_bbb"
    assert config["model"]["units"] == 8
    lines = metrics(trained)
    assert [line["epoch"] for line in lines] == [1, 2]
    windows = (60_001 // 50 - 1) // 30
    assert [line["step"] for line in lines] == [windows, 2 * windows]
    assert lines[1]["perplexity"] < lines[0]["perplexity"] < 355
    assert any((trained / "tensorboard").iterdir())
    results = json.loads((trained / "results.json").read_text())
    assert results["task"] == "language_model"
    assert results["method"] == "bbb"
    assert results["parameters"]["weights"] == 355 * 8 * 2 + 355 + 16 * 32 + 32
    assert results["valid"]["weights"] == results["test"]["weights"] == "mean"
    assert results["test"]["tokens"] == len(load_corpus("builtin").test) - 1
    assert results["lowest_perplexity"] == pytest.approx(18.32, abs=0.01)


def test_the_test_perplexity_by_hand(trained):
    """All of the test stream in one pass through the network, with the best checkpoint's means."""
    overrides = {"model.units": 8, "model.embedding_units": 8, "model.layers": 1, "jit_compile": "off"}
    model = zoo.from_preset("demo_bbb", overrides)
    checkpoints = Checkpoints(trained / "checkpoints", {"model": model})
    results = json.loads((trained / "results.json").read_text())
    assert checkpoints.restore_best() == results["steps"]
    stream = load_corpus("builtin").test
    logits = np.asarray(tf.function(model.network)(stream[None, :-1])[0], np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -log_probabilities[np.arange(len(stream) - 1), stream[1:]]
    # float32 forward passes in windows of 100 and in one of 6,011.
    assert results["test"]["perplexity"] == pytest.approx(math.exp(nats.mean()), rel=1e-5)


def test_a_resumed_run_is_the_same_run(trained, tmp_path):
    workdir = tmp_path / "run"
    assert run("train", workdir, "--config.train.epochs=1") == 0
    assert run("train", workdir, "--config.train.epochs=2") == 0
    assert metrics(workdir) == metrics(trained)
    results = [json.loads((path / "results.json").read_text()) for path in (workdir, trained)]
    for result in results:
        del result["train_seconds"]
    assert results[0] == results[1]


def test_a_truncated_checkpoint_is_passed_over_and_said(copy, trained, caplog):
    newest = sorted((copy / "checkpoints").glob("ckpt-*.data*"), key=lambda path: path.stat().st_mtime)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert run("train", copy, "--config.train.epochs=2") == 0
    assert metrics(copy) == metrics(trained)
    (warning,) = (
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and record.name == "absl"
    )
    windows = metrics(trained)[0]["step"]
    assert f"ckpt-{2 * windows} " in warning
    assert f"using the one before, {copy / 'checkpoints'}/ckpt-{windows}" in warning


def test_evaluate_with_samples(copy, capsys):
    before = json.loads((copy / "results.json").read_text())
    assert run("evaluate", copy, "--num_samples=2", "--config.evaluate.final_rows=10") == 0
    after = json.loads((copy / "results.json").read_text())
    assert after["test_mc"]["samples"] == 2
    assert after["test_mc"]["layout"] == "10 rows"
    assert after["test_mc"]["tokens"] == before["test"]["tokens"]
    # Ten cold starts in 6,011 tokens cost something, but not much.
    assert after["test"]["perplexity"] == pytest.approx(before["test"]["perplexity"], rel=0.02)
    assert "2 samples" in capsys.readouterr().out


def test_a_sharpened_run_and_every_way_to_evaluate_it(tmp_path, capsys):
    workdir = tmp_path / "run"
    short = ("--config.train.epochs=1", "--seed=2", "--config.sharpening.sigma0=0.05")
    assert run("train", workdir, *short, preset="demo_bbb_sharpened") == 0
    assert metrics(workdir)[0]["train_kl_sharpening"] > 0.0
    before = json.loads((workdir / "results.json").read_text())
    assert not {"test_mc", "test_dynamic"} & set(before)
    # Embedding, LSTM and softmax have mu, rho and u; the softmax's bias has a mean only.
    variational = 355 * 8 * 2 + 16 * 32 + 32
    assert before["parameters"] == {"weights": variational + 355, "trainable": 3 * variational + 355}

    capsys.readouterr()
    more = (
        "--num_samples=2",
        "--config.evaluate.dynamic_learning_rate=0.1",
        "--config.evaluate.final_rows=10",
    )
    assert run("evaluate", workdir, *more) == 0
    table, results = capsys.readouterr().out, json.loads((workdir / "results.json").read_text())
    bound = results["test_sharpened_bound"]
    assert bound == before["test_sharpened_bound"]
    assert (bound["batch"], bound["unroll"]) == (20, 35)
    assert 0.0 < bound["kl_per_token"] < 0.1
    assert "nll" not in bound  # It has seen the targets: never shown by itself.
    assert bound["tokens"] == results["test"]["tokens"] == results["test_dynamic"]["tokens"]
    for figures in (results["test_dynamic"], results["test_dynamic_sharpened_bound"]):
        assert (figures["learning_rate"], figures["batch"], figures["unroll"]) == (0.1, 20, 35)
        assert figures["mean_perplexity_of_same_rows"] == bound["mean_perplexity_of_same_rows"]
    # A model of one epoch gains by learning on.
    assert results["test_dynamic"]["perplexity"] < bound["mean_perplexity_of_same_rows"]
    assert results["test_dynamic_sharpened_bound"]["perplexity_bound"] < bound["perplexity_bound"]
    for line in (
        f"<= {bound['perplexity_bound']:.2f} ± {bound['standard_error']:.2f} "
        f"(mean: {bound['mean_perplexity_of_same_rows']:.2f})",
        f"sharpened bound, batch 20, unroll 35, KL {bound['kl_per_token']:.4f}/token",
        "mean, dynamic, batch 20, unroll 35, rate 0.1",
        "sharpened bound, dynamic, batch 20, unroll 35, rate 0.1",
        "2 samples",
        "an upper bound on the perplexity",
    ):
        assert line in table


def test_dynamic_evaluation_of_a_tied_dropout_model(tmp_path):
    workdir, short = tmp_path / "run", ("--config.train.epochs=1", "--config.model.tied=true")
    assert run("train", workdir, *short, preset="demo_dropout") == 0
    assert run("evaluate", workdir, "--config.evaluate.dynamic_learning_rate=0.1") == 0
    results = json.loads((workdir / "results.json").read_text())
    assert "test_sharpened_bound" not in results
    assert "test_dynamic_sharpened_bound" not in results
    dynamic = results["test_dynamic"]
    assert dynamic["perplexity"] < dynamic["mean_perplexity_of_same_rows"]


def one_line_error(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_another_configuration_is_refused(copy, capsys):
    assert run("train", copy, "--config.train.learning_rate=0.5") == 2
    message = one_line_error(capsys)
    assert "train.learning_rate" in message
    assert "0.5" in message


def test_a_diverging_run_stops_and_keeps_its_checkpoints(copy, capsys):
    saved = {path.name: path.read_bytes() for path in (copy / "checkpoints").glob("ckpt*")}
    config = json.loads((copy / "config.json").read_text())
    config["train"].update(learning_rate=1e30, clip_norm=1e30)
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "checksums.txt").unlink()  # By which that is a damaged one.
    wild = ("--config.train.learning_rate=1e30", "--config.train.clip_norm=1e30", "--config.train.epochs=3")
    assert run("train", copy, *wild) == 2
    message = one_line_error(capsys)
    assert "not finite at step" in message
    assert "is good and kept" in message
    assert {path.name: path.read_bytes() for path in (copy / "checkpoints").glob("ckpt*")} == saved
    evidence = json.loads((copy / "diverged.json").read_text())
    assert f"at step {evidence['step']}: " in evidence["error"]
    first = metrics(copy)[-1]["step"] + 1
    assert [line["step"] for line in evidence["last_steps"]] == list(range(first, evidence["step"] + 1))
    assert None in evidence["last_steps"][-1].values()  # Not a finite number.
    assert all(math.isfinite(line["loss"]) for line in evidence["last_steps"][:-1])
    assert str(copy / "checkpoints" / "diverged" / f"ckpt-{evidence['step']}") in message
    diverged = {path.name.split(".")[0] for path in (copy / "checkpoints" / "diverged").iterdir()}
    assert diverged == {f"ckpt-{evidence['step']}"}


def test_a_workdir_without_a_run_cannot_be_evaluated(tmp_path, capsys):
    assert run("evaluate", tmp_path / "nothing") == 2
    assert "does not exist" in one_line_error(capsys)


def write_corpus(directory, words):
    directory.mkdir()
    for split, count in (("train", 400), ("valid", 40), ("test", 40)):
        lines = [" ".join(words[(i + j) % len(words)] for j in range(5)) for i in range(count)]
        (directory / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return directory


def test_text_files_and_another_vocabulary(tmp_path, capsys):
    first = write_corpus(tmp_path / "first", ["a", "b", "c", "d"])
    second = write_corpus(tmp_path / "second", ["a", "b", "c", "e", "f"])
    workdir, short = tmp_path / "run", ("--config.train.epochs=1", "--config.train.batch=10")
    assert run("train", workdir, f"--data_dir={first}", *short, preset="text_small_bbb") == 0
    assert run("evaluate", workdir, f"--data_dir={first}") == 0
    capsys.readouterr()
    for mode, arguments in (("train", short), ("evaluate", ())):
        assert run(mode, workdir, f"--data_dir={second}", *arguments, preset="text_small_bbb") == 2
        message = one_line_error(capsys)
        assert "vocabulary" in message
        assert "6 words" in message
    assert run("train", tmp_path / "other", f"--data_dir={tmp_path / 'none'}", preset="text_small_bbb") == 2
    assert "none" in one_line_error(capsys)


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


def test_a_run_that_gets_better_is_not_stopped(train, tmp_path):
    steady = "--config.train.learning_rate=0.01"  # So low that no epoch arrives at the best there is.
    assert train(4, steady, "--config.train.patience=1") == 0
    lines = metrics(tmp_path / "run")
    assert len(lines) == 4 and lines[0]["nll"] > lines[1]["nll"] > lines[2]["nll"] > lines[3]["nll"]


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
