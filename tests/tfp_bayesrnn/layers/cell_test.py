"""Cells of one's own: what they declare is what they have, and one step is enough for a layer."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from bayes_oracles import normal_kl
from rnn_oracles import ALL_OPTIONS, BATCH, FEATURES, MASK, STEPS, UNITS, assert_all_close, evaluate, example

from tfp_bayesrnn import (
    CellWeight,
    MeanFieldNormal,
    NormalPrior,
    VariationalGRU,
    VariationalGRUCell,
    VariationalLSTM,
    VariationalLSTMCell,
    VariationalMGU,
    VariationalRNN,
    VariationalRNNCell,
    ops,
)
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Posterior

INPUTS = np.random.default_rng(0).normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
TOLERANCE = 1e-5  # Of float32 over five steps.


@keras.saving.register_keras_serializable("cell_test")
class MinGRUCell(VariationalRNNCell):
    """Feng et al. (2024): nothing of a step but its last line depends on the state."""

    without = ("recurrent_initializer", "recurrent_dropout")

    def declare_weights(self, features):
        yield CellWeight("kernel", (features, 2 * self.units), self.kernel_initializer)
        if self.use_bias:
            yield CellWeight("bias", (2 * self.units,), self.bias_initializer, self.variational_bias)

    def project(self, weights, inputs):
        z, g = tf.split(ops.project(inputs, weights["kernel"], weights.get("bias")), 2, axis=-1)
        return {"gate": self.recurrent_activation(z), "candidate": self.activation(g)}

    def step(self, weights, inputs, state):
        (hidden,) = state
        hidden = hidden + inputs["gate"] * (inputs["candidate"] - hidden)
        return hidden, [hidden]


@keras.saving.register_keras_serializable("cell_test")
class MinGRU(VariationalRNN):
    """Its layer."""

    cell_class = MinGRUCell


@keras.saving.register_keras_serializable("cell_test")
class ProjectedCell(VariationalRNNCell):
    """States of two sizes, an output of a third, and a weight without a distribution."""

    def __init__(self, units, *args, memory: int = 3, **kwargs):
        """Builds the cell.

        Args:
          memory: the size of what is
            remembered.
        """
        super().__init__(units, *args, **kwargs)
        self.memory = memory

    state_sizes = property(lambda self: (self.units, self.memory))
    output_size = property(lambda self: self.units + self.memory)

    def declare_weights(self, features):
        yield CellWeight("kernel", (features + self.units, self.memory), self.kernel_initializer)
        yield CellWeight("out", (self.memory, self.units), "orthogonal")
        yield CellWeight("peephole", (self.memory,), "ones", variational=False)

    def step(self, weights, inputs, state):
        hidden, memory = state
        entering = tf.concat([inputs, weights.dropped(hidden)], axis=-1)
        memory = memory * weights["peephole"] + tf.matmul(entering, weights["kernel"])
        hidden = tf.matmul(tf.tanh(memory), weights["out"])
        return tf.concat([hidden, memory], axis=-1), [hidden, memory]

    def get_config(self):
        return {**super().get_config(), "memory": self.memory}


@keras.saving.register_keras_serializable("cell_test")
class Projected(VariationalRNN):
    """Its layer."""

    cell_class = ProjectedCell


@pytest.mark.parametrize(
    "make, shapes, deterministic",
    [
        (MinGRU, {"kernel": (FEATURES, 2 * UNITS), "bias": (2 * UNITS,)}, set()),
        (Projected, {"kernel": (FEATURES + UNITS, 3), "out": (3, UNITS), "peephole": (3,)}, {"peephole"}),
    ],
)
def test_a_layer_has_the_weights_that_its_cell_declares(make, shapes, deterministic):
    layer = make(UNITS, prior=NormalPrior(0.2), kl_weight=1.0)
    layer.build(INPUTS.shape)
    weights = Posterior.of(layer).weights
    assert {weight.name: weight.shape for weight in weights} == shapes
    assert {weight.name for weight in weights if not weight.is_variational} == deterministic
    layer(INPUTS, training=True)
    expected = sum(normal_kl(weight.mu, weight.rho, 0.2) for weight in weights if weight.is_variational)
    np.testing.assert_allclose(layer.losses, [expected], rtol=1e-5)


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("make", [MinGRU, Projected])
@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": True, "return_state": True},
        {"go_backwards": True, "return_sequences": True},
        {"zero_output_for_mask": True},
    ],
    ids=str,
)
def test_the_loop_is_that_of_keras(make, options):
    """Keras's own loop over the same cell, under a draw with masks of dropout."""
    rates = {"dropout": 0.3} if make is MinGRU else {"dropout": 0.3, "recurrent_dropout": 0.4}
    layer = make(UNITS, posterior=MeanFieldNormal((0.1, 0.2)), kl_weight=0.0, **options, **rates)
    layer.build(INPUTS.shape)
    theirs = keras.layers.RNN(layer.cell, **options)
    assert layer.compute_output_shape(INPUTS.shape) == theirs.compute_output_shape(INPUTS.shape)
    draw = Posterior.of(layer).sample(1)
    for mask in (None, MASK):
        results = []
        for each in (layer, theirs):
            with ambient.under(draw), tf.GradientTape() as tape:
                outputs = each(INPUTS, mask=mask, training=True)
                loss = tf.add_n([tf.reduce_sum(part**2) for part in tf.nest.flatten(outputs)])
            results.append([outputs, tape.gradient(loss, [draw[w] for w in Posterior.of(layer).weights])])
        assert [g is None for g in results[0][1]] == [g is None for g in results[1][1]]
        assert_all_close(results[0][0], results[1][0], TOLERANCE)


