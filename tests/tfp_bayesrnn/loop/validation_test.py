"""The predictive distribution is validated during `fit`."""

import keras
import numpy as np
import pytest

from tfp_bayesrnn import BayesianModel, PredictiveValidation, VariationalDense

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = X[:, 0]


def model_of(**arguments):
    network = keras.Sequential([keras.Input([3]), VariationalDense(2)])
    model = BayesianModel(network, 24, "normal", **arguments)
    model.compile(keras.optimizers.SGD(0.05), metrics=["mae"])
    return model


@pytest.mark.usefixtures("eagerly")
def test_other_callbacks_and_the_history_see_its_figures():
    model, stopping = model_of(), keras.callbacks.EarlyStopping("val_predictive_nll", patience=1, mode="min")
    validation = PredictiveValidation(X, Y, num_samples=3, seed=1)
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[validation, stopping]).history
    assert {"val_predictive_crps", "val_predictive_coverage_90", "val_predictive_mae"} <= history.keys()
    expected = model.evaluate(X, Y, num_samples=3, seed=1, return_dict=True)
    assert history["val_predictive_nll"][-1] == expected["nll"]
    assert stopping.best == min(history["val_predictive_nll"])


@pytest.mark.usefixtures("eagerly")
def test_it_does_not_change_the_training():
    plain, validated = model_of(), model_of()
    validated.set_weights(plain.get_weights())
    expected = plain.fit(X, Y, epochs=3, verbose=0, shuffle=False).history
    validation = PredictiveValidation(X, Y, num_samples=2, every=2)
    found = validated.fit(X, Y, epochs=3, verbose=0, shuffle=False, callbacks=[validation]).history
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    first, second, third = found["val_predictive_nll"]
    assert first == second != third


def test_every_epoch_at_most():
    with pytest.raises(ValueError, match="Received: every=0"):
        PredictiveValidation(X, Y, every=0)
