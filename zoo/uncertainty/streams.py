"""The texts of the benchmark: that which the models were trained for, and others."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.data.lines import decoded
from zoo.data.vocabulary import EOS, UNK, Vocabulary
from zoo.filesystem.files import read_file

TEST, REVERSED, SHUFFLED, RANDOM = "test", "reversed", "shuffled", "random"
UNIGRAM = "unigram"

_MANY_UNKNOWN = 0.1  # The share of unknown words from which a text is warned about.


class Stream(NamedTuple):
    """One text as one sequence of words."""

    tokens: np.ndarray  # int32 [N + 1]: N predictions.
    description: str
    unknown: int = 0  # How many words of a text were outside the vocabulary.
    is_unknown: np.ndarray | None = None  # Bool [N + 1]: which words are `<unk>`; None where there is none.
    severity: float | None = None  # The share of the test text's words that are not in their place.

    @property
    def predictions(self) -> int:
        """The number of predictions, N: all words but the first are predicted."""
        return len(self.tokens) - 1


def make_streams(
    test: np.ndarray,
    vocabulary: Vocabulary,
    texts: Sequence[str | os.PathLike[str]] = (),
    limit: int = 0,
    seed: int = 0,
    train: np.ndarray | None = None,
    severities: Sequence[int] = (),
    lowercase: bool = False,
) -> dict[str, Stream]:
    """The test text and others, by name: "test" first, then "reversed", "shuffled", "random" and so on.

    Args:
      test: the words of the test text, integers [N + 1].
      vocabulary: the models' vocabulary.
      texts: files of other text, UTF-8, words between white space, a sentence a line; each is named after
        its file. Words outside the vocabulary become `<unk>`, and are counted.
      limit: the number of words taken from the start of each text; 0: all.
      seed: the seed of the shuffled and the random words.
      train: the words of the training text, whose frequencies "unigram" has; None: there is no such text.
      severities: per cent of the test text's words that change places with one another, 1 to 100: each is a
        text, "swapped_5" and so on. A word that is moved at one severity is moved at all higher ones.
      lowercase: whether the other texts are read in lower case.

    Raises:
      InputError: a text cannot be read or used, or two have one name; a limit that leaves nothing to predict.
    """
    if limit < 0 or limit == 1:
        raise InputError(f"{limit} words of each text: accepted 2 or more, or 0 for all")
    test = np.asarray(test, np.int32)[: limit or None]
    if len(test) < 2:
        raise InputError(f"a test text of {len(test)} words leaves nothing to predict: at least 2 are needed")
    streams = _derived(test, len(vocabulary), seed, train, severities)
    for path in texts:
        path = local_path(path, "--texts")
        name = path.stem
        if name in streams:
            raise InputError(
                f"text {os.fspath(path)}: there is another text with the name {name!r}; rename it"
            )
        streams[name] = read_text(path, vocabulary, limit, lowercase)
        if warning := warning_of(name, streams[name].predictions, streams[name].unknown):
            logging.warning("%s", warning)
    if UNK not in vocabulary:
        return streams
    return {
        name: stream._replace(is_unknown=stream.tokens == vocabulary.id(UNK))
        for name, stream in streams.items()
    }


def _derived(
    test: np.ndarray, size: int, seed: int, train: np.ndarray | None, severities: Sequence[int]
) -> dict[str, Stream]:
    """The test text and those that are made of it, or of words of a vocabulary of this size."""
    shuffled = np.random.default_rng([seed, 0]).permutation(test)
    random = np.random.default_rng([seed, 1]).integers(size, size=len(test), dtype=np.int32)
    streams = {
        TEST: Stream(test, "the test text"),
        # Reversed as one sequence of words (Fortunato et al., 2017, eq. 20), not line by line.
        REVERSED: Stream(test[::-1].copy(), "the test text from its last word to its first"),
        SHUFFLED: Stream(shuffled, f"the words of the test text in random order, seed {seed}"),
        RANDOM: Stream(random, f"words drawn uniformly from the vocabulary, seed {seed}"),
    }
    if train is not None:
        drawn = np.random.default_rng([seed, 2]).choice(np.asarray(train, np.int32), size=len(test))
        streams[UNIGRAM] = Stream(drawn, f"words drawn by their frequency in the training text, seed {seed}")
    return streams | {f"swapped_{severity}": swapped(test, severity, seed) for severity in severities}


def swapped(test: np.ndarray, severity: int, seed: int = 0) -> Stream:
    """The test text, of whose words a share have changed places with one another.

    Each of them moves to the place of another, so the words of the text stay the same ones.

    Args:
      test: the words of the test text, int32 [N + 1].
      severity: the share of the words that are moved, per cent, 1 to 100.
      seed: the seed of which words are moved, and where.

    Raises:
      InputError: the severity is out of range.
    """
    if not 1 <= severity <= 100:
        raise InputError(f"{severity} % of the words swapped: accepted 1 to 100")
    moved = np.random.default_rng([seed, 3]).permutation(len(test))[: round(len(test) * severity / 100)]
    tokens = test.copy()
    tokens[np.roll(moved, 1)] = test[moved]
    text = f"the test text, {severity} % of its words in one another's places, seed {seed}"
    return Stream(tokens, text, severity=severity / 100)


def warning_of(name: str, predictions: int, unknown: int) -> str | None:
    """What is to be said beside figures on a text much of which is `<unk>`; None where that is little.

    Models have learnt to expect `<unk>`, and are sure of it: it hides what would tell the text from others.

    Args:
      name: the text's name.
      predictions: the number of its predictions.
      unknown: the number of its words outside the vocabulary.
    """
    share = unknown / (predictions + 1)
    if share < _MANY_UNKNOWN:
        return None
    return (
        f"{share:.0%} of the words of {name} are not in the vocabulary and were read as {UNK}, a word that "
        "models know well: its entropy gap and AUROC say little of how the models take other text"
    )


def read_text(
    path: str | os.PathLike[str], vocabulary: Vocabulary, limit: int = 0, lowercase: bool = False
) -> Stream:
    """A text file as a stream; see `make_streams`. Each line ends with `<eos>` where the vocabulary has it.

    Raises:
      InputError: the file cannot be read, is not UTF-8, has fewer than 2 words, or has words outside a
        vocabulary without `<unk>`.
    """
    name = os.fspath(path)
    lines = [line for _, line in decoded(io.BytesIO(read_file(path)), f"text {name}")]
    end = [EOS] if EOS in vocabulary else []
    lines = [line.lower() for line in lines] if lowercase else lines
    words = [word for line in lines for word in [*line.split(), *end]][: limit or None]
    if len(words) < 2:
        raise InputError(f"text {name} has {len(words)} words: at least 2 are needed")
    unknown = sum(word not in vocabulary for word in words)
    tokens = vocabulary.encode(words, name)
    share = ""
    if unknown:
        part = f"{unknown} of {len(words)} words ({unknown / len(words):.1%})"
        share = f"{part} not in the vocabulary, taken as {UNK}"
    return Stream(tokens, ", ".join(filter(None, (Path(path).name, share))), unknown)