def test_they_are_saved_and_wrapped(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((STEPS, FEATURES)),
            keras.layers.Bidirectional(Projected(2, memory=4, return_sequences=True)),
            MinGRU(3, use_bias=False, return_sequences=True, activation="relu"),
            keras.layers.RNN([ProjectedCell(2), MinGRUCell(3)], unroll=True),
        ]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(INPUTS), model(INPUTS))
    assert loaded.layers[1].get_config() == model.layers[1].get_config()


@pytest.mark.parametrize("options", [{}, {"mask": MASK, "go_backwards": True}, ALL_OPTIONS], ids=str)
def test_the_loop_is_the_kernel_written_by_hand(options):
    inputs, state, weights = example(4, 2, (4 * UNITS,))
    options = dict(options)
    dropped = options.pop("recurrent_dropout_mask", None)

    def by_steps(inputs, state, weights, **options):
        def step(inputs, state):
            state = ops.LSTMState(*state)
            return ops.lstm_step(inputs, state, *weights, recurrent_dropout_mask=dropped)

        return ops.recur(step, inputs, state, UNITS, **options)

    def by_hand(inputs, state, weights, **options):
        outputs, state = ops.lstm(
            inputs, ops.LSTMState(*state), *weights, recurrent_dropout_mask=dropped, **options
        )
        return outputs, list(state)

    arguments = (inputs, state, weights)
    assert_all_close(evaluate(by_steps, arguments, **options), evaluate(by_hand, arguments, **options), 1e-12)


def test_a_step_of_ones_own_has_no_kernel_of_the_parents():
    class NegatedCell(VariationalLSTMCell):
        def step(self, weights, inputs, state):
            output, (hidden, cell) = super().step(weights, inputs, state)
            return -output, [hidden, cell]

    class Negated(VariationalRNN):
        cell_class = NegatedCell

    layer = Negated(UNITS, return_sequences=True)
    outputs = layer(INPUTS, mask=MASK)
    assert_all_close(
        outputs, keras.layers.RNN(layer.cell, return_sequences=True)(INPUTS, mask=MASK), TOLERANCE
    )
    assert np.abs(outputs).max() > 1e-3


