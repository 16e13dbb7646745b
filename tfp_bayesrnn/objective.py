"""The free energy of a minibatch, with its denominators named (Fortunato et al., 2017, eqs. 4 and 5).

Dimensions: B rows in the minibatch, T time steps (or none, or several target axes).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfp_bayesrnn.likelihoods import NegativeLogLikelihood


class LogLikelihood(NamedTuple):
    """The data's side of the objective. Float32 scalars."""

    total: tf.Tensor  # Nats, summed over every prediction of the minibatch, negated.
    per_row: tf.Tensor  # The same divided by B: summed over time, averaged over rows.
    predictions: tf.Tensor  # How many predictions; padding does not count.


class FreeEnergy(NamedTuple):
    """loss = nll.per_row + kl_weight * kl / training_rows. Float32 scalars."""

    loss: tf.Tensor
    nll: LogLikelihood
    kl: tf.Tensor  # KL[q || p] in nats: of the whole model, neither weighted nor divided.


def negative_log_likelihood(
    likelihood: NegativeLogLikelihood, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None
) -> LogLikelihood:
    """The negative log-likelihood of a minibatch.

    Args:
      likelihood: elementwise, in nats.
      targets: [B, ...].
      outputs: of the network, [B, ...]; cast to float32 here, whatever precision they were computed in.
      weights: None, or of the shape of the elementwise result or its leading axes: 1 where a prediction
        counts, 0 where there is only padding.
    """
    nats = tf.cast(likelihood(targets, tf.cast(outputs, tf.float32)), tf.float32)
    if weights is None:
        predictions = tf.cast(tf.size(nats), tf.float32)
    else:
        weights = tf.cast(weights, tf.float32)
        weights = tf.reshape(weights, tf.concat([tf.shape(weights), [1] * (nats.ndim - weights.ndim)], 0))
        weights = tf.broadcast_to(weights, tf.shape(nats))
        nats, predictions = nats * weights, tf.reduce_sum(weights)
    total = tf.reduce_sum(nats)
    return LogLikelihood(total, total / tf.cast(tf.shape(nats)[0], tf.float32), predictions)


def free_energy(
    nll: LogLikelihood, kl: tf.Tensor, training_rows: float, kl_weight: tf.Tensor | float = 1.0
) -> FreeEnergy:
    """The objective of one minibatch, per row.

    Args:
      nll: of the minibatch.
      kl: KL[q || p] of the whole model in nats, each weight counted once.
      training_rows: rows in one pass over the training data: batch * windows for truncated
        backpropagation, the number of sequences or examples otherwise. Summed over one pass, the rows' shares
        are the whole KL, once.
      kl_weight: 1 for the variational bound; less is a tempered posterior.
    """
    return FreeEnergy(nll.per_row + kl_weight * kl / training_rows, nll, kl)
