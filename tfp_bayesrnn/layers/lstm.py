"""Variational LSTM."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfp_bayesrnn import ops
from tfp_bayesrnn.layers.recurrent import VariationalRNN, VariationalRNNCell


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalLSTMCell(VariationalRNNCell):
    """One step of an LSTM with a variational posterior over its weights; for `keras.layers.RNN`.

    The weights are drawn once a sequence, not once a step. `VariationalLSTM` computes the same, faster.
    Arguments and equations: see `VariationalLSTM` and `tfp_bayesrnn.ops.lstm`.
    """

    gates = 4

    def __init__(self, units: int, *args, unit_forget_bias: bool = True, **kwargs):
        super().__init__(units, *args, **kwargs)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [self.units, self.units]

    def _amend_bias(self, bias):
        if not self.unit_forget_bias:
            return bias
        forget = tf.range(bias.shape[0]) // self.units == 1
        return tf.where(forget, tf.ones_like(bias), bias)

    def call(self, inputs, states, training=False):
        """inputs [B, D], states [h, c] of [B, U] each: the new h, and [h, c]."""
        weights, inputs, states = self._enter_step(inputs, states, training)
        output, state = ops.lstm_step(
            inputs,
            ops.LSTMState(*states),
            weights.kernel,
            weights.recurrent_kernel,
            weights.bias,
            recurrent_dropout_mask=weights.recurrent_mask,
            **self._tf_activations(),
        )
        return output, list(state)

    def sequence(self, inputs, initial_state, mask, go_backwards):
        """inputs [B, T, D]: outputs [B, T, U] and the final [h, c]."""
        outputs, state = ops.lstm(
            inputs,
            ops.LSTMState(*initial_state),
            self.held.kernel,
            self.held.recurrent_kernel,
            self.held.bias,
            mask=mask,
            go_backwards=go_backwards,
            recurrent_dropout_mask=self.held.recurrent_mask,
            **self._tf_activations(),
        )
        return outputs, list(state)

    def get_config(self):
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

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias: bool = True,
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
          units: U, the size of the output and of each state.
          activation: of the cell input and output.
          recurrent_activation: of the gates.
          use_bias: whether there is a bias.
          kernel_initializer: of the posterior mean of the kernel.
          recurrent_initializer: of the posterior mean of the recurrent kernel.
          bias_initializer: of the (posterior mean of the) bias.
          unit_forget_bias: whether the forget gate's bias starts at one, whatever `bias_initializer` says.
          dropout: rate at which inputs are dropped, by one mask for all steps (Gal and Ghahramani, 2016).
          recurrent_dropout: the same for the hidden state that enters the recurrent product.
          prior: a `Prior`, a function from a shape to a `tfd.Distribution`, or None: `ScaleMixturePrior()`.
          posterior: `MeanFieldNormal` (the default, with the released range of scales) or `PointMass`.
          variational_bias: whether the bias has a distribution too, as in the released code.
          kl_weight: weight of the KL where no `BayesianModel` owns the objective; see `VariationalLayer`.
          seed: of the draws the layer makes by itself.
          return_sequences: whether to return [B, T, U] and not the last [B, U].
          return_state: whether to return the final h and c as well.
          go_backwards: whether time runs backwards; outputs are then in reversed order.
          stateful: whether the state is kept from call to call. Not needed inside a `BayesianModel`.
          zero_output_for_mask: whether masked steps output zeros, not the output before them.
          **kwargs: of `keras.layers.Layer`.
        """
        cell = VariationalLSTMCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
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
