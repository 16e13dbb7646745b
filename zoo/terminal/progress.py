"""Progress bars with rate and ETA, where stderr is a terminal; elsewhere nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from tqdm import tqdm


def steps(values: range, label: str) -> Iterable[int]:
    """Goes through the training steps of an epoch."""
    return _bar(values, label, "step")


def windows(label: str) -> Callable[[Iterable], Iterable]:
    """A function that goes through the windows of an evaluation."""
    return lambda dataset: _bar(dataset, label, "window")


def batches(label: str) -> Callable[[Iterable], Iterable]:
    """A function that goes through minibatches."""
    return lambda dataset: _bar(dataset, label, "batch")


def _bar(values: Iterable, label: str, unit: str) -> Iterable:
    return tqdm(values, desc=label, unit=unit, leave=False, disable=not sys.stderr.isatty())
