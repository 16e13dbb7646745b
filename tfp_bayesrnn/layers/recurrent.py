"""What the variational LSTM and GRU share: one draw, and one set of dropout masks, for a whole sequence."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

# The one hook that Keras offers before and after the loop over time: `keras.layers.RNN` calls it for any cell
# of this class, once a sequence and outside the loop, which is where a draw has to be made.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from tfp_bayesrnn.distributions import MeanFieldNormal
from tfp_bayesrnn.layers.base import VariationalLayer, dropout_mask, forward_pass, mask_seed
from tfp_bayesrnn.posterior import posterior as posteriors
from tfp_bayesrnn.posterior.kl_weights import KLWeighted

_TF_ACTIVATIONS = {keras.activations.tanh: tf.tanh, keras.activations.sigmoid: tf.sigmoid}


@dataclasses.dataclass(frozen=True)
class SequenceWeights:
    """What one pass over a sequence runs with: weights and masks in the cell's compute dtype."""

    kernel: tf.Tensor  # [D, gates * U]
    recurrent_kernel: tf.Tensor  # [U, gates * U]
    bias: tf.Tensor | None
    input_mask: tf.Tensor | None = None  # Of dropout, [B, D].
    recurrent_mask: tf.Tensor | None = None  # Of recurrent dropout, [B, U].


