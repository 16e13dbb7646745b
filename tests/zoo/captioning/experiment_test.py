"""Whole captioning runs through the command line: what a workdir receives, resume, evaluation, bad input."""

import dataclasses
import json
import math
import shutil
import sys

import captioning_runs
import numpy as np
import pytest
from captioning_runs import IMAGE, MAX_WORDS, config_of, metrics, run, small_data, use

from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo.captioning import experiment as module
from zoo.captioning.caption_search import Captioner
from zoo.captioning.experiment import CaptioningExperiment
from zoo.captioning.model import build_model
from zoo.captioning.results import caption_split
from zoo.data.captions import caption_vocabulary, encode_captions
from zoo.runs.workdir import Workdir

data = captioning_runs.data  # The small data set, for every test here.


def results_of(workdir):
    return json.loads((workdir / "results.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs, the second of them by another command."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        use(patch)
        for epochs in (1, 2):
            tempered = "--config.train.kl_weight=0.5"
            assert run("train", workdir, f"--config.train.epochs={epochs}", tempered) == 0
    return workdir


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_what_a_workdir_receives(trained):
    assert {path.name for path in trained.iterdir()} == {
        *("config.json", "metrics.jsonl", "results.json", "vocabulary.txt", "data.json"),
        *("checkpoints", "tensorboard"),
        "checksums.txt",
    }
    lines, data = metrics(trained), small_data()
    assert [line["step"] for line in lines] == [3, 6]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[1]["perplexity"] < lines[0]["perplexity"] < len(data.vocabulary)
    for line in lines:
        assert line["unreadable_photos"] == 0
        assert line["kl_per_training_caption"] == pytest.approx(line["kl"] / (24 * 5))
    results = results_of(trained)
    assert (results["task"], results["preset"], results["method"], results["data"]) == (
        *("captioning", "shapes_demo_bbb", "bbb", "builtin_shapes"),
    )
    assert (results["steps"], results["epochs"], results["epochs_trained"]) == (6, 2, 2)
    size = len(data.vocabulary)
    decoder = size * 6 + (6 + 8) * 32 + 32 + size * 8 + size
    assert results["parameters"]["weights"] == decoder
    assert results["parameters"]["trainable"] > 2 * decoder - size  # The encoder and the projection, too.
    assert results["kl_weight"] == 0.5
    assert results["kl_per_training_token"] == lines[1]["kl_per_training_token"]
    for split in ("valid", "test"):
        assert results[split]["weights"] == "mean"
        assert results[split]["perplexity"] == pytest.approx(math.exp(results[split]["nll"]))
    assert results["valid"]["perplexity"] == pytest.approx(lines[1]["perplexity"], rel=1e-6)
    test = results["test"]
    assert (test["images"], test["beam"]) == (9, 2)
    assert {*("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")} <= set(test)
    assert "bleu1" not in results["valid"]
    uncertainty = results["test_uncertainty"]
    assert uncertainty["mean_cider"] == pytest.approx(test["cider"])
    assert "mutual_information" not in uncertainty  # The mean has none.
    assert not {"test_mc", "test_sharpened_bound"} & set(results)


def test_the_test_perplexity_by_hand(trained):
    data, results = small_data(), results_of(trained)
    model = build_model(config_of(), len(data.vocabulary), 24, 3)
    assert Checkpoints(trained / "checkpoints", {"model": model}).restore_best() == results["steps"]
    encoded = encode_captions(data.test.references, data.vocabulary, MAX_WORDS)
    ((inputs, _, _),) = module.CaptionBatches(data.test, data.vocabulary, 9, IMAGE, MAX_WORDS).evaluation()
    logits = np.asarray(
        model.network({"image": inputs["image"], "words": encoded.inputs}, training=False), np.float64
    )
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -np.take_along_axis(log_probs, encoded.targets[..., None], axis=-1)[..., 0][encoded.weights > 0]
    assert results["test"]["tokens"] == len(nats) == encoded.weights.sum()
    assert results["test"]["perplexity"] == pytest.approx(math.exp(nats.mean()), rel=1e-4)


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(trained, tmp_path):
    workdir = tmp_path / "run"
    assert run("train", workdir, "--config.train.epochs=2", "--config.train.kl_weight=0.5") == 0
    assert metrics(workdir) == metrics(trained)
    results = [results_of(path) for path in (workdir, trained)]
    for result in results:
        del result["train_seconds"]
    assert results[0] == results[1]


@pytest.mark.slow
def test_evaluate_with_samples(copy, capsys):
    before = results_of(copy)
    assert run("evaluate", copy, "--config.evaluate.num_samples=2", "--config.evaluate.beam=1") == 0
    table, after = capsys.readouterr().out, results_of(copy)
    assert after["valid"] == before["valid"]
    assert after["test"]["perplexity"] == before["test"]["perplexity"]
    mc = after["test_mc"]
    assert (mc["samples"], mc["beam"], mc["images"]) == (2, 1, 9)
    assert mc["tokens"] == before["test"]["tokens"] and "cider" in mc
    assert mc["perplexity"] != before["test"]["perplexity"]
    assert after["valid_mc"]["samples"] == 2
    information = after["test_mc_uncertainty"]["mutual_information"]
    low, high = information["rank_correlation_95"]
    assert -1.0 <= low <= information["rank_correlation"] <= high <= 1.0
    first, *rows = table.splitlines()
    assert "(bbb, tempered: KL weight 0.5)" in first
    assert sum("average over 2 samples" in row for row in rows) == 3  # Valid, test, the uncertainty's line.
    (row,) = (row for row in rows if row.split()[:1] == ["test"] and "average" in row)
    assert f"{mc['perplexity']:.2f}" in row and f"{100 * mc['cider']:.1f}" in row


@pytest.mark.slow
def test_without_the_scorers(copy, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
    monkeypatch.setattr(Captioner, "caption", None)  # Nobody would score them.
    before = results_of(copy)
    assert run("evaluate", copy, "--num_samples=2") == 0
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "pycocoevalcap" in warning
    after = results_of(copy)
    assert after["test"]["perplexity"] == before["test"]["perplexity"]
    assert after["test_mc"]["perplexity"] > 1.0
    assert not {"bleu4", "cider"} & set(after["test"]) and "test_uncertainty" not in after


def one_line_error(capsys):
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_another_vocabulary_is_refused(copy, monkeypatch, capsys):
    data = small_data()
    other = dataclasses.replace(data, vocabulary=caption_vocabulary([("a", "b")]))
    monkeypatch.setattr("zoo.captioning.model.load_captions", lambda *_: other)
    assert run("evaluate", copy) == 2
    message = one_line_error(capsys)
    assert "vocabulary (6 words)" in message and f"({len(data.vocabulary)} words)" in message


def test_another_configuration_is_refused(copy, capsys):
    assert run("train", copy, "--config.train.kl_weight=1.0") == 2
    assert "train.kl_weight" in one_line_error(capsys)


def test_too_few_images(tmp_path, capsys):
    assert run("train", tmp_path / "run", "--config.train.batch=25") == 2
    assert "24 images do not fill a minibatch of 25" in one_line_error(capsys)


def test_a_split_of_which_no_photo_can_be_read(tmp_path, capsys, monkeypatch):
    use(monkeypatch, corrupt=[("valid", place) for place in range(7)])
    assert run("train", tmp_path / "run") == 2
    message = one_line_error(capsys)
    assert "none of the 7 photos of the split 'valid' of 'builtin_shapes' can be read: " in message
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_photos_that_cannot_be_read(tmp_path, monkeypatch):
    use(monkeypatch, corrupt=[("train", 3), ("train", 20), ("test", 4)])
    workdir = tmp_path / "run"
    assert run("train", workdir, "--config.train.epochs=1", preset="shapes_demo_deterministic") == 0
    (line,) = metrics(workdir)
    assert line["unreadable_photos"] == 2
    test, data = results_of(workdir)["test"], small_data()
    assert (test["images"], test["unreadable_photos"]) == (8, 1)
    references = data.test.references[:4] + data.test.references[5:]
    assert test["tokens"] == encode_captions(references, data.vocabulary, MAX_WORDS).weights.sum()
    assert "unreadable_photos" not in results_of(workdir)["valid"]


@pytest.mark.slow
def test_a_sharpened_run(tmp_path, capsys):
    workdir = tmp_path / "run"
    short = ("--config.train.epochs=1", "--config.sharpening.sigma0=0.05")
    assert run("train", workdir, *short, preset="shapes_demo_bbb_sharpened") == 0
    assert metrics(workdir)[0]["train_kl_sharpening"] > 0.0
    table, results = capsys.readouterr().out, results_of(workdir)
    for split in ("valid", "test"):
        bound = results[f"{split}_sharpened_bound"]
        assert bound["kl_per_token"] > 0.0 and bound["perplexity_bound"] > 1.0
        assert bound["tokens"] == results[split]["tokens"] and bound["batch"] == 4
        assert "nll" not in bound  # It has seen the captions: never shown by itself.
        assert f"perplexity <= {bound['perplexity_bound']:.2f} ± {bound['standard_error']:.2f}" in table
        assert f"of it KL {bound['kl_per_token']:.4f} nats/word" in table
    assert "tempered" not in table


class TestFeatures:
    """Of an encoder that is not trained."""

    def experiment(self, tmp_path, preset="shapes_demo_bbb", **changes):
        config = config_of(preset, encoder__trainable=False, data__shift=False, train__epochs=1, **changes)
        return CaptioningExperiment(config, Workdir(tmp_path / "run"), None)

    @pytest.mark.slow
    def test_a_run(self, tmp_path, monkeypatch):
        use(monkeypatch, corrupt=[("train", 3)])
        experiment = self.experiment(tmp_path, encoder__cache_dir=str(tmp_path / "cache"))
        assert set(experiment.batches.training(0, 0).element_spec[0]) == {"features", "words"}
        assert not experiment.model.network.encoder.trainable_variables
        before = [variable.numpy() for variable in experiment.model.network.encoder.variables]
        experiment.train()
        assert metrics(tmp_path / "run")[0]["unreadable_photos"] == 1
        results = experiment.evaluate()
        assert results["test"]["images"] == 9
        for variable, value in zip(experiment.model.network.encoder.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)
        assert len(list((tmp_path / "cache").iterdir())) == 3

    @pytest.mark.slow
    def test_images_that_are_moved_have_no_features(self, tmp_path):
        config = config_of(encoder__trainable=False, data__shift=True)
        experiment = CaptioningExperiment(config, Workdir(tmp_path / "run"), None)
        assert set(experiment.batches.training(0, 0).element_spec[0]) == {"image", "words"}
        of_test = experiment.batches_of(experiment.data.test, 4)
        assert set(of_test.evaluation().element_spec[0]) == {"features", "words"}

    @pytest.mark.slow
    def test_captions_are_those_of_the_images(self, tmp_path):
        experiment = self.experiment(tmp_path)
        split, captioner = experiment.data.test, Captioner(experiment.model, experiment.data.vocabulary, 5)
        of_features = caption_split(captioner, experiment.batches_of(split, 4), "captions")
        images = module.CaptionBatches(split, experiment.data.vocabulary, 5, IMAGE, MAX_WORDS)
        of_images = caption_split(captioner, images, "captions")
        assert len(of_features.words) == 9 and of_features.words == of_images.words
        np.testing.assert_allclose(of_features.log_probs, of_images.log_probs, atol=1e-4)


class TestStartFrom:
    @pytest.mark.slow
    def test_the_weights_of_another_run(self, trained, tmp_path):
        """With a rate near zero they stay; the frozen encoder's features are those of its trained weights."""
        other = tmp_path / "other"
        frozen = ("--config.encoder.trainable=false", "--config.data.shift=false")
        rate = ("--config.train.learning_rate=1e-9", "--config.train.epochs=1")
        assert run("train", other, f"--config.train.start_from={trained}", *frozen, *rate) == 0
        before = json.loads((trained / "results.json").read_text())
        after = json.loads((other / "results.json").read_text())
        assert after["test"]["nll"] == pytest.approx(before["test"]["nll"], abs=1e-3)

    def test_of_no_such_run(self, trained, tmp_path, capsys):
        start = f"--config.train.start_from={tmp_path / 'none'}"
        assert run("train", tmp_path / "run", start) == 2
        assert "none does not exist" in capsys.readouterr().err

    def test_of_another_network(self, trained, tmp_path, capsys):
        start = f"--config.train.start_from={trained}"
        assert run("train", tmp_path / "run", start, "--config.model.units=7") == 2
        assert "best/ckpt-6 is of another model" in capsys.readouterr().err


def test_a_workdir_without_a_run_cannot_be_evaluated(tmp_path):
    experiment = CaptioningExperiment(config_of(), Workdir(tmp_path), None)
    with pytest.raises(module.InputError, match="holds no best checkpoint"):
        experiment.restore_best()
