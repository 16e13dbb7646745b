"""The folder that a data set's files are in."""

from __future__ import annotations

import os
from pathlib import Path

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.filesystem.files import explained


def data_folder(data_dir: str | os.PathLike[str], layout: str) -> Path:
    """Returns the folder of a data set, having checked that it exists.

    Args:
      data_dir: the directory as it was given.
      layout: the contents it should have, in words.

    Raises:
      InputError: there is none, or it cannot be looked at.
    """
    folder = local_path(data_dir, "data_dir")
    with explained(folder, "look into"):
        if not folder.is_dir():
            problem = "is not a directory" if folder.exists() else "does not exist"
            raise InputError(f"data directory {str(data_dir)!r} {problem}: it should hold {layout}")
    return folder


def files_in(folder: Path) -> list[Path]:
    """The files directly inside a folder, in alphabetical order.

    Raises:
      InputError: it cannot be looked into.
    """
    with explained(folder, "look into"):
        return sorted(path for path in folder.iterdir() if path.is_file())
