"""Folders that are replaced whole.

A new folder is made beside the one it replaces, as `new` in a hidden folder `.NAME.replacing-XXXX`. It takes
the place of the old one in one step where the file system can exchange two names; elsewhere the old one is
first renamed aside, to `old` in the hidden folder. What a killed process leaves of it `recover` puts right.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tfp_bayesrnn.filesystem.locks import try_lock

# Constants of Linux, from <fcntl.h> and <stdio.h>.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_TRIES = 10  # Attempts, against other processes that replace the same folder.


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Makes a new folder to fill, which takes the place of the one at a path when the block ends.

    Whenever the process is killed, the old folder or the new one is at the path, whole; or, for the moment
    between two renames where the file system cannot exchange names, `recover` brings it back there. Where the
    block raises, all is as it was.

    Args:
      path: the folder's path; for a symbolic link, its target is replaced. The folders above it are made.

    Yields:
      The path of the new folder, which is empty.

    Raises:
      OSError: if something cannot be written, or there is a file at the path.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    with _beside(path) as temporary:
        new = temporary / "new"
        new.mkdir()  # `mkdtemp` would make a private folder.
        yield new
        _flush(new)
        _put(new, path, temporary)
        flush_to_disk(path.parent)


def recover(path: str | os.PathLike[str]) -> None:
    """Repairs what a killed process has left of replacing the folder at a path, if anything.

    Where no folder is at the path, the new one or else the old one takes its place. What is left over is
    deleted, unless the process is still at work.

    Raises:
      OSError: if the folder cannot be moved there.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        return
    prefix = _prefix(path)
    for name in sorted(os.listdir(path.parent)):
        left = path.parent / name
        if not name.startswith(prefix) or not left.is_dir() or left.is_symlink():
            continue
        with _locked(left) as is_locked:
            if is_locked is False:
                continue
            # The old one is renamed aside only once the new one is complete.
            if not path.exists() and (left / "old").is_dir():
                os.rename(left / ("new" if (left / "new").is_dir() else "old"), path)
            if is_locked:
                shutil.rmtree(left, ignore_errors=True)


def _prefix(path: Path) -> str:
    return f".{path.name}.replacing-"


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    while True:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
        with _locked(temporary):
            if not temporary.exists():  # Another process took it for a leftover.
                continue
            try:
                yield temporary
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool | None]:
    """Locks a folder within the block; yields the result of `try_lock`, False for a folder that is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield try_lock(handle)
    finally:
        os.close(handle)


def _put(new: Path, path: Path, temporary: Path) -> None:
    """Renames the new folder to the path, and what was there before to the temporary folder."""
    if _exchanged(new, path):
        return
    for left in reversed(range(_TRIES)):
        old = temporary / "old"
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, old)
        try:
            os.rename(new, path)
            return
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and left:  # Another process was quicker.
                shutil.rmtree(old, ignore_errors=True)
                continue
            if old.exists():
                os.rename(old, path)
            raise


def _exchanged(one: Path, other: Path) -> bool:
    """Exchanges two names in one step; returns False where there are not two, or the system cannot do it."""
    rename = _renameat2()
    if rename is None or not other.is_dir():
        return False
    return not rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The function of the C library that Python does not provide; None where the library has none."""
    try:
        return ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return None


def _flush(folder: Path) -> None:
    for directory, _, files in os.walk(folder):
        for name in files:
            flush_to_disk(Path(directory) / name)
        flush_to_disk(Path(directory))


def flush_to_disk(path: Path) -> None:
    """Makes a file, or the list of what is in a folder, survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
