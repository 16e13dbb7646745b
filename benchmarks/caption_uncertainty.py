"""Whether a captioning model is less sure of images that are not of its kind.

    python -m benchmarks.caption_uncertainty --workdir=runs/shapes                      # noise, blank images
    python -m benchmarks.caption_uncertainty --workdir=runs/shapes --images=DIRECTORY   # those photos too
    python -m benchmarks.caption_uncertainty --workdir=runs/flickr8k --data_dir=DIRECTORY

Captions are found for the test images and for the others, under the posterior mean and under the average
over draws; a caption's uncertainty is the mean over its words. AUROC is the chance that another image's
caption is more uncertain than a test image's: 0.5 says nothing, 1 tells them apart; in brackets, 95 % of
bootstrap draws. Noise is uniform over pixels; blank images have one colour each.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from benchmarks.kept import Kept
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.prediction import uncertainty
from zoo.captioning.batches import fit
from zoo.captioning.caption_search import Captioner, Captions
from zoo.captioning.experiment import CaptioningExperiment
from zoo.captioning.results import caption_split
from zoo.data.photo_paths import photo_paths
from zoo.data.photos import decode
from zoo.registry import read_config
from zoo.runs.workdir import Workdir

SIGNALS = ("entropy", "mutual_information")


def noise_images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Pixels without any order, uint8 [N, S, S, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def blank_images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Images of one colour each, uint8 [N, S, S, 3]."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 1, 1, 3)).astype(np.uint8)
    return np.broadcast_to(colours, (count, size, size, 3)).copy()


def photos(paths: list[str], size: int, interpolation: str = "bilinear") -> np.ndarray:
    """Those of the files that can be read, uint8 [N, S, S, 3]."""

    def readable() -> Iterator[np.ndarray]:
        for path in paths:
            try:
                pixels = decode(pathlib.Path(path).read_bytes(), path)
                yield fit(tf.constant(pixels), size, interpolation).numpy()
            except InputError as error:
                print(f"left out: {error}")

    return np.stack(list(readable()))


def caption_images(captioner: Captioner, images: np.ndarray, batch: int) -> Captions:
    """Captions of images, uint8 [N, S, S, 3]; the last minibatch is filled up, so that all have one size."""
    count = len(images)
    images = np.concatenate([images, np.repeat(images[-1:], -count % batch, axis=0)])
    parts = [captioner.caption({"image": images[start : start + batch]}) for start in range(0, count, batch)]
    return Captions.joined(parts).of(range(count))


def compare(
    experiment: CaptioningExperiment, others: dict[str, np.ndarray], samples: int, kept: Kept
) -> list[dict]:
    """A row for each kind of other images, each signal, and mean or samples."""
    settings, rows = experiment.config.evaluate, []
    batches = experiment.batches_of(experiment.data.test, settings.batch)
    for count in (0, samples):
        captioner = Captioner(
            experiment.model,
            experiment.data.vocabulary,
            settings.max_words,
            samples=count,
            seed=experiment.config.seed,
            beam=settings.beam,
            length_penalty=settings.length_penalty,
        )
        own = functools.cache(functools.partial(caption_split, captioner, batches, "test"))
        weights = f"average over {count} samples" if count else "mean"
        for name, images in others.items():
            signals = SIGNALS if count else SIGNALS[:1]
            measure = functools.partial(_rows, captioner, images, batches.batch, own, signals)
            about = {"images": name, "count": len(images), "weights": weights}
            rows += [{**about, **row} for row in kept.piece(f"{name}, {weights}", measure)]
    return rows


def _rows(
    captioner: Captioner,
    images: np.ndarray,
    batch: int,
    own: Callable[[], Captions],
    signals: Sequence[str],
) -> list[dict]:
    found = caption_images(captioner, images, batch)
    return [_row(signal, found, own()) for signal in signals]


def _row(signal: str, others: Captions, own: Captions) -> dict:
    """How well a signal tells other images' captions from those of test."""
    pair = others.uncertainty(signal), own.uncertainty(signal)
    low, high = uncertainty.bootstrap_interval(uncertainty.auroc, *pair, paired=False)
    return {
        "signal": signal,
        "auroc": float(uncertainty.auroc(*pair)),
        "auroc_95": [float(low), float(high)],
        "mean": float(np.mean(pair[0])),
        "mean_of_test": float(np.mean(pair[1])),
    }


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""
    lines = [
        "| images | weights | signal | theirs | test's | AUROC |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["auroc_95"]
        cells = [f"{row['count']} {row['images']}", row["weights"], row["signal"].replace("_", " ")]
        cells += [f"{row['mean']:.3f}", f"{row['mean_of_test']:.3f}"]
        cells.append(f"{row['auroc']:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="of a captioning run")
    parser.add_argument("--data_dir", help="of its data set, where it needs one")
    parser.add_argument("--images", action="append", default=[], help="other photos: files, directories")
    parser.add_argument("--num_samples", type=int, default=10)
    parser.add_argument("--count", type=int, default=300, help="of noise and of blank images")
    parser.add_argument("--output", help="JSON file of the rows, written after each; those in it are kept")
    arguments = parser.parse_args()
    workdir = Workdir(arguments.workdir, create=False)
    experiment = CaptioningExperiment(read_config(workdir), workdir, arguments.data_dir)
    experiment.restore_best()
    size = experiment.config.encoder.image_size
    others = {"noise": noise_images(arguments.count, size), "blank": blank_images(arguments.count, size)}
    if arguments.images:
        interpolation = experiment.config.encoder.interpolation
        others["photos"] = photos(photo_paths(arguments.images), size, interpolation)
    setup = {
        "steps": experiment.loop.checkpoints.best_step,
        "num_samples": arguments.num_samples,
        "images": {name: len(images) for name, images in others.items()},
    }
    kept = Kept(arguments.output, setup)
    rows = compare(experiment, others, arguments.num_samples, kept)
    kept.finish(rows=rows)
    print(table(rows))


if __name__ == "__main__":
    main()
