"""Variational GRU."""

from __future__ import annotations

import keras

from tfp_bayesrnn import ops
from tfp_bayesrnn.layers.recurrent import VariationalRNN, VariationalRNNCell


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalGRUCell(VariationalRNNCell):
    """One step of a GRU with a variational posterior over its weights; for `keras.layers.RNN`.

    The weights are drawn once a sequence, not once a step. `VariationalGRU` computes the same, faster.
    Arguments and equations: see `VariationalGRU` and `tfp_bayesrnn.ops.gru`.
    """

    gates = 3

    def __init__(self, units: int, *args, reset_after: bool = True, **kwargs):
        super().__init__(units, *args, **kwargs)
        self.reset_after = reset_after
        self.state_size = self.units

    def _bias_shape(self):
        width = self.gates * self.units
        return (2, width) if self.reset_after else (width,)

    def call(self, inputs, states, training=False):
        """inputs [B, D], states [h] of [B, U], or h: the new h, and [h], or h."""
        is_list = keras.tree.is_nested(states)
        weights, inputs, (state,) = self._enter_step(inputs, states if is_list else [states], training)
        output, state = ops.gru_step(
            inputs,
            state,
            weights.kernel,
            weights.recurrent_kernel,
            weights.bias,
            reset_after=self.reset_after,
            recurrent_dropout_mask=weights.recurrent_mask,
            **self._tf_activations(),
        )
        return output, [state] if is_list else state

    def sequence(self, inputs, initial_state, mask, go_backwards):
        """inputs [B, T, D]: outputs [B, T, U] and the final [h]."""
        outputs, state = ops.gru(
            inputs,
            initial_state[0],
            self.held.kernel,
            self.held.recurrent_kernel,
            self.held.bias,
            reset_after=self.reset_after,
            mask=mask,
            go_backwards=go_backwards,
            recurrent_dropout_mask=self.held.recurrent_mask,
            **self._tf_activations(),
        )
        return outputs, [state]

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "reset_after": self.reset_after}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalGRU(VariationalRNN):
    """GRU layer with a variational posterior over its kernel, recurrent kernel and bias.

    One sample of the weights serves every step and every sequence of a minibatch. Call arguments are those of
    `keras.layers.GRU`: inputs [B, T, D], `initial_state` [h] of [B, U], `mask` [B, T], `training`.
    """

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        reset_after: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        prior=None,
        posterior=None,
        variational_bias: bool = True,
        kl_weight: float | None = None,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs,
    ):
        """Builds the layer.

        Args:
          reset_after: whether the reset gate acts after the recurrent product (as cuDNN has it) or before it.
          units: as every other argument, see `VariationalLSTM`.
          activation: see there.
          recurrent_activation: see there.
          use_bias: see there.
          kernel_initializer: see there.
          recurrent_initializer: see there.
          bias_initializer: see there.
          dropout: see there.
          recurrent_dropout: see there.
          prior: see there.
          posterior: see there.
          variational_bias: see there.
          kl_weight: see there.
          seed: see there.
          return_sequences: see there.
          return_state: see there.
          go_backwards: see there.
          stateful: see there.
          zero_output_for_mask: see there.
          **kwargs: of `keras.layers.Layer`.
        """
        cell = VariationalGRUCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            reset_after=reset_after,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            prior=prior,
            posterior=posterior,
            variational_bias=variational_bias,
            kl_weight=kl_weight,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="cell",
        )
        super().__init__(
            cell, return_sequences, return_state, go_backwards, stateful, zero_output_for_mask, **kwargs
        )
