"""A language-model corpus by name."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.data.datasets import CORPORA, read_dataset
from zoo.data.vocabulary import UNK, Vocabulary


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

    def describe(self) -> str:
        """The size of the vocabulary; of each split its tokens and the share of unknown words among them."""
        streams = {"train": self.train, "valid": self.valid, "test": self.test}
        sizes = ", ".join(f"{name} {len(ids):,}" for name, ids in streams.items())
        said = f"{self.name}: a vocabulary of {len(self.vocabulary):,} words; tokens: {sizes}"
        if UNK not in self.vocabulary:
            return said
        shares = {name: self.share_of_unknown(name) for name in streams}
        return f"{said}; {UNK}: " + ", ".join(f"{name} {share:.2%}" for name, share in shares.items())

    def share_of_unknown(self, split: str) -> float:
        """The share of `<unk>` among the tokens of a split."""
        if UNK not in self.vocabulary:
            return 0.0
        return float(np.mean(getattr(self, split) == self.vocabulary.id(UNK)))

    def fingerprints(self) -> dict[str, str]:
        """The SHA-256 of each split's ids, by its name: with the vocabulary they are its whole text."""
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        return {
            name: hashlib.sha256(np.ascontiguousarray(ids, "<i4").data).hexdigest()
            for name, ids in splits.items()
        }


def load_corpus(name: str, data_dir: str | os.PathLike[str] | None = None, **options: Any) -> Corpus:
    """Reads, downloads or generates a corpus; the same one every time.

    Args:
      name: `builtin` (generated, needs no files), `ptb` (Penn Treebank as Mikolov prepared it: downloaded,
        or from `data_dir`), `text` (any files: see `zoo.data.text`) or `wikitext2` (from `data_dir`).
      data_dir: the directory with the files.
      **options: of `text`, which words are taken: those of `zoo.data.text.encode_splits`.

    Raises:
      InputError: the name is unknown, `data_dir` is missing or needless, or files cannot be used.
    """
    vocabulary, splits, *entropy_rate = read_dataset(CORPORA, name, data_dir, **options)
    return Corpus(name, vocabulary, **splits, entropy_rate=entropy_rate[0] if entropy_rate else None)
