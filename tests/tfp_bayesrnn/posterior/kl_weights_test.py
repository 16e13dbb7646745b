"""The weight of the KL as a variable: moved while training, saved, resumed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import RecordingHooks, as_dataset, regression, regression_data

from tfp_bayesrnn import (
    ExactResume,
    NormalPrior,
    VariationalDense,
    VariationalGRU,
    VariationalLSTM,
    VariationalLSTMCell,
)
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import Loop

X, Y = regression_data()
ANNEALED = [0.0, 0.25, 1.0, 0.5]

# How an owner's weight is set, from a callback.
WAYS = {
    "the attribute": lambda owner, value: setattr(owner, "kl_weight", value),
    "the variable": lambda owner, value: owner.kl_weight.assign(value),
    "a NumPy number": lambda owner, value: setattr(owner, "kl_weight", np.float64(value)),
}
VARIABLES = {
    "keras.Variable": lambda: keras.Variable(1.0),
    "tf.Variable": lambda: tf.Variable(1.0),
    "tf.Variable, float64": lambda: tf.Variable(1.0, dtype=tf.float64),
}


class Annealing(keras.callbacks.Callback):
    """Sets the weight before every step, and keeps what the step's loss says that it was."""

    def __init__(self, assign):
        super().__init__()
        self.assign = assign
        self.found = []

    def on_epoch_begin(self, epoch, logs=None):
        self.assign(ANNEALED[epoch])

    def on_epoch_end(self, epoch, logs=None):
        # Of six rows with one prediction each, the mean over rows is `nll`.
        self.found.append((logs["free_energy"] - logs["nll"]) * 6 / logs["kl"])


def anneal(model, assign):
    callback = Annealing(assign)
    model.fit(X, Y, batch_size=6, epochs=len(ANNEALED), callbacks=[callback], verbose=0)
    np.testing.assert_allclose(callback.found, ANNEALED, atol=1e-4)


def compiled(model, **arguments):
    model.compile(keras.optimizers.SGD(0.01), **arguments)
    return model


class TestModel:
    @pytest.mark.slow
    @pytest.mark.parametrize("assign", WAYS.values(), ids=WAYS.keys())
    def test_moves_while_training(self, assign):
        model = compiled(regression(compiled=False), jit_compile=False)
        anneal(model, lambda value: assign(model, value))

    @pytest.mark.slow
    def test_moves_under_xla(self):
        model = compiled(regression(compiled=False), jit_compile=True)
        anneal(model, lambda value: setattr(model, "kl_weight", value))

    @pytest.mark.slow
    @pytest.mark.usefixtures("eagerly")
    def test_moves_on_every_replica(self, mirrored):
        with mirrored(2).scope():
            model = compiled(regression(compiled=False), jit_compile=False)
        anneal(model, lambda value: setattr(model, "kl_weight", value))

    @pytest.mark.slow(but=["tf.Variable, float64"])
    @pytest.mark.parametrize("make", VARIABLES.values(), ids=VARIABLES.keys())
    def test_is_the_variable_that_was_given(self, make):
        variable = make()
        model = compiled(regression(compiled=False, kl_weight=variable), jit_compile=False)
        assert model.kl_weight is variable
        anneal(model, variable.assign)
        assert not any(variable is weight for weight in model.weights)

    @pytest.mark.slow
    def test_another_variable_once_it_is_in_a_graph(self):
        model, variable = regression(run_eagerly=False), tf.Variable(0.25)
        model.kl_weight = variable
        assert model.kl_weight is variable
        model.step_kl_weight()
        model.fit(X, Y, verbose=0)
        with pytest.raises(ValueError, match=r"in a compiled function already.*Received: kl_weight=<tf.Var"):
            model.kl_weight = tf.Variable(0.5)
        model.kl_weight = 0.5
        assert float(variable) == 0.5

    def test_warm_up_rises_to_it(self):
        model = regression(kl_warmup_steps=4)
        model.kl_weight = 0.5
        for expected in (0.0, 0.125, 0.25, 0.375, 0.5, 0.5):
            logs = model.train_on_batch(X, Y, return_dict=True)
            np.testing.assert_allclose(
                (logs["free_energy"] - logs["nll"]) * 6 / logs["kl"], expected, atol=1e-5
            )

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize(
        "value", [-1.0, np.nan, np.inf, "much", None, [1.0, 2.0], tf.Variable(-0.5)], ids=str
    )
    def test_out_of_range(self, value):
        with pytest.raises(ValueError, match=r"Received: kl_weight="):
            regression(kl_weight=value)
        model = regression(kl_weight=0.25)
        with pytest.raises(ValueError, match=r"Received: kl_weight="):
            model.kl_weight = value
        assert float(model.kl_weight) == 0.25


