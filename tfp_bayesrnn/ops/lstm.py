"""The LSTM as pure functions of (inputs, state, weights), with a gradient written by hand for speed.

Dimension letters: B batch, T time, D input features, U units. Inside the loops everything is time-major,
[T, B, ...].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

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


class LSTMState(NamedTuple):
    """The state that an LSTM carries from step to step."""

    hidden: tf.Tensor  # [B, U]
    cell: tf.Tensor  # [B, U]


def lstm_step(
    inputs: tf.Tensor,
    state: LSTMState,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None,
    *,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
    recurrent_dropout_mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, LSTMState]:
    """Takes one step of an LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

        [i, f, g, o] = x W + (m * h) R + b        gates in Keras's order: input, forget, candidate, output
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    with `*` element-wise. There is no forget-bias term: that belongs to the initialiser of `bias`.

    Args:
      inputs: x, [B, D].
      state: (h, c), each [B, U].
      kernel: W, [D, 4U].
      recurrent_kernel: R, [U, 4U].
      bias: b, [4U], or None.
      activation: the activation of the candidate and of the cell on its way out.
      recurrent_activation: the activation of the three gates.
      recurrent_dropout_mask: m, [B, U], scales the hidden state where it enters the matrix product and
        nowhere else; use the same mask at every step of a sequence (Gal & Ghahramani 2016). It is taken as
        a constant: no gradient reaches it.

    Returns:
      The output h' [B, U] and the new state (h', c').

    Raises:
      ValueError: if the shapes do not fit each other.
    """
    inputs, kernel, recurrent_kernel, bias = as_tensors(inputs, kernel, recurrent_kernel, bias)
    hidden, cell = as_tensors(*state)
    dropout_mask = as_constant(recurrent_dropout_mask)
    check_shapes(inputs, 2, kernel, recurrent_kernel, bias, state=(hidden, cell), gates=4)
    z = project(inputs, kernel, bias) + tf.matmul(dropped(hidden, dropout_mask), recurrent_kernel)
    *_, cell, hidden = _update(z, cell, activation, recurrent_activation)
    return hidden, LSTMState(hidden, cell)


def lstm(
    inputs: tf.Tensor,
    initial_state: LSTMState,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None,
    *,
    mask: tf.Tensor | None = None,
    go_backwards: bool = False,
    recurrent_dropout_mask: tf.Tensor | None = None,
    activation: Activation = tf.tanh,
    recurrent_activation: Activation = tf.sigmoid,
) -> tuple[tf.Tensor, LSTMState]:
    """Runs `lstm_step` over a whole sequence, agreeing with `keras.layers.LSTM` under the same weights.

    With the default activations the gradient is written by hand: the backward loop finds only the gradient
    of the pre-activations, and each weight's gradient is then one matrix product over all steps instead of
    T updates of a whole matrix. Other activations run the same loop under automatic differentiation; the
    default is recognised by identity (`tf.tanh`, `tf.sigmoid`), so pass those very functions where speed
    matters. It differentiates twice.

    Args:
      inputs: x at every step, [B, T, D].
      initial_state: (h, c) before the first step, each [B, U].
      kernel: W, [D, 4U].
      recurrent_kernel: R, [U, 4U].
      bias: b, [4U], or None.
      mask: [B, T], boolean; where False, that row's state stays as it was and its output repeats the
        previous one (zeros before the row's first True step, whatever the initial state).
      go_backwards: whether to run from the last step to the first; outputs then come in the order computed.
      recurrent_dropout_mask: m, [B, U], see `lstm_step`; one mask for all steps. No gradient reaches it.
      activation: the activation of the candidate and of the cell on its way out; see `lstm_step`.
      recurrent_activation: the activation of the three gates; see `lstm_step`.

    Returns:
      The outputs [B, T, U] and the state after the last step.

    Raises:
      ValueError: if the shapes do not fit each other.
    """
    inputs, kernel, recurrent_kernel, bias = as_tensors(inputs, kernel, recurrent_kernel, bias)
    initial_state = LSTMState(*as_tensors(*initial_state))
    dropout_mask = as_constant(recurrent_dropout_mask)
    check_shapes(inputs, 3, kernel, recurrent_kernel, bias, state=initial_state, gates=4)
    inputs, mask = time_major(inputs, go_backwards), time_major_mask(mask, go_backwards)
    projected = project(inputs, kernel, bias)
    if activation is tf.tanh and recurrent_activation is tf.sigmoid:
        hiddens, state = _recurrence(projected, initial_state, recurrent_kernel, mask, dropout_mask)
    else:
        functions = (activation, recurrent_activation)
        record, state = _forward(projected, initial_state, recurrent_kernel, mask, dropout_mask, *functions)
        hiddens = record[-1]
    return batch_major_outputs(hiddens, mask), state


def _update(
    z: tf.Tensor, cell: tf.Tensor, activation: Activation, recurrent_activation: Activation
) -> tuple[tf.Tensor, ...]:
    """The element-wise half of a step: from pre-activations [B, 4U] to (i, f, g, o, c', h'), each [B, U]."""
    i, f, g, o = tf.split(z, 4, axis=-1)
    i, f, o = recurrent_activation(i), recurrent_activation(f), recurrent_activation(o)
    g = activation(g)
    cell = f * cell + i * g
    return i, f, g, o, cell, o * activation(cell)


def _forward(
    projected: tf.Tensor,
    initial_state: LSTMState,
    recurrent_kernel: tf.Tensor,
    mask: tf.Tensor | None,
    dropout_mask: tf.Tensor | None,
    activation: Activation,
    recurrent_activation: Activation,
) -> tuple[list[tf.Tensor], LSTMState]:
    """The loop over time: the record (i, f, g, o, c, h), each [T, B, U], and the last state."""

    def step(state: LSTMState, slices: Sequence[tf.Tensor]) -> tuple[LSTMState, tuple[tf.Tensor, ...]]:
        z, *valid = slices
        z += tf.matmul(dropped(state.hidden, dropout_mask), recurrent_kernel)
        *gates, cell, hidden = _update(z, state.cell, activation, recurrent_activation)
        if valid:
            hidden, cell = tf.where(valid[0], hidden, state.hidden), tf.where(valid[0], cell, state.cell)
        return LSTMState(hidden, cell), (*gates, cell, hidden)

    sequences = [projected] if mask is None else [projected, mask]
    return scan(step, initial_state, sequences, widths=[initial_state.hidden.shape[-1]] * 6)


def _recurrence(
    projected: tf.Tensor,
    initial_state: LSTMState,
    recurrent_kernel: tf.Tensor,
    mask: tf.Tensor | None,
    dropout_mask: tf.Tensor | None,
) -> tuple[tf.Tensor, LSTMState]:
    """The loop for tanh and sigmoid with its own gradient: hidden states [T, B, U] and the last state."""

    @tf.custom_gradient
    def recurrence(
        projected: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor, recurrent_kernel: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, ...], Callable]:
        initial = LSTMState(hidden, cell)
        record, last = _forward(projected, initial, recurrent_kernel, mask, dropout_mask, tf.tanh, tf.sigmoid)
        *_, hiddens = record

        def gradient(d_hiddens: tf.Tensor, d_hidden: tf.Tensor, d_cell: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return _backward(
                (d_hiddens, d_hidden, d_cell), record, initial, recurrent_kernel, mask, dropout_mask
            )

        return (hiddens, *last), gradient

    hiddens, *last = recurrence(projected, *initial_state, recurrent_kernel)
    return hiddens, LSTMState(*last)


def _backward(
    upstream: Sequence[tf.Tensor],
    record: Sequence[tf.Tensor],
    initial_state: LSTMState,
    recurrent_kernel: tf.Tensor,
    mask: tf.Tensor | None,
    dropout_mask: tf.Tensor | None,
) -> tuple[tf.Tensor, ...]:
    """Gradients of projected inputs [T, B, 4U], initial hidden, initial cell [B, U] and recurrent kernel.

    All that a step's gradient multiplies by is known before the loop starts, so it is computed for all steps
    at once (few large operations instead of T times many small ones); the loop itself only carries dh and dc.
    """
    d_hiddens, d_hidden, d_cell = upstream
    i, f, g, o, cells, hiddens = record
    tanh_cells = tf.tanh(cells)
    cell_by_hidden = o * (1 - tanh_cells * tanh_cells)
    forget = f
    z_by_state = tf.concat(  # [T, B, 4U]: the first three by the cell, the last by the hidden state
        [
            g * i * (1 - i),
            previous(cells, initial_state.cell) * f * (1 - f),
            i * (1 - g * g),
            tanh_cells * o * (1 - o),
        ],
        axis=-1,
    )
    if mask is not None:
        # A masked step passes both states on untouched: nothing into z, nothing from h into c, all of c back.
        z_by_state, cell_by_hidden = zero_unless(mask, z_by_state), zero_unless(mask, cell_by_hidden)
        forget = tf.where(mask, forget, tf.ones_like(forget))
    # Transposed once: a matrix product that transposes R on every step takes about twice as long.
    transposed_kernel = tf.transpose(recurrent_kernel)

    def step(state: LSTMState, slices: Sequence[tf.Tensor]) -> tuple[LSTMState, tuple[tf.Tensor, ...]]:
        d_hidden, d_cell = state
        d_output, z_by_state, cell_by_hidden, forget, *valid = slices
        d_hidden += d_output
        d_cell += d_hidden * cell_by_hidden
        d_z = z_by_state * tf.concat([d_cell, d_cell, d_cell, d_hidden], axis=-1)
        d_previous = dropped(tf.matmul(d_z, transposed_kernel), dropout_mask)
        if valid:
            d_previous = tf.where(valid[0], d_previous, d_hidden)
        return LSTMState(d_previous, d_cell * forget), (d_z,)

    sequences = [d_hiddens, z_by_state, cell_by_hidden, forget] + ([] if mask is None else [mask])
    (d_z,), d_initial = scan(
        step, LSTMState(d_hidden, d_cell), sequences, widths=[z_by_state.shape[-1]], reverse=True
    )
    entering = dropped(previous(hiddens, initial_state.hidden), dropout_mask)
    return d_z, *d_initial, weight_gradient(entering, d_z)
