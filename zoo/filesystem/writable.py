"""Results that are written and printed: neither is lost for want of the other."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import check_regular
from zoo.filesystem.files import explained

_PROBE = bytes(2**14)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Checks, before hours of work, that a file or a folder can be written, or replaced, at a path.

    Something is written beside it and deleted again, since a full disk takes no more.

    Raises:
      InputError: it cannot: no permission, a disk that is full or read-only.
    """
    target = Path(os.path.realpath(path))
    with explained(path, "write"):
        place = next(folder for folder in target.parents if folder.exists())
        handle, probe = tempfile.mkstemp(dir=place, prefix=".probe-")
        try:
            with open(handle, "wb") as file:
                file.write(_PROBE)
                file.flush()
                os.fsync(file.fileno())
        finally:
            os.unlink(probe)


def check_file_writable(path: str | os.PathLike[str]) -> None:
    """Checks as `check_writable` does, for a file that `zoo.filesystem.files.write_whole` writes.

    Raises:
      InputError: the cases of `check_writable`; there is something other than a file.
    """
    with explained(path, "write"):
        check_regular(os.path.realpath(path))
    check_writable(path)


def check_openable(path: str | os.PathLike[str]) -> None:
    """Checks that a file can be opened to be written line by line, and changes nothing in it.

    Raises:
      InputError: it cannot.
    """
    if not os.path.exists(path):
        check_file_writable(path)
    elif not os.access(path, os.W_OK):
        raise InputError(f"cannot write {os.fspath(path)}: it is read-only, or so is where it lies")


@contextlib.contextmanager
def printed_after(text: Callable[[], str]) -> Iterator[None]:
    """Prints a text once the block has written what it says, and all the same where that fails.

    Args:
      text: makes the text.
    """
    try:
        yield
    finally:
        print(text(), flush=True)
