"""Photos with the text people wrote about them, on the way from a data set's files to a `CaptionSplit`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from absl import logging

from tfp_bayesrnn.errors import InputError
from zoo.data.captions import CaptionSplit, tokenise
from zoo.data.photo_search import Place
from zoo.data.photos import PhotoSelection

_NAMED = 3  # how many of many missing images a message names


class DescribedPhoto(NamedTuple):
    """An image of a data set.

    Attributes:
      name: the image's name.
      texts: the texts that people wrote about it.
      place: the place of its photo.
    """

    name: str
    texts: tuple[str, ...]
    place: Place


def caption_split(images: Iterable[DescribedPhoto], where: str) -> CaptionSplit:
    """The images with their captions in words.

    Captions without a word are dropped; so are, with a warning, images that have no other.

    Args:
      images: the images of the split.
      where: the origin of the images, for messages.

    Raises:
      InputError: where no image is left.
    """
    names, references, places, wordless = [], [], [], []
    for image in images:
        captions = tuple(filter(None, map(tokenise, image.texts)))
        if not captions:
            wordless.append(image.name)
            continue
        names.append(image.name)
        references.append(captions)
        places.append(image.place)
    if not names:
        raise InputError(f"{where} has no image with a photo and a caption: at least one is needed")
    if wordless:
        logging.warning("%s: %s without a caption, left out", where, first_few(wordless))
    return CaptionSplit(tuple(names), tuple(references), PhotoSelection(places))


def first_few(names: Sequence[str]) -> str:
    """A text with the number of images and the first names: `12 images (a.jpg, b.jpg, c.jpg, ...)`."""
    some = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} image{'s' if len(names) > 1 else ''} ({some})"
