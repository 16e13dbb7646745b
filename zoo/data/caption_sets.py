"""Photos with captions by the name of their data set."""

from __future__ import annotations

import os
from dataclasses import dataclass

from zoo.data.captions import CaptionSplit, caption_vocabulary, check_min_count
from zoo.data.datasets import CAPTION_SETS, read_dataset
from zoo.data.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class CaptionData:
    """A vocabulary and three splits.

    Attributes:
      name: the data set's name.
      vocabulary: the special words, and those of the training captions that occur often enough.
      train: training split.
      valid: validation split.
      test: test split.
    """

    name: str
    vocabulary: Vocabulary
    train: CaptionSplit
    valid: CaptionSplit
    test: CaptionSplit

    def fingerprints(self) -> dict[str, str]:
        """The SHA-256 of each split's captions, in the order of its images, by its name."""
        return {name: getattr(self, name).fingerprint() for name in ("train", "valid", "test")}


def load_captions(
    name: str, data_dir: str | os.PathLike[str] | None = None, min_count: int | None = None
) -> CaptionData:
    """Reads, prepares or generates photos with captions; the same ones every time.

    Args:
      name: `builtin_shapes` (drawn, needs no files), `flickr8k` or `coco_captions`.
      data_dir: the directory with the files, laid out as `zoo.data.flickr8k` and `zoo.data.coco` say.
        Without it `flickr8k` and `coco_captions` are what tensorflow-datasets prepared.
      min_count: words that occur less often in the training captions become `<unk>`; by default
        as often as the data set says (`zoo.data.datasets`).

    Raises:
      InputError: the name is unknown, `data_dir` is needless, `min_count` is below 1, or files cannot be
        used.
    """
    if min_count is not None:
        check_min_count(min_count)
    splits = read_dataset(CAPTION_SETS, name, data_dir)
    min_count = CAPTION_SETS[name].min_count if min_count is None else min_count
    captions = (caption for references in splits["train"].references for caption in references)
    return CaptionData(name, caption_vocabulary(captions, min_count), **splits)
