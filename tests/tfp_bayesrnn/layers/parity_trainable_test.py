"""`trainable` against Keras's own layers, at every moment that it can be set."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity_models import FEATURES, KERAS, LAYERS, OURS, SEQUENCES, STEPS, trained

from tfp_bayesrnn import BayesianModel, to_bayesian, to_deterministic
from tfp_bayesrnn.distributions import NormalPrior
from tfp_bayesrnn.layers import VariationalDense, VariationalGRU, VariationalLSTM
from tfp_bayesrnn.posterior.posterior import Posterior

SHAPE = (STEPS, FEATURES)
TARGETS = np.array([0, 1, 2])


def network(make, kinds, moment):
    """Two layers, of which the first is frozen at a moment, and what saving and copying make of them."""
    first = make(kinds, trainable=False) if moment == "constructor" else make(kinds)
    model = keras.Sequential([first, keras.layers.Flatten(), kinds.Dense(3)])
    if moment == "before build":
        first.trainable = False
    model.build((None, *SHAPE))
    if moment == "after build":
        first.trainable = False
    if moment == "thawed":
        first.trainable = False
        first.trainable = True
    if moment == "weight":
        numbers_of(first)[0].trainable = False
    return model


def numbers_of(layer):
    """The variables that both kinds have."""
    return [v for v in layer.weights if v.name == "mu"] or trained(layer)


def trains(model):
    return [variable.trainable for variable in numbers_of(model)]


def saved(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


MOMENTS = ["constructor", "before build", "after build", "thawed", "weight"]


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_is_trained_is_what_keras_trains(name, moment, tmp_path):
    if moment == "weight" or (moment == "constructor" and name == "RNN(cells)"):
        copies = {"itself": lambda model: model}
    else:
        copies = {"itself": lambda model: model, "clone": keras.models.clone_model}
    ours, theirs = (network(LAYERS[name], kinds, moment) for kinds in (OURS["posterior mean"], KERAS))
    for copy in copies.values():
        one, other = copy(ours), copy(theirs)
        assert trains(one) == trains(other)
        assert len(one.trainable_variables) == sum(
            len(weight.variables) if weight.mu.trainable else 1 if moment == "weight" else 0
            for weight in Posterior.of(one).weights
        )
        assert one.layers[0].trainable == other.layers[0].trainable


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("name", ["Dense", "LSTM", "RNN(cells)", "Bidirectional(GRU)"])
@pytest.mark.parametrize("moment", ["before build", "after build"])
def test_saving_keeps_what_is_frozen(name, moment, tmp_path):
    ours, theirs = (network(LAYERS[name], kinds, moment) for kinds in (OURS["posterior mean"], KERAS))
    loaded, expected = (saved(model, tmp_path) for model in (ours, theirs))
    assert trains(loaded) == trains(expected)
    assert len(loaded.trainable_variables) == len(ours.trainable_variables)
    np.testing.assert_array_equal(loaded(SEQUENCES), ours(SEQUENCES))
    # Weights alone say nothing of what is trained.
    ours.save_weights(tmp_path / "model.weights.h5")
    loaded.layers[0].trainable = True
    loaded.load_weights(tmp_path / "model.weights.h5")
    assert all(trains(loaded))


def bayesian(*layers, **kwargs):
    network = keras.Sequential([keras.Input(SHAPE), *layers], **kwargs)
    model = BayesianModel(network, training_rows=3, kl_warmup_steps=0, seed=1)
    model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    return model


def values(layer):
    return [variable.numpy() for variable in layer.weights]


def moved(layer, before):
    return [bool(np.any(old != new)) for old, new in zip(before, values(layer), strict=True)]


def fit(model):
    return model.fit(SEQUENCES, TARGETS, batch_size=3, verbose=0).history


class TestTraining:
    learned = NormalPrior(0.3, learned=True)

    def test_a_frozen_posterior_does_not_move_and_its_kl_still_counts(self):
        frozen = VariationalLSTM(2, prior=self.learned, trainable=False)
        model = bayesian(frozen, VariationalDense(3, prior=self.learned))
        before, other = values(frozen), values(model.network.layers[1])
        assert (
            len(before) == 9 and not frozen.trainable_variables
        )  # mu, rho and a scale of the prior, of three.
        posterior = model.posterior
        kl = posterior.kl(posterior.mean())  # In closed form: the same for every draw.
        history = fit(model)
        np.testing.assert_allclose(history["kl"], kl, rtol=1e-5)
        assert not any(moved(frozen, before)) and all(moved(model.network.layers[1], other))

    def test_a_frozen_layer_that_owns_its_objective(self):
        frozen = VariationalDense(3, kl_weight=0.1, trainable=False)
        model = keras.Sequential([keras.Input(SHAPE), VariationalGRU(2, kl_weight=0.1), frozen])
        model.compile("sgd", "mse", run_eagerly=True)
        before = values(frozen)
        model.fit(SEQUENCES, np.ones((3, 3)), verbose=0)
        assert not any(moved(frozen, before))
        model(SEQUENCES, training=True)
        assert len(model.losses) == 2

    def test_freezing_and_thawing_between_fits(self):
        layer = VariationalDense(2)
        model = bayesian(layer, keras.layers.Flatten(), VariationalDense(3))
        model.compile("sgd", jit_compile=False)  # The step is traced, and has to be again.
        for trainable in (True, False):  # Neither needs another `compile`.
            before, layer.trainable = values(layer), trainable
            fit(model)
            assert all(moved(layer, before)) == trainable and any(moved(layer, before)) == trainable
        layer.trainable = True
        model.compile("sgd", run_eagerly=True)
        before = values(layer)
        fit(model)
        assert all(moved(layer, before))

    @pytest.mark.parametrize("how", ["constructor", "network", "model"])
    def test_a_whole_network(self, how):
        layers = [VariationalLSTM(2), VariationalDense(3)]
        model = bayesian(*layers, **({"trainable": False} if how == "constructor" else {}))
        if how != "constructor":
            (model if how == "model" else model.network).trainable = False
        assert not model.trainable_variables
        before = values(model.network)
        history = fit(model)
        assert not any(moved(model.network, before)) and np.isfinite(history["loss"]).all()
        (model if how == "model" else model.network).trainable = True
        assert len(model.trainable_variables) == 9  # Means and scales but for the mean of a bias alone.

    def test_one_parameter_of_a_weight(self):
        layer = VariationalDense(3)
        model = bayesian(keras.layers.Flatten(), layer)
        layer.kernel.rho.trainable = False
        before = values(layer)
        fit(model)
        assert moved(layer, before) == [v is not layer.kernel.rho for v in layer.weights]


class TestCopies:
    @staticmethod
    def deterministic():
        inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="frozen")], name="inner")
        inputs = keras.Input(SHAPE)
        hidden = keras.layers.LSTM(2, name="lstm")(inputs)
        kept = keras.layers.EinsumDense("ab,bc->ac", 2, bias_axes="c", name="kept")(inner(hidden))
        return keras.Model(inputs, keras.layers.Dense(3, name="dense")(kept))

    def test_single_variables_stay_frozen(self):
        model = self.deterministic()
        model.get_layer("kept").bias.trainable = False
        dense = model.get_layer("inner").layers[0]
        dense.kernel.trainable = dense.bias.trainable = False
        model = to_bayesian(model, training_rows=3)
        kept = model.network.get_layer("kept")
        assert [kept.kernel.trainable, kept.bias.trainable] == [True, False]
        assert not model.network.get_layer("inner").trainable_variables

    def test_networks_within_stay_frozen(self):
        model = self.deterministic()
        model.get_layer("inner").trainable = False
        inner = to_bayesian(model, training_rows=3).network.get_layer("inner")
        assert not inner.trainable and not inner.layers[0].trainable and not inner.trainable_variables

    def test_means_of_what_is_frozen_are_frozen(self):
        model = to_bayesian(self.deterministic(), training_rows=3)
        model.network.get_layer("lstm").trainable = False
        model.network.get_layer("dense").kernel.trainable = False
        plain = to_deterministic(model)
        assert not plain.get_layer("lstm").trainable and not plain.get_layer("lstm").trainable_variables
        dense = plain.get_layer("dense")
        assert [dense.kernel.trainable, dense.bias.trainable] == [False, True]

    def test_a_frozen_network(self):
        model = to_bayesian(self.deterministic(), training_rows=3)
        model.network.trainable = False
        assert not to_deterministic(model).trainable
        restored = BayesianModel.from_config(model.get_config())
        assert not restored.trainable_variables


def test_a_saved_model_trains_what_it_trained(tmp_path):
    model = bayesian(VariationalLSTM(2), VariationalDense(3))
    model.network.layers[0].trainable = False
    fit(model)
    loaded = saved(model, tmp_path)
    assert len(loaded.trainable_variables) == len(model.trainable_variables) == 3
    frozen = loaded.network.layers[0]
    before = values(frozen)
    loaded.compile("sgd", run_eagerly=True)
    fit(loaded)
    assert not any(moved(frozen, before))
    assert all(tf.reduce_all(tf.math.is_finite(v)) for v in loaded.weights)
