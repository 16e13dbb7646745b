"""Where the workers of a run wait for one another."""

from __future__ import annotations

import socket
import time
from collections.abc import Collection
from contextlib import suppress

_SECONDS_BETWEEN_CALLS = 0.2
_CALL_SECONDS = 1.0


def port_of(address: str) -> int | None:
    """The port of "host:port"; None where the address is not of that form."""
    host, _, port = address.rpartition(":")
    return int(port) if host and port.isdecimal() and 0 < int(port) < 2**16 else None


def meet(own: str, others: Collection[str], patience: float) -> list[str]:
    """Listens at the own address until every other worker has been seen listening at its own.

    TensorFlow waits for workers too, but where no signal and no other thread of Python gets a turn. A worker
    counts as seen if it still waits here, or has gone on to TensorFlow, which listens at the same address.

    Args:
      own: "host:port" of this worker, which must not be in use yet.
      others: those of all other workers.
      patience: how many seconds to wait for them.

    Returns:
      The addresses at which nobody came in time.

    Raises:
      OSError: if this worker cannot listen at its port.
    """
    missing, deadline = list(others), time.monotonic() + patience
    with socket.create_server(("", port_of(own)), backlog=max(128, len(missing))):
        while True:
            missing = [address for address in missing if not _answers(address)]
            if not missing or time.monotonic() >= deadline:
                return missing
            time.sleep(_SECONDS_BETWEEN_CALLS)


def _answers(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    with suppress(OSError), socket.create_connection((host, port_of(address)), timeout=_CALL_SECONDS):
        return True
    return False
