"""The command `prune`: what it measures, what it draws, and the pruned workdir it makes."""

import json
import math
import shutil
import xml.etree.ElementTree as ElementTree

import captioning_runs as captioning
import numpy as np
import pytest

import absl_main
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.posterior import pruning as library
from zoo.data.windows import evaluation_windows
from zoo.language_model.experiment import LanguageModelExperiment
from zoo.pruning import cost
from zoo.registry import read_config
from zoo.runs.workdir import Workdir

SVG = "{http://www.w3.org/2000/svg}"
FIXED = {"fractions": (0.5,), "alone": (0.5,)}
# In the order of the posterior.
NAMES = (
    *("embedding/embeddings", "lstm_0/cell/bias", "lstm_0/cell/kernel", "lstm_0/cell/recurrent_kernel"),
    *("softmax/bias", "softmax/kernel"),
)


def run(mode, workdir, *arguments, preset="demo_bbb"):
    tiny = (
        *("--config.model.units=8", "--config.model.embedding_units=8", "--config.model.layers=1"),
        *("--config.train.batch=50", "--config.train.unroll=30", "--jit_compile=off"),
    )
    named = [f"--preset={preset}", *tiny] if mode == "train" else []
    return absl_main.main(["absl_main.py", f"--mode={mode}", f"--workdir={workdir}", *named, *arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained") / "run"
    assert run("train", workdir, "--config.train.epochs=1") == 0
    return workdir


@pytest.fixture(scope="module")
def pruned(trained, tmp_path_factory):
    """A run with its pruned workdir, and what the command returned."""
    workdir = shutil.copytree(trained, tmp_path_factory.mktemp("pruned") / "run")
    return workdir, prune(workdir, fraction=0.7)


def prune(workdir, **arguments):
    config = read_config(Workdir(workdir, create=False))
    return cost.measure_pruning(config, str(workdir), None, **{**FIXED, **arguments})


def experiment_of(workdir):
    directory = Workdir(workdir, create=False)
    experiment = LanguageModelExperiment(read_config(directory), directory, None)
    step = experiment.loop.checkpoints.restore_best()
    return experiment, step


@pytest.fixture(scope="module")
def restored(pruned):
    """The run as it was before, as an experiment."""
    return experiment_of(pruned[0])[0]


def perplexity_by_hand(experiment, masks, split="valid"):
    """With the mean of the weights set to 0 by hand, in the variables."""
    before = {weight: weight.mu.numpy() for weight in masks}
    for weight, keep in masks.items():
        weight.mu.assign(np.where(keep, before[weight], 0.0))
    settings = experiment.config.evaluate
    windows = evaluation_windows(getattr(experiment.data, split), settings.rows, settings.unroll)
    perplexity = experiment.evaluator.mean(windows.dataset()).perplexity
    for weight, mu in before.items():
        weight.mu.assign(mu)
    return perplexity


def lowest_dropped(weights, fraction, by):
    """By a plain sort of all elements."""
    mu = [np.abs(weight.mu.numpy()).ravel() for weight in weights]
    sigma = [weight.scale().numpy().ravel() for weight in weights]
    with np.errstate(divide="ignore"):
        ratios = np.concatenate(mu) / np.concatenate(sigma)
    order = np.lexsort([np.concatenate(mu), ratios] if by == "signal_to_noise" else [np.concatenate(mu)])
    keep = np.ones(len(order), bool)
    keep[order[: round(fraction * len(order))]] = False
    parts = np.split(keep, np.cumsum([len(one) for one in mu])[:-1])
    return {weight: part.reshape(weight.shape) for weight, part in zip(weights, parts, strict=True)}


def points_of(results, by, scope, weight=None):
    (curve,) = (
        one for one in results["curves"] if (one["by"], one["scope"], one["weight"]) == (by, scope, weight)
    )
    return {point["fraction"]: point for point in curve["points"]}


class TestCurves:
    @pytest.mark.parametrize("by", ["signal_to_noise", "magnitude"])
    @pytest.mark.slow(every=2)
    def test_of_the_whole_network(self, pruned, restored, by):
        results = pruned[1]
        points = points_of(results, by, "network")
        assert list(points) == [0.0, 0.5, 0.7]
        weights = restored.model.posterior.weights
        elements = sum(math.prod(weight.shape) for weight in weights)
        assert results["elements"] == elements == 355 * 8 * 2 + 355 + 16 * 32 + 32
        for fraction, point in points.items():
            masks = lowest_dropped(weights, fraction, by)
            assert point["dropped"] == round(fraction * elements)
            # Float32 passes through the same network.
            assert point["valid"] == pytest.approx(perplexity_by_hand(restored, masks), rel=1e-6)
            assert ("test" in point) == (by == "signal_to_noise")
            if fraction:
                shares = {name: 1.0 - keep.mean() for name, keep in zip(NAMES, masks.values(), strict=True)}
                assert point["dropped_of_weights"] == pytest.approx(shares)
        if by == "signal_to_noise":
            by_hand = perplexity_by_hand(restored, lowest_dropped(weights, 0.7, by), "test")
            assert points[0.7]["test"] == pytest.approx(by_hand, rel=1e-6)

    def test_of_every_weight_the_same(self, pruned, restored):
        masks = {}
        for weight in restored.model.posterior.weights:
            by = "signal_to_noise" if weight.is_variational else "magnitude"
            masks |= lowest_dropped([weight], 0.5, by)
        point = points_of(pruned[1], "signal_to_noise", "weight")[0.5]
        assert point["valid"] == pytest.approx(perplexity_by_hand(restored, masks), rel=1e-6)

    def test_of_one_weight_alone(self, pruned, restored):
        results = pruned[1]
        assert [weight["name"] for weight in results["weights"]] == list(NAMES)
        weight = restored.model.posterior.weights[2]
        points = points_of(results, "signal_to_noise", "weight", NAMES[2])
        assert list(points) == [0.0, 0.5]
        assert points[0.5]["dropped"] == round(0.5 * math.prod(weight.shape))
        masks = lowest_dropped([weight], 0.5, "signal_to_noise")
        assert points[0.5]["valid"] == pytest.approx(perplexity_by_hand(restored, masks), rel=1e-6)

    def test_what_is_written(self, pruned):
        workdir, results = pruned
        written = json.loads((workdir / "pruning.json").read_text())
        assert written["curves"] == results["curves"]
        assert written["pruned"] == results["pruned"]
        assert written["unpruned"] == {split: results["unpruned"][split] for split in ("valid", "test")}
        statistics = written["signal_to_noise_db"]
        # The softmax's bias has no distribution.
        assert [one["name"] for one in statistics] == [
            "network",
            *(name for name in NAMES if name != "softmax/bias"),
        ]
        assert statistics[0]["elements"] == results["elements"] - 355
        root = ElementTree.fromstring((workdir / "pruning.svg").read_text())
        labels = {element.text for element in root.iter(f"{SVG}text")}
        assert {"by signal to noise", "by magnitude", *NAMES} <= labels

    def test_the_table(self, pruned):
        _, results = pruned
        lines = cost.table(results).splitlines()
        assert lines[1].split() == [
            *("dropped", "weights", "left", "valid,", "signal", "to", "noise", "test", "valid,"),
            *("magnitude", "same", "fraction", "of", "each", "weight"),
        ]
        point = points_of(results, "signal_to_noise", "network")[0.7]
        cells = lines[4].split()
        assert cells[:3] == ["0.7", f"{results['elements'] - point['dropped']:,}", f"{point['valid']:.2f}"]
        assert cells[3] == f"{point['test']:.2f}"
        assert cells[4] == f"{points_of(results, 'magnitude', 'network')[0.7]['valid']:.2f}"
        assert f"{results['pruned']['kept']:,} of {results['elements']:,} weights" in lines[-1]

    @pytest.mark.slow
    def test_a_network_without_distributions(self, tmp_path, capsys):
        assert run("train", tmp_path, "--config.train.epochs=1", preset="demo_deterministic") == 0
        results = prune(tmp_path)
        assert results["by"] == "magnitude"
        assert {curve["by"] for curve in results["curves"]} == {"magnitude"}
        assert "test" in points_of(results, "magnitude", "network")[0.5]
        assert results["signal_to_noise_db"] == []
        assert "pruned" not in results
        assert not (tmp_path / "pruned").exists()
        assert "valid, magnitude" in capsys.readouterr().out


class TestPrunedWorkdir:
    def test_what_it_holds(self, pruned, restored):
        workdir, results = pruned
        made = results["pruned"]
        experiment, step = experiment_of(workdir / "pruned")
        masks = library.masks_of(experiment.model.posterior)
        left = library.remaining(masks)
        assert step == made["step"] == results["step"]
        assert made["kept"] == left.kept == results["elements"] - round(0.7 * results["elements"])
        assert made["sparse_float32_bytes"] == left.sparse_bytes
        expected = lowest_dropped(restored.model.posterior.weights, 0.7, "signal_to_noise")
        for keep, one in zip(masks.values(), expected.values(), strict=True):
            np.testing.assert_array_equal(keep, one)
        point = points_of(results, "signal_to_noise", "network")[0.7]
        assert made["valid"] == pytest.approx(point["valid"], rel=1e-6)
        assert not list(workdir.glob(".pruned.*"))

    def test_its_metrics_are_its_own(self, pruned):
        workdir, results = pruned
        (before,) = Workdir(workdir).read_metrics()
        (after,) = Workdir(workdir / "pruned").read_metrics()
        assert after.keys() == {*before, "pruned"}
        assert after["perplexity"] == results["pruned"]["valid"]
        assert after["pruned"] == 0.7
        assert 0.0 < after["kl"] < before["kl"]
        ratio = after["kl_per_training_token"] / before["kl_per_training_token"]
        assert ratio == pytest.approx(after["kl"] / before["kl"])

    @pytest.mark.slow
    def test_it_can_be_evaluated(self, pruned, tmp_path):
        copy = shutil.copytree(pruned[0] / "pruned", tmp_path / "pruned")
        assert run("evaluate", copy, "--num_samples=2", "--config.evaluate.final_rows=20") == 0
        results = json.loads((copy / "results.json").read_text())
        assert results["valid"]["perplexity"] == pytest.approx(pruned[1]["pruned"]["valid"], rel=1e-5)
        assert (
            results["kl_per_training_token"] < Workdir(pruned[0]).read_metrics()[0]["kl_per_training_token"]
        )

    @pytest.mark.slow
    def test_it_can_be_trained_with_its_mask(self, pruned, tmp_path):
        copy = shutil.copytree(pruned[0] / "pruned", tmp_path / "pruned")
        before, step = experiment_of(copy)
        masks = list(library.masks_of(before.model.posterior).values())
        assert run("train", copy, "--config.train.epochs=2") == 0
        after, new_step = experiment_of(copy)
        assert new_step == 2 * step
        first, second = Workdir(copy).read_metrics()
        assert (first["epoch"], second["epoch"]) == (1, 2)
        assert second["perplexity"] < first["perplexity"]
        for weight, keep in zip(after.model.posterior.weights, masks, strict=True):
            np.testing.assert_array_equal(weight.mean().numpy() != 0.0, keep)
        # It is no longer what the command wrote.
        workdir = tmp_path / "run"
        shutil.copytree(pruned[0], workdir)
        shutil.rmtree(workdir / "pruned")
        shutil.copytree(copy, workdir / "pruned")
        with pytest.raises(InputError, match="has not been trained since: move it or delete it"):
            prune(workdir, fraction=0.7)

    @pytest.mark.slow
    def test_its_training_may_have_a_schedule_of_its_own(self, pruned, trained, tmp_path, capsys):
        copy = shutil.copytree(pruned[0] / "pruned", tmp_path / "pruned")
        schedule = (
            "--config.train.learning_rate=0.3",
            "--config.train.hold_epochs=1",
            "--config.train.decay=0.5",
        )
        assert run("train", copy, "--config.train.epochs=2", *schedule) == 0
        assert Workdir(copy).read_metrics()[-1]["learning_rate"] == pytest.approx(0.15)
        capsys.readouterr()
        # Once it has been trained by one it has it, and so has a run whose pruning was only measured.
        measured = shutil.copytree(trained, tmp_path / "measured")
        prune(measured, fractions=(0.5,), alone=())
        assert len(list(measured.glob("checkpoints/ckpt-*.index"))) == 1
        for workdir in (copy, measured):
            assert run("train", workdir, "--config.train.epochs=3", "--config.train.learning_rate=0.1") == 2
            assert "belongs to another configuration: train." in capsys.readouterr().err

    @pytest.mark.slow
    def test_it_is_replaced_and_can_be_pruned_further(self, pruned, tmp_path):
        workdir = shutil.copytree(pruned[0], tmp_path / "run")
        prune(workdir, fraction=0.3, fractions=(), alone=())
        first, _ = experiment_of(workdir / "pruned")
        assert library.remaining(library.masks_of(first.model.posterior)).kept == round(
            0.7 * pruned[1]["elements"]
        )
        results = prune(workdir / "pruned", fraction=0.6, fractions=(), alone=())
        second, _ = experiment_of(workdir / "pruned" / "pruned")
        masks = library.masks_of(second.model.posterior)
        earlier = library.masks_of(first.model.posterior)
        assert results["pruned"]["kept"] == library.remaining(masks).kept
        assert results["pruned"]["kept"] == results["elements"] - round(0.6 * results["elements"])
        for keep, before in zip(masks.values(), earlier.values(), strict=True):
            assert np.all(before[keep])

    @pytest.mark.slow
    def test_without_the_optimizer_s_checkpoint(self, trained, tmp_path, caplog):
        workdir = shutil.copytree(trained, tmp_path / "run")
        for path in (workdir / "checkpoints").glob("ckpt-*"):
            path.unlink()
        results = prune(workdir, fraction=0.5, fractions=(), alone=())
        assert "goes on with a new optimizer" in caplog.text
        experiment, step = experiment_of(workdir / "pruned")
        assert experiment.loop.restore() == step == results["step"]
        assert int(experiment.model.optimizer.iterations) == step


@pytest.mark.slow
def test_a_captioning_model(tmp_path, monkeypatch):
    """The network of the image stays whole: its weights are not of the posterior."""
    captioning.use(monkeypatch)
    assert captioning.run("train", tmp_path, "--config.train.epochs=1") == 0
    results = prune(tmp_path, fraction=0.6, fractions=(), alone=())
    unpruned = json.loads((tmp_path / "results.json").read_text())["valid"]["perplexity"]
    assert results["unpruned"]["valid"] == pytest.approx(unpruned, rel=1e-5)
    assert results["layout"] == "captions"
    assert "decoder" not in results["weights"][0]["name"]
    assert captioning.run("evaluate", tmp_path / "pruned") == 0
    pruned = json.loads((tmp_path / "pruned" / "results.json").read_text())["valid"]["perplexity"]
    assert pruned == pytest.approx(results["pruned"]["valid"], rel=1e-5)
    assert pruned == pytest.approx(points_of(results, "signal_to_noise", "network")[0.6]["valid"], rel=1e-5)
    (entry,) = Workdir(tmp_path / "pruned").read_metrics()
    (before,) = Workdir(tmp_path).read_metrics()
    ratio = entry["kl_per_training_caption"] / before["kl_per_training_caption"]
    assert ratio == pytest.approx(entry["kl"] / before["kl"])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_fraction_that_is_not_accepted(tmp_path, fraction):
    with pytest.raises(InputError, match=f"--prune={fraction} is not accepted"):
        cost.measure_pruning(None, str(tmp_path), None, fraction=fraction)


def test_something_else_in_the_place_of_the_pruned_workdir(trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    (workdir / "pruned").mkdir()
    (workdir / "pruned" / "thesis.tex").write_text("...")
    with pytest.raises(InputError, match="something other than a pruned model"):
        prune(workdir, fraction=0.5)
    assert (workdir / "pruned" / "thesis.tex").exists()


def test_a_run_without_a_best_checkpoint(trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("best"))
    with pytest.raises(InputError, match="holds no best checkpoint"):
        prune(workdir)
