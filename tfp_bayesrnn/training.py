"""From a minibatch to the update (Fortunato et al., 2017: Bayes by Backprop, with or without sharpening).

`BayesianModel.train_step` calls `free_energy_gradients` and then `apply_gradients`; `fit` and the project's
own loop both call `train_step`. There is no other training code.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfp_bayesrnn import objective, replicas
from tfp_bayesrnn.objective import FreeEnergy, LogLikelihood
from tfp_bayesrnn.outputs import masks as masks_of
from tfp_bayesrnn.posterior import Draw
from tfp_bayesrnn.recurrence import State
from tfp_bayesrnn.weights import VariationalWeight

_ZERO = tf.UnconnectedGradients.ZERO


class Minibatch(NamedTuple):
    """What a data stream yields: B rows of inputs and targets."""

    inputs: tf.Tensor  # [B, ...]
    is_first: tf.Tensor | None  # Bool [B]: rows that start afresh; None where rows are independent.
    targets: Any  # [B, ...], of several outputs in their structure; None where there are none.
    weights: Any  # As in `objective.negative_log_likelihood`, for all outputs or in their structure.


class Step(NamedTuple):
    """What a minibatch gives: to a replica its share, after `over_replicas` all of it."""

    energy: FreeEnergy
    gradients: list[tf.Tensor]  # Of the share of the loss, one for each trainable variable.
    sharpening_gradients: list[tf.Tensor]  # Likewise, one for each `PosteriorSharpening.u`.
    state: State  # RNN state after the last time step; None where none is carried.
    outputs: Any  # Of the network; None unless asked for.
    masks: Any = None  # Of the outputs; see `outputs.masks`.


class Forward(NamedTuple):
    """What the network makes of a minibatch under one draw."""

    nll: LogLikelihood
    state: State
    outputs: Any  # A tensor or a structure of them.
    masks: Any


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


def run_under(draw: Draw, model, batch: Minibatch, state: State, training: bool) -> Forward:
    """Runs the network under a draw of its weights."""
    with draw.in_force():
        outputs, new_state = model.run(batch.inputs, batch.is_first, state, training=training)
    masks = masks_of(outputs)
    nll = model.negative_log_likelihood(batch.targets, outputs, batch.weights, masks)
    return Forward(nll, new_state, outputs, masks)


def likelihood_gradient(
    draw: Draw, model, batch: Minibatch, state: State, training: bool
) -> tuple[dict[VariationalWeight, tf.Tensor], Forward]:
    """Gradient of the minibatch's negative log-likelihood, summed, with respect to every value of `draw`.

    It is 0 where a weight is pruned.
    """
    weights, values = list(draw), list(draw.values())
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        forward = run_under(draw, model, batch, state, training)
    gradients = tape.gradient(forward.nll.total, values, unconnected_gradients=_ZERO)
    gradients = [w.masked(tf.convert_to_tensor(g)) for w, g in zip(weights, gradients, strict=True)]
    return dict(zip(weights, gradients, strict=True)), forward


def free_energy_gradients(
    model,
    batch: Minibatch,
    state: State,
    seed: tf.Tensor,
    kl_weight: tf.Tensor,
    share: float | tf.Tensor = 1.0,
    with_outputs: bool = False,
) -> Step:
    """One draw of all weights, the free energy of the minibatch under it, and the gradients of its share.

    Args:
      model: a `BayesianModel`.
      batch: the minibatch.
      state: the RNN state that each row goes on from; None where the network starts from zeros.
      seed: int32 [2], of this step and replica.
      kl_weight: float32 scalar.
      share: this replica's, of the rows of the whole minibatch.
      with_outputs: whether to return the network's outputs too.
    """
    variables = [variable.value for variable in model.trainable_variables]
    u = [variable.value for variable in model.sharpening.u] if model.sharpening else []
    with tf.GradientTape() as tape:
        tape.watch(u)
        phi = model.posterior.sample(seed)
        theta, kl_sharpening = phi, None
        if model.sharpening:
            with _without_trace(tape, recorded=model.sharpening.second_order):
                g, _ = likelihood_gradient(phi, model, batch, state, training=True)
            theta, kl_sharpening = model.sharpening.sharpen(phi, g, seed)
        forward = run_under(theta, model, batch, state, training=True)
        energy = objective.free_energy(
            forward.nll, model.posterior.kl(phi), model.training_rows or 1.0, kl_weight, kl_sharpening
        )
        loss = tf.add_n([energy.loss, *model.losses])  # Regularisers of the network's own, if any.
        loss_share = share * loss
    with _second_order_explained(model):
        gradients, of_u = tape.gradient(loss_share, (variables, u), unconnected_gradients=_ZERO)
    return Step(
        energy=energy._replace(loss=loss),
        gradients=[tf.convert_to_tensor(gradient) for gradient in gradients],
        sharpening_gradients=[tf.convert_to_tensor(gradient) for gradient in of_u],
        # Truncated backpropagation through time: the state goes on, its gradient does not.
        state=None if forward.state is None else tf.nest.map_structure(tf.stop_gradient, forward.state),
        outputs=forward.outputs if with_outputs else None,
        masks=forward.masks if with_outputs else None,
    )


@contextlib.contextmanager
def _without_trace(tape: tf.GradientTape, recorded: bool):
    """For a pass before the one that counts: it leaves Keras's variables alone, and the tape does not see it.

    So moving averages move, and the seeds of Keras's own dropout advance, once a step. With `recorded` the
    tape does see it.
    """
    with contextlib.nullcontext() if recorded else tape.stop_recording(), keras.StatelessScope():
        yield


@contextlib.contextmanager
def _second_order_explained(model):
    """Says what to do where a kernel has no second-order gradient."""
    try:
        yield
    except LookupError as error:
        if model.sharpening is None or not model.sharpening.second_order:
            raise
        raise ValueError(
            "PosteriorSharpening(second_order=True) differentiates the gradient of the network, and an "
            f"operation in it has no second-order gradient; second_order=False needs none. {error}"
        ) from error


def over_replicas(step: Step, share: float | tf.Tensor) -> Step:
    """The step of the whole minibatch, the same in every replica: what clipping and updates go by.

    Called in each replica; `nats` and `weights`, `state`, `outputs` and `masks` stay its own.
    """
    if replicas.count() == 1:
        return step
    energy, nll = step.energy, step.energy.nll
    means, sums = [energy.loss, energy.kl], [energy.kl_sharpening, nll.total, nll.predictions, nll.rows]
    figures = tf.stack([*(share * mean for mean in means), *sums])
    summed, *gradients = replicas.total([figures, *step.gradients, *step.sharpening_gradients])
    loss, kl, kl_sharpening, nll_total, predictions, rows = tf.unstack(summed)
    nll = nll._replace(total=nll_total, per_row=nll_total / rows, predictions=predictions, rows=rows)
    return step._replace(
        energy=FreeEnergy(loss, nll, kl, kl_sharpening),
        gradients=gradients[: len(step.gradients)],
        sharpening_gradients=gradients[len(step.gradients) :],
    )


def apply_gradients(model, step: Step) -> tf.Tensor:
    """Clips the gradients of all variables to the model's global norm and applies them; the norm before.

    Those of the sharpening go to an optimizer of their own, as they are.
    """
    norm, scale = tf.linalg.global_norm(step.gradients), 1.0
    if model.clip_norm is not None:
        # A norm that is not finite makes everything not a number, as in `tf.clip_by_global_norm`.
        scale = model.clip_norm / tf.maximum(norm, model.clip_norm) + (norm - norm)
    if _is_plain_descent(model.optimizer, model.trainable_variables) and replicas.count() == 1:
        _descend(model.optimizer, model.trainable_variables, step.gradients, scale)
    else:
        gradients = step.gradients if model.clip_norm is None else [scale * one for one in step.gradients]
        model.optimizer.apply(gradients, model.trainable_variables)
    if model.sharpening:
        model.sharpening.apply_gradients(step.sharpening_gradients)
    return norm


def _is_plain_descent(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> bool:
    """Whether a step is "variable -= learning rate * gradient" and nothing else."""
    further = ("momentum", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema")
    further += ("loss_scale_factor", "gradient_accumulation_steps")
    return type(optimizer) is keras.optimizers.SGD and not (
        any(getattr(optimizer, name) for name in further)
        or any(variable.constraint is not None for variable in variables)
    )


def _descend(optimizer, variables, gradients, scale) -> None:
    """`optimizer.apply` of the gradients times `scale`, in one pass over them where Keras takes three."""
    if not optimizer.built:
        optimizer.build(variables)
    rate = scale * tf.cast(optimizer.learning_rate, tf.float32)
    for variable, gradient in zip(variables, gradients, strict=True):
        handle = variable.value.handle
        tf.raw_ops.ResourceApplyGradientDescent(var=handle, alpha=rate, delta=gradient)
    optimizer.iterations.assign_add(1)