class TestSaving:
    @pytest.mark.parametrize("make", [lambda: 1.0, *VARIABLES.values()], ids=["a number", *VARIABLES])
    def test_with_the_model_and_with_its_weights(self, tmp_path, make):
        model = regression(kl_weight=make())
        model.kl_weight = 0.3
        model.save(tmp_path / "m.keras")
        model.save_weights(tmp_path / "m.weights.h5")
        again = keras.models.load_model(tmp_path / "m.keras")
        assert float(again.kl_weight) == np.float32(0.3)
        assert again.get_config()["kl_weight"] == model.get_config()["kl_weight"] == 0.3
        again.kl_weight = 0.7
        again.load_weights(tmp_path / "m.weights.h5")
        assert float(again.kl_weight) == np.float32(0.3)

    def test_in_checkpoints(self, tmp_path):
        def run(directory, epochs, interrupted=False):
            model = regression(run_eagerly=True)
            state = Annealing(lambda value: setattr(model, "kl_weight", value))
            callbacks = [ExactResume(tmp_path / directory), *([state] if not interrupted else [])]
            model.fit(X, Y, shuffle=False, epochs=epochs, callbacks=callbacks, verbose=0)
            return model

        run("one", 2)
        assert float(run("one", 2, interrupted=True).kl_weight) == ANNEALED[1]

    @pytest.mark.usefixtures("eagerly")
    def test_in_those_of_the_loop_of_which_earlier_ones_lack_it(self, tmp_path):
        def loop():
            model = regression()
            data = as_dataset([(X, Y)])
            return model, Loop(model, lambda step: data.repeat(), 1, tmp_path)

        model, first = loop()
        model.kl_weight = 0.25
        first.run(0, 1, RecordingHooks())
        model, second = loop()
        assert second.restore() == 1
        assert float(model.kl_weight) == 0.25
        state = {**model.training_state(), "progress": second.progress}
        del state["kl_weight"]
        Checkpoints(tmp_path, state).save(2)
        model, third = loop()
        assert third.restore() == 2
        assert float(model.kl_weight) == 1.0


PRIOR = NormalPrior(1.0)  # Its KL does not depend on the draw.
LAYERS = {
    "dense": lambda **arguments: VariationalDense(1, prior=PRIOR, **arguments),
    "LSTM": lambda **arguments: VariationalLSTM(1, prior=PRIOR, **arguments),
    "GRU": lambda **arguments: VariationalGRU(1, prior=PRIOR, **arguments),
    "cell": lambda **arguments: keras.layers.RNN(VariationalLSTMCell(1, prior=PRIOR, **arguments)),
}


def by_layer(*names):
    return pytest.mark.parametrize("name", names or LAYERS)


class TestLayer:
    """A layer of a network that Keras itself trains."""

    def network(self, name, **arguments):
        keras.utils.set_random_seed(1)
        layer = LAYERS[name](**arguments)
        inputs = keras.Input((3,) if name == "dense" else (2, 3))
        network = keras.Sequential([inputs, layer])
        return network, getattr(layer, "cell", layer), (X if name == "dense" else np.stack([X, X], 1))

    @by_layer()
    def test_moves(self, name):
        network, owner, x = self.network(name, kl_weight=0.5)
        weights = len(network.weights)
        network(x, training=True)
        run = tf.function(lambda: (network(x, training=True), network.losses[0])[1], autograph=False)
        losses = []
        for value in (0.0, 0.5, 100.0):
            owner.kl_weight = value
            losses.append(float(run()))
        np.testing.assert_allclose(losses, [0.0, losses[1], 200.0 * losses[1]], rtol=1e-5)
        assert losses[1] > 0.0
        assert len(network.weights) == weights

    @pytest.mark.slow
    @by_layer("dense", "LSTM")
    def test_moves_in_fit(self, name):
        """Of the loss only the KL's part is left."""
        network, owner, x = self.network(name, kl_weight=1.0)
        network.compile(keras.optimizers.SGD(0.0), loss=lambda y, outputs: 0.0 * outputs, jit_compile=False)
        found = []

        class Moving(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                owner.kl_weight = [0.0, 1.0, 0.0][epoch]

            def on_epoch_end(self, epoch, logs=None):
                found.append(logs["loss"])

        network.fit(x, Y, epochs=3, callbacks=[Moving()], verbose=0)
        assert found[0] == found[2] == 0.0 and found[1] != 0.0

    @by_layer("dense", "LSTM")
    @pytest.mark.parametrize("make", VARIABLES.values(), ids=VARIABLES.keys())
    def test_is_the_variable_that_was_given(self, name, make):
        variable = make()
        network, owner, _ = self.network(name, kl_weight=variable)
        assert owner.kl_weight is network.layers[0].kl_weight is variable
        assert all(weight is not variable for weight in network.weights)

    @by_layer()
    def test_is_saved(self, tmp_path, name):
        network, owner, _ = self.network(name, kl_weight=0.5)
        owner.kl_weight = 0.3
        network.save(tmp_path / "n.keras")
        network.save_weights(tmp_path / "n.weights.h5")
        again = keras.models.load_model(tmp_path / "n.keras")
        layer = getattr(again.layers[0], "cell", again.layers[0])
        assert layer.get_config()["kl_weight"] == 0.3
        layer.kl_weight = 0.9
        again.load_weights(tmp_path / "n.weights.h5")
        assert float(layer.kl_weight) == np.float32(0.3)

    @by_layer("dense", "LSTM")
    def test_out_of_range(self, name):
        with pytest.raises(ValueError, match=r"Received: kl_weight=-1"):
            LAYERS[name](kl_weight=-1.0)
        layer = LAYERS[name]()
        assert layer.kl_weight is None
        layer.kl_weight = 0.5
        with pytest.raises(ValueError, match=r"Received: kl_weight=nan"):
            layer.kl_weight = np.nan
        assert float(layer.kl_weight) == 0.5
        layer.kl_weight = None
        assert layer.kl_weight is None
