"""The command `caption`: captions of any photos by a trained model, and how sure it is of each word."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.captioning import sheet
from zoo.captioning.batches import fit
from zoo.captioning.caption_card import CaptionedImage
from zoo.captioning.caption_search import Captioner
from zoo.captioning.configuration import CaptioningConfig, Encoder
from zoo.captioning.model import restorable
from zoo.configuration import methods
from zoo.data.captions import END, SPECIAL_WORDS
from zoo.data.photo_paths import photo_paths
from zoo.data.photos import decode
from zoo.drawing.scale import highest_for
from zoo.filesystem.files import check_output, explained, read_file
from zoo.filesystem.json_lines import json_lines
from zoo.filesystem.writable import check_openable, check_writable
from zoo.runs.restored import restored
from zoo.runs.workdir import Workdir
from zoo.terminal import colours

ON_SHEET = 200
"""Photos that a contact sheet shows at most."""

_PHOTO_SIZE = 256
_RECORDS = ".jsonl"  # What the file beside the contact sheet ends in.

Photo = tuple[str, np.ndarray]
"""A photo's path and its pixels, uint8 [height, width, 3]."""


def describe(
    config: CaptioningConfig,
    workdir: str,
    images: Iterable[str],
    output: str | os.PathLike[str] | None = None,
) -> None:
    """Captions photos with the best checkpoint of a run; prints what it finds, writes it and a contact sheet.

    What is found of a photo is a line of JSON in a file beside the contact sheet, of the same name. A photo
    that cannot be read is reported on stderr and left out.

    Args:
      config: the run's configuration, with the changes that `evaluate` may make.
      workdir: the run's directory.
      images: the photos, as `photo_paths` takes them.
      output: the contact sheet's path, a PNG; `captions.png` in the workdir if left out.

    Raises:
      InputError: no photo can be read, a path leads to none, the workdir holds no model that has been trained
        for an epoch, or the contact sheet cannot be written or would take a photo's place.
    """
    directory = Workdir(workdir, create=False)
    paths = photo_paths(images)
    output = directory.path / "captions.png" if output is None else local_path(output, "--output")
    output = _free(output, paths)
    photos = _readable(paths)
    first = next(photos, None)
    if first is None:
        raise InputError(f"none of the photos that --images names can be read ({len(paths)} given)")
    model, vocabulary, step = restored(restorable, config, directory)
    is_bayesian = config.method in methods.BAYESIAN_METHODS
    settings, samples = config.evaluate, config.evaluate.num_samples if is_bayesian else 0
    captioner = Captioner(
        model,
        vocabulary,
        settings.max_words,
        samples=samples,
        seed=config.seed,
        beam=settings.beam,
        length_penalty=settings.length_penalty,
    )
    weights = f"average over {samples} samples" if samples else "posterior mean" if is_bayesian else ""
    print(_heading(config, step, weights))
    batch = min(settings.batch, len(paths))
    found = _captioned(captioner, itertools.chain([first], photos), config.encoder, batch)
    count, shown = _put_out(found, output.with_suffix(_RECORDS), weights or "one set of weights")
    highest = highest_for(value for one in shown for value in one.entropies[: len(one.caption)])
    title = f"{config.preset}{weights and f', {weights}'}: words are shaded by their entropy, white for 0, "
    title += f"orange from {highest:g} nats on"
    cards = [one.as_card(highest) for one in shown]
    sheet.write(output, sheet.contact_sheet(cards, title=title, photo_size=_PHOTO_SIZE))
    part = f" (the first {ON_SHEET} of {count} photos)" if count > ON_SHEET else ""
    print(f"\nfigures: {output.with_suffix(_RECORDS)}\ncontact sheet: {output}{part}")


def _put_out(
    found: Iterable[CaptionedImage], records: Path, weights: str
) -> tuple[int, list[CaptionedImage]]:
    """Prints what is found of each photo, and writes it; returns how many and the first for the sheet."""
    count, shown = 0, []
    with json_lines(records) as put:
        for captioned in found:
            print(f"\n{captioned.as_text(colours.uses_colours('auto', sys.stdout))}", flush=True)
            put({**captioned.as_record(), "weights": weights})
            count += 1
            if count <= ON_SHEET:
                shown.append(captioned)
    return count, shown


def _free(output: Path, paths: Iterable[str]) -> Path:
    """The contact sheet's path, if it can be one: better to know that before the captions are made."""
    if output.suffix.lower() != ".png":
        raise InputError(f"--output={output} is not accepted: the contact sheet is a PNG, name it so")
    check_output(output)
    check_writable(output)
    check_openable(output.with_suffix(_RECORDS))
    with explained(output, "write"):
        for path in paths if output.exists() else ():
            if os.path.exists(path) and os.path.samefile(path, output):
                raise InputError(
                    f"the contact sheet would take the place of {path}, one of the photos: give "
                    "another --output"
                )
    return output


def _readable(paths: Iterable[str]) -> Iterator[Photo]:
    """The photos that can be read; says on stderr which cannot."""
    for path in paths:
        try:
            pixels = decode(read_file(path), path)
        except InputError as error:
            print(f"left out: {' '.join(str(error).split())}", file=sys.stderr)
        else:
            yield path, pixels


def _captioned(
    captioner: Captioner, photos: Iterator[Photo], encoder: Encoder, batch: int
) -> Iterator[CaptionedImage]:
    """The photos with their captions, computed in minibatches."""
    is_known = captioner.samples > 0
    while part := list(itertools.islice(photos, batch)):
        images = np.zeros(
            [batch, encoder.image_size, encoder.image_size, 3], np.uint8
        )  # One shape: traced once.
        for row, (_, pixels) in enumerate(part):
            images[row] = fit(tf.constant(pixels), encoder.image_size, encoder.interpolation)
        found = captioner.caption({"image": tf.constant(images)})
        for row, (path, pixels) in enumerate(part):
            caption, length = found.words[row], found.lengths[row]
            of_words = [values[row, :length] for values in found.of_words]
            # A caption of the largest length ended with `<end>`, or was cut where another word was to come.
            end = SPECIAL_WORDS[END] if len(caption) < captioner.max_words else "..."
            yield CaptionedImage(
                path=path,
                photo=_small(pixels),
                caption=caption,
                log_prob=float(found.log_probs[row]),
                predicted=(*caption, end)[:length],
                log_probs=of_words[0],
                entropies=of_words[1],
                mutual_information=of_words[2] if is_known else None,
            )


def _small(pixels: np.ndarray) -> np.ndarray:
    """The photo no larger than a contact sheet shows it."""
    image = Image.fromarray(pixels)
    image.thumbnail((_PHOTO_SIZE, _PHOTO_SIZE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _heading(config: CaptioningConfig, step: int, weights: str) -> str:
    beam = "the most probable word each time" if config.evaluate.beam == 1 else f"beam {config.evaluate.beam}"
    ways = ", ".join(filter(None, (weights, beam)))
    lines = [
        f"{config.preset} ({methods.LABELS[config.method]}), best checkpoint: step {step}; {ways}",
        "log-probabilities and entropies are in nats; what ends a caption counts as a word",
    ]
    if not weights:
        lines.append("mutual information needs a Bayesian method: this model has one set of weights")
    elif not config.evaluate.num_samples:
        lines.append("mutual information needs --num_samples=N: the posterior mean has none")
    return "\n".join(lines)
