"""The GPU gives the CPU's numbers, where there is one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import ROWS, as_dataset, language_model, tokens, values, windows

from tfp_bayesrnn import PosteriorSharpening, noise
from tfp_bayesrnn.ops.gru import gru
from tfp_bayesrnn.ops.lstm import LSTMState, lstm

pytestmark = pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="there is no GPU")

DEVICES = ("/CPU:0", "/GPU:0")
# Sums in another order, and products in TF32 unless that is switched off, as here.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def full_precision():
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


def on_both(run):
    found = []
    for device in DEVICES:
        with tf.device(device):
            found.append([np.asarray(value) for value in tf.nest.flatten(run())])
    return found


def assert_close(run):
    on_cpu, on_gpu = on_both(run)
    for one, other in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


def random(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_noise(jit_compile):
    seed = noise.make_seed(3)
    assert_close(tf.function(lambda: noise.normal([1001], seed), jit_compile=jit_compile, autograph=False))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_lstm_and_its_gradients(jit_compile, masked):
    mask = tf.sequence_mask([9, 4, 0], 9) if masked else None
    inputs, state = random(3, 9, 5), LSTMState(random(3, 8, seed=1), random(3, 8, seed=2))
    weights = [random(5, 32, seed=3), random(8, 32, seed=4), random(32, seed=5)]

    def run():
        with tf.GradientTape() as tape:
            tape.watch([inputs, state, weights])
            outputs, last = lstm(inputs, state, *weights, mask=mask)
            total = tf.reduce_sum(tf.sin(outputs)) + tf.reduce_sum(last.cell)
        return outputs, tape.gradient(total, [inputs, *state, *weights])

    assert_close(tf.function(run, jit_compile=jit_compile, autograph=False))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gru_and_its_gradients(jit_compile):
    inputs, state = random(3, 9, 5), random(3, 8, seed=1)
    weights = [random(5, 24, seed=3), random(8, 24, seed=4), random(2, 24, seed=5)]

    def run():
        with tf.GradientTape() as tape:
            tape.watch([inputs, state, weights])
            outputs, _ = gru(inputs, state, *weights)
            total = tf.reduce_sum(tf.sin(outputs))
        return outputs, tape.gradient(total, [inputs, state, *weights])

    assert_close(tf.function(run, jit_compile=jit_compile, autograph=False))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("sharpened", [False, True])
def test_training(jit_compile, sharpened):
    data = as_dataset(windows(tokens(rows=ROWS)))

    def run():
        model = language_model(sharpening=PosteriorSharpening(0.3) if sharpened else None, run_eagerly=False)
        model.compile(keras.optimizers.SGD(0.3), clip_norm=2.0, jit_compile=jit_compile)
        losses = model.fit(data, epochs=2, verbose=0).history["loss"]
        return [np.array(losses), *values(model.trainable_variables)]

    on_cpu, on_gpu = on_both(run)
    for one, other in zip(on_gpu, on_cpu, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)  # Six updates on.
