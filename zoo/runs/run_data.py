"""The data that a run was trained on: what a workdir keeps of them, to know them again.

That is the vocabulary, and in `data.json` a SHA-256 of the text of each split: words, their order, the ends
of lines. Where the files lie, and what they are called, is no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tfp_bayesrnn.errors import InputError
from zoo.configuration import config as configs
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.files import is_there
from zoo.runs.workdir import Workdir


class Data(Protocol):
    """The data that is trained on, such as `zoo.data.corpus.Corpus`."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The words that ids stand for; None of data that are no words."""

    def fingerprints(self) -> dict[str, str]:
        """The SHA-256 of each split's text, by its name."""


def read_vocabulary(workdir: Workdir) -> Vocabulary:
    """The vocabulary that the run in a workdir was trained with.

    Raises:
      InputError: it cannot be read, or is damaged.
    """
    path = workdir.vocabulary_path
    return Vocabulary.of_content(workdir.read(path), f"vocabulary file {path}")


def check_data(workdir: Workdir, data: Data) -> None:
    """Checks that data are those that the run in a workdir was trained on; any are, where there is none yet.

    Of a run of an earlier version, which kept no fingerprints, the vocabulary alone is compared.

    Raises:
      InputError: they are not.
    """
    if not workdir.has_trained:
        return
    path = workdir.vocabulary_path
    if data.vocabulary is not None and is_there(path):
        saved = read_vocabulary(workdir)
        if saved != data.vocabulary:
            raise InputError(
                f"the data's vocabulary ({len(data.vocabulary)} words) is not the one of {path} "
                f"({len(saved)} words): give the data that the run was trained on"
            )
    path = workdir.data_path
    if is_there(path):
        kept = configs.parse_object(workdir.read(path).decode("utf-8", "replace"), str(path))
        differing = [name for name, digest in data.fingerprints().items() if kept.get(name) != digest]
        if differing:
            what, how = "data", ""
            if data.vocabulary is not None:
                what, how = "text", "its words are the same, but in another order or number; "
            raise InputError(
                f"the {what} of {' and '.join(differing)} is not the one that the run in {workdir.path} was "
                f"trained with: {how}give the data that the run was trained on"
            )


def keep_data(workdir: Workdir, data: Data, kept: Mapping[str, str]) -> None:
    """Writes what `check_data` compares, and other files by name; of a run that has trained, what is missing.

    Raises:
      InputError: it cannot be written.
    """
    is_new = not workdir.has_trained
    if data.vocabulary is not None and (is_new or not is_there(workdir.vocabulary_path)):
        workdir.write(workdir.vocabulary_path, data.vocabulary.content())
    if is_new or not is_there(workdir.data_path):
        workdir.write_json(workdir.data_path, data.fingerprints())
    for name, text in kept.items():
        if is_new or not is_there(workdir.path / name):
            workdir.write(workdir.path / name, text)
