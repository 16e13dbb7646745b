"""The command of the uncertainty benchmark, and what it can be given."""

import csv
import json
import math
import xml.etree.ElementTree as ElementTree

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import VOCABULARY
from uncertainty_models import (
    WORDS,
    keras_model,
)

import absl_main
from tfp_bayesrnn import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo import presets
from zoo.configuration import config as configs
from zoo.data import load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.files import to_jsonable
from zoo.language_model.model import build_model
from zoo.runs.workdir import Workdir
from zoo.uncertainty import comparison
from zoo.uncertainty.scorers import ModelScorer
from zoo.uncertainty.sources import Settings, open_ensemble, open_source

# The command.


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Workdirs of a Bayesian and a deterministic model, not trained, of a few units."""
    found, corpus = [], load_corpus("builtin")
    for preset in ("demo_bbb", "demo_deterministic"):
        overrides = {"model.units": 4, "model.embedding_units": 4, "model.layers": 1, "jit_compile": "off"}
        config = configs.with_overrides(presets.get_preset(preset), overrides)
        workdir = Workdir(tmp_path_factory.mktemp("runs") / preset)
        workdir.claim(config)
        corpus.vocabulary.save(workdir.vocabulary_path)
        model = build_model(config, len(corpus.vocabulary), 1)
        Checkpoints(workdir.checkpoints_dir, {"model": model}).save_best(1)
        found.append(str(workdir.path))
    return found


def test_the_command_compares_and_writes(workdirs, tmp_path, monkeypatch, capsys):
    size = len(load_corpus("builtin").vocabulary)
    lines = (
        "import numpy",
        "def read(ids, state):",
        f"  return numpy.full((*ids.shape, {size}), 1 / {size}), 0",
    )
    (tmp_path / "my_uniform_model.py").write_text("\n".join(lines))
    words = load_corpus("builtin").vocabulary.words
    (tmp_path / "other.txt").write_text(" ".join(words[5:15]) + "\n")
    monkeypatch.chdir(tmp_path)
    bayes, deterministic = workdirs
    results = comparison.compare_models(
        bayes,
        compare=[deterministic, "uniform=my_uniform_model:read"],
        texts=[str(tmp_path / "other.txt")],
        samples=2,
        words=200,
        swaps="20",
        prompts=0,
    )
    printed = capsys.readouterr().out
    rows = [(method["name"], method["weights"]) for method in results["methods"]]
    assert rows == [
        ("demo_bbb", "mean"),
        ("demo_bbb", "average over 2 samples"),
        ("demo_deterministic", "mean"),
        ("uniform", ""),
    ]
    uniform = results["methods"][-1]["streams"]
    assert uniform["test"]["entropy"] == pytest.approx(math.log(size), rel=1e-5)
    assert uniform["test"]["perplexity"] == pytest.approx(size, rel=1e-4)
    assert uniform["reversed"]["entropy_gap"] == pytest.approx(0.0, abs=1e-6)
    assert uniform["reversed"]["auroc"]["word"]["entropy"] == 0.5
    assert uniform["other"]["predictions"] == 10
    gap = results["methods"][1]["streams"]["reversed"]["entropy_gap"]
    assert f"{gap:.3f}" in printed and "average over 2 samples" in printed and "one stream" in printed
    directory = Workdir(bayes).path
    written = json.loads((directory / "uncertainty.json").read_text())
    assert written["methods"][1]["streams"]["reversed"]["entropy_gap"] == gap
    assert written["streams"]["test"]["predictions"] == 199 and written["unroll"] == 100
    for name in ("reliability.svg", "reliability_equal_mass.svg", "entropies.svg"):
        assert ElementTree.fromstring((directory / "uncertainty" / name).read_text()) is not None
    rows = json.loads((directory / "uncertainty" / "table.json").read_text())
    assert len(rows) == len((directory / "uncertainty" / "table.csv").read_text().splitlines()) - 1 == 4 * 7
    differing = list(csv.DictReader((directory / "uncertainty" / "differences.csv").open()))
    assert {(row["first"], row["second"]) for row in differing} >= {("demo_bbb, mean", "uniform")}
    assert results["streams"]["swapped_20"]["severity"] == 0.2 and "swapped_20" in uniform
    assert results["methods"][1]["temperature"]["test"]["nll"] > 0 and "temperature" in printed
    with np.load(directory / "uncertainty" / "streams.npz") as streams:
        np.testing.assert_array_equal(streams["reversed"], load_corpus("builtin").test[:200][::-1])
    assert Vocabulary.load(directory / "uncertainty" / "vocabulary.txt") == load_corpus("builtin").vocabulary


def test_the_same_command_again_scores_only_what_may_have_changed(workdirs, tmp_path, monkeypatch, capsys):
    """A function of Python may return anything; when it cannot be scored, what there is has been written."""
    size = len(load_corpus("builtin").vocabulary)
    lines = "import numpy", "def read(ids, state):", f"  return numpy.zeros((*ids.shape, {size})), 0"
    (tmp_path / "my_other_model.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    sources, flags = [workdirs[1], "zeros=my_other_model:read"], {"words": 60, "swaps": "0", "prompts": 0}
    first = comparison.compare_models("new", sources, "builtin", **flags)
    assert [method["name"] for method in first["methods"]] == ["demo_deterministic", "zeros"]
    capsys.readouterr()

    def refuse(scorer, name, *_):
        raise InputError(f"{scorer.name} is asked about {name}")

    monkeypatch.setattr(ModelScorer, "score", refuse)
    with pytest.raises(InputError, match="zeros is asked about test"):
        comparison.compare_models("new", sources, "builtin", **flags)
    assert "demo_deterministic" in capsys.readouterr().out
    (method,) = json.loads((tmp_path / "new" / "uncertainty.json").read_text())["methods"]
    assert method == to_jsonable(first["methods"][0])
    with pytest.raises(InputError, match="demo_deterministic is asked about test"):
        comparison.compare_models("new", sources, "builtin", **{**flags, "words": 50})


def test_models_of_others_need_no_workdir_of_a_run(workdirs, tmp_path, capsys):
    size = len(load_corpus("builtin").vocabulary)
    np.save(tmp_path / "theirs.npy", np.full((99, size), 1 / size, np.float32))
    results = comparison.compare_models(
        str(tmp_path / "new"), [str(tmp_path / "theirs.npy")], data="builtin", words=100, swaps="0", prompts=0
    )
    assert results["methods"][0]["streams"]["reversed"] is None
    assert results["methods"][0]["streams"]["test"]["entropy"] == pytest.approx(math.log(size), rel=1e-5)
    assert "theirs.npy" in capsys.readouterr().out
    flags = {"samples": 0, "words": 50, "swaps": "0", "prompts": 0}
    named = comparison.compare_models(str(tmp_path / "new"), [f"ours={workdirs[1]}"], **flags)
    assert [method["name"] for method in named["methods"]] == ["ours"]  # The data are those of its run.
    with pytest.raises(InputError, match="say which data, such as --data=ptb"):
        comparison.compare_models(str(tmp_path / "new"), [str(tmp_path / "theirs.npy")])
    with pytest.raises(InputError, match="say what to score with --compare"):
        comparison.compare_models(str(tmp_path / "new"), data="builtin")
    for swaps in ("5,x", "101", "", "-5"):
        with pytest.raises(InputError, match=r"--swaps='.*' is not accepted: it must be whole per cents"):
            comparison.compare_models(workdirs[0], swaps=swaps)
    with pytest.raises(InputError, match="windows of 0 words"):
        comparison.compare_models(workdirs[0], window=0)


def test_a_saved_keras_model_is_a_source(tmp_path):
    keras_model(keras.layers.Dropout(0.5)).save(tmp_path / "theirs.keras")
    vocabulary = Vocabulary([f"w{index}" for index in range(VOCABULARY)])
    scorers = open_source(str(tmp_path / "theirs.keras"), vocabulary, Settings(samples=2))
    assert [scorer.weights for scorer in scorers] == ["mean", "average over 2 samples"]
    assert scorers[0].name == "theirs.keras"
    (tmp_path / "broken.keras").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"cannot load the Keras model .*broken\.keras"):
        open_source(str(tmp_path / "broken.keras"), vocabulary, Settings())


def test_sources_that_cannot_be_scored(workdirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, message in (
        (str(tmp_path), "cannot be scored; accepted: the workdir of"),
        ("missing.pt", "'missing.pt' cannot be scored"),
        ("name=missing.npz", "missing.npz does not exist"),
        ("missing.keras", "missing.keras does not exist"),
        ("no_such_module:read", "cannot import 'no_such_module'"),
        ("math:no_such_function", "module 'math' has no function 'no_such_function'"),
        ("math:pi", "module 'math' has no function 'pi'"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(source, WORDS, Settings())
    with pytest.raises(
        InputError, match=r"another vocabulary \(\d+ words\) than the data of the benchmark \(5 words\)"
    ):
        open_source(workdirs[0], WORDS, Settings())


class TestEnsemble:
    IDS = np.random.default_rng(0).integers(0, 50, 41)

    def log_probs(self, predictor, steps=8):
        """[N, V] of the average over a predictor's samples, window after window."""
        state, found = None, []
        for start in range(0, len(self.IDS) - 1, steps):
            ids = tf.constant(self.IDS[None, start : start + steps], tf.int32)
            log_probs, state = predictor(ids, state)
            found.append(np.mean(np.exp(log_probs.numpy().astype(np.float64)), axis=0)[0])
        return np.log(np.concatenate(found))

    def test_it_is_the_average_of_probabilities(self, workdirs):
        """Of means, and of 3 samples of the one beside the mean of the other, which has none."""
        vocabulary = load_corpus("builtin").vocabulary
        settings = Settings(samples=3, seed=5)
        means, samples = open_ensemble(workdirs, vocabulary, settings)
        members = [open_source(workdir, vocabulary, settings) for workdir in workdirs]
        assert [len(scorers) for scorers in members] == [2, 1]
        for scorer, place in ((means, 0), (samples, -1)):
            each = [np.exp(self.log_probs(scorers[place].predictor)) for scorers in members]
            expected = np.log(np.mean(each, axis=0))
            np.testing.assert_allclose(self.log_probs(scorer.predictor), expected, rtol=1e-5, atol=1e-5)
        assert (means.name, means.weights) == ("ensemble of 2", "mean of each")
        assert samples.weights == "average over 3 samples of each"

    def test_a_source_without_probabilities_of_every_word_is_refused(self, workdirs, tmp_path):
        np.savez(tmp_path / "scores.npz", test_log_prob=np.zeros(4), test_entropy=np.ones(4))
        with pytest.raises(InputError, match="no probabilities of every word"):
            sources = [workdirs[0], str(tmp_path / "scores.npz")]
            open_ensemble(sources, load_corpus("builtin").vocabulary, Settings())

    def test_the_command_has_a_row_of_it(self, workdirs, tmp_path, capsys):
        flags = ["--data=builtin", "--words=60", "--num_samples=0", "--swaps=0", "--prompts=6"]
        flags += [f"--workdir={tmp_path / 'new'}"]
        members = [f"--ensemble={workdir}" for workdir in workdirs]
        assert absl_main.main(["absl_main.py", "--mode=uncertainty", *flags, *members]) == 0
        results = json.loads((tmp_path / "new" / "uncertainty.json").read_text())
        (method,) = results["methods"]
        assert (method["name"], method["method"]) == ("ensemble of 2", "ensemble")
        assert method["generation"]["sampled"]["prompts"] == 6
        printed = capsys.readouterr().out
        assert "ensemble of 2" in printed and "-log-probability of the greedy continuation" in printed
        assert absl_main.main(["absl_main.py", "--mode=uncertainty", *flags, members[0]]) == 2
        assert "an ensemble has at least 2 models" in capsys.readouterr().err


def test_a_wrong_source_is_found_before_any_is_scored(workdirs, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "measure", lambda *_, **__: pytest.fail("scored"))
    with pytest.raises(InputError, match="absent' cannot be scored"):
        comparison.compare_models(str(tmp_path / "new"), [*workdirs, str(tmp_path / "absent")], words=50)
    captions = Workdir(tmp_path / "captions")
    captions.claim(presets.get_preset("shapes_demo_bbb"))
    said = "is of 'shapes_demo_bbb', a captioning model: text is scored by language models only"
    for command in ((captions.path, []), (tmp_path / "new", [*workdirs, f"named={captions.path}"])):
        with pytest.raises(InputError, match=said):
            comparison.compare_models(str(command[0]), command[1])
    assert not (tmp_path / "new").exists()
