"""Whole runs through the command line: what a workdir receives, resume, and bad input."""

import json
import math
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from command_line_runs import metrics, one_line_error, run, write_corpus

import zoo
from tfp_bayesrnn import noise
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo.data import load_corpus
from zoo.data.windows import evaluation_windows
from zoo.language_model.experiment import LanguageModelExperiment
from zoo.registry import read_config
from zoo.runs.workdir import Workdir


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    assert run("train", workdir, "--config.train.epochs=2") == 0
    return workdir


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_what_is_said_while_nothing_seems_to_happen(copy, caplog):
    """The data are read, and in the first step of the process, wherever it resumes, the step is compiled."""
    caplog.set_level("INFO")
    assert run("train", copy, "--config.train.epochs=3") == 0
    said = [record.getMessage() for record in caplog.records if record.name == "absl"]
    places = [
        next(place for place, line in enumerate(said) if re.match(start, line))
        for start in (
            "reading the data: builtin",
            "compiling the training step",
            r"compiled, .* in \d",
            "epoch 3",
        )
    ]
    assert places == sorted(places)
    assert sum("compil" in line for line in said) == 2


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


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(trained, tmp_path):
    workdir = tmp_path / "run"
    assert run("train", workdir, "--config.train.epochs=1") == 0
    assert run("train", workdir, "--config.train.epochs=2") == 0
    assert metrics(workdir) == metrics(trained)
    results = [json.loads((path / "results.json").read_text()) for path in (workdir, trained)]
    for result in results:
        del result["train_seconds"]
    assert results[0] == results[1]


@pytest.mark.slow
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


def test_evaluate_an_ensemble(copy, tmp_path, capsys):
    """Of the run and of one pruned; the average is of probabilities, word by word."""
    assert run("prune", copy, "--prune=0.9") == 0
    flags = ("--config.evaluate.final_rows=20", "--num_samples=2")
    assert run("evaluate", copy, f"--ensemble={copy / 'pruned'}", *flags) == 0
    results = json.loads((copy / "results.json").read_text())
    log_probs = []
    for workdir in (copy, copy / "pruned"):
        directory = Workdir(workdir, create=False)
        experiment = LanguageModelExperiment(read_config(directory), directory, None)
        experiment.restore_best()
        windows = evaluation_windows(experiment.data.test, 20, experiment.config.evaluate.final_unroll)
        evaluator, root = (
            experiment.evaluator,
            noise.derive(noise.make_seed(0), noise.Stream.EVALUATION_DRAWS),
        )
        for sample in range(2):
            draw = experiment.model.posterior.sample(noise.derive(root, sample))
            log_probs.append(evaluator.log_probabilities(windows.dataset(), draw))
    expected = np.exp(-np.mean(np.log(np.mean(np.exp(log_probs), axis=0))))
    found = results["test_ensemble"]
    assert found["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert found["weights"] == "ensemble of 2 models, 2 samples of each"
    assert found["weights"] in capsys.readouterr().out
    assert results["test_mc"]["perplexity"] != pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
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
    rules = [("sgd", 0.1, 0.0), ("rms", 0.001, 0.02), ("posterior", 10.0, 0.01)]
    for rule, rate, decay in rules[1:]:
        flags = (f"dynamic_rule={rule}", f"dynamic_learning_rate={rate}", f"dynamic_decay={decay}")
        assert run("evaluate", workdir, *(f"--config.evaluate.{flag}" for flag in flags)) == 0
        assert f"mean, dynamic by {rule}, decay {decay:g}, batch 20" in capsys.readouterr().out
        found = json.loads((workdir / "results.json").read_text())["test_dynamic"]
        assert (found["rule"], found["learning_rate"], found["decay"]) == (rule, rate, decay)
        assert found["perplexity"] < bound["mean_perplexity_of_same_rows"]
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


@pytest.mark.slow
def test_dynamic_evaluation_of_a_tied_dropout_model(tmp_path):
    workdir, short = tmp_path / "run", ("--config.train.epochs=1", "--config.model.tied=true")
    assert run("train", workdir, *short, preset="demo_dropout") == 0
    assert run("evaluate", workdir, "--config.evaluate.dynamic_learning_rate=0.1") == 0
    results = json.loads((workdir / "results.json").read_text())
    assert "test_sharpened_bound" not in results
    assert "test_dynamic_sharpened_bound" not in results
    dynamic = results["test_dynamic"]
    assert dynamic["perplexity"] < dynamic["mean_perplexity_of_same_rows"]


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


@pytest.mark.slow
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
