"""Progress with rate and ETA: bars where stderr is a terminal, elsewhere a line of the log a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from absl import logging
from tqdm import tqdm

SECONDS = 60.0
"""The time between two lines of the log, and before the first."""

_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {rate_fmt}, {remaining} left"


def steps(values: range, label: str, of: int) -> Iterable[int]:
    """Goes through the training steps of an epoch, or the last ones of it.

    Args:
      values: the steps that are left.
      label: the name of the epoch.
      of: the number of steps in the whole epoch.
    """
    return _bar(values, label, "step", total=of, initial=of - len(values))


def windows(label: str) -> Callable[[Iterable], Iterable]:
    """A function that goes through the windows of an evaluation."""
    return lambda dataset: _bar(dataset, label, "window")


def batches(label: str) -> Callable[[Iterable], Iterable]:
    """A function that goes through minibatches."""
    return lambda dataset: _bar(dataset, label, "batch")


def counter(total: int, label: str, unit: str) -> Any:
    """A context whose value has a method `update`, called after each of `total` units."""
    return _bar(None, label, unit, total=total)


def _bar(values: Iterable | None, label: str, unit: str, **counts: int) -> Any:
    plain = {"desc": label, "unit": unit, "leave": False, **counts}
    if sys.stderr.isatty():
        return tqdm(values, **plain)
    by_minutes = {"mininterval": SECONDS, "delay": SECONDS, "miniters": 1}
    return tqdm(values, **plain, **by_minutes, bar_format=_LINE, file=_Log())


class _Log:
    """Takes what `tqdm` writes for a terminal: moves of the cursor, and lines, which become the log's."""

    def write(self, text: str) -> None:
        if text.strip():
            logging.info("%s", text.strip())

    def flush(self) -> None:
        """Does nothing: a line of the log is out when it is written."""
