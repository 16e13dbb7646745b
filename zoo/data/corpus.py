"""A language-model corpus by name."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import numpy as np

from tfp_bayesrnn.errors import InputError, unknown_name
from zoo.data.text import read_directory
from zoo.data.vocabulary import Vocabulary

DATASETS = ("builtin", "ptb", "text", "wikitext2")


@dataclass(frozen=True, eq=False)
class Corpus:
    """A vocabulary and three streams of word ids.

    Attributes:
      name: the data set's name.
      vocabulary: the words the ids stand for.
      train: training stream, int32 [tokens], one `<eos>` after every sentence or line.
      valid: validation stream, likewise.
      test: test stream, likewise.
      entropy_rate: nats per token below which no model's cross-entropy can fall in expectation, where it
        is known (`builtin`); None elsewhere.
    """

    name: str
    vocabulary: Vocabulary
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    entropy_rate: float | None = None

    def fingerprints(self) -> dict[str, str]:
        """The SHA-256 of each split's ids, by its name: with the vocabulary they are its whole text."""
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            name: hashlib.sha256(np.ascontiguousarray(ids, "<i4")).hexdigest() for name, ids in splits.items()
        }


def load_corpus(name: str, data_dir: str | os.PathLike[str] | None = None) -> Corpus:
    """Reads, downloads or generates a corpus; the same one every time.

    Args:
      name: `builtin` (generated, needs no files), `ptb` (Penn Treebank as Mikolov prepared it: downloaded,
        or from `data_dir`), `text` (any files: see `zoo.data.text`) or `wikitext2` (from `data_dir`).
      data_dir: the directory with the files.

    Raises:
      InputError: for an unknown name, a missing or needless `data_dir`, or files that cannot be used.
    """
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    if name == "builtin":
        if data_dir is not None:
            raise InputError(
                f"dataset 'builtin' is generated and reads no data directory; got {str(data_dir)!r}"
            )
        from zoo.data.builtin import builtin_corpus

        vocabulary, splits, entropy_rate = builtin_corpus()
        return Corpus(name, vocabulary, **splits, entropy_rate=entropy_rate)
    if name == "ptb":
        from zoo.data.ptb import load_ptb  # imports tensorflow-datasets, which takes seconds

        vocabulary, splits = load_ptb(data_dir)
        return Corpus(name, vocabulary, **splits)
    if data_dir is None:
        where = {
            "text": "a directory with train.txt, valid.txt and test.txt",
            "wikitext2": "the directory wikitext-2 of wikitext-2-v1.zip, with wiki.train.tokens, "
            "wiki.valid.tokens and wiki.test.tokens",
        }
        raise InputError(f"dataset {name!r} needs a data directory: pass --data_dir=DIR, {where[name]}")
    vocabulary, splits = read_directory(data_dir, prefix="wiki." if name == "wikitext2" else None)
    return Corpus(name, vocabulary, **splits)
