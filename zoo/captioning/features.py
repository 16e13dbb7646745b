"""The vectors that a frozen encoder makes of photos, computed once and kept on disk if asked to."""

from __future__ import annotations

import contextlib
import hashlib
import io
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
from zoo.filesystem.files import explained, is_there, write_whole
from zoo.terminal import progress

_BATCH = 32


def features_of(
    encoder: keras.Model, photos: Photos, image_size: int, cache_dir: str | os.PathLike[str] = ""
) -> np.ndarray:
    """The encoder's vectors, float32 [N, F], of N photos; not-a-number for one that cannot be read.

    Args:
      encoder: images [B, S, S, 3] to vectors [B, F].
      photos: the photos.
      image_size: the side of the square images, S, in pixels.
      cache_dir: their directory, with a file named after encoder, weights, size and the photos' contents:
        where any of these has changed they are computed again. Nothing is kept if empty.

    Raises:
      InputError: if they cannot be kept there.
    """
    if not cache_dir:
        return _computed(encoder, photos, image_size)
    folder = local_path(cache_dir, "encoder.cache_dir")
    path = folder / f"features-{encoder.name}-{_fingerprint(encoder, photos, image_size)}.npy"
    if is_there(path):
        with explained(path, "read"):
            check_regular(path)
            try:
                return _read(path, (len(photos), encoder.output_shape[-1]))
            except OSError:
                raise
            except Exception as error:  # NumPy's reader raises many types, depending on what is damaged.
                reason = " ".join(str(error).split()) or type(error).__name__
                logging.warning("%s is damaged (%s): computed again", path, reason)
    features = _computed(encoder, photos, image_size)
    with explained(path, "write"):
        folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.save(content, features)
    write_whole(path, content.getvalue() + _checksum(features))
    return features


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """The array in a file; those of earlier versions have no checksum behind it."""
    with open(path, "rb") as file:
        features, checksum = np.lib.format.read_array(file, allow_pickle=False), file.read()
    if features.shape != shape or features.dtype != np.float32:
        raise ValueError(f"no float32 {list(shape)}")
    if checksum and checksum != _checksum(features):
        raise ValueError("its checksum is another")
    return features


def _checksum(features: np.ndarray) -> bytes:
    return b"sha256 " + hashlib.sha256(np.ascontiguousarray(features).data).digest()


def _computed(encoder: keras.Model, photos: Photos, image_size: int) -> np.ndarray:
    images = Images(photos, image_size)
    dataset = tf.data.Dataset.range(len(photos)).map(images.one, num_parallel_calls=tf.data.AUTOTUNE)
    run = tf.function(lambda batch: encoder(batch, training=False), autograph=False, reduce_retracing=True)
    found = []
    for batch, are_readable in progress.batches("photos")(dataset.batch(_BATCH).prefetch(2)):
        features = tf.cast(run(batch), tf.float32).numpy()
        features[~are_readable.numpy()] = np.nan
        found.append(features)
    return np.concatenate(found)


def _fingerprint(encoder: keras.Model, photos: Photos, image_size: int) -> str:
    # Names without the numbers by which Keras tells a process's layers apart.
    architecture = re.sub(r'_\d+"', '"', encoder.to_json())
    digest = hashlib.sha256(f"{image_size} {architecture}".encode())
    for variable in encoder.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    for index in range(len(photos)):
        digest.update(os.fsencode(photos.name(index)))
        with contextlib.suppress(InputError):  # Raised for a photo that cannot be read.
            digest.update(hashlib.sha256(photos.read(index)).digest())
    return digest.hexdigest()[:24]
