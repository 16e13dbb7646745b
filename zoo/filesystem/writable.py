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
    """Sees that a file or a folder can be written, or replaced, at a path: to be asked before hours of work.

    Something is written beside it and deleted again, for a disk that is full takes no more.

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
    """`check_writable`, for a file that is written by `zoo.filesystem.files.write_whole`.

    Raises:
      InputError: as `check_writable` does; there is something other than a file.
    """
    with explained(path, "write"):
        check_regular(os.path.realpath(path))
    check_writable(path)


def check_openable(path: str | os.PathLike[str]) -> None:
    """Sees that a file can be opened to be written line by line, and changes nothing in it.

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
