"""Being asked to end: SIGTERM and SIGINT."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)

# Python handles signals in its main thread only, which TensorFlow may hold: compiling, or waiting for a
# worker that has gone. Whoever waits for a process to end after SIGTERM usually kills it after 30 s.
GRACE_SECONDS = 25.0
_HANDLED = threading.Semaphore(0)  # Released for each signal that Python has come to handle.
_RAISED = threading.Event()  # Set once one of them has raised `Interrupted`.


class Interrupted(BaseException):
    """The run ends because a signal asked for it.

    Like `KeyboardInterrupt` it is no `Exception`, or code of others that handles those would swallow it.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Within, a signal raises `Interrupted`.

    It ends the process itself, with the same line and status, where that would be lost: where Python cannot
    handle it in time, amid an import, whose code may swallow any exception, and where somebody else did.
    """
    with _Ending() as ending, _handled(ending.end):
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

    def notice(number: int, frame: FrameType | None) -> None:
        if came:
            _raise(number, frame)
        _HANDLED.release()
        came.append(number)

    with _handled(notice):
        yield lambda: came[0] if came else None


def _raise(number: int, _frame: FrameType | None) -> None:
    _RAISED.set()
    _HANDLED.release()
    raise Interrupted(number, _said(number))


@contextmanager
def _handled(handler: Callable[..., Any] | signal.Handlers) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # The main thread alone may handle signals.
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, signal.SIG_DFL if one is None else one)


class _Ending:
    """Ends the process where raising `Interrupted` does not, or not in time. Within one of these at most."""

    def __enter__(self) -> _Ending:
        self._stderr = os.dup(
            2
        )  # The number 2 may be somewhere else then: see `zoo.command_line.quiet_imports`.
        self._left = threading.Event()
        _RAISED.clear()
        self._sending = None
        if threading.current_thread() is threading.main_thread():
            receiving, self._sending = socket.socketpair()
            self._sending.setblocking(False)
            self._before = signal.set_wakeup_fd(self._sending.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(receiving,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._sending is not None:
            signal.set_wakeup_fd(self._before)
            self._sending.close()  # This ends the thread.
        else:
            os.close(self._stderr)

    def end(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        if _is_importing(frame):
            self._exit(number, "")
        _raise(number, frame)

    def _watch(self, receiving: socket.socket) -> None:
        with receiving:
            while number := receiving.recv(1):
                if number[0] not in SIGNALS:
                    continue
                if not _HANDLED.acquire(timeout=GRACE_SECONDS):
                    self._exit(number[0], ", amid something that could not be stopped")
                if _RAISED.is_set() and not self._left.wait(GRACE_SECONDS):
                    self._exit(number[0], ", amid something that went on")
        os.close(self._stderr)

    def _exit(self, number: int, where: str) -> None:
        with suppress(Exception):  # The interrupted code may hold its lock.
            sys.stdout.flush()
        with suppress(OSError):
            os.write(self._stderr, f"{_said(number)}{where}\n".encode())
        os._exit(128 + number)


def _is_importing(frame: FrameType | None) -> bool:
    """Returns whether the main thread is importing a module."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def _said(number: int) -> str:
    return f"interrupted by {signal.Signals(number).name}"
