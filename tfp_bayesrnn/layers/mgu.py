"""Variational minimal gated unit: a recurrence with one gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from tfp_bayesrnn import ops
from tfp_bayesrnn.layers.cell import CellWeight, SequenceWeights, VariationalRNNCell
from tfp_bayesrnn.layers.recurrent import VariationalRNN


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalMGUCell(VariationalRNNCell):
    """One step of a minimal gated unit (Zhou et al., 2016) with a posterior over its weights.

        f = sigmoid(x W_f + (m * h) R_f + b_f)
        g = tanh(x W_g + (f * m * h) R_g + b_g)
        h' = (1 - f) * h + f * g

    with `*` element-wise and m the mask of recurrent dropout. The state is [h], of [B, U].
    """

    def declare_weights(self, features: int) -> Iterator[CellWeight]:
        """The kernel [D, 2U], the recurrent kernel [U, 2U] and the bias [2U]: gate f, then candidate g."""
        width = 2 * self.units
        yield CellWeight("kernel", (features, width), self.kernel_initializer)
        yield CellWeight("recurrent_kernel", (self.units, width), self.recurrent_initializer)
        if self.use_bias:
            yield CellWeight("bias", (width,), self.bias_initializer, self.variational_bias)

    def project(self, weights: SequenceWeights, inputs: tf.Tensor) -> tf.Tensor:
        """Returns x W + b, [..., 2U]."""
        return ops.project(inputs, weights["kernel"], weights.get("bias"))

    def step(
        self, weights: SequenceWeights, inputs: tf.Tensor, state: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Takes one step, from projected inputs [B, 2U]."""
        (hidden,) = state
        entering = weights.dropped(hidden)
        x_f, x_g = tf.split(inputs, 2, axis=-1)
        kernel_f, kernel_g = tf.split(weights["recurrent_kernel"], 2, axis=-1)
        f = self.recurrent_activation(x_f + tf.matmul(entering, kernel_f))
        g = self.activation(x_g + tf.matmul(f * entering, kernel_g))
        hidden = (1 - f) * hidden + f * g
        return hidden, [hidden]


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalMGU(VariationalRNN):
    """Minimal gated unit layer with a variational posterior over its kernel, recurrent kernel and bias.

    It has two thirds of a GRU's weights and half of an LSTM's. One sample of them serves every step and every
    sequence of a minibatch. Call arguments are those of `keras.layers.GRU`: inputs [B, T, D],
    `initial_state` [h] of [B, U], `mask` [B, T], `training`.
    """

    cell_class = VariationalMGUCell
