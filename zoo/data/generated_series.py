"""Generated series whose quantiles are known: how well a forecast is calibrated can be measured exactly.

Every series is monthly, and the product of its level and of a value

    m(t) + d(t)        m(t) = 1 + trend t + season(month) + effect promotion(t)
                       d(t) = phi d(t - 1) + sigma(month) e(t),        e(t) ~ N(0, 1)

Season, the effect of promotions, phi and sigma depend on the kind of the series, one of three. Given the
values before it, what comes is normal, with a mean and a standard deviation that `truth` computes: knowing
all of this, nobody can forecast better. Promotions are known in advance, for a year beyond the values.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from zoo.data.series import Series, SeriesSet

SERIES, MONTHS, FUTURE = 90, 132, 12
_START = np.datetime64("2010-01", "M")


class _Kind(NamedTuple):
    amplitude: float
    peak: int  # The month of the highest season.
    effect: float
    phi: float
    sigma: tuple[float, float]  # In the calmest and in the wildest month.


_KINDS = {
    "lakes": _Kind(0.35, 6, 0.20, 0.6, (0.04, 0.12)),
    "slopes": _Kind(0.45, 0, 0.10, 0.4, (0.05, 0.15)),
    "cities": _Kind(0.10, 9, 0.30, 0.8, (0.03, 0.06)),
}


class _Made(NamedTuple):
    """What the values of a series were drawn from."""

    level: float
    means: np.ndarray  # [MONTHS], of the value over its level.
    sigmas: np.ndarray  # [MONTHS].
    phi: float


@functools.lru_cache(1)
def generated_series() -> SeriesSet:
    """The series, always the same: 90 of 132 months each."""
    random = np.random.default_rng(20_261)
    series, made = [], []
    for index in range(SERIES):
        name = list(_KINDS)[index % len(_KINDS)]
        one, how = _one(f"{name}_{index // len(_KINDS):02d}", name, random)
        series.append(one)
        made.append(how)

    def truth(index: int, origin: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        return _truth(made[index], series[index].values, origin, horizon)

    return SeriesSet(tuple(series), "monthly", ("promotion",), ("kind",), truth)


def _one(name: str, kind: str, random: np.random.Generator) -> tuple[Series, _Made]:
    has = _KINDS[kind]
    level = float(np.exp(random.uniform(np.log(20.0), np.log(20_000.0))))
    trend = random.uniform(-0.001, 0.002)
    months = np.arange(MONTHS + FUTURE)
    promotion = (random.uniform(size=len(months)) < 0.15).astype(float)
    wave = np.cos(2 * np.pi * (months - has.peak) / 12)
    means = 1.0 + trend * months + has.amplitude * wave + has.effect * promotion
    calm, wild = has.sigma
    sigmas = calm + (wild - calm) * (1 + wave) / 2
    noise = random.standard_normal(MONTHS)
    deviation = np.zeros(MONTHS)
    for month in range(MONTHS):
        before = deviation[month - 1] if month else 0.0
        deviation[month] = has.phi * before + sigmas[month] * noise[month]
    values = level * (means[:MONTHS] + deviation)
    series = Series(name, values, _START, promotion[:, np.newaxis], (kind,))
    return series, _Made(level, means, sigmas, has.phi)


def _truth(made: _Made, values: np.ndarray, origin: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of the values from the origin on."""
    deviation = values[origin - 1] / made.level - made.means[origin - 1] if origin else 0.0
    variance, means, deviations = 0.0, np.zeros(horizon), np.zeros(horizon)
    for step in range(horizon):
        deviation *= made.phi
        variance = made.phi**2 * variance + made.sigmas[origin + step] ** 2
        means[step] = made.means[origin + step] + deviation
        deviations[step] = np.sqrt(variance)
    return made.level * means, made.level * deviations
