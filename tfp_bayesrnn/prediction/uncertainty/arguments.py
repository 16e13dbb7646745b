"""The checks of arguments that the scores in NumPy share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def checked(values: ArrayLike, name: str) -> np.ndarray:
    """The values as float64 [N].

    Raises:
      ValueError: they are none, not of rank 1, or there is NaN among them.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} should be of shape [N] with N > 0. Received: shape={array.shape}")
    missing = np.flatnonzero(np.isnan(array))
    if len(missing):
        raise ValueError(f"{name} should hold no NaN. Received: NaN at {missing[0]} of {len(array)}")
    return array


def pair(first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Both as `checked` returns them.

    Raises:
      ValueError: the cases of `checked`; the lengths differ.
    """
    first, second = checked(first, names[0]), checked(second, names[1])
    if len(first) != len(second):
        raise ValueError(
            f"{names[0]} and {names[1]} should have the same length. "
            f"Received: lengths={[len(first), len(second)]}"
        )
    return first, second


def judged(confidence: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and 1 where they were right, else 0; each float64 [N].

    Raises:
      ValueError: the cases of `pair`; a confidence is not between 0 and 1.
    """
    confidence, correct = pair(confidence, correct, ("confidence", "correct"))
    if confidence.min() < 0.0 or confidence.max() > 1.0:
        raise ValueError(
            "confidence should be between 0 and 1. "
            f"Received: confidence from {confidence.min()} to {confidence.max()}"
        )
    return confidence, (correct != 0).astype(np.float64)
