"""Locks of the operating system on open files: they end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import fcntl

_HELD = (errno.EWOULDBLOCK, errno.EACCES)  # Held by another; any other error: the file system has no locks.


def try_lock(file: int, shared: bool = False) -> bool | None:
    """Locks an open file, without waiting.

    Args:
      file: the descriptor; a network file system needs one that is open for writing, unless `shared`.
      shared: whether others may hold the lock too, shared like this one.

    Returns:
      True if the lock is held now, by this descriptor and until it is closed; False if somebody else's lock
      stands against it; None where the file system has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True
