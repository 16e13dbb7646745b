"""Photos with captions by the name of their data set."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tfp_bayesrnn.errors import InputError, unknown_name
from zoo.data.captions import CaptionSplit, caption_vocabulary, check_min_count
from zoo.data.shapes import builtin_shapes
from zoo.data.vocabulary import Vocabulary

CAPTION_DATASETS = ("builtin_shapes", "coco_captions", "flickr8k")

MIN_COUNT = {"builtin_shapes": 1, "coco_captions": 5, "flickr8k": 5}
"""How often a word has to occur in the training captions by default; Vinyals et al. (2015) take 5."""


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
        `MIN_COUNT`.

    Raises:
      InputError: for an unknown name, a needless `data_dir`, a `min_count` below 1, or files that cannot be
        used.
    """
    if name not in CAPTION_DATASETS:
        raise unknown_name("dataset", name, CAPTION_DATASETS)
    if min_count is None:
        min_count = MIN_COUNT[name]
    check_min_count(min_count)
    if name == "builtin_shapes":
        if data_dir is not None:
            raise InputError(
                f"dataset 'builtin_shapes' is drawn and reads no data directory; got {str(data_dir)!r}"
            )
        splits = builtin_shapes()
    elif name == "flickr8k":
        from zoo.data.flickr8k import load_flickr8k  # Imports tensorflow-datasets, which takes seconds.

        splits = load_flickr8k(data_dir)
    else:
        from zoo.data.coco import load_coco

        splits = load_coco(data_dir)
    captions = (caption for references in splits["train"].references for caption in references)
    return CaptionData(name, caption_vocabulary(captions, min_count), **splits)
