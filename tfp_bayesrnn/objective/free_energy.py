"""The free energy of a minibatch, with its denominators named (Fortunato et al., 2017, eqs. 4 and 5).

Dimensions: B rows in the minibatch, T time steps (or none, or several target axes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.objective import likelihoods
from tfp_bayesrnn.objective.likelihoods import Likelihood


class LogLikelihood(NamedTuple):
    """The data's part of the objective. Float32, scalars but for the last two."""

    total: tf.Tensor  # Nats, summed over every prediction of the minibatch with its weight, negated.
    per_row: tf.Tensor  # The same divided by B: summed over time, averaged over rows.
    predictions: tf.Tensor  # How many predictions: the sum of their weights; padding does not count.
    rows: tf.Tensor  # B; a row of nothing but padding is one too.
    nats: tf.Tensor  # One for every prediction, 0 where its weight is 0; several outputs follow each other.
    weights: tf.Tensor  # One for every prediction, like `nats`.


class FreeEnergy(NamedTuple):
    """loss = nll.per_row + kl_weight * kl / training_rows + kl_sharpening / B. Float32 scalars."""

    loss: tf.Tensor  # What is minimised.
    nll: LogLikelihood
    kl: tf.Tensor  # KL[q || p] in nats, of the whole model, neither weighted nor divided.
    kl_sharpening: tf.Tensor  # The minibatch's, in nats; 0 without sharpening.
    of_data: tf.Tensor  # `loss` without the share of the KL, as an evaluation has it.


def negative_log_likelihood(
    likelihood: Likelihood,
    targets: tf.Tensor,
    outputs: tf.Tensor,
    weights: tf.Tensor | None,
    mask: tf.Tensor | None = None,
) -> LogLikelihood:
    """Computes the negative log-likelihood of a minibatch.

    Weights and mask have the shape of the likelihood's result or of its leading axes, and are multiplied.
    Where they are 0 neither the target nor the output matters: they may be NaN.

    Args:
      likelihood: the likelihood, which gives one number in nats for each target.
      targets: the targets, [B, ...].
      outputs: the network's outputs, [B, ...]; cast to float32 here, whatever precision they were computed
        in.
      weights: None, or 1 where a prediction counts, 0 where there is only padding.
      mask: None, or the mask of the outputs: true where a prediction counts.

    Raises:
      ValueError: if the likelihood gives anything else, or weights or mask have another shape.
    """
    if targets is None:
        raise ValueError("The negative log-likelihood is one of targets. Received: targets=None")
    targets, outputs = tf.convert_to_tensor(targets), tf.cast(outputs, tf.float32)
    targets = likelihood.encoded(targets, outputs)
    weights = product(product(weights, mask), likelihood.counted(targets))
    if weights is not None:
        targets, outputs = _without_padding(weights, targets, outputs)
    nats = likelihoods.nats(likelihood, targets, outputs)
    weights = product(weights, keras_internals.mask_of(nats))
    nats = tf.cast(nats, tf.float32)
    if weights is None:
        weights, predictions = tf.ones_like(nats), tf.cast(tf.size(nats), tf.float32)
    else:
        weights = _of_predictions(weights, nats)
        nats, predictions = tf.where(weights == 0.0, 0.0, nats), tf.reduce_sum(weights)
    total = tf.reduce_sum(nats * weights)
    rows = tf.cast(tf.shape(nats)[0], tf.float32)
    # A replica may have no rows: a last minibatch can have fewer rows than there are replicas.
    return LogLikelihood(total, tf.math.divide_no_nan(total, rows), predictions, rows, nats, weights)


def of_all_outputs(parts: Sequence[LogLikelihood]) -> LogLikelihood:
    """The negative log-likelihood of several outputs of the same B rows: every target of every output counts.

    Raises:
      ValueError: if they do not have the same number of rows.
    """
    if len(parts) == 1:
        return parts[0]
    counts = {part.nats.shape[0] for part in parts} - {None}
    if len(counts) > 1:
        raise ValueError(
            "All outputs of a network must have the same number of rows, their first axis. "
            f"Received: {sorted(counts)} rows"
        )
    rows = parts[0].rows
    total = tf.add_n([part.total for part in parts])
    nats, weights = (
        tf.concat([tf.reshape(one, [-1]) for one in each], 0)
        for each in ([part.nats for part in parts], [part.weights for part in parts])
    )
    predictions = tf.add_n([part.predictions for part in parts])
    return LogLikelihood(total, tf.math.divide_no_nan(total, rows), predictions, rows, nats, weights)


