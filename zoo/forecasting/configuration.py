"""The configuration of a forecaster, beside what every task has (`zoo.runs.settings`).

TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.configuration import checks, limits
from zoo.configuration.checks import Check
from zoo.configuration.fields import Change, Table, setting, table
from zoo.data.calendar import FREQUENCIES
from zoo.data.datasets import SERIES_SETS
from zoo.language_model.cells import CELLS
from zoo.runs.settings import RunConfig

METHODS = ("deterministic", "dropout", "bbb", "bbb_sharpened")
HEADS = ("student_t", "normal", "negative_binomial")
COUNTS = ("negative_binomial",)
SCALINGS = ("mean_absolute", "location_scale")
TRANSFORMS = ("none", "log")
_STEPS = checks.whole(1, limits.WINDOW)


def _is_lags(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) > 100:
        return False
    return all(_STEPS.accepts(lag) for lag in value) and list(value) == sorted(set(value))


LAGS = Check(_is_lags, f"whole numbers from 1 to {limits.WINDOW}, in ascending order, or () for the season's")


@dataclass(frozen=True, kw_only=True)
class Data(Table):
    """The series that are read, and how their ends are kept back."""

    name: str = setting("builtin_series", checks.choice(*SERIES_SETS), "the data set")
    frequency: str = setting("steps", checks.choice(*FREQUENCIES), "the length of a step")
    season: int = setting(1, _STEPS, "steps of a season; 1: there is none")
    horizon: int = setting(12, _STEPS, "steps that are forecast")
    origins: int = setting(
        1, checks.whole(1, limits.ROWS), "forecasts of each series in test, one later than another"
    )
    hold_out_valid: bool = setting(
        True, checks.FLAG, "whether validation is kept from training; without, its scores say little"
    )
    stride: int = setting(0, checks.COUNT, "steps from one of them to the next; 0: the horizon")
    covariates: str = setting("", checks.TEXT, "columns that are known in advance, with commas between them")
    categories: str = setting("", checks.TEXT, "columns that say of what kind a series is, likewise")
    name_as_category: bool = setting(False, checks.FLAG, "whether each series is a kind of its own")

    @property
    def test_span(self) -> int:
        """The steps at the end of a series that are test's."""
        return self.horizon + (self.origins - 1) * (self.stride or self.horizon)

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """The names of the covariates."""
        return _names(self.covariates)

    @property
    def category_names(self) -> tuple[str, ...]:
        """The names of the categories, without that of the series."""
        return _names(self.categories)

    @property
    def category_count(self) -> int:
        """The number of categories, that of the series among them."""
        return len(self.category_names) + self.name_as_category


@dataclass(frozen=True, kw_only=True)
class Model(Table):
    """The network, and what it is told of a series."""

    head: str = setting("student_t", checks.choice(*HEADS), "the distribution of a value")
    scaling: str = setting(
        "mean_absolute", checks.choice(*SCALINGS), "what the values before a forecast are scaled by"
    )
    transform: str = setting("none", checks.choice(*TRANSFORMS), "what is scaled: values, or log(1 + value)")
    context: int = setting(24, _STEPS, "steps that are read before a forecast")
    lags: tuple[int, ...] = setting((), LAGS, "steps back to the values that a step sees; (): by the season")
    units: int = setting(40, checks.UNITS, "units of each recurrent layer")
    layers: int = setting(2, checks.whole(1, limits.LAYERS), "recurrent layers")
    cell: str = setting("lstm", checks.choice(*CELLS), "kind of the recurrent layers")
    category_units: int = setting(8, checks.UNITS, "units of a category's embedding")
    dropout: float = setting(0.0, checks.RATE, "rate between layers, one mask for all steps of a path")

    def all_lags(self, season: int) -> tuple[int, ...]:
        """The lags: those given, or the last values and those around one season and two seasons back."""
        if self.lags:
            return tuple(self.lags)
        found = {1, 2, 3}
        if season > 1:
            found |= {season - 1, season, season + 1, 2 * season}
        return tuple(sorted(lag for lag in found if lag >= 1))


@dataclass(frozen=True, kw_only=True)
class Evaluation(Table):
    """The settings by which models are scored and forecasts made."""

    paths: int = setting(200, checks.whole(2, limits.SAMPLES), "sample paths of a forecast")
    batch: int = setting(256, checks.ROWS, "forecasts that are made at once")
    num_samples: int = setting(
        0, checks.SAMPLES, "draws of the weights that paths are shared out over; 0: the posterior mean only"
    )


@dataclass(frozen=True, kw_only=True)
class ForecastingConfig(RunConfig):
    """A forecaster's configuration."""

    task: str = setting("forecasting", checks.choice("forecasting"), "what is learnt")
    method: str = setting("bbb", checks.choice(*METHODS), "how weights are learnt")
    data: Data = table(Data)
    model: Model = table(Model)
    evaluate: Evaluation = table(Evaluation, Change.EVALUATED)

    def check(self) -> None:
        """Checks that a head and a transform go together, and that dropout drops something.

        Raises:
          InputError: they do not.
        """
        from tfp_bayesrnn.errors import InputError

        super().check()
        head, scaling, transform = self.model.head, self.model.scaling, self.model.transform
        if head in COUNTS and (transform, scaling) != ("none", "mean_absolute"):
            raise InputError(
                f"model.head={head!r} is a distribution of counts: accepted with it are "
                f"model.transform='none' and model.scaling='mean_absolute', got {transform!r} and {scaling!r}"
            )


def _names(text: str) -> tuple[str, ...]:
    names: Sequence[str] = [name.strip() for name in text.split(",")]
    return tuple(name for name in names if name)
