"""The free energy of a minibatch, with its denominators named (Fortunato et al., 2017, eqs. 4 and 5).

Dimensions: B rows in the minibatch, T time steps (or none, or several target axes).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfp_bayesrnn.likelihoods import NegativeLogLikelihood


class LogLikelihood(NamedTuple):
    """The data's side of the objective. Float32, scalars but for `nats`."""

    total: tf.Tensor  # Nats, summed over every prediction of the minibatch, negated.
    per_row: tf.Tensor  # The same divided by B: summed over time, averaged over rows.
    predictions: tf.Tensor  # How many predictions; padding does not count.
    rows: tf.Tensor  # B.
    nats: tf.Tensor  # Of every prediction: what `total` sums, 0 where there is only padding.


class FreeEnergy(NamedTuple):
    """loss = nll.per_row + kl_weight * kl / training_rows + kl_sharpening / B. Float32 scalars."""

    loss: tf.Tensor
    nll: LogLikelihood
    kl: tf.Tensor  # KL[q || p] in nats: of the whole model, neither weighted nor divided.
    kl_sharpening: tf.Tensor  # In nats, of the minibatch; 0 without sharpening.


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
        weights = weights_of_predictions(weights, nats)
        nats, predictions = nats * weights, tf.reduce_sum(weights)
    total = tf.reduce_sum(nats)
    rows = tf.cast(tf.shape(nats)[0], tf.float32)
    # A replica may have no rows: a last minibatch can have fewer rows than there are replicas.
    return LogLikelihood(total, tf.math.divide_no_nan(total, rows), predictions, rows, nats)


def weights_of_predictions(weights: tf.Tensor, nats: tf.Tensor) -> tf.Tensor:
    """Weights of the leading axes of `nats`, float32, broadcast to all of them."""
    weights = tf.cast(weights, tf.float32)
    weights = tf.reshape(weights, tf.concat([tf.shape(weights), [1] * (nats.ndim - weights.ndim)], 0))
    return tf.broadcast_to(weights, tf.shape(nats))


def free_energy(
    nll: LogLikelihood,
    kl: tf.Tensor,
    training_rows: float,
    kl_weight: tf.Tensor | float = 1.0,
    kl_sharpening: tf.Tensor | None = None,
) -> FreeEnergy:
    """The objective of one minibatch, per row (eqs. 4 and 5; with sharpening eqs. 8 and 9).

    Args:
      nll: of the minibatch.
      kl: KL[q || p] of the whole model in nats, each weight counted once.
      training_rows: rows in one pass over the training data: batch * windows for truncated
        backpropagation, the number of sequences or examples otherwise. Summed over one pass, the rows' shares
        are the whole KL, once.
      kl_weight: 1 for the variational bound; less is a tempered posterior.
      kl_sharpening: KL[q(theta | phi, (x, y)) || p(theta | phi)] in nats, of a posterior sharpened on this
        minibatch: paid by this minibatch alone, so it is divided by its B rows, and always in full, since it
        is the price of having looked at the targets.
    """
    loss = nll.per_row + kl_weight * kl / training_rows
    if kl_sharpening is None:
        return FreeEnergy(loss, nll, kl, tf.zeros([]))
    return FreeEnergy(loss + tf.math.divide_no_nan(kl_sharpening, nll.rows), nll, kl, kl_sharpening)
