"""The command `export`: what it writes, what it prints, what it refuses."""

import json

import numpy as np
import pytest
import tensorflow as tf
from captioning_models import pixels, png

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo.captioning import model as captioning
from zoo.configuration import config as configs
from zoo.data.captions import SPECIAL_WORDS
from zoo.data.vocabulary import Vocabulary
from zoo.export import run_export
from zoo.language_model import model as language_model
from zoo.presets import get_preset
from zoo.runs.workdir import Workdir

WORDS = ["<eos>", "a", "dog", "runs"]
SMALL = {"model.units": 4, "model.embedding_units": 4, "jit_compile": "off"}


def workdir_of(path, preset, overrides, words, build):
    """A workdir with weights as they are before training: what an export needs of one."""
    config = configs.with_overrides(get_preset(preset), overrides)
    directory = Workdir(path)
    directory.claim(config)
    vocabulary = Vocabulary(words)
    vocabulary.save(directory.vocabulary_path)
    model = build(config, len(vocabulary))
    Checkpoints(directory.checkpoints_dir, {"model": model}).save_best(7)
    return config, model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Configuration, workdir and model of a language model."""
    path = tmp_path_factory.mktemp("run")

    def build(config, words):
        return language_model.build_model(config, words, windows_per_epoch=1)

    return *workdir_of(path, "demo_bbb", SMALL, WORDS, build), path


@pytest.mark.slow
def test_an_export_of_a_language_model(run, capsys):
    config, _, path = run
    about = run_export.export_run(config, str(path), prune=0.5, format="float16")
    printed = capsys.readouterr().out
    assert "demo_bbb (Bayes by Backprop), best checkpoint: step 7; means and scales" in printed
    assert "of them zero" in printed and f"{path / 'export'}: " in printed
    for name in ("score", "score_mc", "generate_text", "next"):
        assert f"\n  {name} " in printed

    export = path / "export"
    saved = json.loads((export / "signatures.json").read_text())
    assert saved == json.loads(json.dumps(about))
    assert saved["weights"] == "posterior" and saved["format"] == "float16" and saved["step"] == 7
    assert saved["state_size"] == 4 * 4 and 0.4 < saved["pruned"] < 0.6
    assert saved["signatures"]["next"] == {
        "about": "log p of every next word, [N, V], after one more word [N], and the new state [N, H].",
        "inputs": {
            "tokens": {"dtype": "int32", "shape": [None]},
            "state": {"dtype": "float32", "shape": [None, 16]},
        },
        "outputs": {
            "log_probs": {"dtype": "float32", "shape": [None, 4]},
            "state": {"dtype": "float32", "shape": [None, 16]},
        },
    }
    readme = (export / "README.md").read_text()
    assert "## score_text_mc" in readme and "- input `num_samples`: int32 []" in readme
    beside = [export / name for name in ("README.md", "signatures.json", "checksums.txt")]
    files = [file for file in export.rglob("*") if file.is_file()]
    written = sum(file.stat().st_size for file in files if file not in beside)
    assert saved["bytes"]["all"] == written > saved["bytes"]["weights"]

    # The example that is printed works.
    example = printed[printed.index("import tensorflow") :]
    assert len(example.strip().splitlines()) == 3
    namespace = {}
    exec(example, namespace)
    assert set(namespace["model"].signatures) == {*saved["signatures"], "serving_default"}
    score = namespace["model"].signatures["score"](ids=tf.constant([[1, 2]]), lengths=tf.constant([2]))
    assert np.all(score["log_probs"].numpy() < 0.0)


@pytest.mark.slow
def test_an_export_of_the_mean_elsewhere(run, tmp_path, capsys):
    config, model, path = run
    about = run_export.export_run(config, str(path), tmp_path / "a" / "b", weights="mean")
    capsys.readouterr()
    assert not [name for name in about["signatures"] if name.endswith("_mc")]
    signatures = tf.saved_model.load(str(tmp_path / "a" / "b")).signatures
    ids = np.array([[1, 2, 3]], np.int32)
    found = signatures["score"](ids=tf.constant(ids), lengths=tf.constant([3]))["log_probs"]
    logits = model.network(np.array([[0, 1, 2]]))
    expected = tf.gather(tf.nn.log_softmax(logits), ids, batch_dims=2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_an_export_of_a_captioning_model(tmp_path, capsys):
    overrides = {**SMALL, "encoder.image_size": 16, "encoder.width": 2, "evaluate.beam": 2}
    config, _ = workdir_of(
        tmp_path,
        "shapes_demo_deterministic",
        overrides,
        [*SPECIAL_WORDS, "a", "circle"],
        lambda config, words: captioning.build_model(config, words, training_images=1, steps_per_epoch=1),
    )
    about = run_export.export_run(config, str(tmp_path))
    assert "caption" in capsys.readouterr().out and about["weights"] == "mean" and about["beam"] == 2
    signatures = tf.saved_model.load(str(tmp_path / "export")).signatures
    found = signatures["caption"](images=tf.constant([png(pixels(1, 20)[0])]))
    assert set(found["captions"].numpy()[0].decode().split()) <= {"a", "circle"}
    with pytest.raises(InputError, match="no weight of a 'deterministic' model has a distribution"):
        run_export.export_run(config, str(tmp_path), weights="posterior")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "int8"}, "unknown export format 'int8'.*float16, float32"),
        ({"weights": "sample"}, "unknown kind of weights 'sample'.*mean, posterior"),
        ({"prune": 1.0}, "prune=1.0 is not accepted: it must be at least 0 and less than 1"),
        ({"prune": float("nan")}, "prune=nan is not accepted"),
    ],
)
def test_what_is_not_accepted(run, arguments, message):
    config, _, path = run
    with pytest.raises(InputError, match=message):
        run_export.export_run(config, str(path), **arguments)


def test_a_workdir_without_a_checkpoint(run, tmp_path):
    config, _, path = run
    with pytest.raises(InputError, match="does not exist"):
        run_export.export_run(config, str(tmp_path / "none"))
    Vocabulary(WORDS).save(tmp_path / "vocabulary.txt")
    with pytest.raises(InputError, match="holds no best checkpoint"):
        run_export.export_run(config, str(tmp_path))
    assert not (tmp_path / "export").exists()
    with pytest.raises(InputError, match="it is no SavedModel"):
        run_export.export_run(config, str(path), path / "checkpoints")
