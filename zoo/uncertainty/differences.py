"""Differences between models, with intervals by a bootstrap in which all models get the same windows.

The words of a text depend on one another, so windows are drawn, with replacement, and not words. A replicate
gives every window of a text the number of times that it was drawn; under it each model has its figures, and
two models their differences, in which what is hard for both cancels.
Dimensions: R replicates, W windows, N words in whole windows.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfp_bayesrnn.prediction import uncertainty
from zoo.uncertainty.records import Records
from zoo.uncertainty.signals import window_signals
from zoo.uncertainty.streams import TEST

REPLICATES = 1000
_AT_ONCE = 2**24  # Numbers in memory at a time.
_BINS = 15
_TELLING = ("entropy", "epistemic")


def replicate(
    records: Mapping[str, Records], window: int, seed: int = 0, replicates: int = REPLICATES
) -> dict[str, np.ndarray]:
    """The figures of a model over whole windows, and those under each replicate.

    Args:
      records: those of each text by its name, "test" among them.
      window: the number of consecutive predictions in a window.
      seed: the seed of the replicates, the same for all models.
      replicates: their number, R.

    Returns:
      By the name of each figure ("nll", "auroc_entropy reversed"), float64 [1 + R]; the first is the figure
      of the text as it is.
    """
    test = records[TEST]
    windows = window_signals(test, window)
    of_test = _counts(TEST, len(windows["entropy"]), seed, replicates)
    found = _of_test(test, min(window, len(test)), of_test)
    for name, other in records.items():
        if name == TEST:
            continue
        theirs = window_signals(other, window)
        of_other = _counts(name, len(theirs["entropy"]), seed, replicates)
        found[f"entropy_gap {name}"] = _mean(theirs["entropy"], of_other) - _mean(windows["entropy"], of_test)
        for signal in _TELLING:
            if signal in theirs and signal in windows:
                found[f"auroc_{signal} {name}"] = _auroc(theirs[signal], of_other, windows[signal], of_test)
    return found


def differences(methods: Sequence[Mapping[str, np.ndarray]], level: float = 0.95) -> list[dict[str, Any]]:
    """The differences of all pairs of models.

    Args:
      methods: the replicates of each model, as `replicate` gives them.
      level: the share of the replicates inside of an interval.

    Returns:
      For every pair "first" and "second", the places of the two, and in "figures" by the name of each figure
      both have its "difference", the second's less the first's, and the "interval".
    """
    ends = [(1 - level) / 2, (1 + level) / 2]
    found = []
    for second, theirs in enumerate(methods):
        for first, ours in enumerate(methods[:second]):
            figures = {}
            for name in ours:
                if name in theirs:
                    values = theirs[name] - ours[name]
                    interval = np.quantile(values[1:], ends)
                    figures[name] = {"difference": float(values[0]), "interval": interval.tolist()}
            found.append({"first": first, "second": second, "figures": figures})
    return found


def _counts(name: str, windows: int, seed: int, replicates: int) -> np.ndarray:
    """How often each window of a text was drawn, float32 [1 + R, W]; once each in the first row."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = generator.multinomial(windows, np.full(windows, 1 / windows), size=replicates)
    return np.concatenate([np.ones([1, windows]), drawn]).astype(np.float32)


def _of_test(test: Records, size: int, counts: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of what a model says of the test text."""
    words = counts.shape[1] * size
    found = {}

    def by_window(values: np.ndarray) -> np.ndarray:
        return values[:words].reshape(-1, size).mean(axis=1)

    if test.log_prob is not None:
        found["nll"] = -_mean(by_window(test.log_prob), counts)
    if test.brier is not None:
        found["brier"] = _mean(by_window(test.brier), counts)
    if test.correct is None:
        return found
    found["error"] = 1.0 - _mean(by_window(test.correct), counts)
    if test.confidence is not None:
        confidence, correct = np.clip(test.confidence[:words], 0.0, 1.0), test.correct[:words]
        found["ece"] = _calibration_error(confidence, correct, size, counts)
        found["augrc"] = _generalized_area(-confidence, 1.0 - correct, size, counts)
    return found


def _mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return counts @ values / np.sum(counts, axis=1)


def _calibration_error(
    confidence: np.ndarray, correct: np.ndarray, size: int, counts: np.ndarray
) -> np.ndarray:
    """The calibration error of bins of equal width, whose residuals are summed by window."""
    edges = uncertainty.reliability(confidence, correct, _BINS).lower
    bins = np.clip(np.searchsorted(edges - 1e-6, confidence, side="right") - 1, 0, _BINS - 1)
    windows = np.arange(len(confidence)) // size
    residuals = np.zeros([counts.shape[1], _BINS])
    np.add.at(residuals, (windows, bins), correct - confidence)
    return np.sum(np.abs(counts @ residuals), axis=1) / (np.sum(counts, axis=1) * size)


def _generalized_area(signal: np.ndarray, loss: np.ndarray, size: int, counts: np.ndarray) -> np.ndarray:
    """The area under the generalized risk over the coverage, by trapezoids between distinct signals."""
    order = np.argsort(signal, kind="stable")
    starts = np.flatnonzero(np.diff(signal[order], prepend=np.nan) != 0)
    windows, loss = (order // size), loss[order]
    found = np.empty(len(counts))
    for place, drawn in enumerate(counts):
        weights = drawn[windows].astype(np.float64)
        kept, lost = (np.add.reduceat(values, starts) for values in (weights, weights * loss))
        before = np.cumsum(lost) - lost
        found[place] = np.sum(kept * (before + lost / 2)) / np.sum(weights) ** 2
    return found


def _auroc(other: np.ndarray, of_other: np.ndarray, test: np.ndarray, of_test: np.ndarray) -> np.ndarray:
    """AUROC of windows that were drawn several times, equal signals counting half."""
    values = np.concatenate([other, test])
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
    found, step = [], max(_AT_ONCE // len(values), 1)
    for start in range(0, len(of_test), step):
        rows = slice(start, start + step)
        positive = np.pad(of_other[rows], ((0, 0), (0, len(test))))[:, order]
        negative = np.pad(of_test[rows], ((0, 0), (len(other), 0)))[:, order]
        positive, negative = (
            np.add.reduceat(drawn, starts, axis=1, dtype=np.float64) for drawn in (positive, negative)
        )
        below = np.cumsum(negative, axis=1) - negative / 2
        found.append(np.sum(positive * below, axis=1) / (len(other) * len(test)))
    return np.concatenate(found)