def product(weights: tf.Tensor | None, mask: tf.Tensor | None) -> tf.Tensor | None:
    """Returns weights times mask, float32; the one with fewer axes spans the leading axes of the other."""
    given = [one for one in (weights, mask) if one is not None]
    if not given:
        return None
    factors = [tf.cast(one, tf.float32) for one in given]
    rank = max(factor.shape.rank for factor in factors)
    factors = [_of_rank(factor, rank) for factor in factors]
    try:
        tf.broadcast_static_shape(factors[0].shape, factors[-1].shape)
    except ValueError:
        raise ValueError(
            "Weights and the mask of the outputs must have the same leading axes. "
            f"Received: weights of shape {given[0].shape}, mask of shape {given[-1].shape}"
        ) from None
    return math.prod(factors)


def _of_rank(value: tf.Tensor, rank: int) -> tf.Tensor:
    """Returns a value of leading axes, with axes of 1 added at its end or taken away there."""
    while value.shape.rank < rank:
        value = value[..., tf.newaxis]
    while value.shape.rank > rank and value.shape[-1] == 1:
        value = tf.squeeze(value, -1)
    return value


def _without_padding(
    weights: tf.Tensor, targets: tf.Tensor, outputs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns targets of 0, and outputs without a gradient, where the weight is 0.

    A NaN or an infinite density there would make the gradient of everything NaN, since 0 times that is NaN;
    and a label for padding such as -1 is no class.
    """
    of_targets, of_outputs = (_of_rank(weights == 0.0, each.shape.rank) for each in (targets, outputs))
    if _leads(of_targets, targets):
        targets = tf.where(of_targets, tf.zeros_like(targets), targets)
    if _leads(of_outputs, outputs):
        outputs = tf.where(of_outputs, tf.stop_gradient(outputs), outputs)
    return targets, outputs


def _leads(weights: tf.Tensor, values: tf.Tensor) -> bool:
    """Whether weights of the rank of `values` can be broadcast to their shape."""
    if weights.shape.rank != values.shape.rank:
        return False
    pairs = zip(weights.shape, values.shape, strict=True)
    return all(one in (1, None) or other in (one, None) for one, other in pairs)


def _of_predictions(weights: tf.Tensor, nats: tf.Tensor) -> tf.Tensor:
    """Returns weights of the leading axes of `nats`, broadcast to all of them."""
    of_nats = _of_rank(weights, nats.shape.rank)
    if not _leads(of_nats, nats):
        raise ValueError(
            "Weights and masks must have the shape of the predictions or of their leading axes. "
            f"Received: weights or mask of shape {weights.shape}, predictions of shape {nats.shape}"
        )
    return tf.broadcast_to(of_nats, tf.shape(nats))


def free_energy(
    nll: LogLikelihood,
    kl: tf.Tensor,
    training_rows: float | tf.Tensor,
    kl_weight: tf.Tensor | float = 1.0,
    kl_sharpening: tf.Tensor | None = None,
) -> FreeEnergy:
    """Returns the objective of one minibatch, per row (eqs. 4 and 5; with sharpening eqs. 8 and 9).

    Args:
      nll: the negative log-likelihood of the minibatch.
      kl: KL[q || p] of the whole model in nats, each weight counted once.
      training_rows: the number of rows in one pass over the training data: batch * windows for truncated
        backpropagation, the number of sequences or examples otherwise. Summed over one pass, the rows' shares
        are the whole KL, once.
      kl_weight: the weight of the KL: 1 for the variational bound; less is a tempered posterior.
      kl_sharpening: KL[q(theta | phi, (x, y)) || p(theta | phi)] in nats, of a posterior sharpened on this
        minibatch: paid by this minibatch alone, so it is divided by its B rows, and always in full, since it
        is the price of having looked at the targets.
    """
    loss = nll.per_row + kl_weight * kl / training_rows
    if kl_sharpening is None:
        return FreeEnergy(loss, nll, kl, tf.zeros([]), nll.per_row)
    price = tf.math.divide_no_nan(kl_sharpening, nll.rows)
    return FreeEnergy(loss + price, nll, kl, kl_sharpening, nll.per_row + price)
