"""Convolutional encoders: an image to a vector. They are never Bayesian."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.errors import InputError, unknown_name
from tfp_bayesrnn.filesystem.paths import check_regular, local_path
from zoo.captioning.configuration import COMPACT
from zoo.filesystem.files import explained

IMAGENET = "imagenet"


@keras.saving.register_keras_serializable("zoo")
class ImageScaling(keras.layers.Layer):
    """Pixels of 0 to 255 as the preprocessing of a `keras.applications` module, by its name, wants them.

    Without a module: to [-1, 1].
    """

    def __init__(self, module: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.module = module

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Scales images [B, H, W, 3] of any type, to the compute dtype."""
        images = tf.cast(images, tf.float32)
        if self.module is None:
            images = images / 127.5 - 1.0
        else:
            images = getattr(keras.applications, self.module).preprocess_input(images)
        return tf.cast(images, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "module": self.module}


@keras.saving.register_keras_serializable("zoo")
class Coordinates(keras.layers.Layer):
    """Adds two channels to images: row and column, -1 to 1 (Liu et al., 2018, "CoordConv").

    What stands left of what is lost by pooling otherwise.
    """

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns [B, H, W, C + 2] from images [B, H, W, C]."""
        places = [tf.cast(tf.linspace(-1.0, 1.0, size), images.dtype) for size in images.shape[1:3]]
        grid = tf.stack(tf.meshgrid(*places, indexing="ij"), axis=-1)[tf.newaxis]
        return tf.concat([images, tf.repeat(grid, tf.shape(images)[0], axis=0)], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output, [B, H, W, C + 2]."""
        return (*input_shape[:-1], input_shape[-1] + 2)


def applications() -> dict[str, str]:
    """The networks of `keras.applications`: name -> module, such as "InceptionV3" -> "inception_v3"."""
    found = {}
    for name, value in sorted(vars(keras.applications).items()):
        if inspect.isfunction(value):
            module = value.__module__.rpartition(".")[2]
            if hasattr(getattr(keras.applications, module, None), "preprocess_input"):
                found[name] = module
    return found


def build_encoder(
    name: str,
    image_size: int,
    weights: str | None = None,
    trainable: bool = True,
    width: int = 32,
    dtype: str | keras.DTypePolicy = "float32",
) -> keras.Model:
    """Builds an encoder from images [B, S, S, 3], pixels of 0 to 255, to vectors [B, F].

    Args:
      name: "compact", four stages of our own, to be trained from scratch, or the name of a network of
        `keras.applications`.
      image_size: the side of the square images, S, in pixels.
      weights: the latter's: "imagenet" (downloaded by Keras at first use), a weights file, or None: random.
      trainable: False for an encoder that stays as it is; its batch statistics stay too.
      width: the number of channels of the compact encoder's first stage; each further one has twice as many.
      dtype: the dtype policy of its layers.

    Raises:
      InputError: the name is unknown, or the weights cannot be had.
    """
    known = {COMPACT: "", **applications()}
    if name not in known:
        raise unknown_name("encoder", name, known)
    if weights not in (None, "", IMAGENET):
        weights = os.fspath(local_path(weights, "encoder.weights"))
        with explained(weights, "read"):
            check_regular(weights)
    with _dtype_policy(dtype):
        if name == COMPACT:
            encoder = _compact(image_size, width)
        else:
            encoder = _application(name, known[name], image_size, weights)
    encoder.trainable = trainable
    return encoder


@contextlib.contextmanager
def _dtype_policy(dtype: str | keras.DTypePolicy) -> Iterator[None]:
    """Sets the global dtype policy within: networks of `keras.applications` take theirs from nowhere else."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _compact(image_size: int, width: int) -> keras.Model:
    """Stages that halve the picture and double the channels, the last three with a residual block.

    The vector has the channels' averages and maxima: a small thing is lost in an average.
    """
    layers = keras.layers
    images = keras.Input((image_size, image_size, 3))
    x = Coordinates(name="coordinates")(ImageScaling(name="scaling")(images))
    for stage in range(4):
        channels = width * 2**stage
        x = layers.Conv2D(channels, 5 if stage == 0 else 3, 2, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        if stage > 0:
            inner = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
            x = layers.Activation("relu")(x + layers.BatchNormalization()(inner))
    pooled = [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
    return keras.Model(images, layers.Concatenate()(pooled), name=COMPACT)


def _application(name: str, module: str, image_size: int, weights: str | None) -> keras.Model:
    make, shape = getattr(keras.applications, name), (image_size, image_size, 3)
    try:
        # Networks that preprocess images themselves have a `preprocess_input` that does nothing.
        body = make(include_top=False, weights=weights, input_shape=shape, pooling="avg")
    except Exception as error:  # A download, a file or a size can raise nearly anything.
        raise InputError(
            f"encoder {name!r} with weights {weights!r} and images of {image_size} pixels cannot be built: "
            f"{error}; encoder 'compact' needs no download"
        ) from None
    images = keras.Input((image_size, image_size, 3))
    return keras.Model(images, body(ImageScaling(module)(images)), name=name.lower())