class TestSignatures:
    @pytest.mark.parametrize(
        "made, before, own, removed",
        [
            (VariationalLSTM, "dropout", "unit_forget_bias", ()),
            (VariationalGRU, "dropout", "reset_after", ()),
            (VariationalMGU, "", "", ()),
            (MinGRU, "", "", MinGRUCell.without),
            (Projected, "dropout", "memory", ()),
            (VariationalGRUCell, "kwargs", "reset_after", ()),
            (ProjectedCell, "kwargs", "memory", ()),
            (MinGRUCell, "", "", MinGRUCell.without),
        ],
    )
    def test_all_arguments_are_shown_and_described(self, made, before, own, removed):
        shared = (
            "units activation recurrent_activation use_bias kernel_initializer recurrent_initializer "
            "bias_initializer dropout recurrent_dropout prior posterior variational_bias kl_weight seed"
        )
        of_layers = "return_sequences return_state go_backwards stateful zero_output_for_mask"
        expected = [
            *shared.split(),
            *(of_layers.split() if issubclass(made, VariationalRNN) else ()),
            "kwargs",
        ]
        if own:
            expected.insert(expected.index(before), own)
        signature = inspect.signature(made)
        assert list(signature.parameters) == [name for name in expected if name not in removed]
        described = inspect.getdoc(made.__init__)
        for name in signature.parameters:
            assert f"  {name.replace('kwargs', '**kwargs')}: " in described, name

    def test_what_they_say(self):
        described = inspect.getdoc(VariationalLSTM.__init__)
        assert described.startswith("Builds the layer.\n\nArgs:\n  units: U, the size of the output")
        assert "\n  memory: the size of what is\n    remembered.\n" in inspect.getdoc(Projected.__init__)
        defaults = inspect.signature(VariationalLSTM).parameters
        assert defaults["recurrent_initializer"].default == "orthogonal" and defaults["seed"].default is None

    def test_arguments_by_position(self):
        layer = VariationalLSTM(3, "relu", "sigmoid", False, "zeros", "ones", "ones", False, 0.1, 0.2)
        config = layer.get_config()
        assert (config["unit_forget_bias"], config["dropout"], config["recurrent_dropout"]) == (
            False,
            0.1,
            0.2,
        )
        assert VariationalLSTMCell(3, "relu", unit_forget_bias=False).get_config()["activation"] == "relu"

    @pytest.mark.parametrize(
        "arguments, error",
        [
            ((), TypeError),
            ((3, "tanh", {"activation": "tanh"}), TypeError),
            ((3, {"unknown": 1}), ValueError),
            ((0,), ValueError),
            ((3, {"dropout": 1.0}), ValueError),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("make", [VariationalLSTM, MinGRU])
    def test_arguments_that_do_not_fit(self, make, arguments, error):
        named = arguments[-1] if arguments and isinstance(arguments[-1], dict) else {}
        with pytest.raises(error):
            make(*(each for each in arguments if each is not named), **named)

    def test_a_layer_with_a_constructor_of_its_own(self):
        class Doubled(MinGRU):
            cell_class = MinGRUCell

            def __init__(self, units, **kwargs):
                super().__init__(2 * units, **kwargs)

        class Direct(VariationalRNN):
            cell_class = MinGRUCell

            def __init__(self, units, *args, **kwargs):
                super().__init__(units, *args, **kwargs)

        assert Doubled(2, return_sequences=True)(INPUTS).shape == (BATCH, STEPS, 4)
        assert Direct(3, "relu", go_backwards=True).cell.activation is keras.activations.relu

    @pytest.mark.parametrize("make", [MinGRU, MinGRUCell])
    def test_what_a_cell_has_no_use_for_is_refused(self, make):
        with pytest.raises(ValueError, match=r"has no recurrent_dropout\. Received: recurrent_dropout=0\.5"):
            make(3, recurrent_dropout=0.5)
        assert "recurrent_dropout" not in make(3).get_config()


class TestCellsThatAreWrong:
    @pytest.mark.parametrize("name", ["dropout", "weights", "kernel", "a/b", ""])
    def test_names_that_are_taken(self, name):
        class Cell(MinGRUCell):
            def declare_weights(self, features):
                yield from super().declare_weights(features)
                yield CellWeight(name, (1,), "zeros")

        with pytest.raises(ValueError, match=f"Received: name='{name}'"):
            Cell(2).build((None, FEATURES))

    @pytest.mark.parametrize(
        "result",
        [
            lambda h: h,
            lambda h: (h, h),
            lambda h: (h, [h, h]),
            lambda h: (h[:, :1], [h]),
            lambda h: (tf.cast(h, tf.float64), [h]),
        ],
    )
    def test_steps_that_return_something_else(self, result):
        class Cell(MinGRUCell):
            def step(self, weights, inputs, state):
                return result(state[0])

        class Layer(VariationalRNN):
            cell_class = Cell

        for layer in (Layer(2), keras.layers.RNN(Cell(2))):
            with pytest.raises(ValueError, match=r"must return an output \[B, 2\]"):
                layer(INPUTS)

    def test_what_is_missing(self):
        with pytest.raises(TypeError, match="has no cell_class"):
            VariationalRNN(2)

        class Nothing(VariationalRNN):
            cell_class = VariationalRNNCell

        with pytest.raises(NotImplementedError, match="must define declare_weights"):
            Nothing(2)(INPUTS)
        with pytest.raises(ValueError, match="size of the inputs"):
            MinGRUCell(2).build((None, None))
