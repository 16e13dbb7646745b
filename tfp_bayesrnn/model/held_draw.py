"""A draw in variables: one compiled function runs under one draw after another."""

from __future__ import annotations

import tensorflow as tf

from tfp_bayesrnn.posterior.posterior import Draw, Posterior


class HeldDraw:
    """The values of a draw, and its seed, in variables that belong to no model."""

    def __init__(self, draw: Draw):
        """Makes the variables, in the scope of the strategy that the caller is in."""
        self.values = {weight: tf.Variable(value, trainable=False) for weight, value in draw.items()}
        self.seed = None if draw.seed is None else tf.Variable(draw.seed, trainable=False)

    def assign(self, draw: Draw) -> None:
        """Holds another draw of the same weights, with or without a seed as the first one was."""
        for weight, variable in self.values.items():
            variable.assign(draw[weight])
        if self.seed is not None:
            self.seed.assign(draw.seed)

    def read(self) -> Draw:
        """Returns the draw."""
        values = {weight: tf.convert_to_tensor(variable) for weight, variable in self.values.items()}
        return Draw(values, seed=None if self.seed is None else tf.convert_to_tensor(self.seed))


def check(draw: Draw, posterior: Posterior) -> Draw:
    """Returns the draw, restricted to the weights of a posterior.

    Raises:
      ValueError: if `draw` is no draw, or has no value for one of the weights.
    """
    if not isinstance(draw, Draw):
        raise ValueError(
            "draw must be a Draw, as model.posterior.sample(seed) or model.posterior.mean() returns it. "
            f"Received: draw of type {type(draw).__name__}"
        )
    missing = [weight.path for weight in posterior.weights if weight not in draw]
    if missing:
        raise ValueError(
            "draw must have a value for every weight of the model: draw it from model.posterior. "
            f"Received: draw of {len(draw)} weights, without {missing[0]!r}"
        )
    return Draw({weight: draw[weight] for weight in posterior.weights}, seed=draw.seed)
