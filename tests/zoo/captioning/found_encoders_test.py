"""Encoders in `.keras` files and of KerasHub: what they make of images, and runs that outlive their files."""

import sys
import types

import captioning_runs as captioning
import keras
import numpy as np
import pytest
from captioning_models import SIZE, grid_encoder, pixels

from tfp_bayesrnn.errors import InputError
from zoo.captioning.encoder import build_encoder
from zoo.captioning.found_encoders import ENCODER_FILE, architecture_of, encoder_of

data = captioning.data  # The small data set, for every test here.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    keras.utils.set_random_seed(0)
    path = str(tmp_path_factory.mktemp("encoder") / "mine.keras")
    grid_encoder().save(path)
    return path


def test_a_saved_model_as_it_is(saved):
    images, body = pixels(2), keras.saving.load_model(saved)
    expected = np.array(body(images.astype(np.float32)))
    grid = build_encoder(saved, SIZE, trainable=False, grid=True)
    np.testing.assert_allclose(grid(images), expected, atol=1e-6)
    assert grid.output_shape == (None, 2, 2, 7) and not grid.trainable_variables
    vectors = build_encoder(saved, SIZE)
    np.testing.assert_allclose(vectors(images), expected.mean(axis=(1, 2)), atol=1e-6)
    assert len(vectors.trainable_variables) == 2
    scaled = build_encoder(saved, SIZE, grid=True, scaling="unit")
    np.testing.assert_allclose(scaled(images), body(images.astype(np.float32) / 255), atol=1e-6)


def test_its_architecture_is_enough_to_make_it_again(saved):
    encoder = build_encoder(saved, SIZE, grid=True, scaling="tf")
    again = encoder_of(architecture_of(encoder))
    again.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(again(pixels(2)), encoder(pixels(2)))
    with pytest.raises(InputError, match=r"encoder\.json describes cannot be made"):
        encoder_of("{}")


@pytest.mark.parametrize(
    ("layers", "grid", "error"),
    [
        ([keras.layers.Flatten()], True, r"makes \[None, 768\] of images; accepted: a feature map"),
        ([keras.layers.Reshape((4, 4, 6, 8))], False, r"makes \[None, 4, 4, 6, 8\].*vectors \[B, F\]"),
    ],
)
def test_a_model_that_makes_something_else(layers, grid, error, tmp_path):
    path = str(tmp_path / "mine.keras")
    keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers]).save(path)
    with pytest.raises(InputError, match=error):
        build_encoder(path, SIZE, grid=grid)


def test_files_that_are_no_such_model(saved, tmp_path):
    with pytest.raises(InputError, match=r"does not work on images \[B, 20, 20, 3\].*encoder\.image_size"):
        build_encoder(saved, 20)
    with pytest.raises(InputError, match=r"cannot read .*none\.keras: No such file"):
        build_encoder(str(tmp_path / "none.keras"), SIZE)
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(InputError, match=r"text\.keras' cannot be loaded"):
        build_encoder(str(tmp_path / "text.keras"), SIZE)
    path = str(tmp_path / "lambda.keras")
    keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Lambda(lambda x: x)]).save(path)
    with pytest.raises(InputError, match=r"lambda\.keras' cannot be loaded"):
        build_encoder(path, SIZE)


@pytest.fixture
def hub(monkeypatch):
    """A `keras_hub` with one preset."""

    def backbone(preset):
        if preset != "tiny":
            raise ValueError(f"unknown preset {preset}")
        keras.utils.set_random_seed(1)
        return grid_encoder()

    converter = types.SimpleNamespace(scale=[0.5, 1.0, 2.0], offset=None)
    module = types.SimpleNamespace(
        models=types.SimpleNamespace(Backbone=types.SimpleNamespace(from_preset=backbone)),
        layers=types.SimpleNamespace(
            ImageConverter=types.SimpleNamespace(from_preset=lambda preset: converter)
        ),
    )
    monkeypatch.setitem(sys.modules, "keras_hub", module)


def test_a_backbone_of_keras_hub(hub):
    keras.utils.set_random_seed(1)
    expected = grid_encoder()(pixels(2) * np.array([0.5, 1.0, 2.0], np.float32))
    np.testing.assert_allclose(build_encoder("hub:tiny", SIZE, grid=True)(pixels(2)), expected, atol=1e-5)
    with pytest.raises(InputError, match=r"'hub:other' cannot be had: unknown preset other"):
        build_encoder("hub:other", SIZE)


def test_without_keras_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(InputError, match=r"'hub:tiny' needs KerasHub.*pip install '\.\[hub\]'"):
        build_encoder("hub:tiny", SIZE)


def test_weights_of_its_own_only(saved):
    with pytest.raises(InputError, match=r"encoder\.weights='x\.h5' has no effect.*its own"):
        captioning.config_of(encoder__name=saved, encoder__weights="x.h5").check()


@pytest.mark.slow
def test_a_run_outlives_the_file(saved, tmp_path):
    """Training, resuming, evaluating, pruning, exporting; none but the first reads it."""
    path, workdir = tmp_path / "mine.keras", tmp_path / "run"
    keras.Sequential(
        [keras.Input((captioning.IMAGE, captioning.IMAGE, 3)), keras.layers.Conv2D(5, 16, 16)]
    ).save(path)
    frozen = [
        f"--config.encoder.name={path}",
        "--config.encoder.trainable=false",
        "--config.data.shift=false",
    ]
    attention = ["--config.model.image_as=attention", "--config.model.attention_units=6"]
    assert captioning.run("train", workdir, *frozen, *attention, "--config.train.epochs=1") == 0
    assert (workdir / ENCODER_FILE).exists()
    path.unlink()
    assert captioning.run("train", workdir, *frozen, *attention, "--config.train.epochs=2") == 0
    assert [line["epoch"] for line in captioning.metrics(workdir)] == [1, 2]
    assert captioning.run("prune", workdir, "--prune=0.5") == 0
    assert captioning.run("evaluate", workdir / "pruned") == 0
    assert captioning.run("export", workdir) == 0
