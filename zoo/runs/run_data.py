"""The data that a run was trained on: what a workdir keeps of them, to know them again.

That is the vocabulary, and in `data.json` a SHA-256 of the text of each split: words, their order, the ends
of lines. Where the files lie is kept beside it, for commands that do not say; it is no part of what is
compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tfp_bayesrnn.errors import InputError
from zoo.configuration import config as configs
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.files import is_folder, is_there
from zoo.runs.workdir import Workdir

_NAME, _DIRECTORY = "data", "data_dir"
"""The keys of `data.json` beside those of the splits."""


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
    if is_there(workdir.data_path):
        kept = _kept(workdir)
        differing = [name for name, digest in data.fingerprints().items() if kept.get(name) != digest]
        if differing:
            what, how = "data", ""
            if data.vocabulary is not None:
                what, how = "text", "its words are the same, but in another order or number; "
            raise InputError(
                f"the {what} of {' and '.join(differing)} is not the one that the run in {workdir.path} was "
                f"trained with: {how}give the data that the run was trained on"
            )


def data_dir_of(workdir: Workdir, name: str, given: str | None) -> str | None:
    """The directory of a data set's files: the one that is given, else the one that a run was trained from.

    Args:
      workdir: the run's workdir.
      name: the data set's name.
      given: the directory, where a command gives it.

    Returns:
      The directory; None where none is given, and the run has had none for a data set of that name.

    Raises:
      InputError: the directory of the run is needed and has gone, or its record cannot be read.
    """
    if given is not None or not is_there(workdir.data_path):
        return given
    kept = _kept(workdir)
    path = kept.get(_DIRECTORY)
    if kept.get(_NAME) != name or not isinstance(path, str):
        return None
    if not is_folder(Path(path)):
        raise InputError(
            f"data directory {path}, which the run in {workdir.path} was trained from, does not exist any "
            "more: say where its files are now, --data_dir=DIR"
        )
    return path


def keep_data(
    workdir: Workdir, data: Data, name: str, data_dir: str | None, files: Mapping[str, str]
) -> None:
    """Writes what `check_data` compares and `data_dir_of` finds; of a run that has trained, what is missing.

    Args:
      workdir: the run's workdir.
      data: the data that are trained on.
      name: the data set's name.
      data_dir: the directory that they come from; None where they need none.
      files: the texts of further files, by name.

    Raises:
      InputError: it cannot be written.
    """
    is_new = not workdir.has_trained
    if data.vocabulary is not None and (is_new or not is_there(workdir.vocabulary_path)):
        workdir.write(workdir.vocabulary_path, data.vocabulary.content())
    kept = _kept(workdir) if is_there(workdir.data_path) and not is_new else data.fingerprints()
    path = None if data_dir is None else os.path.abspath(data_dir)
    record = {**kept, _NAME: name, _DIRECTORY: path}
    if is_new or record != kept:
        workdir.write_json(workdir.data_path, record)
    for file, text in files.items():
        if is_new or not is_there(workdir.path / file):
            workdir.write(workdir.path / file, text)


def _kept(workdir: Workdir) -> dict[str, Any]:
    path = workdir.data_path
    return configs.parse_object(workdir.read(path).decode("utf-8", "replace"), str(path))
