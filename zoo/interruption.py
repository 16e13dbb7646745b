"""Being asked to end: SIGTERM and SIGINT."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """The run ends because a signal asked for it.

    Like `KeyboardInterrupt` it is no `Exception`, or code of others that handles those would swallow it.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Within, a signal raises `Interrupted`."""
    with _handled(_raise):
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
        came.append(number)

    with _handled(notice):
        yield lambda: came[0] if came else None


def _raise(number: int, _frame) -> None:
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
