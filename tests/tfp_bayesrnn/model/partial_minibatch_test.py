"""Cells in Keras's loops under XLA, with a number of rows that is not known when the step is traced."""

import keras
import pytest
import tensorflow as tf
from parity_models import FEATURES, RECURRENT, SEQUENCES, STEPS, TOLERANCE, numbers, pair, trained

from tfp_bayesrnn import ops


@pytest.mark.slow
def test_gradients_compile_for_any_number_of_rows():
    """As in the last minibatch of an epoch, for which Keras traces the step again."""
    ours, theirs = pair(RECURRENT["RNN(cells)"], "posterior mean")

    def gradients(layer, variables, inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(inputs)))
        return tape.gradient(loss, [variable.value for variable in variables])

    @tf.function(jit_compile=True)
    def compiled(inputs):
        return gradients(ours, numbers(ours), inputs)

    @tf.function(input_signature=[tf.TensorSpec([None, STEPS, FEATURES])])
    def step(inputs):
        return compiled(inputs)

    for got, expected in zip(step(SEQUENCES), gradients(theirs, trained(theirs), SEQUENCES), strict=True):
        tf.debugging.assert_near(got, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_product_within_a_loop_compiles_for_any_number_of_rows():
    """Of three axes too, as of a layer that a user's own loop calls."""
    kernel = tf.constant(SEQUENCES[0, :FEATURES])

    @tf.function(jit_compile=True)
    def compiled(inputs):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            body = lambda count, x: (count + 1, tf.tanh(ops.project(x, kernel, None)))  # noqa: E731
            _, outputs = tf.while_loop(lambda count, _: count < 2, body, (0, inputs), maximum_iterations=2)
        return tape.gradient(outputs, kernel)

    step = tf.function(compiled, input_signature=[tf.TensorSpec([None, None, FEATURES])])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        outputs = SEQUENCES
        for _ in range(2):
            outputs = tf.tanh(keras.ops.matmul(outputs, kernel))
    tf.debugging.assert_near(step(SEQUENCES), tape.gradient(outputs, kernel), rtol=1e-5, atol=1e-5)
