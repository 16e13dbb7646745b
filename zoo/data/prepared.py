"""Photos with captions out of what tensorflow-datasets prepared.

The photos stay in the TFRecord files: one pass notes where each record is, and a photo is read from its
record when it is asked for. COCO's 19 GB need no memory that way, and no decoding for its texts.

A TFRecord file is a row of records: the content's length (8 bytes, little endian), a checksum of that
(4 bytes), the content, a checksum of that (4 bytes).
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError

from tfp_bayesrnn.errors import InputError
from zoo.data.described_photos import DescribedPhoto
from zoo.data.photos import Photos

_HEADER = struct.Struct("<QI")
_CHECKSUM_BYTES = 4


class PhotoRecords(Photos):
    """The photos of one TFRecord file.

    Args:
      path: the file.
      image: the feature that holds the encoded photo.

    Raises:
      InputError: where the file cannot be read or is cut short.
    """

    def __init__(self, path: str | os.PathLike[str], image: str = "image"):
        self._path = os.fspath(path)
        self._image = image
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror}") from None
        weakref.finalize(self, os.close, self._file)
        self._spans = list(self._index())

    def __len__(self) -> int:
        return len(self._spans)

    def name(self, index: int) -> str:
        """The file and the record's number, from 0."""
        return f"{self._path}:{index}"

    def read(self, index: int) -> bytes:
        """The photo in the record."""
        values = self.texts(index, self._image)
        if len(values) != 1:
            raise InputError(f"{self.name(index)} holds no photo: it has no feature {self._image!r}")
        return values[0]

    def texts(self, index: int, feature: str) -> list[bytes]:
        """The values of a feature of bytes; none where the record lacks it."""
        import tensorflow as tf

        offset, size = self._spans[index]
        try:
            example = tf.train.Example.FromString(os.pread(self._file, size, offset))
        except DecodeError:
            raise InputError(f"record {self.name(index)} is damaged: it is no tf.train.Example") from None
        return list(example.features.feature[feature].bytes_list.value)

    def _index(self) -> Iterator[tuple[int, int]]:
        """Yields the place and the length of each record's content."""
        end = os.fstat(self._file).st_size
        place = 0
        while place < end:
            header = os.pread(self._file, _HEADER.size, place)
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else end
            start = place + _HEADER.size
            place = start + length + _CHECKSUM_BYTES
            if place > end:
                raise InputError(f"{self._path} is cut short or no TFRecord file: prepare the data set again")
            yield start, length


def prepare(builder: tfds.core.DatasetBuilder, by_hand: str, **options: Any) -> None:
    """Prepares a data set unless that was done before.

    Args:
      builder: the data set.
      by_hand: the steps a user can take where it fails, for the message.
      **options: as for `download_and_prepare`.

    Raises:
      InputError: where it fails.
    """
    if builder.is_prepared():
        return
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # "Downloading and preparing ..." is no result of ours
            builder.download_and_prepare(**options)
    except InputError:
        raise
    # tensorflow-datasets has no common class for failed downloads, wrong checksums and archives.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"cannot prepare dataset {builder.name!r} in {builder.data_dir}: {reason}; {by_hand}"
        ) from None


def prepared_images(
    builder: tfds.core.DatasetBuilder, splits: tuple[str, ...], name: str, texts: str
) -> list[DescribedPhoto]:
    """The images of one or several splits of a prepared data set.

    Args:
      builder: the data set.
      splits: the splits, one after another.
      name: the feature with an image's name.
      texts: the feature with its captions.

    Raises:
      InputError: where a split is missing, or the files are no TFRecord files or are damaged.
    """
    if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
        raise InputError(
            f"{builder.data_dir} is prepared as {builder.info.file_format.value!r}: accepted 'tfrecord'"
        )
    images = []
    for split in splits:
        if split not in builder.info.splits:
            raise InputError(f"{builder.data_dir} has no split {split!r}: prepare the data set again")
        for path in builder.info.splits[split].filepaths:
            records = PhotoRecords(path)
            for index in range(len(records)):
                written = tuple(text.decode("utf-8", "replace") for text in records.texts(index, texts))
                named = b"".join(records.texts(index, name)).decode("utf-8", "replace")
                images.append(DescribedPhoto(named or records.name(index), written, (records, index)))
    return images
