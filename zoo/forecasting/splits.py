"""The data of a forecaster: series, the words of their categories, and which end of each is kept back.

A series ends in the steps of test, before them are those of validation, a horizon, and before these the steps
of training; or, once it is known how long to train, training goes on to test. Test has one or several
origins, each later than the one before: a rolling back-test, in which every forecast is made from all that
came before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

import numpy as np

from tfp_bayesrnn.errors import InputError
from zoo.data.datasets import SERIES_SETS, read_dataset
from zoo.data.series import SeriesSet
from zoo.data.vocabulary import UNK, Vocabulary
from zoo.forecasting.configuration import COUNTS, ForecastingConfig


class Places(NamedTuple):
    """Forecasts that are to be made: of which series [R], and from which step on [R]; int64."""

    series: np.ndarray
    origins: np.ndarray


@dataclass(frozen=True, eq=False)
class ForecastData:
    """Series and their splits.

    Attributes:
      series: the series, with the covariates and categories that are used.
      vocabulary: the words of the categories, `<unk>` for any other first.
      ends: the first step that is no longer a split's, of each series, int64 [N], by the split's name.
      places: the forecasts of "valid" and "test".
    """

    series: SeriesSet
    vocabulary: Vocabulary
    ends: Mapping[str, np.ndarray]
    places: Mapping[str, Places]

    def fingerprints(self) -> dict[str, str]:
        """The SHA-256 of all series up to the end of each split, by the split's name."""
        return {split: self.series.fingerprint(ends.tolist()) for split, ends in self.ends.items()}


def load_series(config: ForecastingConfig, data_dir: str | None = None) -> SeriesSet:
    """The configured series, with the covariates and categories that are used.

    Raises:
      InputError: they cannot be read, or do not go with the configuration.
    """
    data = config.data
    found = read_dataset(SERIES_SETS, data.name, data_dir)
    if found.frequency != data.frequency:
        raise InputError(
            f"data.frequency={data.frequency!r} is not accepted with these series, whose steps are "
            f"{found.frequency}: accepted is {found.frequency!r}"
        )
    found = found.selected(data.covariate_names, data.category_names, data.name_as_category)
    for one in found.series:
        observed = one.values[np.isfinite(one.values)]
        if config.model.transform == "log" and (observed < 0).any():
            raise InputError(
                f"model.transform='log' is not accepted with series {one.name!r}, which has the negative "
                f"value {observed.min():g}; accepted: 'none'"
            )
        if config.model.head in COUNTS and ((observed < 0) | (observed % 1 != 0)).any():
            raise InputError(
                f"model.head={config.model.head!r} is not accepted with series {one.name!r}, whose values "
                "are not all counts, whole numbers of at least 0; accepted: 'student_t' or 'normal'"
            )
    return found


def load_data(config: ForecastingConfig, data_dir: str | None = None) -> ForecastData:
    """The configured data.

    Raises:
      InputError: they cannot be read, or a series is too short.
    """
    return split_up(load_series(config, data_dir), config)


def split_up(series: SeriesSet, config: ForecastingConfig) -> ForecastData:
    """Series with their splits.

    Raises:
      InputError: a series is too short.
    """
    data = config.data
    lengths = np.array([len(one) for one in series.series])
    least = data.test_span + data.horizon + 2
    for one in series.series:
        first = int(np.flatnonzero(np.isfinite(one.values))[0])
        if len(one) - first < least:
            raise InputError(
                f"series {one.name!r} has {len(one) - first} values; data.horizon={data.horizon} and "
                f"data.origins={data.origins} need at least {least}: {data.test_span} of test, "
                f"{data.horizon} of validation, and two to learn from"
            )
    test = lengths - data.test_span
    valid = test - data.horizon
    ends = {"train": valid if data.hold_out_valid else test, "valid": test, "test": lengths}
    return ForecastData(
        series,
        vocabulary_of(series),
        ends,
        {
            "valid": _rolling(valid, 1, 0),
            "test": _rolling(test, data.origins, data.stride or data.horizon),
        },
    )


def _rolling(first: np.ndarray, origins: int, stride: int) -> Places:
    steps = first[:, np.newaxis] + stride * np.arange(origins)
    return Places(np.repeat(np.arange(len(first)), origins), steps.ravel())


def words_of(series: SeriesSet, index: int) -> list[str]:
    """The words of the categories of a series, such as "region=north"."""
    values = series.series[index].categories
    return [_word(name, value) for name, value in zip(series.categories, values, strict=True)]


def vocabulary_of(series: SeriesSet) -> Vocabulary:
    """The words of all categories, `<unk>` first, then in alphabetical order."""
    words = {word for index in range(len(series)) for word in words_of(series, index)}
    return Vocabulary([UNK, *sorted(words)])


def _word(name: str, value: str) -> str:
    return re.sub(r"\s", lambda match: quote(match[0]), f"{name}={value}")
