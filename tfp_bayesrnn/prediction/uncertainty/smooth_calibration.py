"""The smooth calibration error, in NumPy; N predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tfp_bayesrnn.prediction.uncertainty.arguments import judged

# Cells of the confidences: a prediction counts as at the middle of its cell.
_CELLS = 2**13
_HALVINGS = 40


def smooth_calibration_error(confidence: ArrayLike, correct: ArrayLike) -> float:
    """The smooth calibration error, smECE (Blasiok and Nakkiran, 2023), 0 to 1.

    The residuals, correct - confidence, are smoothed over the confidence by a Gaussian kernel that is
    reflected at 0 and 1. The error is the integral of the smoothed residual's absolute value, for the kernel
    whose standard deviation is that error itself: nobody has to choose a width, or a number of bins.

    Args:
      confidence: the probability of the predicted class, [N], 0 to 1. It is taken as right to 1 / 16,384.
      correct: whether it was right, [N].

    Raises:
      ValueError: if an argument is not as described above.
    """
    confidence, correct = judged(confidence, correct)
    cells = np.minimum((confidence * _CELLS).astype(int), _CELLS - 1)
    residuals = np.bincount(cells, correct - confidence, minlength=_CELLS) / len(cells)
    # Reflected at 0 and 1, the residuals have period 2: their frequencies are the multiples of 1 / 2, and the
    # kernel is the Gaussian's characteristic function at them.
    spectrum = np.fft.rfft(np.concatenate([residuals, residuals[::-1]]))
    frequencies = np.pi * np.arange(_CELLS + 1)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):  # The error falls with the width, so that they are equal only once.
        width = (low + high) / 2
        kernel = np.exp(-((frequencies * width) ** 2) / 2)
        error = np.sum(np.abs(np.fft.irfft(spectrum * kernel)[:_CELLS]))
        low, high = (width, high) if error > width else (low, width)
    return high
