"""What an encoder that is not trained makes of each photo, computed once and kept on disk if asked to."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tfp_bayesrnn.errors import InputError
from zoo import progress
from zoo.captioning.batches import Images
from zoo.data.photos import Photos
from zoo.files import explained, write_whole

_BATCH = 32


def features_of(
    encoder: keras.Model, photos: Photos, image_size: int, cache_dir: str | os.PathLike[str] = ""
) -> np.ndarray:
    """The encoder's vectors, float32 [N, F], of N photos; not-a-number for one that cannot be read.

    Args:
      encoder: images [B, S, S, 3] to vectors [B, F].
      photos: the photos.
      image_size: S.
      cache_dir: where they are kept, in a file named after encoder, weights, size and the photos' contents:
        where any of these has changed they are computed again. Nothing is kept if empty.

    Raises:
      InputError: if they cannot be kept there.
    """
    if not cache_dir:
        return _computed(encoder, photos, image_size)
    path = Path(cache_dir) / f"features-{encoder.name}-{_fingerprint(encoder, photos, image_size)}.npy"
    if path.exists():
        with explained(path, "read"):
            try:
                return _checked(np.load(path), (len(photos), encoder.output_shape[-1]))
            except (ValueError, EOFError, zipfile.BadZipFile) as error:
                logging.warning("%s is damaged (%s): computed again", path, error)
    features = _computed(encoder, photos, image_size)
    with explained(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.save(content, features)
    write_whole(path, content.getvalue())
    return features


def _checked(features: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if not isinstance(features, np.ndarray) or features.shape != shape or features.dtype != np.float32:
        raise ValueError(f"no float32 {list(shape)}")
    return features


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
    # Without the numbers by which Keras tells a process's layers apart.
    architecture = re.sub(r'_\d+"', '"', encoder.to_json())
    digest = hashlib.sha256(f"{image_size} {architecture}".encode())
    for variable in encoder.variables:
        digest.update(np.ascontiguousarray(variable.numpy()))
    for index in range(len(photos)):
        digest.update(photos.name(index).encode())
        with contextlib.suppress(InputError):  # Of a photo that cannot be read.
            digest.update(hashlib.sha256(photos.read(index)).digest())
    return digest.hexdigest()[:24]
