"""Who writes in a workdir: the process that trains in it, alone.

It holds a lock of the operating system on the file `.lock` there, which ends with the process, however that
ends. Of several workers of a run the chief holds it, the only one that writes. Where the file system has no
locks there is a warning, and no protection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.locks import try_lock

LOCK = ".lock"

# How long to try: others hold a lock for a moment, to see whether there is one, or to write a file.
_PATIENCE_SECONDS = 2.0
_SECONDS_BETWEEN_TRIES = 0.05


class WorkdirInUse(InputError):
    """Another process trains in the workdir."""


@contextlib.contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Within, no other process writes in a workdir.

    Args:
      directory: the workdir, which exists.

    Raises:
      WorkdirInUse: another process does.
      InputError: nothing can be written there.
    """
    path, handle = directory / LOCK, None
    try:
        handle, is_locked = _acquire(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        if is_locked is None:
            logging.warning(
                "%s is on a file system without locks: see to it that nothing else trains in it", directory
            )
        else:
            with contextlib.suppress(OSError):  # The content is for a message only.
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):  # The workdir may have been moved.
            if _is_at(handle, path):
                os.unlink(path)
        os.close(handle)


def is_in_use(directory: Path) -> bool:
    """Returns whether another process owns a workdir; False too where that cannot be told. Writes nothing."""
    try:
        handle = os.open(directory / LOCK, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return try_lock(handle, shared=True) is False
    finally:
        os.close(handle)


def _acquire(path: Path) -> tuple[int, bool | None]:
    """The open file, and whether it is locked; None where there are no locks."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
        try:
            is_locked = try_lock(handle)
            # A file that its last owner has unlinked protects nothing.
            if is_locked is not False and _is_at(handle, path):
                return os.dup(handle), is_locked
            if is_locked is False and time.monotonic() >= deadline:
                owner = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
                raise WorkdirInUse(
                    f"workdir {path.parent} is in use: {owner} trains in it; wait for it to end, or give "
                    "another --workdir"
                )
        finally:
            os.close(handle)
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _is_at(handle: int, path: Path) -> bool:
    """Returns whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
