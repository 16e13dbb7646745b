"""Variational GRU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import ops
from tfp_bayesrnn.layers.cell import CellWeight, SequenceWeights, VariationalRNNCell
from tfp_bayesrnn.layers.recurrent import VariationalRNN


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalGRUCell(VariationalRNNCell):
    """One step of a GRU with a variational posterior over its weights; for `keras.layers.RNN`.

    The weights are drawn once a sequence, not once a step. `VariationalGRU` computes the same, faster.
    The state is [h], of [B, U]. Equations: see `tfp_bayesrnn.ops.gru`.
    """

    def __init__(self, units: int, *args: Any, reset_after: bool = True, **kwargs: Any):
        """Builds the cell.

        Args:
          reset_after: whether the reset gate acts after the recurrent product (as cuDNN has it) or before it.
        """
        super().__init__(units, *args, **kwargs)
        self.reset_after = reset_after

    def declare_weights(self, features: int) -> Iterator[CellWeight]:
        """The kernel [D, 3U], the recurrent kernel [U, 3U] and the bias, [2, 3U] or, reset before, [3U]."""
        width = 3 * self.units
        yield CellWeight("kernel", (features, width), self.kernel_initializer)
        yield CellWeight("recurrent_kernel", (self.units, width), self.recurrent_initializer)
        if self.use_bias:
            shape = (2, width) if self.reset_after else (width,)
            yield CellWeight("bias", shape, self.bias_initializer, self.variational_bias)

    def step(
        self, weights: SequenceWeights, inputs: tf.Tensor, state: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Takes one step, from inputs [B, D]."""
        output, new_state = ops.gru_step(inputs, *state, **self._arguments(weights))
        return output, [new_state]

    def sequence(
        self,
        weights: SequenceWeights,
        inputs: tf.Tensor,
        state: Sequence[tf.Tensor],
        mask: tf.Tensor | None,
        go_backwards: bool,
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Runs all steps, with a gradient written by hand."""
        outputs, last = ops.gru(
            inputs, *state, mask=mask, go_backwards=go_backwards, **self._arguments(weights)
        )
        return outputs, [last]

    def _arguments(self, weights: SequenceWeights) -> dict[str, Any]:
        return {
            "kernel": weights["kernel"],
            "recurrent_kernel": weights["recurrent_kernel"],
            "bias": weights.get("bias"),
            "reset_after": self.reset_after,
            "recurrent_dropout_mask": weights.recurrent_mask,
            **self._tf_activations(),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "reset_after": self.reset_after}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalGRU(VariationalRNN):
    """GRU layer with a variational posterior over its kernel, recurrent kernel and bias.

    One sample of the weights serves every step and every sequence of a minibatch. Call arguments are those of
    `keras.layers.GRU`: inputs [B, T, D], `initial_state` [h] of [B, U], `mask` [B, T], `training`.
    """

    cell_class = VariationalGRUCell
