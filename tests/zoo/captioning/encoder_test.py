"""Encoders: shapes, preprocessing, what stays as it is, what cannot be had."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from captioning_models import SIZE, pixels

from tfp_bayesrnn.errors import InputError
from zoo.captioning.encoder import IMAGENET, Coordinates, ImageScaling, applications, build_encoder


def batch(size=SIZE):
    return pixels(2, size)


def test_the_compact_encoder():
    encoder = build_encoder("compact", SIZE, width=2)
    assert encoder.output_shape == (None, 32)
    assert encoder.name == "compact"
    assert encoder(batch()).shape == (2, 32)
    assert build_encoder("compact", 64, width=16).output_shape == (None, 256)


def test_the_compact_encoder_gives_averages_and_maxima():
    encoder = build_encoder("compact", 64, width=2)
    maps = keras.Model(encoder.input, encoder.layers[-2].input)(batch(64))
    expected = np.concatenate([np.mean(maps, (1, 2)), np.max(maps, (1, 2))], axis=-1)
    np.testing.assert_allclose(encoder(batch(64)), expected, atol=1e-6)


def test_coordinates():
    images = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    found = Coordinates()(images)
    assert Coordinates().compute_output_shape(images.shape) == found.shape == (2, 3, 5, 6)
    np.testing.assert_array_equal(found[..., :4], images)
    for image in range(2):
        np.testing.assert_allclose(found[image, :, 2, 4], [-1, 0, 1])
        np.testing.assert_allclose(found[image, 1, :, 5], [-1, -0.5, 0, 0.5, 1])
        np.testing.assert_allclose(found[image, :, :, 4] - found[image, :, :1, 4], 0)
        np.testing.assert_allclose(found[image, :, :, 5] - found[image, :1, :, 5], 0)


def test_pixels_of_the_compact_encoder_are_centred():
    scaled = ImageScaling()(tf.constant([0, 255], tf.uint8)[None, :, None, None])
    np.testing.assert_allclose(tf.squeeze(scaled), [-1.0, 1.0])
    assert ImageScaling(dtype="mixed_bfloat16")(batch()).dtype == tf.bfloat16


# Of every kind of preprocessing: to [-1, 1], ImageNet's means, ImageNet's scales, none, the network's own.
APPLICATIONS = {
    "MobileNetV2": (1280, 32),
    "ResNet50": (2048, 32),
    "DenseNet121": (1024, 32),
    "EfficientNetB0": (1280, 32),
    "MobileNetV3Small": (576, 32),
}


@pytest.fixture
def bodies(monkeypatch):
    """The networks that keras.applications makes, and from what."""
    made = []

    def spy(make):
        @functools.wraps(make)
        def recorded(**arguments):
            made.append((make(**arguments), arguments))
            return made[-1][0]

        return recorded

    for name in APPLICATIONS:
        monkeypatch.setattr(keras.applications, name, spy(getattr(keras.applications, name)))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNetV3Small"])
def test_networks_of_keras_applications(name, bodies):
    """Images are preprocessed as `preprocess_input` and the network as Keras makes it do, and once."""
    features, size = APPLICATIONS[name]
    encoder = build_encoder(name, size)
    ((body, arguments),) = bodies
    module = getattr(keras.applications, applications()[name])
    assert encoder.output_shape == (None, features)
    assert arguments["weights"] is None and "include_preprocessing" not in arguments
    images = batch(size)
    expected = body(module.preprocess_input(images.astype(np.float32)), training=False)
    np.testing.assert_allclose(encoder(images, training=False), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_scaling_is_keras_own(name):
    module = applications()[name]
    images = batch().astype(np.float32)
    expected = getattr(keras.applications, module).preprocess_input(images.copy())
    np.testing.assert_allclose(ImageScaling(module)(batch()), expected, atol=1e-4)


def test_the_applications_there_are():
    found = applications()
    assert {"InceptionV3", "ResNet50V2", "EfficientNetV2B0", "MobileNet", "NASNetMobile"} < set(found)
    assert found["InceptionV3"] == "inception_v3"
    assert found["MobileNetV3Small"] == "mobilenet_v3"  # Not in the public module of that name.
    assert not {name for name in found if not callable(getattr(keras.applications, name))}


@pytest.mark.parametrize("name", ["compact", "MobileNetV2"])
def test_an_encoder_that_is_not_trained_stays_as_it_is(name):
    size = SIZE if name == "compact" else 32
    encoder = build_encoder(name, size, trainable=False, width=2)
    assert not encoder.trainable_variables
    before = [variable.numpy() for variable in encoder.non_trainable_variables]
    expected = encoder(batch(size), training=False)
    np.testing.assert_array_equal(encoder(batch(size), training=True), expected)
    for variable, value in zip(encoder.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_batch_statistics_of_a_trained_one_move():
    encoder = build_encoder("compact", SIZE, width=2)
    before = [variable.numpy() for variable in encoder.non_trainable_variables]
    encoder(batch(), training=True)
    after = encoder.non_trainable_variables
    assert all((variable.numpy() != value).any() for variable, value in zip(after, before, strict=True))


def test_a_grid_is_what_the_vector_is_made_of():
    keras.utils.set_random_seed(1)
    grid = build_encoder("compact", 32, width=2, grid=True)
    assert grid.output_shape == (None, 2, 2, 16)
    vectors = build_encoder("compact", 32, width=2)
    vectors.set_weights(grid.get_weights())
    maps = grid(batch(32), training=False)
    expected = np.concatenate([np.mean(maps, (1, 2)), np.max(maps, (1, 2))], axis=-1)
    np.testing.assert_allclose(vectors(batch(32), training=False), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("none", lambda x: x),
        ("unit", lambda x: x / 255),
        ("tf", lambda x: x / 127.5 - 1),
        ("torch", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("caffe", lambda x: x[..., ::-1] - [103.939, 116.779, 123.68]),
    ],
)
def test_scalings_that_are_chosen(mode, expected):
    scaling = ImageScaling("resnet", mode)
    np.testing.assert_allclose(scaling(batch()), expected(batch().astype(np.float64)), atol=1e-4)
    assert ImageScaling.from_config(scaling.get_config()).mode == mode


def test_an_unknown_name():
    with pytest.raises(InputError, match=r"unknown encoder 'InceptionV4'.*InceptionV3"):
        build_encoder("InceptionV4", 75)


@pytest.mark.parametrize("error", [OSError("URL fetch failure on https://x"), Exception("no route\nto host")])
def test_weights_that_cannot_be_downloaded(error, monkeypatch):
    @functools.wraps(keras.applications.MobileNetV2)
    def make(**arguments):
        assert arguments["weights"] == IMAGENET
        raise error

    monkeypatch.setattr(keras.applications, "MobileNetV2", make)
    with pytest.raises(InputError) as caught:
        build_encoder("MobileNetV2", 32, IMAGENET)
    for part in ("'MobileNetV2'", "'imagenet'", str(error), "'compact' needs no download"):
        assert part in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_weights_file_that_is_none(tmp_path):
    for path in (tmp_path / "none.weights.h5", tmp_path):
        with pytest.raises(InputError, match=str(tmp_path)):
            build_encoder("MobileNetV2", 32, str(path))


@pytest.mark.slow
def test_a_weights_file(tmp_path, monkeypatch):
    path = str(tmp_path / "my.weights.h5")
    keras.utils.set_random_seed(1)
    body = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    body.save_weights(path)
    keras.utils.set_random_seed(2)
    encoder = build_encoder("MobileNetV2", 32, path)
    expected = body(keras.applications.mobilenet_v2.preprocess_input(batch(32).astype(np.float32)))
    np.testing.assert_allclose(encoder(batch(32)), expected, atol=1e-5)


def test_images_that_are_too_small():
    with pytest.raises(InputError, match=r"'InceptionV3'.*images of 32 pixels"):
        build_encoder("InceptionV3", 32)


@pytest.mark.parametrize("trainable", [True, False])
def test_saved_and_loaded(trainable, tmp_path):
    encoder = build_encoder("compact", SIZE, trainable=trainable, width=2)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(loaded(batch()), encoder(batch()))
    assert len(loaded.trainable_variables) == len(encoder.trainable_variables)
    assert ImageScaling.from_config(ImageScaling("resnet").get_config()).module == "resnet"
