"""The GRU as pure functions of (inputs, state, weights), with a gradient written by hand for speed.

Dimension letters: B batch, T time, D input features, U units. Inside the loops everything is time-major,
[T, B, ...].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_bayesrnn.ops.sequence import (
    Activation,
    as_constant,
    as_tensors,
    batch_major_outputs,
    check_shapes,
    dropped,
    previous,
    project,
    scan,
    time_major,
    time_major_mask,
    weight_gradient,
    zero_unless,
)


class _State(NamedTuple):
    hidden: tf.Tensor  # [B, U]


def gru_step(
    inputs: tf.Tensor,
    state: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None,
    *,
    reset_after: bool = True,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
    recurrent_dropout_mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes one step of a GRU (Cho et al. 2014), gates in Keras's order: update z, reset r, candidate g.

        z = sigmoid(x W_z + (m * h) R_z + b_z)
        r = sigmoid(x W_r + (m * h) R_r + b_r)
        g = tanh(x W_g + b_g + (r * m * h) R_g)              reset_after=False, the paper's
        g = tanh(x W_g + b_g + r * ((m * h) R_g + b'_g))     reset_after=True, cuDNN's
        h' = z * h + (1 - z) * g

    with `*` element-wise; under reset_after the other two gates have a second bias as well (b'_z, b'_r).

    Args:
      inputs: x, [B, D].
      state: h, [B, U].
      kernel: W, [D, 3U].
      recurrent_kernel: R, [U, 3U].
      bias: [2, 3U] under reset_after (b, then b'), else [3U]; or None.
      reset_after: whether the reset gate acts after the matrix product or before.
      activation: the activation of the candidate.
      recurrent_activation: the activation of the two gates.
      recurrent_dropout_mask: m, [B, U], scales the hidden state where it enters the matrix products and
        nowhere else; use the same mask at every step of a sequence (Gal & Ghahramani 2016). It is taken as
        a constant: no gradient reaches it.

    Returns:
      The output h' [B, U] and the new state, which is the same tensor.

    Raises:
      ValueError: if the shapes do not fit each other.
    """
    inputs, state, kernel, recurrent_kernel, bias = as_tensors(inputs, state, kernel, recurrent_kernel, bias)
    _check_shapes(inputs, 2, state, kernel, recurrent_kernel, bias, reset_after)
    bias, recurrent_bias = _split_bias(bias, recurrent_kernel, reset_after)
    update = _update_after if reset_after else _update_before
    weights = (recurrent_kernel, recurrent_bias, as_constant(recurrent_dropout_mask))
    x = project(inputs, kernel, bias)
    *_, hidden = update(x, state, *weights, activation, recurrent_activation)
    return hidden, hidden


