"""Inputs and layers of every dtype against Keras's own layers; and training under another `floatx`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity_models import LAYERS, RNG, SEQUENCES, TOLERANCE, assert_same, pair

from tfp_bayesrnn import BayesianModel, to_bayesian
from tfp_bayesrnn.layers import VariationalDense, VariationalGRUCell, VariationalLSTM
from tfp_bayesrnn.posterior.posterior import Posterior

COUNTS = RNG.integers(0, 3, SEQUENCES.shape)
SOME = ["Dense", "TimeDistributed(Dense)", "LSTM", "GRU", "RNN(cells)", "Bidirectional(LSTM)"]
# Of five steps, in units of a number around 1.
TOLERANCES = {"float64": 1e-12, "mixed_bfloat16": 0.05, "mixed_float16": 0.005, "float16": 0.005}

each_layer = pytest.mark.parametrize("name", SOME)


@pytest.fixture
def floatx(request):
    """`keras.config.floatx` for the length of a test."""
    compute_in(request.param)
    yield request.param
    compute_in("float32")


def compute_in(floatx):
    """As in a process that sets `floatx` before anything else: then the layers' policy follows it."""
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)


@pytest.mark.slow(every=3)
@each_layer
def test_inputs_are_cast(name):
    ours, theirs = pair(LAYERS[name], "posterior mean")
    for dtype in ("int32", "int64", "uint8", "bool", "float64", "float16"):
        output, expected = ours(COUNTS.astype(dtype)), theirs(COUNTS.astype(dtype))
        assert output.dtype == expected.dtype == tf.float32
        np.testing.assert_allclose(output, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=dtype)


@pytest.mark.slow(every=3)
@each_layer
@pytest.mark.parametrize("policy", TOLERANCES)
def test_policies(name, policy):
    ours, theirs = pair(LAYERS[name], "posterior mean", dtype=policy)
    for variable in theirs.weights:  # Ours are float32 under every policy.
        variable.assign(tf.cast(variable.value, tf.float32))
    output, expected = ours(COUNTS), theirs(COUNTS)
    assert output.dtype == expected.dtype
    output, expected = (tf.cast(each, tf.float64) for each in (output, expected))
    tolerance = max(TOLERANCES[policy], 1e-6)  # Numbers of float64 have been rounded to float32.
    np.testing.assert_allclose(output, expected, rtol=0, atol=tolerance)
    assert {v.dtype for v in ours.weights} == {"float32"}


@pytest.mark.parametrize("name", ["Dense", "LSTM", "RNN(cells)"])
@pytest.mark.parametrize("floatx", ["float64"], indirect=True)
def test_floatx(name, floatx):
    ours, theirs = pair(LAYERS[name], "posterior mean")
    assert_same(ours, theirs, SEQUENCES.astype(floatx), tolerance=1e-5)
    assert ours(COUNTS).dtype == floatx


def test_a_cell_by_itself():
    ours, theirs = VariationalGRUCell(3), keras.layers.GRUCell(3)
    ours.build((3, 4)), theirs.build((3, 4))
    for weight, mean in zip(theirs.weights, (v for v in ours.weights if v.name == "mu"), strict=True):
        weight.assign(mean)
    step, state = COUNTS[:, 0], np.ones((3, 3), np.float32)
    np.testing.assert_allclose(ours(step, [state])[0], theirs(step, [state])[0], rtol=1e-5, atol=1e-5)
    assert [type(cell(step, state)[1]) is list for cell in (ours, theirs)] == [False, False]


def losses(dtype=None):
    """Of a model of Keras's whose layers own their objective, at each of three steps."""
    keras.utils.set_random_seed(0)
    options = {"kl_weight": 0.01, "dtype": dtype}
    rnn = keras.layers.RNN(VariationalGRUCell(2, seed=2, **options), dtype=dtype)
    layers = [VariationalLSTM(2, seed=1, return_sequences=True, **options), rnn]
    model = keras.Sequential([*layers, VariationalDense(1, seed=3, **options)])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    history = model.fit(COUNTS, np.ones((3, 1)), epochs=3, verbose=0).history
    assert {v.dtype for v in Posterior.of(model).weights[0].variables} == {"float32"}
    return history["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("floatx", ["float64"], indirect=True)
def test_layers_own_their_objective_under_floatx(floatx):
    under_float64 = losses()
    compute_in("float32")
    np.testing.assert_allclose(under_float64, losses(), rtol=1e-5)


@pytest.mark.parametrize("floatx", ["float64"], indirect=True)
def test_a_bayesian_model_under_floatx(floatx):
    targets = np.array([0, 1, 2])

    def fitted():
        keras.utils.set_random_seed(0)
        penalised = keras.layers.Dense(2, kernel_regularizer="l2", kernel_initializer="ones")
        network = keras.Sequential([penalised, VariationalLSTM(2), VariationalDense(3)])
        model = BayesianModel(network, training_rows=3)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        history = model.fit(COUNTS, targets, epochs=2, verbose=0).history
        return [*history["loss"], model.evaluate(COUNTS, targets, verbose=0)[0]]

    under_float64 = fitted()
    compute_in("float32")
    np.testing.assert_allclose(under_float64, fitted(), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_regularizers_beside_them_may_have_another_dtype(dtype):
    layer = keras.layers.Dense(2, kernel_regularizer="l2", activity_regularizer="l2", dtype=dtype)
    model = BayesianModel(keras.Sequential([layer, VariationalLSTM(2), VariationalDense(3)]), training_rows=3)
    model.compile("sgd", run_eagerly=True)
    history = model.fit(SEQUENCES, np.array([0, 1, 2]), verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_conversion_of_float64_layers():
    layers = [keras.layers.LSTM(2, dtype="float64"), keras.layers.Dense(3, dtype="float64")]
    model = keras.Sequential([keras.Input(SEQUENCES.shape[1:]), *layers])
    bayesian = to_bayesian(model, training_rows=3)
    assert bayesian(COUNTS).dtype == tf.float64
    np.testing.assert_allclose(bayesian(COUNTS), model(COUNTS), rtol=0, atol=1e-6)
