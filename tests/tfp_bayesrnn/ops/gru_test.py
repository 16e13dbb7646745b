"""The GRU functions against NumPy, Keras, finite differences and each other."""

import functools

import keras
from rnn_oracles import UNITS, RecurrenceChecks, gru_step

from tfp_bayesrnn import ops


class _GRUChecks(RecurrenceChecks):
    gates, states = 3, 1
    reset_after: bool

    def run(self, inputs, state, weights, **options):
        return self._call(ops.gru, inputs, state, weights, options)

    def run_step(self, inputs, state, weights, **options):
        return self._call(ops.gru_step, inputs, state, weights, options)

    def _call(self, function, inputs, state, weights, options):
        kernel, recurrent_kernel, bias = [*weights, None][:3]
        options = {"reset_after": self.reset_after, **options}
        outputs, last = function(inputs, state[0], kernel, recurrent_kernel, bias, **options)
        return outputs, [last]


class TestGRUResetAfter(_GRUChecks):
    reset_after, bias_shape = True, (2, 3 * UNITS)
    keras_layer = functools.partial(keras.layers.GRU, reset_after=True)
    oracle_step = functools.partial(gru_step, reset_after=True)


class TestGRUResetBefore(_GRUChecks):
    reset_after, bias_shape = False, (3 * UNITS,)
    keras_layer = functools.partial(keras.layers.GRU, reset_after=False)
    oracle_step = functools.partial(gru_step, reset_after=False)
