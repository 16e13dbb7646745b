"""Photos with the text people wrote about them, on the way from a data set's files to a `CaptionSplit`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from absl import logging

from tfp_bayesrnn.errors import InputError
from zoo.data.captions import CaptionSplit, tokenise
from zoo.data.photo_search import Place
from zoo.data.photos import PhotoSelection

_NAMED = 3  # of many missing images a message names so many


class DescribedPhoto(NamedTuple):
    """An image of a data set.

    Attributes:
      name: what it is called.
      texts: what people wrote about it.
      place: where its photo is.
    """

    name: str
    texts: tuple[str, ...]
    place: Place


def caption_split(images: Iterable[DescribedPhoto], where: str) -> CaptionSplit:
    """The images with their captions in words.

    Captions without a word are dropped; so are, with a warning, images that have no other.

    Args:
      images: the images of the split.
      where: what they come from, for messages.

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
    """How many there are, and the first of them: `12 images (a.jpg, b.jpg, c.jpg, ...)`."""
    some = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} image{'s' if len(names) > 1 else ''} ({some})"
