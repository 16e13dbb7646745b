"""Signals of uncertainty: numbers that should be high where a model does not know, of words and of windows.

    entropy              of the average prediction: total uncertainty
    epistemic            mutual information of word and weights: mean_s KL(p_s || p)
    reverse_information  reverse mutual information: mean_s KL(p || p_s)
    pairwise_kl          expected pairwise KL divergence: the sum of the two
    confidence           -log of the largest probability
    nll                  -log of the probability of the word that came

Of a window they are the mean over its words; besides there are, with one sample for the whole window
(Malinin and Gales, 2021: the expectation of products, where `nll` is the product of expectations),

    joint_nll            -log mean_s prod_t p_s(w_t), by word
    joint_information    joint reverse mutual information, the logarithm above less its mean over the samples,
                         log mean_s prod_t p_s(w_t) - mean_s log prod_t p_s(w_t), by word
"""

from __future__ import annotations

import numpy as np

from tfp_bayesrnn.prediction import uncertainty
from zoo.uncertainty.records import Records

WORD_SIGNALS = ("entropy", "epistemic", "reverse_information", "pairwise_kl", "confidence", "nll")
WINDOW_SIGNALS = (*WORD_SIGNALS, "joint_nll", "joint_information")

TITLES = {
    "entropy": "entropy",
    "epistemic": "mutual information",
    "reverse_information": "reverse mutual information",
    "pairwise_kl": "expected pairwise KL",
    "confidence": "-log confidence",
    "nll": "-log-probability",
    "joint_nll": "joint -log-probability",
    "joint_information": "joint reverse mutual information",
    "sequence_nll": "-log-probability of all words",
    "greedy_nll": "-log-probability of the greedy continuation",
}
"""The signals' names in tables."""

# Rounding can make a confidence of 0 of a very small one.
_TINY = np.finfo(np.float32).tiny


def word_signals(records: Records) -> dict[str, np.ndarray]:
    """The signals of each word that the records have, [N] each."""
    found = {
        "entropy": records.entropy,
        "epistemic": records.epistemic,
        "reverse_information": records.reverse_information,
        "pairwise_kl": records.pairwise_kl,
        "confidence": None if records.confidence is None else -np.log(np.maximum(records.confidence, _TINY)),
        "nll": None if records.log_prob is None else -records.log_prob,
    }
    return {name: values for name, values in found.items() if values is not None}


def window_signals(records: Records, window: int) -> dict[str, np.ndarray]:
    """The signals of each window that the records have, [W] each, by word."""
    found = {name: over_windows(values, window) for name, values in word_signals(records).items()}
    if records.sample_log_probs is not None:
        size = min(window, len(records))
        whole = len(records) // size
        samples = records.sample_log_probs[: whole * size].T.reshape(-1, whole, size)
        scores = uncertainty.score_sequences(samples)
        found["joint_nll"] = -scores.expectation_of_products / size
        found["joint_information"] = scores.reverse_information / size
    return found


def over_windows(values: np.ndarray, window: int) -> np.ndarray:
    """Means over windows that do not overlap; what is left over belongs to none, unless it is all."""
    size = min(window, len(values))
    whole = len(values) // size
    return values[: whole * size].reshape(whole, size).mean(axis=1)


def unknown_windows(is_unknown: np.ndarray, window: int) -> np.ndarray:
    """The number of unknown words, of those a window predicts and the one before, in each window, [W].

    Args:
      is_unknown: which words of the text are unknown, [N + 1].
      window: the number of predictions of a window.
    """
    predictions = len(is_unknown) - 1
    size = min(window, predictions)
    whole = predictions // size
    counts = is_unknown[1 : whole * size + 1].reshape(whole, size).sum(axis=1)
    return counts + is_unknown[: whole * size : size]
