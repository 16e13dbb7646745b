"""Pictures of the test split with the captions a model gives them, words on shades of uncertainty."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging
from PIL import Image

from tfp_bayesrnn.errors import InputError
from zoo.captioning.batches import fit
from zoo.captioning.caption_search import Captioner
from zoo.captioning.configuration import CaptioningConfig
from zoo.captioning.model import load_data, restorable
from zoo.data.captions import Caption, CaptionSplit
from zoo.data.photos import decode
from zoo.drawing.scale import highest_for
from zoo.page.computed import computed_section
from zoo.page.contents import Contents
from zoo.page.markup import Markup, number, paragraph, tag
from zoo.page.page import Section
from zoo.page.shading import Measure, described, legend, shaded
from zoo.runs.restored import restored
from zoo.runs.run_data import check_data

PICTURES = 12
"""Pictures that are shown, at even distances through the test split."""

_SIDE = 320  # The longer side of a picture, in pixels; smaller pictures stay as they are.
_QUALITY = 85  # The quality of a JPEG.
_TINY = 128  # The longest side, in pixels, of a drawing that is shown with its pixels.


class Captioned(NamedTuple):
    """A picture, what the model says of it, and the first of its references."""

    name: str
    pixels: np.ndarray  # uint8 [height, width, 3], RGB.
    caption: Caption
    reference: Caption
    log_prob: float  # The whole caption's, nats.
    log_probs: np.ndarray  # [L], nats: those of its words, and of the end where it came.
    entropies: np.ndarray  # [L], nats: total.
    mutual_information: np.ndarray | None  # [L], nats: epistemic; None for one set of weights.

    @property
    def uncertainty(self) -> np.ndarray:
        """The uncertainty that shades words, [L]: the epistemic part where it is known, else the total."""
        return self.entropies if self.mutual_information is None else self.mutual_information


def captions(contents: Contents[CaptioningConfig]) -> Section:
    """The section of the pictures, or of why there are none."""
    return computed_section(contents, "captions", "Captions of test pictures", caption_pictures, shown)


def caption_pictures(contents: Contents[CaptioningConfig]) -> list[Captioned]:
    """Captions some pictures of the test split with the best checkpoint; unreadable ones are passed over.

    Raises:
      InputError: the data cannot be read or are not those of the run, or it has no checkpoint yet.
    """
    config, settings = contents.config, contents.config.evaluate
    model, vocabulary, _ = restored(restorable, config, contents.directory)
    data = load_data(config, contents.found_data_dir)
    check_data(contents.directory, data)
    pictures = readable(data.test)
    captioner = Captioner(
        model,
        vocabulary,
        settings.max_words,
        samples=contents.samples,
        seed=config.seed,
        beam=settings.beam,
        length_penalty=settings.length_penalty,
    )
    size, interpolation = config.encoder.image_size, config.encoder.interpolation
    images = tf.stack([fit(tf.constant(pixels), size, interpolation) for _, pixels in pictures])
    found = captioner.caption({"image": images})
    shown = []
    for row, (place, pixels) in enumerate(pictures):
        scores = [values[row, : found.lengths[row]].astype(np.float64) for values in found.of_words]
        shown.append(
            Captioned(
                data.test.names[place],
                pixels,
                found.words[row],
                data.test.references[place][0],
                float(found.log_probs[row]),
                scores[0],
                scores[1],
                scores[2] if contents.samples > 1 else None,
            )
        )
    return shown


def readable(split: CaptionSplit, count: int = PICTURES) -> list[tuple[int, np.ndarray]]:
    """Returns (place, pixels) of pictures at even distances through a split; of the next where one is bad.

    Raises:
      InputError: none can be read.
    """
    total = len(split.names)
    found, error = [], None
    starts = np.unique(np.linspace(0, total, min(count, total), endpoint=False).astype(int))
    for start, end in zip(starts, [*starts[1:], total], strict=True):
        for place in range(start, end):
            try:
                pixels = decode(split.images.read(place), split.images.name(place))
            except InputError as failure:
                logging.warning("left out: %s", failure)
                error = failure
            else:
                found.append((place, pixels))
                break
    if not found:
        raise InputError(f"none of the test pictures can be read: {error}")
    return found


def shown(found: Sequence[Captioned], weights: str) -> list[Any]:
    """The pictures as the section has them.

    Args:
      found: at least one.
      weights: the weights that say the captions, in words.
    """
    is_epistemic = found[0].mutual_information is not None
    name = "mutual information" if is_epistemic else "entropy"
    values = np.concatenate([one.uncertainty for one in found])
    measure = Measure(name, highest_for(values))
    what = (
        "a word's mutual information with the weights, the epistemic part of the uncertainty"
        if is_epistemic
        else "the entropy of a word's prediction, the whole uncertainty"
    )
    return [
        paragraph(
            f"{len(found)} pictures at even distances through the test split, captioned by {weights}. A "
            f"shade is {what}. Below each caption stand the first of its references, the log-probability of "
            "the whole caption, and means over its words and its end; all in nats."
        ),
        legend(measure),
        tag("div", [_card(one, measure.highest) for one in found], class_="cards"),
    ]


def _card(one: Captioned, highest: float) -> Markup:
    words: list[Any] = []
    for place, word in enumerate(one.caption):
        mutual = None if one.mutual_information is None else float(one.mutual_information[place])
        title = described(word, float(one.log_probs[place]), float(one.entropies[place]), mutual)
        words += [shaded(word, float(one.uncertainty[place]), highest, title), " "]
    figures = [f"log-probability {number(one.log_prob, 2)}"]
    if len(one.entropies):
        figures.append(f"entropy {number(float(np.mean(one.entropies)), 2)}")
        if one.mutual_information is not None:
            figures.append(f"mutual information {number(float(np.mean(one.mutual_information)), 3)}")
    reference = " ".join(one.reference)
    source = data_uri(one.pixels)
    is_drawing = source.startswith("data:image/png")
    image = tag(
        "img",
        src=source,
        alt=f"Test picture {one.name}; reference: {reference}",
        class_="tiny" if is_drawing and max(one.pixels.shape[:2]) <= _TINY else None,
    )
    caption = tag(
        "figcaption",
        tag("p", words or "(no words)", class_="words"),
        tag("p", "Reference: ", reference, class_="note"),
        tag("p", ", ".join(figures), class_="note"),
    )
    return tag("figure", tag("div", image, class_="photo"), caption)


def data_uri(pixels: np.ndarray) -> str:
    """A picture, uint8 [height, width, 3], made small, inside an address: PNG or JPEG, whichever is less."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    files = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": _QUALITY})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        files[kind] = file.getvalue()
    kind = min(files, key=lambda kind: len(files[kind]))
    return f"data:image/{kind};base64,{base64.b64encode(files[kind]).decode('ascii')}"
