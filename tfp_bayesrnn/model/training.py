"""From a minibatch to the update (Fortunato et al., 2017: Bayes by Backprop, with or without sharpening).

A step is a function of an `Objective`, a value that says what is minimised; nothing here knows the Keras
model that is its shell. For a minibatch (x, y) of B rows, in the order in which the functions below stand:

    phi   ~ q(phi)                                        `Posterior.sample`: one draw of all weights
    g     = gradient of -log p(y | phi, x)                `likelihood_gradient`, if it is sharpened
    theta ~ q(theta | phi, (x, y)) = N(phi - eta g, sigma0^2)     `PosteriorSharpening.sharpen` (eq. 7)
    L     = -log p(y | theta, x) / B + kl_weight KL[q(phi) || p(phi)] / training_rows
            + KL[q(theta | phi, (x, y)) || p(theta | phi)] / B    `free_energy` (eqs. 4 and 5; 8 and 9)
    dL    with respect to mu, rho, priors and u           `free_energy_gradients`
    raise what is wrong with targets or ids               `checks.enforce`
    sum   over replicas, each with its share of the rows  `over_replicas`
    clip to a global norm, and update                     `apply_gradients`

Without sharpening theta is phi. `BayesianModel.update` goes this way, for `fit` and for the project's own
loop; there is no other training code.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfp_bayesrnn import checks, replicas
from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.model.recurrence import State
from tfp_bayesrnn.objective import free_energy as energies
from tfp_bayesrnn.objective import outputs as outputs_of
from tfp_bayesrnn.objective.free_energy import FreeEnergy, LogLikelihood
from tfp_bayesrnn.optimization import optimizers
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.sharpening import PosteriorSharpening
from tfp_bayesrnn.posterior.weights import VariationalWeight

_ZERO = tf.UnconnectedGradients.ZERO


class Minibatch(NamedTuple):
    """A minibatch, as a data stream yields it: B rows of inputs and targets."""

    inputs: tf.Tensor  # [B, ...]
    is_first: tf.Tensor | None  # Bool [B]: rows that start afresh; None where rows are independent.
    targets: Any  # [B, ...]; for several outputs, in their structure; None where there are none.
    weights: Any  # See `objective.negative_log_likelihood`; for all outputs or in their structure.


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """The objective: the free energy of a network's posterior, and the variables to minimise it over.

    Attributes:
      network: the network, a function of inputs, and of an RNN state where one is carried.
      posterior: q over the network's weights.
      likelihood: the likelihood of its outputs, one for all or a structure of them; None for an output
        without targets.
      training_rows: the number of rows in one pass over the training data, the denominator of the KL.
      variables: the variables that the optimizer moves.
      sharpening: the sharpening of the posterior on each minibatch; None for none.
      output_names: the output names of a functional network with several outputs.
      compiles_likelihood: whether XLA compiles the likelihood by itself, where it does not compile the step.
    """

    network: keras.Model
    posterior: Posterior
    likelihood: Any
    training_rows: float | tf.Tensor
    variables: Sequence[keras.Variable]
    sharpening: PosteriorSharpening | None = None
    output_names: Sequence[str] | None = None
    compiles_likelihood: bool = False

    @property
    def u(self) -> list[keras.Variable]:
        """The variables of the sharpening, which have an optimizer of their own."""
        return list(self.sharpening.learned) if self.sharpening else []


class Step(NamedTuple):
    """The results of a minibatch: those of a replica's share, or after `over_replicas` of all of it."""

    energy: FreeEnergy
    gradients: list[tf.Tensor]  # Gradients of the share of the loss, one for each trainable variable.
    sharpening_gradients: list[tf.Tensor]  # The same, in the order of `PosteriorSharpening.learned`.
    state: State  # RNN state after the last time step; None where none is carried.
    outputs: Any  # The network's outputs; None unless asked for.
    masks: Any = None  # The masks of the outputs; see `outputs.masks`.


class Forward(NamedTuple):
    """The network's results on a minibatch under one draw."""

    nll: LogLikelihood
    state: State
    outputs: Any  # A tensor or a structure of them.
    masks: Any


