"""The distribution of the elements of a weight that pruning has kept."""

from __future__ import annotations

import tensorflow as tf
from tensorflow_probability import distributions as tfd


def marginal(distribution: tfd.Distribution, keep: tf.Tensor, whose: str = "prior") -> tfd.Distribution:
    """Returns the distribution of the kept elements of a weight, the others being 0.

    It is known where the elements are independent, as in a `tfd.Independent` over a distribution of scalars,
    and where the distribution has a method `marginal(keep)` that gives it, as `ScaleMixtureNormal` has.

    Args:
      distribution: the distribution of the whole weight.
      keep: the kept elements, bool, of the weight's shape.
      whose: the distribution's name in an error message.

    Raises:
      ValueError: if the marginal distribution is not known.
    """
    if hasattr(distribution, "marginal"):
        return distribution.marginal(keep)
    rank = len(distribution.event_shape)
    if isinstance(distribution, tfd.Independent) and not distribution.distribution.event_shape.rank:
        masked = tfd.Masked(distribution.distribution, keep, safe_sample_fn=_zero)
        return tfd.Independent(masked, reinterpreted_batch_ndims=rank)
    raise ValueError(
        f"A weight can be pruned only if the {whose} of its kept elements is known: give a tfd.Independent "
        "over a distribution of scalars, or a distribution with a method marginal(keep). "
        f"Received: distribution={distribution.name!r}"
    )


def _zero(distribution: tfd.Distribution) -> tf.Tensor:
    return tf.zeros(distribution.batch_shape, distribution.dtype)
