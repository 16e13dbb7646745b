"""Trained Keras models of a few weights, and what the tests of their conversion ask of them."""

import keras
import numpy as np

from tfp_bayesrnn import (
    to_bayesian,
    to_deterministic,
)

layers = keras.layers


VOCABULARY, UNITS, ROWS, STEPS = 11, 3, 4, 5

# Float32 through a few layers of outputs of about 1; the two kinds sum in another order.
TOLERANCE = 1e-5


def ids(rows=ROWS, steps=STEPS, seed=0):
    values = np.random.default_rng(seed).integers(1, VOCABULARY, (rows, steps)).astype(np.int32)
    values[0, steps - 2 :] = 0  # Padding, for mask_zero.
    return values


def features(shape=(ROWS, STEPS, 4), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scramble(model, seed=1):
    """Weights that no initializer gives, biases included, so that none can be right by chance."""
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(generator.normal(scale=0.5, size=variable.shape))
    return model


def sequential(*parts, shape=(None, 4), dtype=None):
    return scramble(keras.Sequential([keras.Input(shape, dtype=dtype), *parts]))


def language_model(**options):
    return sequential(
        layers.Embedding(VOCABULARY, 4, **options),
        layers.LSTM(UNITS, return_sequences=True),
        layers.Dense(VOCABULARY),
        shape=(None,),
        dtype="int32",
    )


def converted(model, **options):
    return to_bayesian(model, **{"training_rows": 8, **options})


def assert_same(actual, expected, tolerance=TOLERANCE):
    flat = keras.tree.flatten(actual), keras.tree.flatten(expected)
    assert len(flat[0]) == len(flat[1])
    for one, other in zip(*flat, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def assert_round_trip(model, inputs, tolerance=TOLERANCE):
    """The mean of the converted model, and what comes back of it, against the model; returns both."""
    expected = model(inputs)
    bayesian = converted(model)
    assert bayesian.posterior.is_variational
    assert_same(bayesian(inputs), expected, tolerance)
    plain = to_deterministic(bayesian)
    assert_same(plain(inputs), expected, tolerance)
    return bayesian, plain


def configs(model):
    """Options of all layers by name, without those that only say how weights are first drawn."""
    return {
        layer.name: {**layer.get_config(), "build_config": None}
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, keras.Model)
    }


def wrap(merge_mode="concat", kind=layers.LSTM, **options):
    return layers.Bidirectional(kind(UNITS, **options), merge_mode=merge_mode, name="both")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def called(model, inputs):
    model(inputs)
    return model
