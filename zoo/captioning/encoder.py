"""Convolutional encoders: an image to a vector, or to a grid of them. They are never Bayesian."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.errors import InputError, quoted, unknown_name
from tfp_bayesrnn.filesystem.paths import check_regular, local_path
from zoo.captioning import found_encoders
from zoo.captioning.configuration import COMPACT, IMAGENET, is_hub, is_saved
from zoo.filesystem.files import explained


@keras.saving.register_keras_serializable("zoo")
class ImageScaling(keras.layers.Layer):
    """Pixels of 0 to 255 as an encoder wants them.

    Args:
      module: the module of `keras.applications`, by its name, whose preprocessing it is. Without: to [-1, 1].
      mode: one of `SCALINGS`, whatever the module.
      **kwargs: the arguments of `keras.layers.Layer`.
    """

    def __init__(self, module: str | None = None, mode: str = "auto", **kwargs: Any):
        super().__init__(**kwargs)
        self.module = module
        self.mode = mode

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Scales images [B, H, W, 3] of any type, to the compute dtype."""
        images = tf.cast(images, tf.float32)
        if self.mode in ("tf", "torch", "caffe"):
            images = keras.applications.imagenet_utils.preprocess_input(images, "channels_last", self.mode)
        elif self.mode == "unit":
            images = images / 255.0
        elif self.mode == "auto":
            if self.module is None:
                images = images / 127.5 - 1.0
            else:
                images = getattr(keras.applications, self.module).preprocess_input(images)
        return tf.cast(images, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "module": self.module, "mode": self.mode}


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
    grid: bool = False,
    scaling: str = "auto",
) -> keras.Model:
    """Builds an encoder from images [B, S, S, 3], pixels of 0 to 255, to vectors [B, F] or grids of them.

    Args:
      name: "compact", four stages of our own, to be trained from scratch; the name of a network of
        `keras.applications`; "hub:" and the preset of a KerasHub backbone; or the path of a `.keras` file.
      image_size: the side of the square images, S, in pixels.
      weights: of a network of `keras.applications`: "imagenet" (downloaded by Keras at first use), a weights
        file, or None: random. Of what is found in a preset or a file: its own.
      trainable: False for an encoder that stays as it is; its batch statistics stay too.
      width: the number of channels of the compact encoder's first stage; each further one has twice as many.
      dtype: the dtype policy of its layers; those of a `.keras` file keep theirs.
      grid: whether to give the feature map before the pooling, [B, h, w, C]; of a network that makes tokens
        of an image these, [B, L, C].
      scaling: what becomes of pixels, one of `SCALINGS`.

    Raises:
      InputError: the name is unknown, the weights or files cannot be had, or the network makes of such images
        no vectors or no grid.
    """
    known = {COMPACT: "", **applications()}
    is_found = is_saved(name) or is_hub(name)
    if not is_found and name not in known:
        raise unknown_name("encoder", name, known)
    if not is_found and weights not in (None, "", IMAGENET):
        weights = os.fspath(local_path(weights, "encoder.weights"))
        with explained(weights, "read"):
            check_regular(weights)
    with _dtype_policy(dtype):
        if name == COMPACT:
            encoder = _compact(image_size, width, grid, scaling)
        elif is_found:
            encoder = _found(name, image_size, grid, scaling)
        else:
            encoder = _application(name, known[name], image_size, weights, grid, scaling)
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


def _compact(image_size: int, width: int, grid: bool, scaling: str) -> keras.Model:
    """Stages that halve the picture and double the channels, the last three with a residual block.

    The vector has the channels' averages and maxima: a small thing is lost in an average.
    """
    layers = keras.layers
    images = keras.Input((image_size, image_size, 3))
    x = Coordinates(name="coordinates")(ImageScaling(mode=scaling, name="scaling")(images))
    for stage in range(4):
        channels = width * 2**stage
        x = layers.Conv2D(channels, 5 if stage == 0 else 3, 2, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        if stage > 0:
            inner = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
            x = layers.Activation("relu")(x + layers.BatchNormalization()(inner))
    if not grid:
        x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    return keras.Model(images, x, name=COMPACT)


def _application(
    name: str, module: str, image_size: int, weights: str | None, grid: bool, scaling: str
) -> keras.Model:
    make, shape = getattr(keras.applications, name), (image_size, image_size, 3)
    try:
        # Networks that preprocess images themselves have a `preprocess_input` that does nothing.
        body = make(include_top=False, weights=weights, input_shape=shape, pooling=None if grid else "avg")
    except Exception as error:  # A download, a file or a size can raise nearly anything.
        raise InputError(
            f"encoder {name!r} with weights {weights!r} and images of {image_size} pixels cannot be built: "
            f"{error}; encoder 'compact' needs no download"
        ) from None
    images = keras.Input((image_size, image_size, 3))
    return keras.Model(images, body(ImageScaling(module, scaling)(images)), name=name.lower())


def _found(name: str, image_size: int, grid: bool, scaling: str) -> keras.Model:
    """The encoder that has a body from elsewhere, which scales pixels itself unless it is said what else."""
    images = keras.Input((image_size, image_size, 3))
    if is_hub(name):
        body, rescaling = found_encoders.hub_body(name)
    else:
        body, rescaling = found_encoders.saved_body(name), {}
    x = ImageScaling(mode="none" if scaling == "auto" else scaling)(images)
    if rescaling and scaling == "auto":
        x = keras.layers.Rescaling(**rescaling)(x)
    accepted = "a feature map [B, h, w, C] or tokens [B, L, C]" + ("" if grid else ", or vectors [B, F]")
    try:
        x = body(x)
        shape = list(x.shape)
    except Exception as error:  # Where it takes or makes something else many types are raised.
        raise InputError(
            f"encoder {quoted(name)} does not work on images [B, {image_size}, {image_size}, 3]: "
            f"{' '.join(str(error).split())[:300]}; accepted: a network from such images, of as many pixels "
            f"as encoder.image_size says, to {accepted}"
        ) from None
    rank = len(shape)
    if shape[-1] is None or rank not in ((3, 4) if grid else (2, 3, 4)):
        raise InputError(f"encoder {quoted(name)} makes {shape} of images; accepted: {accepted}")
    if not grid and rank == 3:
        x = keras.layers.GlobalAveragePooling1D()(x)
    elif not grid and rank == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, x, name=re.sub(r"\W+", "_", body.name))
