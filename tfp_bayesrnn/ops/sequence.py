"""The common part of the recurrences: shapes, time order, masks, and the loop over time.

Dimension letters: B batch, T time, D input features, U units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

Activation = Callable[[tf.Tensor], tf.Tensor]


def as_tensors(*values: Any) -> tuple[Any, ...]:
    """Turns `values` into tensors, None left alone: `tf.custom_gradient` takes no variables as arguments."""
    return tuple(None if value is None else tf.convert_to_tensor(value) for value in values)


def as_constant(recurrent_dropout_mask: tf.Tensor | None) -> tf.Tensor | None:
    """Returns the mask cut off from differentiation, so that both routes of the gradient treat it alike."""
    return None if recurrent_dropout_mask is None else tf.stop_gradient(recurrent_dropout_mask)


def check_shapes(
    inputs: tf.Tensor,
    rank: int,
    kernel: tf.Tensor,
    recurrent_kernel: tf.Tensor,
    bias: tf.Tensor | None,
    *,
    state: Iterable[tf.Tensor],
    gates: int,
    bias_rows: tuple[int, ...] = (),
) -> None:
    """Raises ValueError unless the static shapes fit a recurrence of `gates` gates."""
    if inputs.shape.rank != rank:
        raise ValueError(
            f"inputs must be {'[B, T, D]' if rank == 3 else '[B, D]'}. Received: inputs.shape={inputs.shape}"
        )
    units = recurrent_kernel.shape[0]
    if units is None:
        raise ValueError(
            "the number of units must be known when tracing. "
            f"Received: recurrent_kernel.shape={recurrent_kernel.shape}"
        )
    for name, value, expected in [
        ("recurrent_kernel", recurrent_kernel, [units, gates * units]),
        ("kernel", kernel, [inputs.shape[-1], gates * units]),
        ("bias", bias, [*bias_rows, gates * units]),
        *(("state", part, [inputs.shape[0], units]) for part in state),
    ]:
        if value is not None and not value.shape.is_compatible_with(expected):
            raise ValueError(f"{name} must have shape {expected}. Received: {name}.shape={value.shape}")


def time_major(inputs: tf.Tensor, go_backwards: bool) -> tf.Tensor:
    """Turns [B, T, ...] into [T, B, ...], in the order in which steps are taken."""
    inputs = tf.transpose(inputs, [1, 0, *range(2, inputs.shape.rank)])
    return tf.reverse(inputs, axis=[0]) if go_backwards else inputs


def time_major_mask(mask: tf.Tensor | None, go_backwards: bool) -> tf.Tensor | None:
    """Turns a mask [B, T] of any dtype into a boolean [T, B, 1], which broadcasts over units."""
    if mask is None:
        return None
    mask = tf.cast(mask, tf.bool)
    if mask.shape.rank != 2:
        raise ValueError(f"mask must be [B, T]. Received: mask.shape={mask.shape}")
    return time_major(mask[:, :, tf.newaxis], go_backwards)


def batch_major_outputs(hiddens: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Turns hidden states [T, B, U] into outputs [B, T, U]."""
    if mask is not None:
        # A masked step's hidden state is the previous one, which is Keras's output too, except before the
        # first valid step: there Keras gives zeros, not the initial state.
        begun = tf.cumsum(tf.cast(mask, tf.int32), axis=0) > 0
        hiddens = zero_unless(begun, hiddens)
    return tf.transpose(hiddens, [1, 0, 2])


