"""Dynamic evaluation: the rules by which weights learn from a stream while it is scored.

After a window has been scored, the values w of all weights move by the gradient g of its negative
log-likelihood, summed over time and averaged over rows as in training:

    w <- w - learning_rate * P * g + D * (w0 - w)

where w0 are the trained values, and P and D are a preconditioner and a rate of decay for each element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.weights import VariationalWeight

ByWeight = Mapping[VariationalWeight, tf.Tensor]


@dataclass(frozen=True, eq=False)
class DynamicRule:
    """A rule of dynamic evaluation; `sgd`, `rms` and `by_posterior` make one.

    Attributes:
      learning_rate: the learning rate, at least 0.
      preconditioner: P by weight, each of the weight's shape or a scalar; None for 1.
      decay: D by weight, likewise, from 0 to 1; None for 0.
    """

    learning_rate: float
    preconditioner: ByWeight | None = None
    decay: ByWeight | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate must be finite and at least 0. Received: learning_rate={self.learning_rate}"
            )

    def arguments(self, weights: Any) -> tuple:
        """The rule as tensors in the order of the weights, for `moved`: learning rate, P and D."""
        return (
            tf.constant(self.learning_rate, tf.float32),
            None if self.preconditioner is None else [self.preconditioner[weight] for weight in weights],
            None if self.decay is None else [self.decay[weight] for weight in weights],
        )


def sgd(learning_rate: float) -> DynamicRule:
    """Plain gradient descent (Mikolov et al., 2010); Fortunato et al. (2017) use a rate of 0.1.

    Raises:
      ValueError: if the rate is negative or not finite.
    """
    return DynamicRule(learning_rate)


def rms(learning_rate: float, decay: float, mean_squares: ByWeight, epsilon: float = 0.1) -> DynamicRule:
    """Steps normalised by the gradients of training, with decay towards the trained weights.

    Krause, Kahembwe, Murray and Renals, "Dynamic evaluation of neural sequence models" (2018), section 4:
    with r the root of the mean square of an element's gradient in training, and m the mean of r over all
    weights,

        P = 1 / (r + epsilon * m)        D = min(decay * r / m, 1)

    Args:
      learning_rate: the learning rate.
      decay: the mean rate of decay, at least 0.
      mean_squares: the mean square of every element's gradient over windows of training, by weight: see
        `StreamEvaluator.mean_squares`.
      epsilon: what is added to r, as a fraction of m. (The authors' code adds a constant, which depends on
        how a loss is scaled.)

    Raises:
      ValueError: if a number is out of range, or all gradients are 0.
    """
    _check("decay", decay)
    _check("epsilon", epsilon)
    roots = {weight: tf.sqrt(square) for weight, square in mean_squares.items()}
    elements = sum(float(tf.size(root)) for root in roots.values())
    mean = sum(float(tf.reduce_sum(root)) for root in roots.values()) / elements
    if not mean > 0.0:
        raise ValueError("mean_squares must have elements above 0: the gradients of training are 0 or NaN")
    return DynamicRule(
        learning_rate,
        # Where both are 0 there has never been a gradient, and there is no step.
        {weight: tf.math.divide_no_nan(1.0, root + epsilon * mean) for weight, root in roots.items()},
        {weight: tf.minimum(decay * root / mean, 1.0) for weight, root in roots.items()},
    )


def by_posterior(learning_rate: float, decay: float, posterior: Posterior) -> DynamicRule:
    """Steps in proportion to the posterior's variances, with decay towards the trained means.

        P = sigma^2        D = decay

    If the posterior is the prior of what comes next, its mean moves by -sigma^2 times the gradient of the
    summed NLL, to first order: that is a learning rate equal to the number of rows. Weights without a
    distribution stay.

    Args:
      learning_rate: the learning rate.
      decay: the rate of decay, from 0 to 1.
      posterior: the posterior; what it is now counts.

    Raises:
      ValueError: if a number is out of range, no weight has a distribution, or one has no scale.
    """
    _check("decay", decay, highest=1.0)
    if not posterior.is_variational:
        raise ValueError("Steps by the posterior's variances need weights with distributions")
    stddevs = {
        weight: weight.scale() if weight.is_variational else tf.zeros([]) for weight in posterior.weights
    }
    return DynamicRule(
        learning_rate,
        {weight: tf.square(stddev) for weight, stddev in stddevs.items()},
        {weight: tf.constant(decay, tf.float32) for weight in stddevs},
    )


def moved(values: Draw, trained: Draw, gradients: ByWeight, rows: tf.Tensor, arguments: tuple) -> list:
    """The values after a window, in the order of `values`.

    Args:
      values: the values that the window has been scored by.
      trained: the trained values.
      gradients: the gradients of the window's NLL, summed over time and rows.
      rows: the number of rows.
      arguments: the rule; see `DynamicRule.arguments`.
    """
    learning_rate, preconditioner, decay = arguments
    rate, found = learning_rate / rows, []
    for place, weight in enumerate(values):
        step = rate * gradients[weight]
        if preconditioner is not None:
            step = preconditioner[place] * step
        value = values[weight] - step
        if decay is not None:
            value += decay[place] * (trained[weight] - values[weight])
        found.append(value)
    return found


def _check(name: str, value: float, highest: float = math.inf) -> None:
    if not (0.0 <= value <= highest and value < math.inf):
        accepted = "at least 0" if highest == math.inf else f"from 0 to {highest:g}"
        raise ValueError(f"{name} must be {accepted}. Received: {name}={value}")
