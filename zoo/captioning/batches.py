"""Minibatches of photos with their captions.

A row is an image with all its captions: B images, K captions, T = longest caption + 1. An element is

    ({"image": uint8 [B, S, S, 3], "words": int32 [B, K, T]}, targets int32, weights float32, both [B, K, T])

as `encode_captions` makes them. A photo that cannot be read has weights of 0 and is counted; it never ends a
training. The last minibatch of a pass is filled up with rows of weight 0, so that a pass has every image once
and all minibatches are of one shape. What a minibatch holds is a function of its step alone, so training can
go on from any step.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from tfp_bayesrnn.errors import InputError
from zoo.data.captions import CaptionSplit, encode_captions
from zoo.data.photos import Photos, decode
from zoo.data.vocabulary import Vocabulary

_SHIFT = 14  # A shifted image has moved by up to one part in so many.


class Images:
    """Photos as images of one size. Safe from several threads.

    Attributes:
      unreadable: places of the photos that could not be read so far.
    """

    def __init__(self, photos: Photos, size: int, interpolation: str = "bilinear"):
        self.photos = photos
        self.size = size
        self.interpolation = interpolation
        self.unreadable: set[int] = set()
        self._lock = threading.Lock()

    def one(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A photo's image, uint8 [S, S, 3], and whether it could be read: else the image is black."""
        pixels, is_readable = tf.numpy_function(self._decode, [index], (tf.uint8, tf.bool), stateful=False)
        pixels.set_shape([None, None, 3])
        is_readable.set_shape([])
        return fit(pixels, self.size, self.interpolation), is_readable

    def _decode(self, place: np.ndarray) -> tuple[np.ndarray, np.bool_]:
        index = int(place)
        try:
            return decode(self.photos.read(index), self.photos.name(index)), np.bool_(True)
        except InputError as error:
            with self._lock:
                if index not in self.unreadable:
                    self.unreadable.add(index)
                    logging.warning("left out: %s", error)
            return np.zeros([1, 1, 3], np.uint8), np.bool_(False)