def split_inputs(x: Any) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Splits the `x` of a data stream into (inputs, is_first): inputs, or a dict with a key "is_first"."""
    if not isinstance(x, dict) or "is_first" not in x:
        return x, None
    inputs = {key: value for key, value in x.items() if key != "is_first"}
    return (next(iter(inputs.values())) if len(inputs) == 1 else inputs), x["is_first"]


def unpack(data: Any) -> Minibatch:
    """Makes a `Minibatch` of what Keras passes to `train_step`: x, (x, y) or (x, y, sample_weight)."""
    x, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    return Minibatch(*split_inputs(x), targets, weights)


def negative_log_likelihood(
    objective: Objective, batch: Minibatch, outputs: Any, masks: Any
) -> LogLikelihood:
    """The NLL of all outputs, each under its own likelihood; see `outputs.match`, `objective.free_energy`."""
    matched = outputs_of.match(
        objective.likelihood, batch.targets, outputs, batch.weights, masks, objective.output_names
    )
    likelihood, *tensors = zip(*matched, strict=True)

    def function(*tensors: tf.Tensor) -> tf.Tensor:
        return energies.of_all_outputs(
            [energies.negative_log_likelihood(*row) for row in zip(likelihood, *tensors, strict=True)]
        )

    if not objective.compiles_likelihood:
        return function(*tensors)
    nll, found = tf.function(checks.collecting(function), jit_compile=True, autograph=False)(*tensors)
    return checks.passed_on(found, nll)


def outputs_under(
    draw: Draw, network: keras.Model, batch: Minibatch, state: State, training: bool
) -> tuple[Any, State]:
    """Runs a network under a draw; returns its outputs and the state after, None where none is carried."""
    with ambient.under(draw):
        if state is None:
            return network(batch.inputs, training=training), None
        state = recurrence.restart(state, batch.is_first)
        return recurrence.run(network, batch.inputs, state, training)


def run_under(draw: Draw, objective: Objective, batch: Minibatch, state: State, training: bool) -> Forward:
    """Runs the network under a draw of its weights; `state` is None where it starts from zeros."""
    outputs, new_state = outputs_under(draw, objective.network, batch, state, training)
    masks = outputs_of.masks(outputs)
    return Forward(negative_log_likelihood(objective, batch, outputs, masks), new_state, outputs, masks)


def penalties_of(network: keras.Model) -> list[tf.Tensor]:
    """What regularisers of the network's layers have added in its last call, float32 scalars."""
    return [tf.cast(loss, tf.float32) for loss in network.losses]


def likelihood_gradient(
    draw: Draw, objective: Objective, batch: Minibatch, state: State, training: bool
) -> tuple[dict[VariationalWeight, tf.Tensor], Forward]:
    """The gradient of the minibatch's negative log-likelihood, summed, with respect to each value of `draw`.

    It is 0 where a weight is pruned.
    """
    weights, values = list(draw), list(draw.values())
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        forward = run_under(draw, objective, batch, state, training)
    gradients = tape.gradient(forward.nll.total, values, unconnected_gradients=_ZERO)
    gradients = [w.masked(tf.convert_to_tensor(g)) for w, g in zip(weights, gradients, strict=True)]
    return dict(zip(weights, gradients, strict=True)), forward


def free_energy_gradients(
    objective: Objective,
    batch: Minibatch,
    state: State,
    seed: tf.Tensor,
    kl_weight: tf.Tensor,
    share: float | tf.Tensor = 1.0,
    with_outputs: bool = False,
    loss_scale: float | tf.Tensor = 1.0,
    mirrored: bool = False,
) -> Step:
    """Makes one draw of all weights; returns the minibatch's free energy and the gradients of its share.

    Args:
      objective: the objective to minimise.
      batch: the minibatch.
      state: the RNN state that each row goes on from; None where the network starts from zeros.
      seed: the seed of this step and replica, int32 [2].
      kl_weight: the weight of the KL, a float32 scalar.
      share: this replica's share of the rows of the whole minibatch.
      with_outputs: whether to return the network's outputs too.
      loss_scale: the factor that the loss is multiplied by, and the gradients are divided by, so that half
        precision can hold what is in between.
      mirrored: whether the draw is that of the opposite noise; see `Posterior.sample`.
    """
    posterior, sharpening = objective.posterior, objective.sharpening
    variables, u = ([each.value for each in some] for some in (objective.variables, objective.u))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(u)
        phi = posterior.sample(seed, mirrored)
        theta, kl_sharpening = phi, None
        if sharpening:
            with _without_trace(tape, recorded=sharpening.second_order):
                g, _ = likelihood_gradient(phi, objective, batch, state, training=True)
            theta, kl_sharpening = sharpening.sharpen(phi, g, phi.seed)
        forward = run_under(theta, objective, batch, state, training=True)
        kl, rows = posterior.kl(phi), objective.training_rows
        without_kl = energies.free_energy(forward.nll, tf.zeros([]), rows, 0.0, kl_sharpening).loss
        penalties = penalties_of(objective.network)
        scaled_share = loss_scale * (share * tf.add_n([without_kl, *penalties]))
    with _second_order_explained(sharpening):
        gradients, of_u = tape.gradient(scaled_share, (variables, u), unconnected_gradients=_ZERO)
    gradients, of_u = (
        [_unscaled(tf.convert_to_tensor(gradient), loss_scale) for gradient in each]
        for each in (gradients, of_u)
    )
    if posterior.is_variational:
        of_kl = tape.gradient(kl, variables, unconnected_gradients=_ZERO)
        gradients = _with_share_of_kl(gradients, of_kl, share * (kl_weight / rows))
    energy = energies.free_energy(forward.nll, kl, rows, kl_weight, kl_sharpening)
    loss = tf.add_n([energy.loss, *penalties])
    return Step(
        energy=energy._replace(loss=loss, of_data=tf.add_n([energy.of_data, *penalties])),
        gradients=gradients,
        sharpening_gradients=of_u,
        # Truncated backpropagation through time: the state goes on, its gradient does not.
        state=None if forward.state is None else tf.nest.map_structure(tf.stop_gradient, forward.state),
        outputs=forward.outputs if with_outputs else None,
        masks=forward.masks if with_outputs else None,
    )


