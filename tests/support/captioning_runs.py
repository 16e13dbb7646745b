"""Whole captioning runs through the command line, on a few of the built-in drawings."""

import json

import pytest

import absl_main
from zoo import presets
from zoo.captioning import model as module
from zoo.configuration import config as configs
from zoo.data.caption_sets import CaptionData
from zoo.data.captions import CaptionSplit, caption_vocabulary
from zoo.data.photos import PhotoBytes
from zoo.data.shapes import builtin_shapes

SIZES = {"train": 24, "valid": 7, "test": 9}
BATCH, MAX_WORDS, IMAGE = 8, 12, 32
TINY = {
    "encoder.image_size": IMAGE,
    "encoder.width": 2,
    "model.units": 8,
    "model.embedding_units": 6,
    "train.batch": BATCH,
    "data.max_words": MAX_WORDS,
    "evaluate.max_words": MAX_WORDS,
    "evaluate.batch": 4,
    "evaluate.beam": 2,
    "jit_compile": "off",
}


def small_data(corrupt=(), min_count=None):
    """The first drawings of each split; of `corrupt`, pairs of a split and a place, the file is cut."""
    splits = {}
    for name, split in builtin_shapes().items():
        count = SIZES[name]
        contents = [split.images.read(place) for place in range(count)]
        for which, place in corrupt:
            if which == name:
                contents[place] = contents[place][:80]
        names = split.names[:count]
        splits[name] = CaptionSplit(names, split.references[:count], PhotoBytes(names, contents))
    captions = [caption for references in splits["train"].references for caption in references]
    return CaptionData("builtin_shapes", caption_vocabulary(captions, min_count or 1), **splits)


def use(patch, **arguments):
    patch.setattr(
        module,
        "load_captions",
        lambda name, directory, min_count: small_data(min_count=min_count, **arguments),
    )


def run(mode, workdir, *arguments, preset="shapes_demo_bbb"):
    tiny = [f"--config.{name}={value}" for name, value in TINY.items()]
    named = [f"--preset={preset}", *tiny] if mode == "train" else []
    return absl_main.main(["absl_main.py", f"--mode={mode}", f"--workdir={workdir}", *named, *arguments])


def metrics(workdir):
    """The evaluations without their wall-clock fields."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "captions_per_second")} for line in lines]


def config_of(preset="shapes_demo_bbb", **changes):
    overrides = {name.replace("__", "."): value for name, value in changes.items()}
    return configs.with_overrides(presets.get_preset(preset), {**TINY, **overrides})


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """The small data set, for every test of the file that takes this fixture."""
    use(monkeypatch)
