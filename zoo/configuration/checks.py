"""Checks of a configuration's fields. TensorFlow is not imported: listing presets does without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from zoo.configuration import limits

_LARGEST = 3.4e38  # About the largest float32, the type that numbers are computed in.


class Check(NamedTuple):
    """The values that one field accepts.

    Attributes:
      accepts: whether it accepts a value of any type.
      accepted: the accepted values, in words.
    """

    accepts: Callable[[Any], bool]
    accepted: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_scale_range(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(_is_number(v) for v in value):
        return False
    return 0 < value[0] <= value[1]


def _is_path(value: Any) -> bool:
    from tfp_bayesrnn.errors import InputError
    from tfp_bayesrnn.filesystem.paths import local_path

    try:
        return isinstance(value, str) and (not value or bool(local_path(value)))
    except InputError:
        return False


def choice(*accepted: str) -> Check:
    """A check that accepts one of some texts."""
    return Check(lambda value: value in accepted, f"one of {', '.join(accepted)}")


def whole(least: int, most: int) -> Check:
    """A check that accepts a whole number."""
    return Check(
        lambda value: _is_integer(value) and least <= value <= most,
        f"a whole number of at least {least} and at most {most}",
    )


def not_negative(most: float = _LARGEST) -> Check:
    """A check that accepts a number that is not negative, zero too."""
    accepted = f"a number of at least 0 and at most {most:g}"
    return Check(lambda value: _is_number(value) and 0 <= value <= most, accepted)


TEXT = Check(lambda value: isinstance(value, str), "a text")
PATH = Check(_is_path, "the path of a file or folder of this machine, in UTF-8, or '' for none")
NUMBER = Check(_is_number, f"a finite number, its size at most {_LARGEST:g}")
FLAG = Check(lambda value: isinstance(value, bool), "true or false")
RATE = Check(lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)")
FRACTION = Check(lambda value: _is_number(value) and 0 < value < 1, "a number strictly between 0 and 1")
SHARE = Check(lambda value: _is_number(value) and 0 < value <= 1, "a number above 0 and at most 1")
POSITIVE = Check(lambda value: _is_number(value) and value > 0, f"a number above 0, at most {_LARGEST:g}")
SCALE_RANGE = Check(_is_scale_range, "two numbers (low, high) with 0 < low <= high")
UNITS = whole(1, limits.UNITS)
ROWS = whole(1, limits.ROWS)
WINDOW = whole(1, limits.WINDOW)
WORDS = whole(1, limits.WORDS)
COUNT = whole(0, limits.COUNT)
VOCABULARY = Check(
    lambda value: _is_integer(value) and (value == 0 or 3 <= value <= limits.COUNT),
    f"0, or a whole number of at least 3 and at most {limits.COUNT}",
)
SAMPLES = whole(0, limits.SAMPLES)
SEED = Check(
    lambda value: _is_integer(value) and 0 <= value < 2**32, "a whole number of at least 0 and below 2**32"
)
