"""Scores of whole sequences under S samples of the weights, in NumPy."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class SequenceScores(NamedTuple):
    """Log-probabilities of sequences w_1 ... w_L, nats, float64 [...] (Malinin and Gales, 2021)."""

    product_of_expectations: np.ndarray  # sum_t log mean_s p_s(w_t): each word under the average of all.
    expectation_of_products: (
        np.ndarray
    )  # log mean_s prod_t p_s(w_t): one sample holds for the whole sequence.
    reverse_information: np.ndarray  # The second less mean_s log p_s(w), at least 0: how samples disagree.


def score_sequences(log_probs: ArrayLike) -> SequenceScores:
    """Returns the scores of sequences, each word given those before it.

    Args:
      log_probs: log p_s(w_t), the log-probability of each word that came under each sample, [S, ..., L]; -inf
        is probability 0.

    Raises:
      ValueError: if there are less than two axes, no sample, or NaN.
    """
    values = np.asarray(log_probs, np.float64)
    if values.ndim < 2 or not len(values):
        raise ValueError(
            f"log_probs should be of shape [S, ..., L] with S > 0. Received: shape={values.shape}"
        )
    if np.isnan(values).any():
        raise ValueError("log_probs should hold no NaN")
    less = math.log(len(values))
    of_samples = np.sum(values, axis=-1)
    joint = np.logaddexp.reduce(of_samples, axis=0) - less
    with np.errstate(invalid="ignore"):  # Of -inf less -inf: no sample gives the sequence a chance.
        information = np.nan_to_num(joint - np.mean(of_samples, axis=0), nan=0.0, posinf=np.inf)
    words = np.logaddexp.reduce(values, axis=0) - less
    return SequenceScores(np.sum(words, axis=-1), joint, np.maximum(information, 0.0))
