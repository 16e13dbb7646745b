"""Variational LSTM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import ops
from tfp_bayesrnn.layers.cell import CellWeight, SequenceWeights, VariationalRNNCell
from tfp_bayesrnn.layers.recurrent import VariationalRNN


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalLSTMCell(VariationalRNNCell):
    """One step of an LSTM with a variational posterior over its weights; for `keras.layers.RNN`.

    The weights are drawn once a sequence, not once a step. `VariationalLSTM` computes the same, faster.
    The states are [h, c], of [B, U] each. Equations: see `tfp_bayesrnn.ops.lstm`.
    """

    def __init__(self, units: int, *args: Any, unit_forget_bias: bool = True, **kwargs: Any):
        """Builds the cell.

        Args:
          unit_forget_bias: whether the forget gate's bias starts at one, whatever `bias_initializer` says.
        """
        super().__init__(units, *args, **kwargs)
        self.unit_forget_bias = unit_forget_bias

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The sizes of h and c."""
        return (self.units, self.units)

    def declare_weights(self, features: int) -> Iterator[CellWeight]:
        """The kernel [D, 4U], the recurrent kernel [U, 4U] and the bias [4U]."""
        width = 4 * self.units
        yield CellWeight("kernel", (features, width), self.kernel_initializer)
        yield CellWeight("recurrent_kernel", (self.units, width), self.recurrent_initializer)
        if self.use_bias:
            amend = self._forget_at_one if self.unit_forget_bias else None
            yield CellWeight("bias", (width,), self.bias_initializer, self.variational_bias, amend)

    def _forget_at_one(self, bias: tf.Tensor) -> tf.Tensor:
        forget = tf.range(bias.shape[0]) // self.units == 1
        return tf.where(forget, tf.ones_like(bias), bias)

    def step(
        self, weights: SequenceWeights, inputs: tf.Tensor, state: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Takes one step, from inputs [B, D]."""
        return ops.lstm_step(inputs, ops.LSTMState(*state), **self._arguments(weights))

    def sequence(
        self,
        weights: SequenceWeights,
        inputs: tf.Tensor,
        state: Sequence[tf.Tensor],
        mask: tf.Tensor | None,
        go_backwards: bool,
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Runs all steps, with a gradient written by hand."""
        return ops.lstm(
            inputs,
            ops.LSTMState(*state),
            mask=mask,
            go_backwards=go_backwards,
            **self._arguments(weights),
        )

    def _arguments(self, weights: SequenceWeights) -> dict[str, Any]:
        return {
            "kernel": weights["kernel"],
            "recurrent_kernel": weights["recurrent_kernel"],
            "bias": weights.get("bias"),
            "recurrent_dropout_mask": weights.recurrent_mask,
            **self._tf_activations(),
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "unit_forget_bias": self.unit_forget_bias}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalLSTM(VariationalRNN):
    """LSTM layer with a variational posterior over its kernel, recurrent kernel and bias.

    One sample of the weights serves every step and every sequence of a minibatch (Fortunato et al., 2017,
    section 3). Call arguments are those of `keras.layers.LSTM`: inputs [B, T, D], `initial_state` [h, c] of
    [B, U] each, `mask` [B, T], `training`.

    >>> layer = VariationalLSTM(16, return_sequences=True, kl_weight=1 / 500)
    >>> layer(keras.ops.zeros((2, 5, 8)), training=True).shape
    TensorShape([2, 5, 16])
    """

    cell_class = VariationalLSTMCell
