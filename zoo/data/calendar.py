"""The calendar of series: how long a step is, and where in the day, the week and the year it lies.

TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Frequency(NamedTuple):
    """The length of a step.

    Attributes:
      unit: months ("M") or minutes ("m"), in which it is counted.
      size: how many of them a step is; 0 where steps are only counted.
      cycles: the cycles that a time has a place in, "day", "week" or "year": each with the number of its
        harmonics that are told to a network.
    """

    unit: str
    size: int
    cycles: tuple[tuple[str, int], ...]

    def times(self, start: np.datetime64, steps: int) -> np.ndarray:
        """The times of a number of steps from a start on, datetime64 [steps]."""
        return start.astype(f"datetime64[{self.unit}]") + self.size * np.arange(steps)


FREQUENCIES: Mapping[str, Frequency] = {
    "steps": Frequency("m", 0, ()),
    "yearly": Frequency("M", 12, ()),
    "quarterly": Frequency("M", 3, (("year", 2),)),
    "monthly": Frequency("M", 1, (("year", 3),)),
    "weekly": Frequency("m", 7 * 24 * 60, (("year", 3),)),
    "daily": Frequency("m", 24 * 60, (("week", 3), ("year", 2))),
    "hourly": Frequency("m", 60, (("day", 3), ("week", 3), ("year", 2))),
    "half_hourly": Frequency("m", 30, (("day", 4), ("week", 3), ("year", 2))),
}
"""The lengths of a step by name. With "steps" nothing is known but the order."""


def feature_count(frequency: str) -> int:
    """The number of features that `features` makes."""
    return sum(2 * harmonics for _, harmonics in FREQUENCIES[frequency].cycles)


def features(frequency: str, start: np.datetime64 | None, steps: int) -> np.ndarray:
    """Sines and cosines of the place of each step in its cycles, float32 [steps, features], -1 to 1.

    Args:
      frequency: the length of a step.
      start: the time of the first step; needed where there are cycles.
      steps: the number of steps.
    """
    kind = FREQUENCIES[frequency]
    if not kind.cycles:
        return np.zeros([steps, 0], np.float32)
    if start is None:
        raise ValueError(f"Cycles need the time of the first step. Received: start={start}")
    times, columns = kind.times(start, steps), []
    for cycle, harmonics in kind.cycles:
        phase = phases(times, cycle)
        for harmonic in range(1, harmonics + 1):
            columns += [np.sin(2 * np.pi * harmonic * phase), np.cos(2 * np.pi * harmonic * phase)]
    return np.stack(columns, axis=1).astype(np.float32)


def phases(times: np.ndarray, cycle: str) -> np.ndarray:
    """The place of times in a cycle, from 0 at its beginning to 1 at its end; a week begins on Monday."""
    if cycle == "year":
        years = times.astype("datetime64[Y]")
        if np.datetime_data(times.dtype)[0] == "M":
            return (times - years.astype(times.dtype)).astype(float) / 12.0
        first, last = years.astype("datetime64[m]"), (years + 1).astype("datetime64[m]")
        return (times.astype("datetime64[m]") - first) / (last - first)
    minutes = times.astype("datetime64[m]").astype(np.int64)
    if cycle == "week":
        return ((minutes - 4 * 24 * 60) % (7 * 24 * 60)) / (7 * 24 * 60)  # 1970 began on a Thursday.
    return (minutes % (24 * 60)) / (24 * 60)


def guessed(times: Sequence[np.datetime64] | np.ndarray) -> str | None:
    """The frequency of times in ascending order, by the least distance between two; None if it is none."""
    minutes = np.asarray(times).astype("datetime64[m]").astype(np.int64)
    if len(minutes) < 2:
        return None
    least = int(np.diff(minutes).min())
    days = least / (24 * 60)
    for name, low, high in (("monthly", 28, 31), ("quarterly", 90, 92), ("yearly", 365, 366)):
        if low <= days <= high:
            return name
    exact = {kind.size: name for name, kind in FREQUENCIES.items() if kind.unit == "m" and kind.size}
    return exact.get(least)


def places(times: np.ndarray, frequency: str) -> np.ndarray | None:
    """The step of each time, from 0 at the first of them, int64; None where one lies between steps."""
    kind = FREQUENCIES[frequency]
    units = times.astype(f"datetime64[{kind.unit}]").astype(np.int64)
    distance = units - units.min()
    return None if (distance % kind.size).any() else distance // kind.size