def _with_share_of_kl(
    gradients: Sequence[tf.Tensor], of_kl: Sequence[tf.Tensor], weight: tf.Tensor
) -> list[tf.Tensor]:
    """Returns the gradients plus `weight` times those of the KL.

    They are taken by themselves: a weight that is no constant would be drawn out of sums by TensorFlow's
    optimizer of graphs, in an order that depends on the names of layers, and two runs would differ in their
    last bits.
    """
    return [
        gradient + tf.cast(weight, gradient.dtype) * one
        for gradient, one in zip(gradients, of_kl, strict=True)
    ]


def _unscaled(gradient: tf.Tensor, loss_scale: float | tf.Tensor) -> tf.Tensor:
    if isinstance(loss_scale, float) and loss_scale == 1.0:
        return gradient
    return gradient / tf.cast(loss_scale, gradient.dtype)


@contextlib.contextmanager
def _without_trace(tape: tf.GradientTape, recorded: bool) -> Iterator[None]:
    """Within this context a pass leaves Keras's variables alone, and the tape does not see it.

    It is for a pass before the one that counts: so moving averages move, and the seeds of Keras's own dropout
    advance, once a step. With `recorded` the tape does see it.
    """
    with contextlib.nullcontext() if recorded else tape.stop_recording(), keras.StatelessScope():
        yield


@contextlib.contextmanager
def _second_order_explained(sharpening: PosteriorSharpening | None) -> Iterator[None]:
    """Explains what to do where a kernel has no second-order gradient."""
    try:
        yield
    except LookupError as error:
        if sharpening is None or not sharpening.second_order:
            raise
        raise ValueError(
            "PosteriorSharpening(second_order=True) differentiates the gradient of the network, and an "
            f"operation in it has no second-order gradient; second_order=False needs none. {error}"
        ) from error


def over_replicas(step: Step, share: float | tf.Tensor) -> Step:
    """Returns the step of the whole minibatch, the same in every replica, for clipping and updates.

    It is called in each replica; `nats` and `weights`, `state`, `outputs` and `masks` stay its own. The
    results of a replica without rows, which may not be numbers, do not count.
    """
    if replicas.count() == 1:
        return step
    return of_sums(step, replicas.total(shared(step, share)))


def shared(step: Step, share: float | tf.Tensor) -> list[tf.Tensor]:
    """What of a step of some of a minibatch's rows, `share` of all, is summed to that of all rows.

    Where there are no rows, whose averages are not numbers, it is 0.
    """
    energy, nll = step.energy, step.energy.nll
    means = [energy.loss, energy.of_data, energy.kl]
    sums = [energy.kl_sharpening, nll.total, nll.predictions, nll.rows]
    own = [
        tf.stack([*(share * mean for mean in means), *sums]),
        *step.gradients,
        *step.sharpening_gradients,
    ]
    if isinstance(share, float) and share > 0.0:
        return own
    return [tf.where(share > 0.0, value, tf.zeros_like(value)) for value in own]


def of_sums(step: Step, sums: Sequence[tf.Tensor]) -> Step:
    """The step of all rows, from the sums of what `shared` gives; the rest of it is that of `step`."""
    summed, *gradients = sums
    loss, of_data, kl, kl_sharpening, nll_total, predictions, rows = tf.unstack(summed)
    per_row = tf.math.divide_no_nan(nll_total, rows)
    nll = step.energy.nll._replace(total=nll_total, per_row=per_row, predictions=predictions, rows=rows)
    return step._replace(
        energy=FreeEnergy(loss, nll, kl, kl_sharpening, of_data),
        gradients=gradients[: len(step.gradients)],
        sharpening_gradients=gradients[len(step.gradients) :],
    )


def apply_gradients(
    objective: Objective, optimizer: keras.optimizers.Optimizer, clip_norm: float | None, step: Step
) -> tf.Tensor:
    """Clips the gradients of all variables to a global norm and applies them; returns the norm before.

    The gradients of the sharpening go to an optimizer of their own, as they are.
    """
    norm, scale = tf.linalg.global_norm([tf.cast(one, tf.float32) for one in step.gradients]), 1.0
    if clip_norm is not None:
        # A norm that is not finite makes everything not a number, as in `tf.clip_by_global_norm`.
        scale = clip_norm / tf.maximum(norm, clip_norm) + (norm - norm)
    optimizers.apply(optimizer, step.gradients, objective.variables, scale)
    if objective.sharpening:
        objective.sharpening.apply_gradients(step.sharpening_gradients)
    return norm
