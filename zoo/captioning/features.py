"""What a frozen encoder makes of photos, computed once and kept on disk if asked to.

Vectors are float32 [N, F]. Grids, [N, h, w, C] or [N, L, C], are float16: a gigabyte for the 8,000 photos of
Flickr8k and 7 x 7 x 1280 numbers of each. Kept grids are read from the file as they are needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import check_regular, local_path
from zoo.captioning.batches import Images
from zoo.data.photos import Photos
from zoo.filesystem.files import explained, is_there, written_whole
from zoo.terminal import progress

_BATCH = 32
_AT_A_TIME = 64 << 20  # Bytes of an array that are hashed at once.


def features_of(
    encoder: keras.Model,
    photos: Photos,
    image_size: int,
    cache_dir: str | os.PathLike[str] = "",
    interpolation: str = "bilinear",
) -> np.ndarray:
    """The encoder's features of N photos, [N, ...]; not-a-number for one that cannot be read.

    Args:
      encoder: images [B, S, S, 3] to vectors [B, F], or to grids.
      photos: the photos.
      image_size: the side of the square images, S, in pixels.
      cache_dir: their directory, with a file named after encoder, weights, size and the photos' contents:
        where any of these has changed they are computed again. Nothing is kept if empty.
      interpolation: how photos are brought to that size.

    Raises:
      InputError: if they cannot be kept there, or a number is too large for a grid's float16.
    """
    shape = (len(photos), *encoder.output_shape[1:])
    dtype = np.dtype(np.float32 if len(shape) == 2 else np.float16)
    if not cache_dir:
        features = np.empty(shape, dtype)
        _compute(encoder, Images(photos, image_size, interpolation), features)
        return features
    folder = local_path(cache_dir, "encoder.cache_dir")
    digest = _fingerprint(encoder, photos, image_size, interpolation)
    path = folder / f"features-{encoder.name}-{digest}.npy"
    if is_there(path):
        with explained(path, "read"):
            check_regular(path)
            try:
                return _read(path, shape, dtype)
            except OSError:
                raise
            except Exception as error:  # NumPy's reader raises many types, depending on what is damaged.
                reason = " ".join(str(error).split()) or type(error).__name__
                logging.warning("%s is damaged (%s): computed again", path, reason)
    with explained(path, "write"):
        folder.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        features = np.lib.format.open_memmap(temporary, "w+", dtype, shape)
        _compute(encoder, Images(photos, image_size, interpolation), features)
        features.flush()
        with open(temporary, "ab") as file:
            file.write(_checksum(features))
    return features if dtype == np.float16 else np.array(features)


def _read(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The array in a file, of grids a map of it; those of earlier versions have no checksum behind it."""
    if len(shape) == 2:
        with open(path, "rb") as file:
            features, checksum = np.lib.format.read_array(file, allow_pickle=False), file.read()
    else:
        features = np.lib.format.open_memmap(path, mode="r")
        with open(path, "rb") as file:
            file.seek(features.offset + features.nbytes)
            checksum = file.read()
    if features.shape != shape or features.dtype != dtype:
        raise ValueError(f"no {dtype} {list(shape)}")
    if checksum and checksum != _checksum(features):
        raise ValueError("its checksum is another")
    return features


def _checksum(features: np.ndarray) -> bytes:
    digest = hashlib.sha256()
    flat = np.ascontiguousarray(features).reshape(-1).view(np.uint8)
    for start in range(0, len(flat), _AT_A_TIME):
        digest.update(flat[start : start + _AT_A_TIME].data)
    return b"sha256 " + digest.digest()


def _compute(encoder: keras.Model, images: Images, features: np.ndarray) -> None:
    """Fills in the features of all photos."""
    dataset = tf.data.Dataset.range(len(features)).map(images.one, num_parallel_calls=tf.data.AUTOTUNE)
    run = tf.function(lambda batch: encoder(batch, training=False), autograph=False, reduce_retracing=True)
    largest, done = float(np.finfo(features.dtype).max), 0
    for batch, are_readable in progress.batches("photos")(dataset.batch(_BATCH).prefetch(2)):
        found = tf.cast(run(batch), tf.float32).numpy()
        are_finite = np.isfinite(found.reshape(len(found), -1)).all(axis=1)
        found[~(are_finite & are_readable.numpy())] = np.nan
        if np.any(np.abs(found) > largest):
            raise InputError(
                f"encoder {encoder.name!r} makes numbers up to {np.nanmax(np.abs(found)):.3g} of photos; "
                f"accepted: up to {largest:.3g}"
            )
        features[done : done + len(found)] = found
        done += len(found)


def _fingerprint(encoder: keras.Model, photos: Photos, image_size: int, interpolation: str) -> str:
    # Names without the numbers by which Keras tells a process's layers apart.
    architecture = re.sub(r'_\d+"', '"', encoder.to_json())
    way = "" if interpolation == "bilinear" else f"{interpolation} "
    digest = hashlib.sha256(f"{way}{image_size} {architecture}".encode())
    for variable in encoder.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    for index in range(len(photos)):
        digest.update(os.fsencode(photos.name(index)))
        with contextlib.suppress(InputError):  # Raised for a photo that cannot be read.
            digest.update(hashlib.sha256(photos.read(index)).digest())
    return digest.hexdigest()[:24]
