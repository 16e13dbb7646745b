"""Paths as users give them, and as TensorFlow takes them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfp_bayesrnn.errors import InputError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# TensorFlow looks for a checkpoint by its name as a pattern, and then reads what has just that name: `*`, `?`
# and braces match themselves, a bracket and a backslash do not.
_PATTERN = re.compile(r"[\[\\]")


def local_path(path: str | bytes | os.PathLike, name: str = "path") -> Path:
    """Turns a path as a user gave it into one of this machine's file system: a leading `~` is the home.

    The result may be given again, and stays what it is.

    Args:
      path: the path of a file or folder, there or not.
      name: the path's name in an error message, such as "--workdir".

    Raises:
      InputError: if it is empty, an address (`gs://...`), of a home that nobody has, not UTF-8 or has a NUL
        character in it.
    """
    text = os.fsdecode(path)
    if not text:
        raise _refused(name, text, "it is empty; . is the current folder")
    if "\0" in text:
        raise _refused(name, text, "it has a NUL character in it")
    if not _is_utf8(text):
        raise _refused(name, text, "it is not UTF-8; accepted: a file or folder whose name is")
    if _URL.match(text):
        raise _refused(name, text, "it is an address; accepted: a file or folder of this machine")
    if text.startswith("~"):
        home = text.split("/")[0]
        text = os.path.expanduser(text)
        if text.startswith("~"):
            raise _refused(name, text, f"there is no home {home}; a folder of that name is ./{home}")
    # `Path` drops the "./" before a "~" that is just a name, and the next to look would take it for a home.
    return Path(os.path.abspath(text) if str(Path(text)).startswith("~") else text)


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Whether TensorFlow does not find a checkpoint or a SavedModel at this path."""
    return bool(_PATTERN.search(os.fspath(path)))


@contextlib.contextmanager
def plain(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to a folder by which TensorFlow finds checkpoints: its own or, within the context, a link's.

    Raises:
      InputError: if the folder for temporary files has such a path too.
      OSError: if no link can be made.
    """
    if not is_pattern(folder):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        if is_pattern(temporary):
            raise InputError(
                f"TensorFlow finds nothing in {os.fspath(folder)}, nor by a link in {temporary}: it takes "
                "[ and \\ for those of a pattern; accepted: another folder, or another TMPDIR"
            )
        link = Path(temporary, "link")
        link.symlink_to(os.path.abspath(folder), target_is_directory=True)
        yield link


def check_regular(path: str | os.PathLike[str]) -> None:
    """Checks that a path holds a file or nothing: opening a named pipe would wait for ever.

    Raises:
      OSError: if it holds something else, or cannot be looked at.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
        if not stat.S_ISREG(mode):
            raise OSError(f"it is {_kind(mode)}, not a file")


def _is_utf8(text: str) -> bool:
    """Whether Python and TensorFlow, whose paths are UTF-8, take a text for the same file."""
    try:
        return text.encode("utf-8") == os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _kind(mode: int) -> str:
    kinds = {stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}
    return next((kind for is_one, kind in kinds.items() if is_one(mode)), "a device")


def _refused(name: str, text: str, reason: str) -> InputError:
    shown = ascii(text if len(text) <= 200 else f"{text[:200]}...") if not text.isprintable() else repr(text)
    return InputError(f"{name}={shown} is not accepted: {reason}")
