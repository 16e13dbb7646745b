"""What it buys to keep the surest answers only; N answers, in NumPy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from tfp_bayesrnn.prediction.uncertainty.arguments import pair

# Shares and risks closer than this differ by rounding only: 0.8 of 35 answers are 28.
_ROUNDING = 1e-9


def risk_coverage(uncertainty: ArrayLike, quality: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The mean quality of the answers that are kept when only the surest share of them is.

    Point k of N, from 1 to N, keeps the k answers of lowest uncertainty. Where answers of equal uncertainty
    are kept only in part, their share counts with the mean over all of them: what is expected of a random
    choice among equals; so the order in which the answers come does not matter. The last point is the mean
    over all answers. With a loss for the quality this is the risk-coverage curve of El-Yaniv and Wiener
    (2010); with a score, such as that of a caption, higher is better.

    Args:
      uncertainty: how unsure the model is of each answer, [N]; may be infinite.
      quality: how good, or how bad, each answer is, [N], finite.

    Returns:
      `(coverage, risk)`, both float64 [N]: the share kept, k / N, and the mean quality of what is kept.

    Raises:
      ValueError: if an argument is empty, not of rank 1 or holds NaN, the lengths differ, or a quality is
        infinite.
    """
    uncertainty, quality = pair(uncertainty, quality, ("uncertainty", "quality"))
    if not np.all(np.isfinite(quality)):
        raise ValueError(f"quality should be finite. Received: quality={quality}")
    order = np.lexsort((quality, uncertainty))
    _, group, counts = np.unique(uncertainty[order], return_inverse=True, return_counts=True)
    expected = np.bincount(group, quality[order])[group] / counts[group]
    kept = np.arange(1, len(order) + 1)
    return kept / len(order), np.cumsum(expected) / kept


def area_under_risk_coverage(uncertainty: ArrayLike, quality: ArrayLike) -> float:
    """The mean of `risk_coverage` over its N points.

    It equals the mean quality where the uncertainty tells nothing; the best that an uncertainty can reach is
    what `area_under_risk_coverage(-quality, quality)` gives for a score, with `quality` for a loss.

    Raises:
      ValueError: if `risk_coverage` raises it.
    """
    return float(np.mean(risk_coverage(uncertainty, quality)[1]))


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation, -1 to 1; equal values share the mean of their ranks.

    Args:
      first: the first values, [N]; may be infinite.
      second: the second values, [N]; may be infinite.

    Returns:
      The correlation; NaN where one of the two is constant, which ranks nothing.

    Raises:
      ValueError: if an argument is empty, not of rank 1 or holds NaN, or the lengths differ.
    """
    deviations = []
    for values in pair(first, second, ("first", "second")):
        _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks = np.cumsum(counts) - (counts - 1) / 2
        deviations.append(ranks[group] - (len(values) + 1) / 2)
    first, second = deviations
    spread = np.sum(first**2) * np.sum(second**2)
    return float(np.clip(np.sum(first * second) / math.sqrt(spread), -1.0, 1.0)) if spread else math.nan


def area_under_generalized_risk_coverage(uncertainty: ArrayLike, loss: ArrayLike) -> float:
    """The area under the generalized risk over the coverage, AUGRC (Traub et al., 2024).

    The generalized risk is the loss of the answers that are kept, divided by the number of all answers: of
    errors, the chance that an answer is kept and wrong. The area, by trapezoids from no coverage on, is its
    mean over all coverages. Half the mean loss is what an uncertainty that tells nothing has.

    Args:
      uncertainty: how unsure the model is of each answer, [N]; may be infinite.
      loss: how bad each answer is, [N], finite, such as 1 for a wrong one and 0 for a right one.

    Raises:
      ValueError: if `risk_coverage` raises it.
    """
    coverage, risk = risk_coverage(uncertainty, loss)
    generalized = coverage * risk
    return float((np.sum(generalized) - generalized[-1] / 2) / len(risk))


def prediction_rejection_ratio(uncertainty: ArrayLike, loss: ArrayLike) -> float:
    """The prediction-rejection ratio, PRR (Malinin and Gales, 2021): 1 is the best order, 0 a random one.

    The curve is the generalized risk over the coverage: what is rejected is answered without loss. The ratio
    is the area between the curve of a random order and that of the uncertainty, over the area between those
    of a random order and of the best. Of losses of 0 and 1 it is 2 AUROC - 1, of telling wrong answers from
    right ones.

    Args:
      uncertainty: how unsure the model is of each answer, [N]; may be infinite.
      loss: how bad each answer is, [N], finite.

    Returns:
      The ratio, -1 to 1; NaN where all losses are equal, so that no order is better than another.

    Raises:
      ValueError: if `risk_coverage` raises it.
    """
    uncertainty, loss = pair(uncertainty, loss, ("uncertainty", "loss"))
    if np.ptp(loss) == 0.0:
        return math.nan
    random = float(np.mean(loss)) / 2
    best = area_under_generalized_risk_coverage(loss, loss)
    return (random - area_under_generalized_risk_coverage(uncertainty, loss)) / (random - best)


def risk_at_coverage(uncertainty: ArrayLike, loss: ArrayLike, coverage: float = 0.8) -> float:
    """The mean loss of the surest answers, of which a share of at least `coverage` is kept.

    Args:
      uncertainty: how unsure the model is of each answer, [N]; may be infinite.
      loss: how bad each answer is, [N], finite.
      coverage: the share that is kept, above 0, at most 1.

    Raises:
      ValueError: if `risk_coverage` raises it, or the coverage is out of range.
    """
    if not 0.0 < coverage <= 1.0:
        raise ValueError(f"coverage should be above 0 and at most 1. Received: coverage={coverage}")
    _, risk = risk_coverage(uncertainty, loss)
    return float(risk[math.ceil(coverage * len(risk) - _ROUNDING) - 1])


def coverage_at_risk(uncertainty: ArrayLike, loss: ArrayLike, risk: float = 0.05) -> float:
    """The largest share of the surest answers whose mean loss is at most `risk`; 0 where none is.

    Args:
      uncertainty: how unsure the model is of each answer, [N]; may be infinite.
      loss: how bad each answer is, [N], finite.
      risk: the largest mean loss that is accepted.

    Raises:
      ValueError: if `risk_coverage` raises it, or the risk is NaN.
    """
    if math.isnan(risk):
        raise ValueError(f"risk should be a number. Received: risk={risk}")
    coverage, risks = risk_coverage(uncertainty, loss)
    kept = np.flatnonzero(risks <= risk + _ROUNDING)
    return float(coverage[kept[-1]]) if len(kept) else 0.0
