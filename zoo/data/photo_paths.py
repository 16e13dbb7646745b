"""The photos that a command line names: files, directories and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.data.photos import SUFFIXES, is_photo_name


def photo_paths(arguments: Iterable[str]) -> list[str]:
    """The paths of the photos named, in the order in which they are named, each once.

    Args:
      arguments: each a path or several with commas between them; what exists by that name is one path,
        commas or not. A path is that of a file, whatever its suffix, of a directory, which stands for the
        photos in it in alphabetical order, or a pattern, with `**` for folders at any depth.

    Raises:
      InputError: a path does not exist, a pattern has no match, a directory cannot be read or has no photo.
    """
    found: dict[str, None] = {}
    for argument in arguments:
        whole = os.path.lexists(os.path.expanduser(argument))
        named = [argument] if whole else [path for path in argument.split(",") if path]
        if not named:
            raise InputError(f"--images={argument} names no photo; accepted: a file, a directory, a pattern")
        for path in named:
            found.update(dict.fromkeys(_photos_of(os.fspath(local_path(path, "--images")))))
    return list(found)


def _photos_of(path: str) -> list[str]:
    if os.path.isdir(path):
        return _inside(Path(path))
    if os.path.exists(path):
        return [path]
    if not glob.has_magic(path):
        raise InputError(f"--images={path} does not exist; accepted: a file, a directory, a pattern")
    matches = sorted(match for match in glob.iglob(path, recursive=True) if os.path.isfile(match))
    if not matches:
        raise InputError(f"--images={path} matches no file")
    return matches


def _inside(folder: Path) -> list[str]:
    try:
        paths = sorted(path for path in folder.iterdir() if is_photo_name(path.name) and path.is_file())
    except OSError as error:
        raise InputError(f"--images={folder} cannot be read: {error.strerror}") from None
    if not paths:
        raise InputError(
            f"--images={folder} has no photo directly inside it; accepted: files that end in "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return list(map(str, paths))
