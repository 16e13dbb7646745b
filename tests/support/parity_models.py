"""Pairs of layers with the same numbers, ours and Keras's own, and how they are compared."""

import functools
import types

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn import layers
from tfp_bayesrnn.distributions import MeanFieldNormal, PointMass

BATCH, STEPS, FEATURES, UNITS, VOCABULARY = 3, 5, 4, 3, 6
TOLERANCE = 1e-5  # Of float32: sums of a dozen terms, over five steps.

RNG = np.random.default_rng(0)
SEQUENCES = RNG.normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
IDS = RNG.integers(0, VOCABULARY, (BATCH, STEPS))

KERAS = keras.layers
_NAMES = ("Dense", "Embedding", "LSTM", "GRU", "LSTMCell", "GRUCell")


def namespace(posterior):
    """Our layers under the names of Keras's."""
    made = {
        name: functools.partial(getattr(layers, f"Variational{name}"), posterior=posterior) for name in _NAMES
    }
    return types.SimpleNamespace(**made)


# By what the weights are. The mean is what a layer computes outside of training.
OURS = {"posterior mean": namespace(MeanFieldNormal((0.5, 1.0))), "point mass": namespace(PointMass())}


def _stack(kinds, **kwargs):
    dtype = {name: kwargs[name] for name in ("dtype",) if name in kwargs}
    cells = [
        kinds.LSTMCell(UNITS, **dtype),
        kinds.GRUCell(UNITS, **dtype),
        kinds.GRUCell(UNITS, reset_after=False, **dtype),
    ]
    return keras.layers.RNN(keras.layers.StackedRNNCells(cells, **dtype), **kwargs)


def _rnn(cell, **kwargs):
    dtype = {name: kwargs[name] for name in ("dtype",) if name in kwargs}
    return keras.layers.RNN(cell(UNITS, **dtype), **kwargs)


def _bidirectional(layer, **kwargs):
    dtype = {name: kwargs[name] for name in ("dtype",) if name in kwargs}
    return keras.layers.Bidirectional(layer(UNITS, **kwargs), **dtype)


def _time_distributed(layer, **kwargs):
    dtype = {name: kwargs[name] for name in ("dtype",) if name in kwargs}
    return keras.layers.TimeDistributed(layer(UNITS, **kwargs), **dtype)


FEED_FORWARD = {
    "Dense": lambda kinds, **kw: kinds.Dense(UNITS, **kw),
    "TimeDistributed(Dense)": lambda kinds, **kw: _time_distributed(kinds.Dense, **kw),
}
RECURRENT = {
    "LSTM": lambda kinds, **kw: kinds.LSTM(UNITS, **kw),
    "GRU": lambda kinds, **kw: kinds.GRU(UNITS, **kw),
    "GRU, reset before": lambda kinds, **kw: kinds.GRU(UNITS, reset_after=False, **kw),
    "RNN(LSTMCell)": lambda kinds, **kw: _rnn(kinds.LSTMCell, **kw),
    "RNN(GRUCell)": lambda kinds, **kw: _rnn(kinds.GRUCell, **kw),
    "RNN(cells)": _stack,
    "Bidirectional(LSTM)": lambda kinds, **kw: _bidirectional(kinds.LSTM, **kw),
    "Bidirectional(GRU)": lambda kinds, **kw: _bidirectional(kinds.GRU, **kw),
}
# Of a layer without a loop, a loop, and a loop that is Keras's.
SOME = ("Dense", "LSTM", "RNN(cells)", "Bidirectional(GRU)")
LAYERS = {**FEED_FORWARD, **RECURRENT}


def numbers(layer):
    """The variables that a layer computes with: its weights, or their means."""
    means = [variable for variable in layer.weights if variable.name == "mu"]
    return means or layer.weights


def pair(make, weights, shape=SEQUENCES.shape, **options):
    """Our layer and Keras's, built, the latter's random weights in both."""
    ours, theirs = make(OURS[weights], **options), make(KERAS, **options)
    generator = np.random.default_rng(1)
    for layer in (ours, theirs):
        layer.build(shape)
    for mean, weight in zip(numbers(ours), trained(theirs), strict=True):
        value = generator.normal(scale=0.5, size=weight.shape)
        mean.assign(value), weight.assign(value)
    return ours, theirs


def trained(layer):
    """The weights of a layer of Keras's without the state that it keeps."""
    return [variable for variable in layer.weights if variable.name != "rnn_state"]


def outputs_and_gradients(layer, inputs, **kwargs):
    """All outputs, and the gradients of a sum over them of float inputs and states and of all weights."""
    variables = [variable.value for variable in trained(layer)]
    inputs = tf.convert_to_tensor(inputs)
    sources = [inputs] if inputs.dtype.is_floating else []
    if "initial_state" in kwargs:
        kwargs["initial_state"] = keras.tree.map_structure(tf.convert_to_tensor, kwargs["initial_state"])
        sources += keras.tree.flatten(kwargs["initial_state"])
    if any(variable.name == "mu" for variable in layer.weights):
        variables = [variable.value for variable in numbers(layer)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs = keras.tree.flatten(layer(inputs, **kwargs))
        terms = [tf.reduce_sum(tf.cast(out, tf.float64) * _signs(out)) for out in outputs]
        loss = tf.add_n(terms)
    gradients = tape.gradient(loss, [*sources, *variables], unconnected_gradients="zero")
    return [*outputs, *map(tf.convert_to_tensor, gradients)]


def _signs(outputs):
    return np.random.default_rng(2).normal(size=outputs.shape)


def assert_same(ours, theirs, inputs, tolerance=TOLERANCE, **kwargs):
    """The same outputs, dtypes and gradients of both."""
    got, expected = (outputs_and_gradients(layer, inputs, **kwargs) for layer in (ours, theirs))
    assert [each.dtype for each in got[:1]] == [each.dtype for each in expected[:1]]
    for index, (one, other) in enumerate(zip(got, expected, strict=True)):
        one, other = (np.asarray(tf.cast(each, tf.float64)) for each in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=f"part {index}")
