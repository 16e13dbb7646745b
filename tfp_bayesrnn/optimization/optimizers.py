"""Keras's optimizers: the operations that training needs on them, beyond `apply`.

An optimizer is given gradients of the whole minibatch, summed over replicas, so its own clipping is of those:
the number of replicas makes no difference. Keras's `fit` clips in each replica, before the sum.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import keras_internals, replicas
from tfp_bayesrnn.optimization.schedules import Scaled

_MIRRORED = tf.distribute.MirroredStrategy | tf.distribute.MultiWorkerMirroredStrategy
_ON_ONE_REPLICA = ("gradient_accumulation_steps", "ema_overwrite_frequency")


def parts(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers that an optimizer of optimizers hands the gradients on to; else itself.

    Raises:
      ValueError: if there is none.
    """
    if optimizer is None:
        raise ValueError(
            "A model that is compiled without an optimizer can be evaluated, not trained: "
            "compile it with one. Received: optimizer=None"
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return parts(optimizer.inner_optimizer)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return [part for inner in optimizer.optimizers for part in parts(inner)]
    return [optimizer]


def check(optimizer: keras.optimizers.Optimizer, strategy: tf.distribute.Strategy) -> None:
    """Refuses what Keras's optimizers cannot do under several replicas, or one that is mirrored.

    Raises:
      ValueError: if it has an option that Keras decides on in the middle of what the replicas do together.
    """
    if not replicas.is_distributed(strategy) and not isinstance(strategy, _MIRRORED):
        return
    for part in parts(optimizer):
        for option in _ON_ONE_REPLICA:
            value = getattr(part, option)
            if value and (option != "ema_overwrite_frequency" or part.use_ema):
                raise ValueError(
                    f"Keras's optimizers have no {option} under several replicas, nor under a mirrored one: "
                    "leave it out, or use no strategy. "
                    f"Received: {type(part).__name__}({option}={value}), "
                    f"{strategy.num_replicas_in_sync} replicas of {type(strategy).__name__}"
                )


def steps_taken(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """The number of minibatches it has been given, int64, without those that loss scaling has passed over."""
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    # `iterations` will not do: it counts the updates where gradients are accumulated over minibatches.
    return keras_internals.minibatches_seen(optimizer)


def learning_rate(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """The step's learning rate, a float32 scalar; NaN where there are several."""
    rates = [part.learning_rate for part in parts(optimizer)]
    return tf.cast(rates[0] if len(rates) == 1 else float("nan"), tf.float32)


def passes_over_overflow(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether a gradient that is not finite is no divergence: the step is left out, and the scale lowered."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def build(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Makes the variables of an optimizer that has none yet, for gradients that have been summed."""
    found = parts(optimizer)
    if not optimizer.built:
        optimizer.build(list(variables))
        found = parts(optimizer)
    for part in found:
        keras_internals.take_summed_gradients(part)


def apply(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
    factor: float | tf.Tensor = 1.0,
) -> None:
    """Updates the variables by `factor` times the gradients.

    Args:
      optimizer: the optimizer, built.
      gradients: the gradients of the loss of the whole minibatch, not scaled.
      variables: the variables, one for each gradient.
      factor: the factor, a float32 scalar.
    """
    if _is_plain_descent(optimizer, variables) and replicas.count() == 1:
        _descend(optimizer, variables, gradients, factor)
        return
    # An optimizer with a loss scale divides by it.
    factor = optimizer.scale_loss(factor)
    if not (isinstance(factor, float) and factor == 1.0):
        gradients = [tf.cast(factor, gradient.dtype) * gradient for gradient in gradients]
    optimizer.apply(gradients, variables)


@contextlib.contextmanager
def averaged(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Within this context the variables have the values of their moving averages, where there are any.

    The averages are those of an optimizer with `use_ema`, over the steps so far.
    """
    pairs = [pair for part in parts(optimizer) for pair in keras_internals.moving_averages(part)]
    kept = [tf.identity(variable.value) for variable, _ in pairs]
    for variable, average in pairs:
        variable.assign(average)
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, kept, strict=True):
            variable.assign(value)


def scale_rates(optimizer: keras.optimizers.Optimizer, scale: tf.Variable) -> None:
    """Multiplies the learning rates that are functions by a variable; see `multiply_rates`."""
    for part in parts(optimizer):
        rate = keras_internals.learning_rate_given(part)  # `learning_rate` would be its value at this step.
        if isinstance(rate, Scaled) and isinstance(rate.scale, tf.Variable):
            part.learning_rate = Scaled(rate.schedule, scale)  # The old one is of an earlier loop.
        elif isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            part.learning_rate = Scaled(rate, scale)
        elif not isinstance(rate, keras.Variable):
            part.learning_rate = lambda rate=rate: rate() * scale


def multiply_rates(optimizer: keras.optimizers.Optimizer, factor: float) -> None:
    """Multiplies the learning rates that are numbers; the others go by the variable of `scale_rates`."""
    for part in parts(optimizer):
        if isinstance(keras_internals.learning_rate_given(part), keras.Variable):
            part.learning_rate = float(part.learning_rate) * factor


def _is_plain_descent(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> bool:
    """Whether a step is "variable -= learning rate * gradient" and nothing else."""
    further = [
        *("momentum", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema"),
        *("loss_scale_factor", "gradient_accumulation_steps"),
    ]
    return type(optimizer) is keras.optimizers.SGD and not (
        any(getattr(optimizer, name) for name in further)
        or any(
            variable.constraint is not None or getattr(variable, "overwrite_with_gradient", False)
            for variable in variables
        )
    )


def _descend(
    optimizer: keras.optimizers.Optimizer,
    variables: Sequence[keras.Variable],
    gradients: Sequence[tf.Tensor],
    factor: Any,
) -> None:
    """Does what `optimizer.apply` does, in one pass over the gradients where Keras takes three."""
    rate = factor * tf.cast(optimizer.learning_rate, tf.float32)
    for variable, gradient in zip(variables, gradients, strict=True):
        tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.value.handle, alpha=tf.cast(rate, gradient.dtype), delta=gradient
        )
    optimizer.iterations.assign_add(1)
