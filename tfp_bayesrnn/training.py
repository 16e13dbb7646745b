"""From a minibatch to the update (Fortunato et al., 2017, Algorithm 1 without sharpening).

`BayesianModel.train_step` calls `free_energy_gradients` and then `apply_gradients`; `fit` and the project's
own loop both call `train_step`. There is no other training code.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from tfp_bayesrnn import objective
from tfp_bayesrnn.objective import FreeEnergy
from tfp_bayesrnn.recurrence import State


class Minibatch(NamedTuple):
    """What a data stream yields: B rows of inputs and targets."""

    inputs: tf.Tensor  # [B, ...]
    is_first: tf.Tensor | None  # Bool [B]: rows that start afresh; None where rows are independent.
    targets: tf.Tensor | None  # [B, ...]
    weights: tf.Tensor | None  # As in `objective.negative_log_likelihood`.


class Step(NamedTuple):
    """What a minibatch gives."""

    energy: FreeEnergy
    gradients: list[tf.Tensor]  # Of the loss, one for each trainable variable.
    state: State  # RNN state after the last time step; None where none is carried.
    outputs: tf.Tensor | None  # Of the network; None unless asked for.


def split_inputs(x) -> tuple[tf.Tensor, tf.Tensor | None]:
    """(inputs, is_first) of what a data stream yields as `x`: inputs, or a dict with a key "is_first"."""
    if not isinstance(x, dict) or "is_first" not in x:
        return x, None
    inputs = {key: value for key, value in x.items() if key != "is_first"}
    return (next(iter(inputs.values())) if len(inputs) == 1 else inputs), x["is_first"]


def unpack(data) -> Minibatch:
    """A `Minibatch` from what Keras passes to `train_step`: x, (x, y) or (x, y, sample_weight)."""
    x, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    return Minibatch(*split_inputs(x), targets, weights)


def free_energy_gradients(
    model, batch: Minibatch, state: State, seed: tf.Tensor, kl_weight: tf.Tensor, with_outputs: bool = False
) -> Step:
    """One draw of all weights, the free energy of the minibatch under it, and its gradients.

    Args:
      model: a `BayesianModel`.
      batch: the minibatch.
      state: the RNN state that each row goes on from; None where the network starts from zeros.
      seed: int32 [2], of this step and replica.
      kl_weight: float32 scalar.
      with_outputs: whether to return the network's outputs too.
    """
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        draw = model.posterior.sample(seed)
        with draw.in_force():
            outputs, new_state = model.run(batch.inputs, batch.is_first, state, training=True)
        nll = objective.negative_log_likelihood(model.likelihood, batch.targets, outputs, batch.weights)
        energy = objective.free_energy(nll, model.posterior.kl(draw), model.training_rows or 1.0, kl_weight)
        loss = tf.add_n([energy.loss, *model.losses])  # Regularisers of the network's own, if any.
    gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return Step(
        energy=energy._replace(loss=loss),
        gradients=[tf.convert_to_tensor(gradient) for gradient in gradients],
        # Truncated backpropagation through time: the state goes on, its gradient does not.
        state=None if new_state is None else tf.nest.map_structure(tf.stop_gradient, new_state),
        outputs=outputs if with_outputs else None,
    )


def apply_gradients(model, gradients: list[tf.Tensor]) -> tf.Tensor:
    """Clips the gradients of all variables to the model's global norm and applies them; the norm before."""
    if model.clip_norm is None:
        norm = tf.linalg.global_norm(gradients)
    else:
        gradients, norm = tf.clip_by_global_norm(gradients, model.clip_norm)
    model.optimizer.apply(gradients, model.trainable_variables)
    return norm
