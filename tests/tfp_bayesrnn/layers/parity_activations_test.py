"""Activations that look at more than a number, or than the last axis, against Keras's own layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity_models import FEATURES, LAYERS, OURS, RECURRENT, RNG, SEQUENCES, STEPS, assert_same, pair

from tfp_bayesrnn import to_bayesian, to_deterministic
from tfp_bayesrnn.errors import InputError

INPUTS = {
    "[B, D]": SEQUENCES[:, 0],
    "[B, T, D]": SEQUENCES,
    "[B, N, T, D]": RNG.normal(size=(2, 3, STEPS, FEATURES)).astype(np.float32),
}
ACTIVATIONS = {
    "softmax": "softmax",
    "softmax over the first axis": lambda x: tf.nn.softmax(x, axis=0),
    "softmax over the second axis": lambda x: tf.nn.softmax(x, axis=1),
    "sums over the second axis": lambda x: tf.cumsum(x, axis=1),
    "norm of a row": lambda x: (
        x / tf.sqrt(1.0 + tf.reduce_sum(x * x, list(range(1, len(x.shape))), keepdims=True))
    ),
    "a layer": keras.layers.Softmax(axis=1),
}


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("weights", OURS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense(activation, weights):
    for inputs in INPUTS.values():
        options = {"activation": ACTIVATIONS[activation]}
        assert_same(*pair(LAYERS["Dense"], weights, inputs.shape, **options), inputs)


def test_an_activation_that_halves_the_last_axis():
    ours, theirs = pair(lambda kinds: kinds.Dense(4, activation="glu"), "posterior mean")
    assert_same(ours, theirs, SEQUENCES)


def test_time_distributed():
    ours, theirs = pair(LAYERS["TimeDistributed(Dense)"], "posterior mean", activation=tf.nn.softmax)
    assert_same(ours, theirs, SEQUENCES)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "GRU, reset before"])
def test_gates_are_activated_one_by_one(name):
    options = {"recurrent_activation": "softmax", "activation": "softmax", "return_sequences": True}
    assert_same(*pair(RECURRENT[name], "posterior mean", **options), SEQUENCES)


def attention():
    """Weights of the steps by a softmax over time within a Dense."""
    inputs = keras.Input((STEPS, FEATURES))
    hidden = keras.layers.LSTM(3, return_sequences=True)(inputs)
    weights = keras.layers.Dense(1, activation=lambda x: keras.ops.softmax(x, axis=1), name="weights")(hidden)
    context = keras.layers.Lambda(lambda x: tf.reduce_sum(x[0] * x[1], axis=1))([weights, hidden])
    return keras.Model(inputs, keras.layers.Dense(2)(context))


def test_attention_is_converted():
    model = attention()
    bayesian = to_bayesian(model, training_rows=3)
    # Float32, sums of a few terms.
    np.testing.assert_allclose(bayesian(SEQUENCES), model(SEQUENCES), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(to_deterministic(bayesian)(SEQUENCES), model(SEQUENCES), rtol=1e-5, atol=1e-5)


def test_an_activation_with_weights_is_refused_in_conversion():
    model = keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(2, activation=keras.layers.PReLU())]
    )
    model(SEQUENCES[:, 0])
    with pytest.raises(InputError, match="a variational Dense has no activation with weights"):
        to_bayesian(model, training_rows=3)
