"""The parts of a proper score: the loss by wrong confidence, and the gain by telling cases apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfp_bayesrnn.prediction.uncertainty.arguments import judged


class ScoreParts(NamedTuple):
    """A mean score, which is reliability - resolution + uncertainty, or reliability + refinement."""

    score: float  # Smaller is better.
    reliability: float  # The calibration loss: what recalibration would win, at least 0.
    resolution: float  # What the recalibrated confidence wins over the same one for all, at least 0.
    uncertainty: float  # The score of the share of right predictions, given to all.

    @property
    def refinement(self) -> float:
        """The refinement loss: the score of the recalibrated confidence."""
        return self.uncertainty - self.resolution


def decompose_score(confidence: ArrayLike, correct: ArrayLike, rule: str = "brier") -> ScoreParts:
    """The parts of a score of whether predictions are right, without bins (Dimitriadis et al., 2021).

    The recalibrated confidence is the isotonic regression of correct on confidence: of all confidences in the
    same order it has the best score. So no part is negative, and there is no number of bins to choose.

    Args:
      confidence: the probability of the predicted class, [N], 0 to 1.
      correct: whether it was right, [N].
      rule: "brier", the mean of (confidence - correct)^2, or "log", the mean of -log of the probability of
        what came, nats; it is infinite where that probability is 0.

    Raises:
      ValueError: if an argument is not as described above.
    """
    if rule not in _RULES:
        raise ValueError(f"rule should be one of {', '.join(_RULES)}. Received: rule={rule!r}")
    confidence, correct = judged(confidence, correct)
    score = _RULES[rule]
    own = score(confidence, correct)
    recalibrated = score(isotonic_regression(confidence, correct), correct)
    constant = score(np.full_like(correct, np.mean(correct)), correct)
    # Rounding may make the better score a little worse.
    return ScoreParts(own, max(own - recalibrated, 0.0), max(constant - recalibrated, 0.0), constant)


def isotonic_regression(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The nondecreasing function of values [N] with the least squared distance from targets [N].

    Pool adjacent violators (Ayer et al., 1955); equal values share one target, the mean of theirs.
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    means = np.bincount(group, targets) / counts
    pooled: list[tuple[float, float, int]] = []  # Mean, weight and groups of each block.
    for mean, weight in zip(means.tolist(), counts.tolist(), strict=True):
        groups = 1
        while pooled and pooled[-1][0] >= mean:
            other, heavier, more = pooled.pop()
            mean = (mean * weight + other * heavier) / (weight + heavier)
            weight, groups = weight + heavier, groups + more
        pooled.append((mean, weight, groups))
    blocks = np.repeat([mean for mean, _, _ in pooled], [groups for _, _, groups in pooled])
    return blocks[group]


def _brier(confidence: np.ndarray, correct: np.ndarray) -> float:
    return float(np.mean((confidence - correct) ** 2))


def _log(confidence: np.ndarray, correct: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return -float(np.mean(np.log(np.where(correct > 0, confidence, 1.0 - confidence))))


_RULES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"brier": _brier, "log": _log}
