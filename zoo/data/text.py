"""Word-level corpora from plain text files: one `<eos>` per line, vocabulary from the training file.

A directory holds the three splits under one of these namings:

    train.txt      valid.txt      test.txt
    PREFIX.train.txt ...          (`ptb.train.txt`; also `PREFIX_train.txt`, `PREFIX-train.txt`)
    PREFIX.train.tokens ...       (`wiki.train.tokens`, WikiText's own names)

A token is what `str.split()` finds in a line, and what a line is, `zoo.data.lines` says. Every line ends
with `<eos>`, blank lines too: they give a lone `<eos>`. This is what the field's word-level code does (the
AWD-LSTM and PyTorch language-model examples), so WikiText-2's train file has its customary 2,088,628 tokens
and PTB's its 929,589.

Words of the training file that are not taken into the vocabulary become `<unk>`, and so do words of the other
splits that it lacks: text needs no preparation.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfp_bayesrnn.errors import InputError
from zoo.data.folder import data_folder, files_in
from zoo.data.lines import decoded
from zoo.data.vocabulary import EOS, UNK, Vocabulary

SPLITS = ("train", "valid", "test")
NAMINGS = "train.txt, valid.txt, test.txt, or the same with a prefix (ptb.train.txt), or wiki.train.tokens"

_SPLIT_FILE = re.compile(r"(?P<prefix>(?:.*[._-])?)(?P<split>train|valid|test)(?P<suffix>\.txt|\.tokens)")

Lines = Callable[[], Iterable[bytes]]
"""Starts a fresh pass over the lines of a split."""


def split_files(data_dir: str | os.PathLike[str], prefix: str | None = None) -> dict[str, Path]:
    """The three files of the corpus in `data_dir`, by split name.

    Args:
      data_dir: the directory to look in.
      prefix: takes the files with this prefix (`"ptb."`) where they are among several candidates.

    Raises:
      InputError: where there is no such directory, a split has no file, or several corpora are there.
    """
    folder = data_folder(data_dir, NAMINGS)
    namings: dict[tuple[str, str], dict[str, Path]] = {}
    for path in files_in(folder):
        match = _SPLIT_FILE.fullmatch(path.name)
        if match:
            namings.setdefault((match["prefix"], match["suffix"]), {})[match["split"]] = path
    wanted = {naming: files for naming, files in namings.items() if naming[0] == prefix}
    namings = wanted or namings
    if not namings:
        raise InputError(f"no corpus in data directory {str(data_dir)!r}: it should hold {NAMINGS}")
    whole = {naming: files for naming, files in namings.items() if len(files) == len(SPLITS)}
    if len(whole) > 1:
        found = ", ".join(sorted(f"{start}train{end}" for start, end in whole))
        raise InputError(
            f"data directory {str(data_dir)!r} holds several corpora ({found}): "
            "leave the files of one of them in a directory of their own"
        )
    if not whole:
        (start, end), files = max(namings.items(), key=lambda item: len(item[1]))
        missing = ", ".join(f"{start}{split}{end}" for split in SPLITS if split not in files)
        raise InputError(f"data directory {str(data_dir)!r} lacks {missing}: it should hold {NAMINGS}")
    return next(iter(whole.values()))


def read_directory(
    data_dir: str | os.PathLike[str], prefix: str | None = None, **words: Any
) -> tuple[Vocabulary, dict[str, np.ndarray]]:
    """The vocabulary of the training file and the splits as int32 streams of word ids.

    Args:
      data_dir: the directory of the files.
      prefix: as for `split_files`.
      **words: which words are taken; as for `encode_splits`.

    Raises:
      InputError: the cases of `split_files`; a file cannot be read, is empty or is not UTF-8; no word of the
        training file occurs often enough.
    """
    files = split_files(data_dir, prefix)
    return encode_splits({split: (str(path), _file_lines(path)) for split, path in files.items()}, **words)


def encode_splits(
    splits: Mapping[str, tuple[str, Lines]], min_count: int = 1, max_words: int = 0, lowercase: bool = False
) -> tuple[Vocabulary, dict[str, np.ndarray]]:
    """The vocabulary and streams of lines from anywhere.

    Args:
      splits: split -> (name for errors, its lines).
      min_count: the number of times that a word has to occur in train; others become `<unk>`.
      max_words: the size of the vocabulary at most, `<eos>` and `<unk>` included, at least 3: of the words
        that occur so often the most frequent ones; 0: all of them.
      lowercase: whether the text is read in lower case.

    Raises:
      InputError: a split is empty, bytes are not UTF-8, or no word occurs often enough.
    """
    name, lines = splits["train"]
    counts = Counter(word for _, words in _tokens(name, lines(), lowercase) for word in words)
    others = {
        word
        for split in SPLITS[1:]
        for _, words in _tokens(splits[split][0], splits[split][1](), lowercase)
        for word in words
    }
    vocabulary = _vocabulary(counts, others, min_count, max_words)
    return vocabulary, {split: _encode(vocabulary, *splits[split], lowercase) for split in SPLITS}


def _vocabulary(counts: Counter[str], others: set[str], min_count: int, max_words: int) -> Vocabulary:
    """The vocabulary: `<eos>`, the words that are taken and, where any word is not, `<unk>`."""
    special = {EOS, UNK}
    often = {word for word, count in counts.items() if count >= min_count and word not in special}
    if not often:
        most = max(count for word, count in counts.items() if word not in special)
        raise InputError(
            f"no word of train occurs {min_count} times: data.min_count={min_count} is not accepted, the "
            f"most frequent one occurs {most} times"
        )
    ranked = Vocabulary.from_tokens(counts).words  # Most frequent first.
    taken = [word for word in ranked if word in often]
    has_unknown = UNK in counts or len(often) + 1 < len(counts) or not others <= counts.keys()
    if max_words and len(taken) + 1 + has_unknown > max_words:
        taken, has_unknown = taken[: max_words - 2], True
    kept = Counter({word: counts[word] for word in (*taken, EOS)})
    if has_unknown:
        kept[UNK] = counts.total() - kept.total()
    return Vocabulary.from_tokens(kept)


def read_wikitext2(data_dir: str | os.PathLike[str]) -> tuple[Vocabulary, dict[str, np.ndarray]]:
    """`read_directory` of WikiText-2, which has other files beside its own."""
    return read_directory(data_dir, prefix="wiki.")


def _encode(vocabulary: Vocabulary, name: str, lines: Lines, lowercase: bool) -> np.ndarray:
    where = f"{name}, line "
    return np.concatenate(
        [
            vocabulary.encode(words, f"{where}{number}")
            for number, words in _tokens(name, lines(), lowercase, warn=True)
        ]
    )


def _tokens(
    name: str, lines: Iterable[bytes], lowercase: bool, warn: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Line numbers from 1 and the tokens of each line; raises `InputError` where there is no word at all."""
    empty = True
    for number, line in decoded(lines, name, warn):
        words = (line.lower() if lowercase else line).split()
        empty = empty and not words
        words.append(EOS)
        yield number, words
    if empty:
        raise InputError(f"{name} is empty: it should hold sentences, one per line")


def _file_lines(path: Path) -> Lines:
    def lines() -> Iterator[bytes]:
        try:
            with open(path, "rb") as file:
                yield from file
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None

    return lines