def project(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """Computes `inputs @ kernel + bias` over all leading axes: one product, and one each in its gradient.

    `tf.tensordot` is avoided: where a size is unknown, XLA cannot compile its gradient inside a loop.
    """
    rows = inputs if inputs.shape.rank == 2 else tf.reshape(inputs, [-1, kernel.shape[0]])
    projected = tf.matmul(rows, kernel)
    if bias is not None:
        projected = tf.nn.bias_add(projected, bias)
    if inputs.shape.rank == 2:
        return projected
    return tf.reshape(projected, tf.concat([tf.shape(inputs)[:-1], [kernel.shape[1]]], axis=0))


def dropped(hidden: tf.Tensor, dropout_mask: tf.Tensor | None) -> tf.Tensor:
    """`hidden` [..., B, U] under the recurrent dropout mask [B, U], if there is one."""
    return hidden if dropout_mask is None else hidden * dropout_mask


def zero_unless(condition: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """`values` where `condition` holds, else zero (a product would let NaN and infinity through)."""
    return tf.where(condition, values, tf.zeros_like(values))


def previous(states: tf.Tensor, initial: tf.Tensor) -> tf.Tensor:
    """The state that each step started from, [T, B, U], given those it led to and the first one [B, U]."""
    return tf.concat([initial[tf.newaxis], states], axis=0)[:-1]


def weight_gradient(entering: tf.Tensor, d_z: tf.Tensor) -> tf.Tensor:
    """The gradient of a weight used at every step as `entering_t @ weight`: one product over T and B."""
    rows = tf.reshape(entering, [-1, entering.shape[-1]])
    return tf.matmul(rows, tf.reshape(d_z, [-1, d_z.shape[-1]]), transpose_a=True)


def scan(
    step: Callable,
    state: tuple,
    sequences: Sequence[tf.Tensor],
    widths: Sequence[int],
    *,
    reverse: bool = False,
) -> tuple[list[tf.Tensor], Any]:
    """Carries `state` over the leading axis of `sequences` and stacks what each step emits.

    Args:
      step: (state, slices) -> (new state, emitted): `slices` is a list with one [B, ...] per sequence,
        `emitted` one [B, width] per entry of `widths`, in the state's dtype.
      state: the initial state, a named tuple of [B, U].
      sequences: the sequences, tensors [T, B, ...].
      widths: the last dimension of each emitted tensor.
      reverse: whether to go from the last index to the first; what is emitted lies at the index it was
        emitted for.

    Returns:
      The list of stacked emissions, each [T, B, width], and the last state.
    """
    steps = sequences[0].shape[0]
    if steps is None:
        steps = tf.shape(sequences[0])[0]
    batch, dtype = state[0].shape[0], state[0].dtype
    reads = [tf.TensorArray(sequence.dtype, steps).unstack(sequence) for sequence in sequences]
    writes = [tf.TensorArray(dtype, steps, element_shape=[batch, width]) for width in widths]

    def body(
        count: tf.Tensor, state: Any, writes: list[tf.TensorArray]
    ) -> tuple[tf.Tensor, tuple, list[tf.TensorArray]]:
        time = steps - 1 - count if reverse else count
        state, emitted = step(state, [read.read(time) for read in reads])
        return (
            count + 1,
            state,
            [write.write(time, value) for write, value in zip(writes, emitted, strict=True)],
        )

    # Steps follow each other strictly, so nothing is gained by parallel iterations; XLA needs the bound to
    # size what a gradient of this loop saves.
    _, state, writes = tf.while_loop(
        lambda count, *_: count < steps,
        body,
        (tf.constant(0), state, writes),
        maximum_iterations=steps,
        parallel_iterations=1,
    )
    return [write.stack() for write in writes], state


def recur(
    step: Callable,
    inputs: Any,
    initial_state: Sequence[tf.Tensor],
    output_size: int,
    *,
    mask: tf.Tensor | None = None,
    go_backwards: bool = False,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs any step over a whole sequence, with Keras's meaning of a mask. The gradient is automatic.

    Args:
      step: (inputs of one step, states) -> (output [B, output_size], new states), in one dtype.
      inputs: [B, T, ...], or a nested structure of such tensors, of which `step` gets the [B, ...].
      initial_state: the states before the first step, each [B, size].
      output_size: the last dimension of an output.
      mask: [B, T], boolean; where False, that row's states stay as they were and its output repeats the
        previous one (zeros before the row's first True step, whatever the initial state).
      go_backwards: whether to run from the last step to the first; outputs then come in the order computed.

    Returns:
      The outputs [B, T, output_size] and the states after the last step.

    Raises:
      ValueError: if the mask has another shape.
    """
    state = as_tensors(*initial_state)
    sequences = [time_major(each, go_backwards) for each in as_tensors(*tf.nest.flatten(inputs))]
    mask = time_major_mask(mask, go_backwards)

    def masked_step(carried: Sequence[tf.Tensor], slices: list[tf.Tensor]) -> tuple[Any, list[tf.Tensor]]:
        valid = None if mask is None else slices.pop()
        output, new = step(tf.nest.pack_sequence_as(inputs, slices), carried[1:])
        new = (output, *new)
        if valid is not None:
            new = tuple(tf.where(valid, one, other) for one, other in zip(new, carried, strict=True))
        return new, [new[0]]

    nothing = tf.zeros([tf.shape(state[0])[0], output_size], state[0].dtype)
    sequences += [] if mask is None else [mask]
    (outputs,), (_, *state) = scan(masked_step, (nothing, *state), sequences, [output_size])
    return tf.transpose(outputs, [1, 0, 2]), state
