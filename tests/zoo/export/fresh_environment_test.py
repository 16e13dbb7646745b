"""Exports run in a fresh virtual environment that has TensorFlow alone, and give the same numbers.

The environment is made here, of links to what is installed: TensorFlow, what it requires, and nothing else.
With TENSORFLOW_ONLY_PYTHON=PATH it is the one of that Python, into which tensorflow was installed by hand.
"""

import importlib.metadata
import os
import pathlib
import subprocess
import venv

import numpy as np
import pytest
import small_models
import tensorflow as tf
from captioning_models import SIZE, captioning_model, pixels, png
from export_models import caption_export, language_model, language_model_export
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tfp_bayesrnn.export.saved_model import write_saved_model

PROGRAM = pathlib.Path(__file__).with_name("export_process.py")

IDS = {"ids": np.array([[1, 3, 4, 0], [5, 6, 0, 0]], np.int32), "lengths": np.array([4, 2], np.int32)}
TEXT = {"text": np.array(["a dog\nruns", ""], object)}
SAMPLED = {"num_samples": np.int32(3), "seed": np.int32(8)}
SETTINGS = {
    "max_words": np.int32(7),
    "temperature": np.float32(0.9),
    "top_k": np.int32(5),
    "top_p": np.float32(0.9),
    "end_at_eos": np.bool_(True),
    "allow_unk": np.bool_(False),
    "seed": np.int32(8),
}
STATE = np.random.default_rng(0).uniform(-1, 1, [2, 16]).astype(np.float32)
IMAGES = {"images": np.array([png(pixels(1, size)[0]) for size in (SIZE, 30)], object)}

OF_LANGUAGE_MODEL = {
    "score": IDS,
    "serving_default": IDS,
    "load_draws": SAMPLED,  # So those that follow find their draws made.
    "score_mc": IDS | SAMPLED,
    "score_text": TEXT,
    "score_text_mc": TEXT | SAMPLED,
    "initial_state": {"rows": np.int32(2)},
    "next": {"tokens": np.array([3, 0], np.int32), "state": STATE},
    "generate": IDS | SETTINGS,
    "generate_mc": IDS | SETTINGS | SAMPLED,
    "generate_text": TEXT | SETTINGS,
    "generate_text_mc": TEXT | SETTINGS | SAMPLED,
    "tokenize": TEXT,
    "detokenize": IDS,
}
OF_CAPTIONS = {
    "caption": IMAGES,
    "serving_default": IMAGES,
    "load_draws": SAMPLED,
    "caption_mc": IMAGES | SAMPLED,
}


def required_by(name):
    """The names of a distribution and of all that it requires here, directly or not."""
    found, waiting = set(), [name]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        needed = map(Requirement, importlib.metadata.requires(name) or ())
        waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with TensorFlow alone."""
    if "TENSORFLOW_ONLY_PYTHON" in os.environ:
        return os.environ["TENSORFLOW_ONLY_PYTHON"]
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    names = required_by("tensorflow")
    assert len(names) > 10 and not names & {"tfp-bayesrnn", "tensorflow-probability", "tf-keras"}
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            source, link = pathlib.Path(distribution.locate_file(top)), packages / top
            if source.is_dir() and link.exists():  # A namespace that distributions share.
                continue
            link.symlink_to(source)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def cases(tmp_path_factory, python):
    """Name -> the directory of a case and what its signatures give here."""
    folder, made = tmp_path_factory.mktemp("exports"), {}
    exports = {
        "language_model": (
            lambda words: language_model_export(language_model(), words, prune=0.5, format="float16"),
            OF_LANGUAGE_MODEL,
        ),
        "captioning": (lambda words: caption_export(captioning_model(), words, beam=2), OF_CAPTIONS),
    }
    for name, (make, inputs) in exports.items():
        (folder / name).mkdir()
        task = make(tmp_path_factory.mktemp("words"))
        signatures = task.signatures()
        assert set(signatures) == set(inputs)
        outputs = {
            signature: signatures[signature](**{key: tf.constant(value) for key, value in named.items()})
            for signature, named in inputs.items()
        }
        write_saved_model(folder / name / "model", task.module, signatures)
        made[name] = (inputs, outputs)
    network = small_models.regression()
    (folder / "network").mkdir()
    network.export(folder / "network" / "model")
    x, _ = small_models.regression_data()
    loaded = tf.saved_model.load(str(folder / "network" / "model")).signatures
    inputs = {"serve": {"inputs": x}, "load_draws": SAMPLED, "serve_mc": {"inputs": x} | SAMPLED}
    outputs = {
        signature: loaded[signature](**{key: tf.constant(value) for key, value in named.items()})
        for signature, named in inputs.items()
    }
    np.testing.assert_allclose(outputs["serve"]["outputs"], network(x), atol=1e-6)
    made["network"] = (inputs, outputs)
    for name, (inputs, _) in made.items():
        flat = {
            f"{signature}/{key}": value for signature, named in inputs.items() for key, value in named.items()
        }
        np.savez(folder / name / "inputs.npz", **flat)
    command = [python, "-I", str(PROGRAM), *(str(folder / name) for name in made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "installed:"
    assert "custom gradient" not in done.stderr
    return {name: (folder / name, outputs) for name, (_, outputs) in made.items()}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["eager", "session"])
@pytest.mark.parametrize("name", ["language_model", "captioning", "network"])
def test_every_signature_gives_the_same(cases, name, how):
    directory, expected = cases[name]
    with np.load(directory / "outputs.npz", allow_pickle=True) as arrays:
        found = {key: arrays[key] for key in arrays}
    assert len(expected) > 1
    for signature, outputs in expected.items():
        for key, value in outputs.items():
            value, other = value.numpy(), found[f"{how}/{signature}/{key}"]
            if value.dtype.kind == "f":
                np.testing.assert_allclose(other, value, rtol=0, atol=1e-5, err_msg=f"{signature}/{key}")
            else:
                np.testing.assert_array_equal(other, value, err_msg=f"{signature}/{key}")
