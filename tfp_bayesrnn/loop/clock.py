"""When a training loop saves, validates early and stops: at the same step in all workers."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np

from tfp_bayesrnn.workers import Workers

# The interval, in seconds, at which workers tell each other whether to save or to stop.
_TALK_SECONDS = 1.0


class Due(NamedTuple):
    """What is to be done after a step."""

    save: bool
    stop: bool
    validation: bool  # Before the first epoch has ended.


class Clock:
    """Says when to save, to validate early and to stop, to all workers at the same step.

    Several workers exchange their wishes about once a second; the chief says how many steps that is.
    """

    def __init__(self, workers: Workers, checkpoint_seconds: float, early_validation_seconds: float):
        """Starts it; the arguments are those of `tfp_bayesrnn.loop.loop.Loop`."""
        self._workers = workers
        self._checkpoint_seconds = checkpoint_seconds
        self._validation_seconds = early_validation_seconds or math.inf
        self.start()

    def start(self) -> None:
        """Starts anew, as after a step back."""
        self.saved()
        self.validated()
        self._last_talk, self._interval, self._steps = time.monotonic(), 1, 0

    def saved(self) -> None:
        """Is told that a checkpoint has been saved."""
        self._last_save = time.monotonic()

    def validated(self, seconds: float = 0.0) -> None:
        """Is told that there was a validation, which took so long: the next one waits ten times that."""
        self._last_validation = time.monotonic()
        self._wait = max(self._validation_seconds, 10 * seconds)

    def due(self, stop: bool, now: bool = False) -> Due:
        """What is to be done after a step; with `now` workers exchange in any case."""
        save = time.monotonic() - self._last_save > self._checkpoint_seconds
        validation = time.monotonic() - self._last_validation > self._wait
        if not self._workers.are_several:
            return Due(save, stop, validation)
        self._steps += 1
        if self._steps < self._interval and not now:
            return Due(False, False, False)
        per_second = self._steps / max(time.monotonic() - self._last_talk, 1e-3)
        interval = int(np.clip(per_second * _TALK_SECONDS, 1, 1000))
        own = [stop, save, validation, interval] if self._workers.is_chief else [stop, False, False, 0]
        stops, saves, validations, chief_s = self._workers.total(own)
        self._last_talk, self._interval, self._steps = time.monotonic(), int(chief_s), 0
        return Due(saves > 0.0, stops > 0.0, validations > 0.0)