class VariationalRNNCell(VariationalLayer, keras.layers.Layer, DropoutRNNCell):
    """Base of the variational cells. A subclass sets `gates` and gives shapes and one step.

    Inside a recurrent layer the weights are drawn, and the masks of dropout made, once a sequence: Keras
    calls `get_dropout_mask` before its loop and `reset_dropout_mask` after it.
    """

    gates: int

    def __init__(
        self,
        units: int,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        prior=None,
        posterior=None,
        variational_bias: bool = True,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        """Builds the cell; the arguments are those of `VariationalLSTM`."""
        super().__init__(**kwargs)
        self._init_variational(prior, posterior or MeanFieldNormal((0.25, 0.5)), kl_weight, seed)
        if units <= 0:
            raise ValueError(f"units must be positive. Received: units={units}")
        for name, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} must lie in [0, 1). Received: {name}={rate}")
        self.units = int(units)
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.variational_bias = variational_bias
        self.output_size = self.units
        self.bias = None
        self._held = (None, None)

    def build(self, input_shape):
        """Makes the kernel [D, gates * U], the recurrent kernel [U, gates * U] and the bias."""
        width = self.gates * self.units
        self.kernel = self._add_variational_weight(
            "kernel", (input_shape[-1], width), self.kernel_initializer
        )
        self.recurrent_kernel = self._add_variational_weight(
            "recurrent_kernel", (self.units, width), self.recurrent_initializer
        )
        if self.use_bias:
            self.bias = self._add_variational_weight(
                "bias",
                self._bias_shape(),
                self.bias_initializer,
                self.variational_bias,
                amend=self._amend_bias,
            )

    def _bias_shape(self):
        return (self.gates * self.units,)

    def _amend_bias(self, bias):
        """The initial bias, from what its initializer gives."""
        return bias

    def _sequence_weights(self, draw, step_input=None, training=False) -> SequenceWeights:
        dtype = self.compute_dtype
        bias = tf.cast(draw[self.bias], dtype) if self.use_bias else None
        masks = [None, None]
        if step_input is not None:
            rows = tf.shape(step_input)[0]
            for i, (rate, size) in enumerate(
                ((self.dropout, step_input.shape[-1]), (self.recurrent_dropout, self.units))
            ):
                seed = mask_seed(self.seed_generator, training) if rate > 0.0 else None
                if seed is not None:
                    masks[i] = dropout_mask([rows, size], rate, seed, dtype)
        kernels = (tf.cast(draw[weight], dtype) for weight in (self.kernel, self.recurrent_kernel))
        return SequenceWeights(*kernels, bias, *masks)

    def get_dropout_mask(self, step_input):
        """Called by `keras.layers.RNN` before its loop: draws the weights and masks of this sequence."""
        context = forward_pass()
        training = bool(context is not None and context.get_value("training"))
        weights = self._sequence_weights(self._draw_for_call(training), step_input, training)
        self._held = context, weights
        return weights.input_mask

    def get_recurrent_dropout_mask(self, step_input):
        """Called by `keras.layers.RNN` before its loop, after `get_dropout_mask`."""
        return self.held.recurrent_mask

    def reset_dropout_mask(self):
        """Called by `keras.layers.RNN` after its loop: the weights and masks of this sequence are over."""
        self._held = (None, None)

    def reset_recurrent_dropout_mask(self):
        """Called by `keras.layers.RNN` after its loop."""

    @property
    def held(self) -> SequenceWeights | None:
        """The weights and masks of the sequence that is being processed."""
        context, weights = self._held
        return weights if context is forward_pass() else None  # What a failed call has left does not count.

    def _enter_step(self, inputs, states, training):
        """The weights of a step; and its inputs, under their mask, and its states, in the compute dtype."""
        weights = self._step_weights(training)
        inputs, *states = (tf.cast(each, self.compute_dtype) for each in (inputs, *states))
        return weights, inputs if weights.input_mask is None else inputs * weights.input_mask, states

    def _step_weights(self, training) -> SequenceWeights:
        if self.held is not None:
            return self.held
        if posteriors.draw_in_force() is None and training and posteriors.Posterior.of(self).is_variational:
            raise ValueError(
                f"Cell {self.name!r} was stepped by itself with training=True: each step would get other "
                "weights. Put it into keras.layers.RNN, or run the steps under a draw "
                "(`with posterior.sample(seed).in_force():`). Received: training=True"
            )
        return self._sequence_weights(self._draw_for_call(training))

    def _tf_activations(self) -> dict:
        return {
            name: _TF_ACTIVATIONS.get(getattr(self, name), getattr(self, name))
            for name in ("activation", "recurrent_activation")
        }

    def get_initial_state(self, batch_size=None):
        """Zeros of the state's shape, in the compute dtype."""
        return [tf.zeros((batch_size, size), self.compute_dtype) for size in self._state_sizes()]

    def _state_sizes(self):
        return [self.state_size] if isinstance(self.state_size, int) else list(self.state_size)

    def sequence(self, inputs, initial_state, mask, go_backwards):
        """Runs the whole sequence: (outputs [B, T, U], final states)."""
        raise NotImplementedError

    def get_config(self):
        """The constructor's arguments."""
        serialize = keras.initializers.serialize
        return {
            **super().get_config(),
            **self._variational_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "recurrent_initializer": serialize(self.recurrent_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "variational_bias": self.variational_bias,
        }


class VariationalRNN(KLWeighted, keras.layers.RNN):
    """Base of the variational recurrent layers: `keras.layers.RNN` around a cell's whole-sequence kernel.

    Everything about states, masks and return values is Keras's; only the loop over time is ours.
    """

    def __init__(
        self, cell, return_sequences, return_state, go_backwards, stateful, zero_output_for_mask, **kwargs
    ):
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)

    @property
    def units(self) -> int:
        """The size of the output."""
        return self.cell.units

    @property
    def kl_weight(self):
        """The cell's `kl_weight`."""
        return self.cell.kl_weight

    def _set_kl_weight(self, value) -> None:
        self.cell.kl_weight = value

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """As in `keras.layers.RNN`.

        Inputs [B, T, D] and mask [B, T] or [B, T, 1] may be of any numeric or boolean dtype.
        """
        sequences = tf.cast(sequences, self.cell.compute_dtype)
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if mask is not None:
            mask = tf.cast(mask if len(mask.shape) == 2 else mask[..., 0], tf.bool)
        return super().call(sequences, initial_state, mask, training)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """The loop over time, with the weights that the cell holds for this sequence."""
        if self.cell.held.input_mask is not None:
            sequences = sequences * self.cell.held.input_mask[:, tf.newaxis]
        outputs, states = self.cell.sequence(sequences, initial_state, mask, self.go_backwards)
        if mask is not None and self.zero_output_for_mask:
            kept = tf.reverse(mask, [1]) if self.go_backwards else mask
            outputs = tf.where(kept[:, :, tf.newaxis], outputs, tf.zeros_like(outputs))
        return outputs[:, -1], outputs, states

    def get_config(self):
        """The constructor's arguments: those of the cell beside those of `keras.layers.RNN`."""
        config = super().get_config()
        del config["cell"]
        cell_config = self.cell.get_config()
        for key in ("name", "trainable", "dtype"):
            cell_config.pop(key, None)
        return {**cell_config, **config}

    @classmethod
    def from_config(cls, config):
        """The layer whose `get_config` gave `config`."""
        return cls(**config)
