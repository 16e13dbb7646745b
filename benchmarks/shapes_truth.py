"""How many captions of the built-in drawings are true, which for drawings a program can tell.

    python -m benchmarks.shapes_truth runs/shapes_demo_bbb runs/shapes_demo_dropout     # a table
    python -m benchmarks.shapes_truth --drawings=runs/drawings --count=12               # drawings as files

A caption is true if it is grammatical and says nothing that is not so; what it leaves out does not count. The
columns are all test drawings, those of which training has the like, those with a colour of a shape that
training never has, and those with a relation of shapes that it never has. The weights are the posterior mean
or, with --num_samples, the average over that many draws.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from zoo.captioning.caption_search import Captioner
from zoo.captioning.experiment import CaptioningExperiment
from zoo.captioning.results import caption_split
from zoo.configuration import config as configs
from zoo.data.captions import Caption
from zoo.data.shape_captions import is_true
from zoo.data.shape_scenes import Scene
from zoo.data.shapes import builtin_shapes, held_out, scenes
from zoo.registry import read_config
from zoo.runs.workdir import Workdir

KINDS = {"seen in training": None, "new colour of a shape": "colour", "new relation": "relation"}


def shares_of_truth(shown: Sequence[Scene], captions: Sequence[Caption]) -> dict[str, float]:
    """The share of true captions among all of them, and among those of each of `KINDS`."""
    truths = [(held_out(scene), is_true(scene, words)) for scene, words in zip(shown, captions, strict=True)]
    groups = {"all": [true for _, true in truths]}
    groups |= {name: [true for kind, true in truths if kind == wanted] for name, wanted in KINDS.items()}
    return {name: sum(group) / len(group) for name, group in groups.items() if group}


def captions_of(workdir: str, samples: int) -> tuple[str, Sequence[Caption]]:
    """A run's preset, and its best checkpoint's captions of the test drawings."""
    directory = Workdir(workdir, create=False)
    config = configs.with_overrides(read_config(directory), {"evaluate.num_samples": samples})
    experiment = CaptioningExperiment(config, directory, None)
    experiment.restore_best()
    settings = config.evaluate
    captioner = Captioner(
        experiment.model,
        experiment.data.vocabulary,
        settings.max_words,
        samples=samples,
        seed=config.seed,
        beam=settings.beam,
        length_penalty=settings.length_penalty,
    )
    batches = experiment.batches_of(experiment.data.test, settings.batch)
    return config.preset, caption_split(captioner, batches, "captions").words


def table(rows: dict[str, dict[str, float]]) -> str:
    """The rows in Markdown, shares in per cent."""
    names = ("all", *KINDS)
    lines = [f"| preset | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for preset, shares in rows.items():
        cells = (f"{100 * shares[name]:.1f}" for name in names)
        lines.append(f"| `{preset}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_drawings(directory: str, count: int) -> None:
    """Writes the first test drawings as PNG files."""
    images, folder = builtin_shapes()["test"].images, pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for place in range(count):
        (folder / pathlib.Path(images.name(place)).name).write_bytes(images.read(place))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdirs", nargs="*", help="of runs on the built-in drawings")
    parser.add_argument("--num_samples", type=int, default=0)
    parser.add_argument("--drawings", help="directory to write test drawings to")
    parser.add_argument("--count", type=int, default=12, help="of drawings to write")
    arguments = parser.parse_args()
    if arguments.drawings:
        write_drawings(arguments.drawings, arguments.count)
    rows = {}
    for workdir in arguments.workdirs:
        preset, captions = captions_of(workdir, arguments.num_samples)
        rows[preset] = shares_of_truth(scenes("test"), captions)
    if rows:
        print(table(rows))


if __name__ == "__main__":
    main()
