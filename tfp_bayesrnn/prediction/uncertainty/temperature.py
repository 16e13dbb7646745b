"""The temperature at which predictive distributions fit best (Guo et al., 2017)."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.prediction.uncertainty.parts import at_least_float32

_LOWEST, _HIGHEST = 0.25, 4.0  # The temperatures that are looked at.
# The losses at these temperatures say what it is at all others: it is smooth in the logarithm.
_NODES = 17
_PLACES = np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))  # Of [-1, 1], Chebyshev's.


class Fit(NamedTuple):
    """The temperature of the least loss."""

    temperature: float  # From 0.25 to 4.
    nll: float  # The mean loss at that temperature, nats.
    nll_before: float  # The mean loss at a temperature of 1.


class TemperatureSearch:
    """Finds the temperature T of softmax(log p / T) with the least loss, in one pass over parts of the data.

    The losses at 17 temperatures are summed up, and interpolated by a polynomial in log T. Classes that came
    with a probability of 0 have an infinite loss at every temperature and are left out.
    """

    def __init__(self) -> None:
        self._sums = np.zeros(_NODES)
        self._count = 0

    def add(self, log_probs: tf.Tensor, targets: tf.Tensor, mask: np.ndarray | None = None) -> None:
        """Counts in predictions.

        Args:
          log_probs: the log-probabilities [..., V], normalised; half precision is taken as float32.
          targets: the target classes, integers [...].
          mask: which predictions count, [...]; None: all.
        """
        losses = _losses(log_probs, targets).numpy().reshape(_NODES, -1)
        counted = np.isfinite(losses).all(axis=0)
        if mask is not None:
            counted &= np.ravel(mask) > 0
        self._sums += np.sum(losses[:, counted], axis=1, dtype=np.float64)
        self._count += int(np.sum(counted))

    def result(self) -> Fit:
        """The best temperature so far.

        Raises:
          ValueError: no prediction has been counted in.
        """
        if not self._count:
            raise ValueError("there is no prediction to fit a temperature to")
        means = self._sums / self._count
        curve = np.polynomial.Chebyshev.fit(_PLACES, means, _NODES - 1, domain=[-1.0, 1.0])
        roots = curve.deriv().roots()
        found = roots.real[(np.abs(roots.imag) < 1e-6) & (np.abs(roots.real) <= 1.0)]
        places = np.concatenate([found, [-1.0, 1.0]])
        best = places[np.argmin(curve(places))]
        return Fit(_temperature(float(best)), float(curve(best)), float(means[_NODES // 2]))


def _temperature(place: float) -> float:
    """The temperature at a place from -1 to 1, in even steps of its logarithm."""
    middle, half = math.log(_LOWEST * _HIGHEST) / 2, math.log(_HIGHEST / _LOWEST) / 2
    return math.exp(middle + half * place)


def tempered(log_probs: tf.Tensor, temperature: float | tf.Tensor) -> tf.Tensor:
    """The log-probabilities [..., V] of softmax(log p / T); half precision is taken as float32."""
    return tf.nn.log_softmax(at_least_float32(log_probs) / temperature)


@functools.partial(tf.function, jit_compile=True, autograph=False)
def _losses(log_probs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The losses at each of the temperatures, the middle one of which is 1: [nodes, ...]."""
    log_probs = at_least_float32(log_probs)
    of_targets = tf.gather(log_probs, targets, batch_dims=len(targets.shape))
    inverses = [1.0 / _temperature(place) for place in _PLACES.tolist()]

    def at(inverse: tf.Tensor) -> tf.Tensor:
        return tf.reduce_logsumexp(log_probs * inverse, axis=-1) - of_targets * inverse

    return tf.map_fn(at, tf.constant(inverses, log_probs.dtype))  # One temperature's part in memory.