def minibatches(images: int, batch: int) -> int:
    """The number of minibatches that hold all images, where the last one is filled up."""
    return -(-images // batch)


def fit(pixels: tf.Tensor, size: int, interpolation: str = "bilinear") -> tf.Tensor:
    """An image uint8 [H, W, 3] as uint8 [S, S, 3], whatever its proportions; one of that size stays."""
    is_right = tf.reduce_all(tf.equal(tf.shape(pixels), [size, size, 3]))
    resized = tf.cond(is_right, lambda: pixels, lambda: _resized(pixels, size, interpolation))
    return tf.ensure_shape(resized, [size, size, 3])


def _resized(pixels: tf.Tensor, size: int, interpolation: str) -> tf.Tensor:
    pixels = tf.cast(tf.image.resize(pixels, [size, size], interpolation, antialias=True), tf.float32)
    return tf.saturate_cast(tf.round(pixels), tf.uint8)


class CaptionBatches:
    """A split in minibatches.

    Attributes:
      batch: images in a minibatch, B.
      count: images in all, N.
      captions: captions in all.
      predictions: words to predict in all, `<end>`s too.
    """

    def __init__(
        self,
        split: CaptionSplit,
        vocabulary: Vocabulary,
        batch: int,
        image_size: int,
        max_words: int,
        captions_per_image: int | None = None,
        features: Callable[[], np.ndarray] | None = None,
        interpolation: str = "bilinear",
    ):
        """Encodes the captions; no photo is read yet.

        Args:
          split: photos and captions.
          vocabulary: the vocabulary of the captions.
          batch: the number of images in a minibatch, B.
          image_size: the side of the square images, S, in pixels.
          max_words: words of the longest caption; longer ones are cut.
          captions_per_image: the number of captions per image, K; None for the most that any image has.
          features: if given, makes what an encoder makes of the N images, [N, F] or [N, h, w, C], which takes
            the images' place; all not-a-number for a photo that could not be read. Called when first needed.
          interpolation: how images are brought to that size, a method of `tf.image.resize`.

        Raises:
          InputError: if there are fewer images than a minibatch has.
        """
        if len(split.names) < batch:
            raise InputError(
                f"{len(split.names)} images do not fill a minibatch of {batch}: accepted is a smaller batch"
            )
        self.batch = batch
        self.images = Images(split.images, image_size, interpolation)
        self.encoded = encode_captions(split.references, vocabulary, max_words, captions_per_image)
        self.captions = int(np.sum(self.encoded.weights.any(axis=-1)))
        self.predictions = int(np.sum(self.encoded.weights))
        self.count = len(split.names)
        self._make_features = features

    def __len__(self) -> int:
        """The number of minibatches in a pass."""
        return minibatches(self.count, self.batch)

    @property
    def unreadable(self) -> set[int]:
        """Places of the photos that could not be read: of those met so far, with features of all."""
        if self._features is None:
            return set(self.images.unreadable)
        first = self._features.reshape(self.count, -1)[:, 0]  # None is a number, or all are.
        return set(np.flatnonzero(~np.isfinite(first)).tolist())

    @functools.cached_property
    def _features(self) -> np.ndarray | None:
        return None if self._make_features is None else self._make_features()

    def training(
        self, first_step: int, seed: int, shift: bool = False, flip: bool = False
    ) -> tf.data.Dataset:
        """An endless stream from a step on: every epoch has the images in another order.

        Args:
          first_step: the step of the first minibatch.
          seed: the seed of orders, shifts and flips.
          shift: whether images are moved at random, by up to a fourteenth of their size.
          flip: whether half of the images are mirrored.
        """
        ids = tf.data.Dataset.from_generator(
            lambda: self._ids(first_step, seed), output_signature=tf.TensorSpec([self.batch, 2], tf.int64)
        )
        return self._filled(ids, seed, shift, flip)

    def evaluation(self) -> tf.data.Dataset:
        """One pass over the split, in order."""
        ids = self._filled_up(np.arange(self.count)).reshape([-1, self.batch])
        return self._filled(tf.data.Dataset.from_tensor_slices(np.stack([ids, ids], axis=-1)))

    def _filled_up(self, images: np.ndarray) -> np.ndarray:
        """The images of a pass and, to be left out of account, ~i for its first images i once more.

        They are images, and not blank, since what a network normalises by the minibatch looks at all rows.
        """
        return np.concatenate([images, ~images[: len(self) * self.batch - self.count]])

    def _ids(self, first_step: int, seed: int) -> Iterator[np.ndarray]:
        """Yields the images of each minibatch, each with a number that no other row of the training has."""
        order = functools.lru_cache(1)(
            lambda epoch: self._filled_up(np.random.default_rng([seed, epoch]).permutation(self.count))
        )
        for step in itertools.count(first_step):
            epoch, place = divmod(step, len(self))
            images = order(epoch)[place * self.batch : (place + 1) * self.batch]
            yield np.stack([images, step * self.batch + np.arange(self.batch)], axis=-1)

    def _filled(
        self, ids: tf.data.Dataset, seed: int = 0, shift: bool = False, flip: bool = False
    ) -> tf.data.Dataset:
        """Minibatches of ids [B, 2] as elements."""
        features = self._features  # Made here, not in the graph of the dataset.
        if features is not None:
            return ids.map(lambda batch: self._with_features(features, batch[:, 0])).prefetch(2)

        def one(pair: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            image, is_readable = self.images.one(_image(pair[0]))
            return _moved(image, [seed, pair[1]], shift, flip), pair[0], is_readable

        images = ids.unbatch().map(one, num_parallel_calls=tf.data.AUTOTUNE)
        return images.batch(self.batch, drop_remainder=True).map(self._with_captions).prefetch(2)

    def _with_captions(
        self, images: tf.Tensor, ids: tf.Tensor, are_readable: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        words, targets, weights = self._captions_of(ids)
        weights *= tf.cast(are_readable, tf.float32)[:, tf.newaxis, tf.newaxis]
        return {"image": images, "words": words}, targets, weights

    def _with_features(
        self, features: tf.Tensor, ids: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        words, targets, weights = self._captions_of(ids)

        def look_up(ids: np.ndarray) -> np.ndarray:
            return features[ids].astype(np.float32)

        own = tf.numpy_function(look_up, [_image(ids)], tf.float32, stateful=False)
        own.set_shape([self.batch, *features.shape[1:]])
        are_readable = tf.math.is_finite(tf.reshape(own, [self.batch, -1])[:, 0])
        shown = tf.reshape(are_readable, [self.batch] + [1] * (len(features.shape) - 1))
        own = tf.where(shown, own, tf.zeros_like(own))
        weights *= tf.cast(are_readable, tf.float32)[:, tf.newaxis, tf.newaxis]
        return {"features": own, "words": words}, targets, weights

    def _captions_of(self, ids: tf.Tensor) -> list[tf.Tensor]:
        def look_up(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            words, targets, weights = (array[np.where(ids < 0, ~ids, ids)] for array in self.encoded)
            return words, targets, weights * (ids >= 0)[:, None, None].astype(np.float32)

        captions = tf.numpy_function(look_up, [ids], (tf.int32, tf.int32, tf.float32), stateful=False)
        for tensor in captions:
            tensor.set_shape([self.batch, *self.encoded.inputs.shape[1:]])
        return captions


def _image(ids: tf.Tensor) -> tf.Tensor:
    """The images of ids: i of both i and ~i."""
    return tf.where(ids < 0, tf.bitwise.invert(ids), ids)


def _moved(image: tf.Tensor, seed: list, shift: bool, flip: bool) -> tf.Tensor:
    seed = tf.cast(tf.stack(seed), tf.int64)
    if shift:
        margin = image.shape[0] // _SHIFT
        padded = tf.pad(image, [[margin, margin], [margin, margin], [0, 0]], "REFLECT")
        image = tf.image.stateless_random_crop(padded, image.shape, seed)
    if flip:
        image = tf.image.stateless_random_flip_left_right(image, seed + tf.constant([0, 2**40], tf.int64))
    return image
