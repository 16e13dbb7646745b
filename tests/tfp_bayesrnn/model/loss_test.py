"""`loss`, one figure in training and in validation, and `free_energy`, which is minimised."""

import keras
import numpy as np
import pytest
from small_models import language_model, tokens

from tfp_bayesrnn import (
    BayesianModel,
    MeanFieldNormal,
    NormalLikelihood,
    NormalPrior,
    PointMass,
    PosteriorSharpening,
    VariationalDense,
)

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(10, 1)).astype(np.float32)
PRIOR = NormalPrior()  # Its KL has a closed form, the same at every step.
CERTAIN = MeanFieldNormal((1e-4, 1e-4))


def network(posterior, regularizer=None):
    keras.utils.set_random_seed(1)
    layers = [VariationalDense(4, posterior=posterior, prior=PRIOR)]
    layers += [keras.layers.Dense(2, kernel_regularizer=regularizer, activity_regularizer=regularizer)]
    return keras.Sequential(
        [keras.Input([3]), *layers, VariationalDense(1, posterior=posterior, prior=PRIOR)]
    )


def compiled(net, learning_rate=0.0, **arguments):
    common = {"training_rows": 10, "likelihood": NormalLikelihood(0.5), "kl_warmup_steps": 0}
    model = BayesianModel(net, **{**common, **arguments})
    model.compile(keras.optimizers.SGD(learning_rate), run_eagerly=True)
    return model


def history_of(model, **arguments):
    data = {"batch_size": 4, "validation_data": (X, Y), "validation_batch_size": 4, "verbose": 0}
    return {name: np.array(values) for name, values in model.fit(X, Y, **data, **arguments).history.items()}


@pytest.mark.parametrize("regularizer", [None, "l2"])
@pytest.mark.parametrize("posterior", [PointMass(), CERTAIN], ids=["point mass", "normal"])
@pytest.mark.slow(every=2)
def test_loss_and_val_loss_are_comparable(eagerly, posterior, regularizer):
    """On the same data, with weights that are all but certain, they are equal: neither holds the KL."""
    model = compiled(network(posterior, regularizer))
    history = history_of(model)
    np.testing.assert_allclose(history["loss"], history["val_loss"], rtol=2e-3)
    np.testing.assert_allclose(history["nll"], history["val_nll"], rtol=2e-3)
    share = history["kl"] / 10
    np.testing.assert_allclose(history["free_energy"], history["loss"] + share, rtol=1e-5)
    assert (share > 1.0) == model.posterior.is_variational
    assert np.all(history["loss"] - history["nll"] > 0.01) == (regularizer is not None)
    assert "val_free_energy" not in history and "val_kl" not in history


def test_the_loss_of_many_draws_has_the_penalties_too(eagerly):
    """Under draws that are all but certain it is the loss under the mean, whatever the minibatches."""
    model = compiled(network(CERTAIN, "l2"))
    expected = model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)
    found = model.evaluate(X, Y, batch_size=4, return_dict=True, num_samples=3)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=2e-3)
    assert found["loss"] - found["nll"] > 0.01


@pytest.mark.parametrize("regularizer", [None, "l2"])
def test_of_keras_s_layers_both_are_keras_s(eagerly, regularizer):
    """But for the constant of the normal density; regularisers count in both, as in Keras."""
    net = network(PointMass(), regularizer)
    net.compile(keras.optimizers.SGD(0.0), lambda y, o: 2.0 * keras.ops.square(y - o), run_eagerly=True)
    expected = net.fit(X, Y, validation_data=(X, Y), batch_size=10, verbose=0).history
    history = compiled(net).fit(X, Y, validation_data=(X, Y), batch_size=10, verbose=0).history
    constant = np.log(0.5) + 0.5 * np.log(2.0 * np.pi)
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(np.array(history[name]) - constant, expected[name], rtol=1e-5)


class Anneal(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.kl_weight = float(epoch)


def test_callbacks_that_watch_val_loss_do_not_see_the_weight_of_the_kl(eagerly):
    """A warm-up raises what is minimised from epoch to epoch; to them it would look like overfitting."""
    stopping = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    model = compiled(network(CERTAIN), learning_rate=1e-5)
    history = history_of(model, epochs=4, callbacks=[Anneal(), stopping])
    assert len(history["loss"]) == 4
    assert np.all(np.diff(history["free_energy"]) > 0.0) and np.all(np.diff(history["val_loss"]) < 0.0)


def test_with_sharpening_the_loss_pays_for_the_targets_that_it_has_seen():
    model = language_model(sharpening=PosteriorSharpening(0.3))
    ids = tokens(rows=4)
    history = model.fit(ids[:, :-1], ids[:, 1:], batch_size=2, verbose=0).history
    parts = (history["nll"][0] + history["kl_sharpening"][0]) * (ids.shape[1] - 1)
    np.testing.assert_allclose(history["loss"], [parts], rtol=1e-5)
    np.testing.assert_allclose(history["free_energy"], [parts + history["kl"][0] / 6], rtol=1e-3)


def test_a_frozen_posterior_has_a_kl_that_does_not_move(eagerly):
    """It is a constant of the objective: it is in `free_energy` and `kl`, and in no other figure."""
    net = network(MeanFieldNormal((0.1, 0.1)))
    net.layers[0].trainable = net.layers[-1].trainable = False
    model = compiled(net, learning_rate=0.01, kl_weight=0.5)
    before = [variable.numpy() for variable in model.posterior.weights[0].variables]
    history = history_of(model, epochs=2)
    for value, variable in zip(before, model.posterior.weights[0].variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert np.all(history["kl"] > 1.0)
    share = 0.5 * history["kl"] / 10
    np.testing.assert_allclose(history["free_energy"] - history["loss"], share, rtol=1e-3)
    assert history["val_loss"][1] < history["val_loss"][0]
