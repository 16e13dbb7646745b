"""The words a model knows, and their ids."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfp_bayesrnn.errors import InputError, quoted
from zoo.filesystem.files import read_file, write_whole

EOS = "<eos>"
UNK = "<unk>"


class Vocabulary:
    """An ordered set of words; a word's id is its place, 0 to `len(vocabulary) - 1`.

    Args:
      words: the words in the order of their ids: distinct, not empty, without white space.

    Raises:
      InputError: where a word is empty, holds white space or comes twice, or there is no word at all.
    """

    def __init__(self, words: Sequence[str]):
        self._words = tuple(words)
        self._ids = {word: index for index, word in enumerate(self._words)}
        if not self._words:
            raise InputError("a vocabulary of 0 words: at least one word is needed")
        for index, word in enumerate(self._words):
            if word.split() != [word]:
                raise InputError(
                    f"word {index} of a vocabulary is {quoted(word)}: it must be one word, no white space"
                )
            if self._ids[word] != index:
                raise InputError(
                    f"word {quoted(word)} comes twice in a vocabulary (ids {index} and {self._ids[word]})"
                )

    @classmethod
    def from_tokens(cls, tokens: Iterable[str] | Mapping[str, int]) -> Vocabulary:
        """The words of `tokens`, most frequent first, words of equal count in alphabetical order.

        Args:
          tokens: the words of a text, or each word's count.
        """
        counts = Counter(tokens)
        return cls(sorted(counts, key=lambda word: (-counts[word], word)))

    @property
    def words(self) -> tuple[str, ...]:
        """The words in the order of their ids."""
        return self._words

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words)"

    def id(self, word: str) -> int:
        """The id of a word that is in the vocabulary."""
        try:
            return self._ids[word]
        except KeyError:
            raise InputError(
                f"word {quoted(word)} is not among the {len(self)} words of the vocabulary"
            ) from None

    def encode(self, words: Iterable[str], where: str = "") -> np.ndarray:
        """The ids of `words`, int32 [number of words].

        A word outside the vocabulary becomes `<unk>` where the vocabulary has that word.

        Args:
          words: the words to look up.
          where: the origin of the words, such as a file and a line, for the error message.

        Raises:
          InputError: a word is outside a vocabulary without `<unk>`.
        """
        unknown = self._ids.get(UNK)
        ids = []
        for word in words:
            index = self._ids.get(word, unknown)
            if index is None:
                place = f"{where}: " if where else ""
                raise InputError(
                    f"{place}word {quoted(word)} is not among the {len(self)} words of the vocabulary, "
                    f"which has no {UNK} to stand for it"
                )
            ids.append(index)
        return np.array(ids, np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words with these ids."""
        words = []
        for index in ids:
            if not 0 <= index < len(self):
                raise InputError(f"id {index} is outside the vocabulary: accepted 0 to {len(self) - 1}")
            words.append(self._words[index])
        return words

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of the words in order: that of the file `save` writes."""
        return hashlib.sha256(self.content()).hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one word per line in UTF-8; the file appears whole or not at all.

        Raises:
          InputError: it cannot be written.
        """
        write_whole(Path(path), self.content())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Reads what `save` wrote.

        Raises:
          InputError: where the file cannot be read, is not UTF-8 or is no list of distinct words.
        """
        return cls.of_content(read_file(path), f"vocabulary file {os.fspath(path)}")

    @classmethod
    def of_content(cls, content: bytes, name: str) -> Vocabulary:
        """The vocabulary in a file's content.

        Args:
          content: one word per line in UTF-8.
          name: the name of the file in an error.

        Raises:
          InputError: where it is not UTF-8 or no list of distinct words.
        """
        try:
            text = content.decode("utf-8")
            return cls(text.removesuffix("\n").split("\n") if text else [])
        except UnicodeDecodeError as error:
            raise InputError(f"{name} is not UTF-8 (byte {error.start})") from None
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    def content(self) -> bytes:
        """The bytes that `save` writes."""
        return "".join(f"{word}\n" for word in self._words).encode("utf-8")
