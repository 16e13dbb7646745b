"""Being asked to end: SIGTERM and SIGINT."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Python handles signals in its main thread only, which TensorFlow may hold: compiling, or waiting for a
# worker that has gone. Whoever waits for a process to end after SIGTERM usually kills it after 30 s.
GRACE_SECONDS = 25.0
_HANDLED = threading.Semaphore(0)  # Released for each signal that Python has come to handle.


class Interrupted(BaseException):
    """The run ends because a signal asked for it.

    Like `KeyboardInterrupt` it is no `Exception`, or code of others that handles those would swallow it.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Within, a signal raises `Interrupted`; where Python cannot handle it in time, it ends the process."""
    with _handled(_raise), _overdue_ended():
        yield


@contextmanager
def left_to_the_system() -> Iterator[None]:
    """Within, a signal ends the process at once, whatever holds it, as one that handles no signals.

    For what never gives Python a turn. What has been handling signals does so again afterwards, whoever took
    them within, as TensorFlow's service for several workers does.
    """
    with _handled(signal.SIG_DFL):
        yield


@contextmanager
def noticed() -> Iterator[Callable[[], int | None]]:
    """Within, the first signal is only noticed, for a better moment; a second one raises `Interrupted`.

    Yields:
      A function that returns the signal that has come, or None.
    """
    came: list[int] = []

    def notice(number, frame):
        if came:
            _raise(number, frame)
        _HANDLED.release()
        came.append(number)

    with _handled(notice):
        yield lambda: came[0] if came else None


def _raise(number: int, _frame) -> None:
    _HANDLED.release()
    raise Interrupted(number, f"interrupted by {signal.Signals(number).name}")


@contextmanager
def _handled(handler: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Which alone may handle signals.
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, signal.SIG_DFL if one is None else one)


@contextmanager
def _overdue_ended() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiving, sending = socket.socketpair()
    sending.setblocking(False)
    before = signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_if_overdue, args=(receiving,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        sending.close()  # Which ends the thread.


def _end_if_overdue(receiving: socket.socket) -> None:
    with receiving:
        while number := receiving.recv(1):
            if number[0] in SIGNALS and not _HANDLED.acquire(timeout=GRACE_SECONDS):
                name = signal.Signals(number[0]).name
                sys.stderr.write(f"interrupted by {name}, amid something that could not be stopped\n")
                sys.stderr.flush()
                os._exit(128 + number[0])
