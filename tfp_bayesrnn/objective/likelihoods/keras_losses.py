"""Losses of Keras, which are no likelihoods: what to take in place of each."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

# What to take in place of each, by the name of its function.
_IN_PLACE_OF = {
    "sparse_categorical_crossentropy": "'categorical', or CategoricalLikelihood(from_logits=False) for "
    "probabilities",
    "categorical_crossentropy": "'categorical', whose targets are integer classes, or "
    "CategoricalLikelihood(from_logits=False) for probabilities",
    "binary_crossentropy": "'bernoulli', or BernoulliLikelihood(from_logits=False) for probabilities",
    "mean_squared_error": "NormalLikelihood(scale), or 'normal', which learns the scale",
    "mean_absolute_error": "'quantile', or DistributionLikelihood(lambda outputs: tfd.Laplace(outputs, 1.0))",
    "huber": "'student_t', whose tails are heavy too",
    "poisson": "'poisson'",
}


def refuse(likelihood: Any) -> None:
    """Raises `ValueError` for a loss of Keras: its name, its function, its class or an object of it.

    Its mean over the last axis, or its probabilities where there are logits, would be wrong in silence.
    """
    loss = likelihood
    if isinstance(loss, str):
        with contextlib.suppress(ValueError):
            loss = keras.losses.get(loss)
    if isinstance(loss, type) and issubclass(loss, keras.losses.Loss):
        loss = loss()
    function = getattr(loss, "fn", loss) if isinstance(loss, keras.losses.Loss) else loss
    if not isinstance(loss, keras.losses.Loss) and not any(
        function is one for one in vars(keras.losses).values()
    ):
        return
    name = getattr(function, "__name__", "")
    instead = _IN_PLACE_OF.get(name, "DistributionLikelihood(outputs -> a distribution)")
    raise ValueError(
        "A loss of Keras is no likelihood: it takes a mean over its last axis, and logits for probabilities "
        f"unless it is told. Accepted in its place: likelihood={instead}. Received: likelihood={likelihood!r}"
    )
