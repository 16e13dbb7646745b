"""NumPy recurrences, and the checks that every recurrence of `tfp_bayesrnn.ops` goes through.

B batch, T time, D input features, U units. An RNN here is `run(inputs, state, weights, **options)` with lists
of states and weights (kernel, recurrent kernel, perhaps bias), returning (outputs, list of states).
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

BATCH, STEPS, FEATURES, UNITS = 3, 5, 4, 6
# Row 0 has holes, row 1 starts late, row 2 is masked throughout.
MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
DROPOUT_MASK = 2.0 * (np.random.default_rng(1).random((BATCH, UNITS)) < 0.5)
ALL_OPTIONS = {"mask": MASK, "recurrent_dropout_mask": DROPOUT_MASK, "go_backwards": True}
OTHER_ACTIVATIONS = {"activation": tf.nn.softsign, "recurrent_activation": keras.ops.hard_sigmoid}

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": tf.function(jit_compile=True),
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(x, state, weights, dropout=1.0):
    hidden, cell = state
    kernel, recurrent_kernel, *bias = weights
    i, f, g, o = np.split(x @ kernel + (dropout * hidden) @ recurrent_kernel + sum(bias), 4, axis=-1)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(cell), cell]


def gru_step(x, state, weights, dropout=1.0, reset_after=True):
    (hidden,) = state
    kernel, recurrent_kernel, *bias = weights
    bias, inner_bias = (
        (bias[0] if reset_after else [bias[0], 0 * bias[0]]) if bias else np.zeros((2, 3 * UNITS))
    )
    x_z, x_r, x_g = np.split(x @ kernel + bias, 3, axis=-1)
    r_z, r_r, r_g = np.split(recurrent_kernel, 3, axis=-1)
    b_z, b_r, b_g = np.split(inner_bias, 3)
    entering = dropout * hidden
    z, r = sigmoid(x_z + entering @ r_z + b_z), sigmoid(x_r + entering @ r_r + b_r)
    g = np.tanh(x_g + (r * (entering @ r_g + b_g) if reset_after else (r * entering) @ r_g))
    return [z * hidden + (1 - z) * g]


def mgu_step(x, state, weights, dropout=1.0):
    (hidden,) = state
    kernel, recurrent_kernel, *bias = weights
    x_f, x_g = np.split(x @ kernel + sum(bias), 2, axis=-1)
    r_f, r_g = np.split(recurrent_kernel, 2, axis=-1)
    entering = dropout * hidden
    f = sigmoid(x_f + entering @ r_f)
    g = np.tanh(x_g + (f * entering) @ r_g)
    return [(1 - f) * hidden + f * g]


def sequence(step, inputs, state, weights, mask=None, go_backwards=False, **options):
    """`step` over time; a masked row keeps its state and repeats its last output, at first zeros."""
    order = range(inputs.shape[1])[:: -1 if go_backwards else 1]
    output, outputs = np.zeros_like(state[0]), []
    for time in order:
        new = step(inputs[:, time], state, weights, **options)
        valid = np.ones((len(inputs), 1), bool) if mask is None else mask[:, time, np.newaxis]
        state = [np.where(valid, a, b) for a, b in zip(new, state, strict=True)]
        output = np.where(valid, state[0], output)
        outputs.append(output)
    return np.stack(outputs, axis=1), state


def example(gates, states, bias_shape, dtype="float64", steps=STEPS, batch=BATCH, seed=0):
    """Random (inputs, states, weights); `bias_shape` None leaves the bias out."""
    rng = np.random.default_rng(seed)
    width = gates * UNITS
    shapes = [(FEATURES, width), (UNITS, width)] + ([] if bias_shape is None else [bias_shape])
    inputs = rng.normal(size=(batch, steps, FEATURES))
    state = [rng.normal(size=(batch, UNITS)) for _ in range(states)]
    weights = [rng.normal(size=shape, scale=0.5) for shape in shapes]
    return tf.nest.map_structure(lambda value: tf.constant(value, dtype), (inputs, state, weights))


def scalar(outputs, state, used):
    """A loss under which every entry of what is `used` ("outputs", "state" or "both") counts differently."""
    parts = {"outputs": [outputs], "state": state, "both": [outputs, *state]}[used]
    ramps = [tf.reshape(tf.cast(tf.linspace(-1.0, 1.0, tf.size(p)), p.dtype), tf.shape(p)) for p in parts]
    return tf.add_n([tf.reduce_sum(p * ramp + p * p) for p, ramp in zip(parts, ramps, strict=True)])


def evaluate(run, arguments, used="both", mode="eager", **options):
    """Flat list: outputs, states, then the gradients of `scalar` by inputs, states and weights."""

    def function(arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            outputs, state = run(*arguments, **options)
            loss = scalar(outputs, state, used)
        return [outputs, state, tape.gradient(loss, arguments, unconnected_gradients="zero")]

    return tf.nest.flatten(MODES[mode](function)(arguments))


def gradients(run, arguments, used="both", **options):
    """Gradients of `scalar` by each of `arguments`, as a flat list; differentiable itself."""
    flat = tf.nest.flatten(arguments)
    with tf.GradientTape() as tape:
        tape.watch(flat)
        outputs, state = run(*tf.nest.pack_sequence_as(arguments, flat), **options)
        loss = scalar(outputs, state, used)
    return tape.gradient(loss, flat)


def slopes(function, arguments, step=1e-5):
    """Central differences of a scalar along one random direction of each argument, and the directions."""
    flat = tf.nest.flatten(arguments)
    rng = np.random.default_rng(2)
    directions = [rng.normal(size=value.shape) for value in flat]

    def at(index, distance):
        moved = list(flat)
        moved[index] += distance * directions[index]
        return function(tf.nest.pack_sequence_as(arguments, moved)).numpy()

    return [(at(k, step) - at(k, -step)) / (2 * step) for k in range(len(flat))], directions


def numpy_of(*values):
    return tf.nest.map_structure(lambda value: value.numpy(), values)


def assert_all_close(actual, expected, tolerance):
    actual, expected = tf.nest.flatten(actual), tf.nest.flatten(expected)
    assert len(actual) == len(expected)
    for index, (a, b) in enumerate(zip(actual, expected, strict=True)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=f"entry {index}")


class RecurrenceChecks:
    """Subclassed, as `Test...`, once for each recurrence."""

    gates: int
    states: int
    bias_shape: tuple

    def run(self, inputs, state, weights, **options):
        """The function under test as `(outputs, list of states)`."""
        raise NotImplementedError

    def run_step(self, inputs, state, weights, **options):
        """Its single step, in the same form."""
        raise NotImplementedError

    def oracle_step(self, inputs, state, weights, **options):
        raise NotImplementedError

    def keras_layer(self, **options):
        raise NotImplementedError

    def example(self, bias=True, **options):
        return example(self.gates, self.states, self.bias_shape if bias else None, **options)

    def run_keras(self, inputs, state, weights, mask=None, **options):
        """The Keras layer as a function of its weights, so that it differentiates by them."""
        layer = self.keras_layer(
            units=UNITS, return_sequences=True, return_state=True, use_bias=len(weights) == 3, **options
        )
        layer.build(inputs.shape)
        with keras.StatelessScope(state_mapping=list(zip(layer.trainable_variables, weights, strict=True))):
            outputs, *state = layer(inputs, initial_state=state, mask=mask)
        return outputs, state

    @pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
    @pytest.mark.parametrize("dropout", [None, DROPOUT_MASK], ids=["no dropout", "dropout"])
    def test_one_step_matches_numpy(self, bias, dropout):
        inputs, state, weights = self.example(bias=bias)
        x = inputs[:, 0]
        expected = self.oracle_step(*numpy_of(x, state, weights), dropout=1.0 if dropout is None else dropout)
        output, new_state = self.run_step(x, state, weights, recurrent_dropout_mask=dropout)
        assert_all_close([output, new_state], [expected[0], expected], 1e-12)

    @pytest.mark.parametrize(
        "bias, options",
        [
            pytest.param(True, {}, id="plain"),
            pytest.param(False, {}, id="no bias"),
            pytest.param(True, {"mask": MASK}, id="mask"),
            pytest.param(True, {"go_backwards": True}, id="backwards"),
            pytest.param(True, {"recurrent_dropout_mask": DROPOUT_MASK}, id="dropout"),
            pytest.param(False, ALL_OPTIONS, id="all options"),
        ],
    )
    def test_sequence_matches_numpy(self, bias, options):
        arguments = self.example(bias=bias)
        oracle_options = dict(options)
        if "recurrent_dropout_mask" in options:
            oracle_options["dropout"] = oracle_options.pop("recurrent_dropout_mask")
        expected = sequence(self.oracle_step, *numpy_of(*arguments), **oracle_options)
        assert_all_close(self.run(*arguments, **options), expected, 1e-12)

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize(
        "mode, bias, options",
        [
            pytest.param("eager", True, {}, id="eager"),
            pytest.param("graph", False, {}, id="no bias"),
            pytest.param("graph", True, {"mask": MASK}, id="mask"),
            pytest.param("graph", True, {"mask": MASK, "go_backwards": True}, id="mask, backwards"),
            # Neither tanh nor sigmoid: the loop under automatic differentiation.
            pytest.param("graph", True, OTHER_ACTIVATIONS, id="other activations"),
            pytest.param("eager", False, {**OTHER_ACTIVATIONS, "mask": MASK}, id="other activations, mask"),
        ],
    )
    def test_agrees_with_keras_in_values_and_gradients(self, mode, bias, options):
        arguments = self.example(bias=bias, dtype="float32")
        ours = evaluate(self.run, arguments, mode=mode, **options)
        assert_all_close(ours, evaluate(self.run_keras, arguments, **options), 1e-5)

    @pytest.mark.parametrize(
        "used, options", [("state", {}), ("outputs", ALL_OPTIONS)], ids=["state", "outputs"]
    )
    @pytest.mark.slow(but=["state"])
    def test_gradient_matches_finite_differences(self, used, options):
        arguments = self.example()
        run = tf.function(lambda arguments: scalar(*self.run(*arguments, **options), used))
        expected, directions = slopes(run, arguments)
        actual = tf.function(lambda arguments: gradients(self.run, arguments, used, **options))(arguments)
        along = [np.sum(g * d) for g, d in zip(actual, directions, strict=True)]
        assert_all_close(along, expected, 1e-7)

    @pytest.mark.parametrize("activation", [tf.tanh, tf.nn.softsign], ids=["tanh", "softsign"])
    @pytest.mark.slow
    def test_xla_agrees_with_eager(self, activation):
        arguments = self.example()
        options = {**ALL_OPTIONS, "activation": activation}
        expected = evaluate(self.run, arguments, **options)
        assert_all_close(evaluate(self.run, arguments, mode="xla", **options), expected, 1e-10)

    def test_batch_and_time_may_be_unknown_when_tracing(self):
        _, state, weights = self.example()
        floats = [tf.TensorSpec([None, *value.shape[1:]], tf.float64) for value in state]

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None, FEATURES], tf.float64),
                floats,
                tf.TensorSpec([None, None], tf.bool),
            ]
        )
        def traced(inputs, state, mask):
            return evaluate(self.run, (inputs, state, weights), mask=mask)

        for batch, steps in [(3, 5), (2, 1), (1, 7)]:
            inputs, state, _ = self.example(batch=batch, steps=steps)
            mask = tf.constant(np.random.default_rng(3).random((batch, steps)) < 0.7)
            expected = evaluate(self.run, (inputs, state, weights), mask=mask)
            assert_all_close(traced(inputs, state, mask), expected, 1e-10)

    @pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 0.2), ("float16", 0.02), ("float32", 1e-4)])
    def test_dtype_is_kept(self, dtype, tolerance):
        arguments = self.example()
        expected = evaluate(self.run, arguments, mask=MASK)
        low = tf.nest.map_structure(lambda value: tf.cast(value, dtype), arguments)
        actual = evaluate(self.run, low, mode="graph", mask=MASK)
        assert {value.dtype.name for value in actual} == {dtype}
        for a, b in zip(actual, expected, strict=True):  # Relative to the largest entry: rounding adds up.
            assert_all_close(
                tf.cast(a, tf.float64) / tf.reduce_max(abs(b)), b / tf.reduce_max(abs(b)), tolerance
            )

    @pytest.mark.slow
    def test_second_derivatives_match_finite_differences(self):
        arguments = self.example(steps=3)
        options = {"mask": MASK[:, :3], "recurrent_dropout_mask": DROPOUT_MASK}

        def squared_gradient(arguments):
            return tf.add_n([tf.reduce_sum(g * g) for g in gradients(self.run, arguments, **options)])

        def second(arguments):
            with tf.GradientTape() as tape:
                tape.watch(arguments)
                value = squared_gradient(arguments)
            return tf.nest.flatten(tape.gradient(value, arguments))

        expected, directions = slopes(tf.function(squared_gradient), arguments, step=1e-6)
        for mode in ["eager", "graph"]:
            actual = MODES[mode](second)(arguments)
            along = [np.sum(g * d) for g, d in zip(actual, directions, strict=True)]
            assert_all_close(along, expected, 1e-6)

    @pytest.mark.parametrize("activation", [tf.tanh, tf.nn.softsign], ids=["tanh", "softsign"])
    def test_no_gradient_reaches_the_dropout_mask(self, activation):
        mask = tf.constant(DROPOUT_MASK)
        with tf.GradientTape() as tape:
            tape.watch(mask)
            outputs, _ = self.run(*self.example(), recurrent_dropout_mask=mask, activation=activation)
        assert tape.gradient(outputs, mask) is None

    @pytest.mark.parametrize("changed", ["inputs", "state", "kernel", "recurrent_kernel", "bias"])
    def test_shapes_that_do_not_fit_are_named(self, changed):
        inputs, state, weights = self.example()
        if changed == "inputs":
            inputs = inputs[:, 0]
        elif changed == "state":
            state[-1] = state[-1][:, 1:]
        else:
            index = ["kernel", "recurrent_kernel", "bias"].index(changed)
            weights[index] = weights[index][..., 1:]
        with pytest.raises(ValueError, match=rf"^{changed} must .* Received: {changed}.shape="):
            self.run(inputs, state, weights)

    def test_mask_of_the_wrong_rank_is_named(self):
        with pytest.raises(ValueError, match=r"Received: mask.shape="):
            self.run(*self.example(), mask=MASK[0])
