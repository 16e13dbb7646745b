"""The LSTM functions against NumPy, Keras, finite differences and each other."""

import keras
from rnn_oracles import UNITS, RecurrenceChecks, lstm_step

from tfp_bayesrnn import ops


class TestLSTM(RecurrenceChecks):
    gates, states, bias_shape = 4, 2, (4 * UNITS,)
    keras_layer = keras.layers.LSTM
    oracle_step = staticmethod(lstm_step)

    def run(self, inputs, state, weights, **options):
        kernel, recurrent_kernel, bias = [*weights, None][:3]
        outputs, last = ops.lstm(inputs, ops.LSTMState(*state), kernel, recurrent_kernel, bias, **options)
        return outputs, [last.hidden, last.cell]

    def run_step(self, inputs, state, weights, **options):
        kernel, recurrent_kernel, bias = [*weights, None][:3]
        output, new = ops.lstm_step(inputs, ops.LSTMState(*state), kernel, recurrent_kernel, bias, **options)
        return output, [new.hidden, new.cell]
