"""Many series at once: their values, what is known beside them, and what is known of them all.

A series has T values in regular steps. Where one is missing it is NaN. Covariates that are known in advance
may go on beyond the values: those are the covariates of the steps that are to be forecast.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tfp_bayesrnn.errors import InputError, unknown_name


@dataclass(frozen=True, eq=False)
class Series:
    """One series.

    Attributes:
      name: the name, which no other series of the set has.
      values: float64 [T]; NaN where a value is missing.
      start: the time of the first value; None where only the order of the values is known.
      covariates: what is known in advance, float64 [T or more, K].
      categories: the kinds it is of, a word for each category.
    """

    name: str
    values: np.ndarray
    start: np.datetime64 | None = None
    covariates: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros([0, 0]))
    categories: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> int:
        """The number of steps whose covariates are known: T, and those after it."""
        return len(self.covariates) if self.covariates.shape[1] else len(self.values)


Truth = Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]
"""(series, origin, horizon) -> mean and standard deviation [horizon] of the values from the origin on, given
the values before it: they are normal."""


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """Series with the same steps, covariates and categories.

    Attributes:
      series: the series.
      frequency: the length of a step, a name of `zoo.data.calendar.FREQUENCIES`.
      covariates: the names of the covariates.
      categories: the names of the categories.
      truth: the distribution the values were drawn from, where that is known; see `Truth`.
    """

    series: tuple[Series, ...]
    frequency: str = "steps"
    covariates: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    truth: Truth | None = None

    def __post_init__(self) -> None:
        if not self.series:
            raise InputError("the data hold no series: at least one is needed")
        names: set[str] = set()
        for one in self.series:
            if one.name in names:
                raise InputError(f"series {one.name!r} is there twice: each needs a name of its own")
            names.add(one.name)
            if np.isinf(one.values).any():
                raise InputError(
                    f"series {one.name!r} has an infinite value: accepted are numbers, and nothing "
                    "where one is missing"
                )
            if not np.isfinite(one.values).any():
                raise InputError(f"series {one.name!r} has no value at all: leave it out")
            if self.covariates and len(one.covariates) < len(one):
                raise InputError(
                    f"series {one.name!r} has {len(one)} values and covariates of {len(one.covariates)} "
                    "steps only: they must be known for every value"
                )
            if not np.isfinite(one.covariates).all():
                raise InputError(
                    f"series {one.name!r} has a covariate that is no number: every step needs each of "
                    f"{', '.join(self.covariates)}"
                )

    def __len__(self) -> int:
        return len(self.series)

    def selected(
        self, covariates: Sequence[str], categories: Sequence[str], name_as_category: bool = False
    ) -> SeriesSet:
        """The set with some of its covariates and categories, in this order.

        Args:
          covariates: names of covariates.
          categories: names of categories.
          name_as_category: whether the name of a series is a further category, "series".

        Raises:
          InputError: there is no covariate or category of a name.
        """
        places = [_place(self.covariates, name, "covariate") for name in covariates]
        kinds = [_place(self.categories, name, "category") for name in categories]
        chosen = tuple(
            dataclasses.replace(
                one,
                covariates=one.covariates[:, places] if places else np.zeros([0, 0]),
                categories=(
                    *(one.categories[kind] for kind in kinds),
                    *([one.name] if name_as_category else []),
                ),
            )
            for one in self.series
        )
        names = (*categories, *(["series"] if name_as_category else []))
        return dataclasses.replace(self, series=chosen, covariates=tuple(covariates), categories=names)

    def fingerprint(self, ends: Sequence[int]) -> str:
        """SHA-256 (hexadecimal) of every series up to a step, with all that is known of these steps."""
        digest = hashlib.sha256()
        for one, end in zip(self.series, ends, strict=True):
            digest.update(f"{one.name}\n{one.start}\n{one.categories}\n".encode())
            digest.update(np.ascontiguousarray(one.values[:end], "<f8").tobytes())
            digest.update(np.ascontiguousarray(one.covariates[:end], "<f8").tobytes())
        return digest.hexdigest()


def _place(names: Sequence[str], name: str, kind: str) -> int:
    if not names:
        raise InputError(f"the data have no {kind} {name!r}, nor any other")
    if name not in names:
        raise unknown_name(kind, name, names)
    return list(names).index(name)
