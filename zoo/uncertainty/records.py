"""Records of each prediction of a stream, so that no [N, V] probabilities need be kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.prediction import uncertainty


class Records(NamedTuple):
    """The figures of a stream's N predictions by a model, each float64 [N] but for one; None where unknown.

    With S samples of the weights, p is the average of theirs.
    """

    entropy: np.ndarray  # H[p], nats: the total uncertainty.
    aleatoric: np.ndarray | None = None  # mean_s H[p_s], nats; None without samples.
    log_prob: np.ndarray | None = None  # log p of the word that came.
    confidence: np.ndarray | None = None  # The largest probability.
    correct: np.ndarray | None = None  # 1 where the most probable word came, else 0.
    brier: np.ndarray | None = None  # sum_v (p_v - [v came])^2.
    reverse_information: np.ndarray | None = None  # mean_s KL(p || p_s), nats; None without samples.
    sample_log_probs: np.ndarray | None = None  # [N, S]: log p_s of the word that came; None without samples.

    @property
    def epistemic(self) -> np.ndarray | None:
        """The mutual information of word and weights, nats, at least 0."""
        if self.aleatoric is None:
            return None
        return uncertainty.of_parts(self.entropy, self.aleatoric).epistemic.numpy()

    @property
    def pairwise_kl(self) -> np.ndarray | None:
        """The expected divergence of two samples, nats: the mutual information and the reverse one."""
        if self.epistemic is None or self.reverse_information is None:
            return None
        return self.epistemic + self.reverse_information

    def __len__(self) -> int:
        return len(self.entropy)


VALUES = tuple(name for name in Records._fields if name != "sample_log_probs")
"""The fields that have one value for each prediction, and that others can give."""


def make_records(log_probs: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
    """The fields of `Records` for predictive distributions, in TensorFlow; can be traced and compiled.

    Args:
      log_probs: [S, ..., V], normalised.
      targets: integers [...]: the words that came.

    Returns:
      Float32 [...] each, in the order of `Records`, the last [..., S]; None where S = 1 for what needs more.
    """
    parts, samples = uncertainty.decompose(log_probs), log_probs.shape[0]
    # Only the target is averaged in log space: its probability may be less than any float32 number.
    of_targets = tf.gather(
        log_probs,
        tf.tile(targets[tf.newaxis], [samples] + [1] * len(targets.shape)),
        batch_dims=len(targets.shape) + 1,
    )
    log_prob = tf.reduce_logsumexp(of_targets, axis=0) - np.log(samples).astype(np.float32)
    probs = tf.reduce_mean(tf.exp(log_probs), axis=0)
    best = tf.argmax(probs, axis=-1, output_type=targets.dtype)
    return (
        parts.total,
        parts.aleatoric if samples > 1 else None,
        log_prob,
        tf.reduce_max(probs, axis=-1),
        tf.cast(best == targets, tf.float32),
        uncertainty.brier_score(tf.math.log(probs), targets),
        uncertainty.reverse_mutual_information(log_probs) if samples > 1 else None,
        tf.transpose(of_targets, [*range(1, len(of_targets.shape)), 0]) if samples > 1 else None,
    )


def in_order(
    fields: Sequence[Sequence[np.ndarray | None]], row_predictions: Sequence[int] | np.ndarray
) -> Records:
    """Records in the order of the stream, from those of its windows.

    Args:
      fields: the fields of `Records` for each window, [B, T] or [B, T, S].
      row_predictions: the number of predictions in each row that are no padding, [B].
    """

    def joined(values: Any) -> Any:
        if values[0] is None:
            return None
        rows = np.concatenate(values, axis=1).astype(np.float64)
        return np.concatenate([row[:count] for row, count in zip(rows, row_predictions, strict=True)])

    return Records(*map(joined, zip(*fields, strict=True)))