def gru(
    inputs: tf.Tensor,
    initial_state: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None,
    *,
    reset_after: bool = True,
    mask: tf.Tensor | None = None,
    go_backwards: bool = False,
    recurrent_dropout_mask: tf.Tensor | None = None,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs `gru_step` over a whole sequence, agreeing with `keras.layers.GRU` under the same weights.

    The gradient is written by hand for `tf.tanh` and `tf.sigmoid`, recognised by identity, and automatic for
    other activations, as in `lstm`.

    Args:
      inputs: x at every step, [B, T, D].
      initial_state: h before the first step, [B, U].
      kernel: W, [D, 3U].
      recurrent_kernel: R, [U, 3U].
      bias: [2, 3U] under reset_after, else [3U]; or None.
      reset_after: whether the reset gate acts after the matrix product or before; see `gru_step`.
      mask: [B, T], boolean; where False, that row's state stays as it was and its output repeats the
        previous one (zeros before the row's first True step, whatever the initial state).
      go_backwards: whether to run from the last step to the first; outputs then come in the order computed.
      recurrent_dropout_mask: m, [B, U], see `gru_step`; one mask for all steps. No gradient reaches it.
      activation: the activation of the candidate; see `gru_step`.
      recurrent_activation: the activation of the two gates; see `gru_step`.

    Returns:
      The outputs [B, T, U] and the state after the last step [B, U].

    Raises:
      ValueError: if the shapes do not fit each other.
    """
    inputs, initial_state, kernel, recurrent_kernel, bias = as_tensors(
        inputs, initial_state, kernel, recurrent_kernel, bias
    )
    dropout_mask = as_constant(recurrent_dropout_mask)
    _check_shapes(inputs, 3, initial_state, kernel, recurrent_kernel, bias, reset_after)
    bias, recurrent_bias = _split_bias(bias, recurrent_kernel, reset_after)
    inputs, mask = time_major(inputs, go_backwards), time_major_mask(mask, go_backwards)
    arguments = (project(inputs, kernel, bias), initial_state, recurrent_kernel, recurrent_bias)
    if activation is tf.tanh and recurrent_activation is tf.sigmoid:
        hiddens, state = _recurrence(*arguments, mask, dropout_mask, reset_after)
    else:
        functions = (activation, recurrent_activation)
        record, state = _forward(*arguments, mask, dropout_mask, reset_after, *functions)
        hiddens = record[-1]
    return batch_major_outputs(hiddens, mask), state


def _check_shapes(
    inputs: tf.Tensor,
    rank: int,
    state: tf.Tensor,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None,
    reset_after: bool,
) -> None:
    rows = (2,) if reset_after else ()
    check_shapes(inputs, rank, kernel, recurrent_kernel, bias, state=(state,), gates=3, bias_rows=rows)


def _split_bias(
    bias: tf.Tensor | None, recurrent_kernel: tf.Tensor, reset_after: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """The bias of the inputs, [3U] or None, and that of the hidden state [3U], zeros where there is none."""
    if bias is not None and reset_after:
        return bias[0], bias[1]
    return bias, tf.zeros_like(recurrent_kernel[0])


def _update_after(
    x: Any,
    hidden: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor,
    dropout_mask: tf.Tensor | None,
    activation: Activation,
    recurrent_activation: Activation,
) -> tuple[tf.Tensor, ...]:
    """The step from projected inputs x [B, 3U], reset after the product: (z, r, g, R_g h + b'_g, h')."""
    inner = project(dropped(hidden, dropout_mask), recurrent_kernel, recurrent_bias)
    x_z, x_r, x_g = tf.split(x, 3, axis=-1)
    inner_z, inner_r, inner_g = tf.split(inner, 3, axis=-1)
    z, r = recurrent_activation(x_z + inner_z), recurrent_activation(x_r + inner_r)
    g = activation(x_g + r * inner_g)
    return z, r, g, inner_g, z * hidden + (1 - z) * g


def _update_before(
    x: Any,
    hidden: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor,
    dropout_mask: tf.Tensor | None,
    activation: Activation,
    recurrent_activation: Activation,
) -> tuple[tf.Tensor, ...]:
    """The step from projected inputs x [B, 3U], reset before the product: (z, r, g, h')."""
    del recurrent_bias  # One bias is enough where both products are added up directly.
    gates_kernel, candidate_kernel = _split_kernel(recurrent_kernel)
    entering = dropped(hidden, dropout_mask)
    units = hidden.shape[-1]
    x_gates, x_g = tf.split(x, [2 * units, units], axis=-1)
    gates = tf.split(x_gates + tf.matmul(entering, gates_kernel), 2, axis=-1)
    z, r = map(recurrent_activation, gates)  # One by one: an activation may look at all units of a gate.
    g = activation(x_g + tf.matmul(r * entering, candidate_kernel))
    return z, r, g, z * hidden + (1 - z) * g


def _split_kernel(recurrent_kernel: tf.Tensor) -> list[tf.Tensor]:
    """R as the part of the two gates [U, 2U] and the part of the candidate [U, U]."""
    units = recurrent_kernel.shape[0]
    return tf.split(recurrent_kernel, [2 * units, units], axis=-1)


def _forward(
    projected: tf.Tensor,
    initial_state: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor,
    mask: tf.Tensor | None,
    dropout_mask: tf.Tensor | None,
    reset_after: bool,
    activation: Activation,
    recurrent_activation: Activation,
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """The loop over time: the record of what `update` returned, each [T, B, U], and the last state."""
    update = _update_after if reset_after else _update_before
    weights = (recurrent_kernel, recurrent_bias, dropout_mask)

    def step(state: _State, slices: Sequence[tf.Tensor]) -> tuple[_State, tuple[tf.Tensor, ...]]:
        x, *valid = slices
        *gates, hidden = update(x, state.hidden, *weights, activation, recurrent_activation)
        if valid:
            hidden = tf.where(valid[0], hidden, state.hidden)
        return _State(hidden), (*gates, hidden)

    sequences = [projected] if mask is None else [projected, mask]
    widths = [initial_state.shape[-1]] * (5 if reset_after else 4)
    record, last = scan(step, _State(initial_state), sequences, widths)
    return record, last.hidden


def _recurrence(
    projected: tf.Tensor,
    initial_state: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor,
    mask: tf.Tensor | None,
    dropout_mask: tf.Tensor | None,
    reset_after: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loop for tanh and sigmoid with its own gradient: hidden states [T, B, U] and the last state."""
    backward = _backward_after if reset_after else _backward_before

    @tf.custom_gradient
    def recurrence(
        projected: tf.Tensor, hidden: tf.Tensor, recurrent_kernel: tf.Tensor, recurrent_bias: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
        weights = (recurrent_kernel, recurrent_bias)
        record, last = _forward(
            projected, hidden, *weights, mask, dropout_mask, reset_after, tf.tanh, tf.sigmoid
        )

        def gradient(d_hiddens: tf.Tensor, d_hidden: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return backward(d_hiddens, d_hidden, record, hidden, *weights, mask, dropout_mask)

        return (record[-1], last), gradient

    return recurrence(projected, initial_state, recurrent_kernel, recurrent_bias)


# Everything in a step's gradient is the gradient dh of the hidden state times something known before the loop
# starts. Those factors are computed for all steps at once; the loop itself only carries dh.


def _factors(
    z: tf.Tensor, g: tf.Tensor, starts: tf.Tensor, mask: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The factors that give, times dh, the gradients of z's and g's pre-activations and of the previous h."""
    by_z, by_g = (starts - g) * z * (1 - z), (1 - z) * (1 - g * g)
    if mask is not None:
        # A masked step passes the state on untouched, as an update gate of one does.
        by_z, by_g = zero_unless(mask, by_z), zero_unless(mask, by_g)
        z = tf.where(mask, z, tf.ones_like(z))
    return by_z, by_g, z


def _backward_after(
    d_hiddens: tf.Tensor,
    d_hidden: tf.Tensor,
    record: Sequence[tf.Tensor],
    initial_state: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor,
    mask: tf.Tensor | None,
    dropout_mask: tf.Tensor | None,
) -> tuple[tf.Tensor, ...]:
    """Gradients of projected inputs [T, B, 3U], initial state [B, U], recurrent kernel and its bias."""
    z, r, g, inner_g, hiddens = record
    starts = previous(hiddens, initial_state)
    by_z, by_g, kept = _factors(z, g, starts, mask)
    inner_by_hidden = tf.concat([by_z, by_g * inner_g * r * (1 - r), by_g * r], axis=-1)  # [T, B, 3U]
    transposed_kernel = tf.transpose(recurrent_kernel)  # Once, not at every step: see `lstm`.

    def step(state: _State, slices: Sequence[tf.Tensor]) -> tuple[_State, tuple[tf.Tensor, ...]]:
        d_output, inner_by_hidden, kept = slices
        d_hidden = state.hidden + d_output
        d_inner = inner_by_hidden * tf.concat([d_hidden] * 3, axis=-1)
        d_entering = tf.matmul(d_inner, transposed_kernel)
        return _State(d_hidden * kept + dropped(d_entering, dropout_mask)), (d_inner, d_hidden)

    units = initial_state.shape[-1]
    (d_inner, d_totals), last = scan(
        step, _State(d_hidden), [d_hiddens, inner_by_hidden, kept], [3 * units, units], reverse=True
    )
    d_gates, _ = tf.split(d_inner, [2 * units, units], axis=-1)
    d_projected = tf.concat([d_gates, d_totals * by_g], axis=-1)
    d_kernel = weight_gradient(dropped(starts, dropout_mask), d_inner)
    return d_projected, last.hidden, d_kernel, tf.reduce_sum(d_inner, axis=[0, 1])


def _backward_before(
    d_hiddens: tf.Tensor,
    d_hidden: tf.Tensor,
    record: Sequence[tf.Tensor],
    initial_state: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    recurrent_bias: tf.Tensor,
    mask: tf.Tensor | None,
    dropout_mask: tf.Tensor | None,
) -> tuple[tf.Tensor, ...]:
    """Gradients of projected inputs [T, B, 3U], initial state [B, U], recurrent kernel and (unused) bias."""
    z, r, g, hiddens = record
    starts = previous(hiddens, initial_state)
    by_z, by_g, kept = _factors(z, g, starts, mask)
    entering = dropped(starts, dropout_mask)
    r_by_product = entering * r * (1 - r)
    gates_kernel, candidate_kernel = map(tf.transpose, _split_kernel(recurrent_kernel))

    def step(state: _State, slices: Sequence[tf.Tensor]) -> tuple[_State, tuple[tf.Tensor, ...]]:
        d_output, by_z, by_g, r_by_product, r, kept = slices
        d_hidden = state.hidden + d_output
        d_g = d_hidden * by_g
        d_product = tf.matmul(d_g, candidate_kernel)  # The gradient of r * entering.
        d_gates = tf.concat([d_hidden * by_z, d_product * r_by_product], axis=-1)
        d_entering = d_product * r + tf.matmul(d_gates, gates_kernel)
        return _State(d_hidden * kept + dropped(d_entering, dropout_mask)), (d_gates, d_g)

    units = initial_state.shape[-1]
    sequences = [d_hiddens, by_z, by_g, r_by_product, r, kept]
    (d_gates, d_g), last = scan(step, _State(d_hidden), sequences, [2 * units, units], reverse=True)
    d_kernel = tf.concat([weight_gradient(entering, d_gates), weight_gradient(r * entering, d_g)], axis=-1)
    return tf.concat([d_gates, d_g], axis=-1), last.hidden, d_kernel, tf.zeros_like(recurrent_bias)
