"""The meeting of a run's workers, before TensorFlow connects them."""

from __future__ import annotations

import hashlib
import re
import socket
import socketserver
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

_SECONDS_BETWEEN_CALLS = 0.2
_CALL_SECONDS = 1.0
_ANSWER_SECONDS = 10.0
_GREETING = "tfp_bayesrnn"
_HOST = re.compile(r"\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+")


def port_of(address: str) -> int | None:
    """The port of "host:port"; None where the address is not of that form."""
    host, _, port = address.rpartition(":")
    if not _HOST.fullmatch(host) or not (port.isascii() and port.isdecimal() and len(port) <= 5):
        return None
    return int(port) if 0 < int(port) < 2**16 else None


def meet(own: str, others: Collection[str], patience: float) -> list[str]:
    """Listens at the own address until this worker has met every other one.

    TensorFlow waits for workers too, but for ever, and where no signal and no other thread of Python gets a
    turn. Workers call each other, and each says at once which it is: two have met when one has called, and
    then both know. So nobody goes on to TensorFlow before all have come.

    Args:
      own: "host:port" of this worker, which must not be in use yet.
      others: those of all other workers.
      patience: the seconds to wait for them.

    Returns:
      The addresses whose workers did not come in time.

    Raises:
      OSError: this worker cannot listen at its port, or something else answers at an address: another
        program, a worker of another run, this worker itself.
    """
    meeting = _Meeting(own, others)
    deadline = time.monotonic() + patience
    port = port_of(own)
    if port is None:
        raise OSError(f"{own} has no port to listen at")
    with _Server(("", port), meeting) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            for address in others:
                threading.Thread(target=meeting.call_until_met, args=(address,), daemon=True).start()
            while True:
                if meeting.problem:
                    raise OSError(meeting.problem)
                missing = [address for address in others if address not in meeting.met]
                if not missing or time.monotonic() >= deadline:
                    return missing
                time.sleep(_SECONDS_BETWEEN_CALLS)
        finally:
            meeting.is_over = True
            server.shutdown()


def answers(address: str) -> bool:
    """Returns whether anything listens at an address."""
    with suppress(OSError), _connected(address):
        return True
    return False


class _Meeting:
    """The state of one worker's meeting with the others.

    Attributes:
      met: the addresses of the workers that it has met.
      problem: why they cannot all meet; None while they can.
      is_over: whether this worker has stopped waiting.
      greeting: the message it sends: which run it is of, and which worker.
    """

    def __init__(self, own: str, others: Collection[str]):
        self.own, self.others = own, others
        self.met: set[str] = set()
        self.problem: str | None = None
        self.is_over = False
        run = hashlib.sha256("\n".join(sorted([own, *others])).encode()).hexdigest()
        self._introduction = f"{_GREETING} {run}"
        self.greeting = f"{self._introduction} {own}\n".encode()

    def caller(self, line: bytes) -> str | None:
        """The address of the worker of this run that says this; None where it is none."""
        with suppress(UnicodeDecodeError):
            introduction, _, address = line.decode().strip().rpartition(" ")
            if introduction == self._introduction and address in self.others:
                return address
        return None

    def call_until_met(self, address: str) -> None:
        """Calls a worker again and again."""
        while not (self.is_over or self.problem or address in self.met):
            with suppress(OSError):
                self._call(address)
            time.sleep(_SECONDS_BETWEEN_CALLS)

    def _call(self, address: str) -> None:
        with _connected(address) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.sendall(self.greeting)
            answer = _line_from(connection)
        if self.caller(answer) == address or _is_http2(answer):
            # TensorFlow speaks HTTP/2: this is a worker that has met this one and gone on, before it could
            # answer here.
            self.met.add(address)
        elif answer == self.greeting:
            self.problem = f"{address} and {self.own} are one address: each worker needs one of its own"
        elif answer.startswith(_GREETING.encode()):
            self.problem = f"at {address} a worker with another TF_CONFIG answers"
        elif answer:
            self.problem = f"at {address} something else than a worker answers"


class _Server(socketserver.ThreadingTCPServer):
    """Answers those who call."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], meeting: _Meeting):
        self.request_queue_size = max(128, len(meeting.others))
        self.meeting = meeting
        super().__init__(address, _Answer)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Does nothing: whoever called has gone."""


class _Answer(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        meeting = self.server.meeting
        self.request.settimeout(_ANSWER_SECONDS)
        caller = meeting.caller(_line_from(self.request))
        self.request.sendall(meeting.greeting)
        if caller is not None:
            meeting.met.add(caller)


def _connected(address: str) -> socket.socket:
    host = address.rpartition(":")[0].strip("[]")
    return socket.create_connection((host, port_of(address)), timeout=_CALL_SECONDS)


def _line_from(connection: socket.socket) -> bytes:
    """Reads up to the end of a line, or as much as is enough to tell that it is none."""
    content = b""
    while len(content) < 4096 and not content.endswith(b"\n") and not _is_http2(content):
        part = connection.recv(4096)
        if not part:
            break
        content += part
    return content


def _is_http2(content: bytes) -> bool:
    """Returns whether it is the first frame of a server of HTTP/2, its settings, which it sends unasked."""
    return len(content) >= 9 and content[3] == 4 and content[5:9] == bytes(4)
