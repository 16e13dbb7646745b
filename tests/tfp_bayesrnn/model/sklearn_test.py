"""Keras's wrappers for scikit-learn around a `BayesianModel`."""

import keras
import numpy as np
import pytest
from sklearn.base import clone

from tfp_bayesrnn import BayesianModel, NormalLikelihood, VariationalDense

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(40, 3)).astype(np.float32)
REAL = X @ np.array([1.0, -2.0, 0.5], np.float32)
LABELS = np.array(["no", "yes"])[(REAL > 0).astype(int)]


def model_of(likelihood, outputs, rows=40):
    network = keras.Sequential([keras.Input([3]), VariationalDense(outputs)])
    model = BayesianModel(network, training_rows=rows, likelihood=likelihood, kl_weight=0.01)
    model.compile(
        keras.optimizers.Adam(0.1), jit_compile=False, metrics=["accuracy"] if outputs == 2 else None
    )
    return model


def classifier(X, y):
    """As a function of the data, which the wrapper calls for every fit."""
    return model_of("categorical", y.shape[-1], len(X))


FIT = {"epochs": 20, "batch_size": 20, "verbose": 0}


@pytest.mark.parametrize("model", ["function", "instance"])
@pytest.mark.slow(every=2)
def test_classifier(model):
    estimator = keras.wrappers.SKLearnClassifier(
        classifier if model == "function" else model_of("categorical", 2), fit_kwargs=FIT
    )
    estimator.fit(X, LABELS)
    assert set(estimator.predict(X)) <= {"no", "yes"}
    assert estimator.score(X, LABELS) > 0.9


def test_cross_validation_of_a_clone():
    estimator = clone(keras.wrappers.SKLearnClassifier(classifier))
    estimator.fit_kwargs = FIT
    estimator.fit(X, LABELS)
    assert estimator.score(X, LABELS) > 0.9


def test_regressor():
    regressor = keras.wrappers.SKLearnRegressor(model_of(NormalLikelihood(0.5), 1), fit_kwargs=FIT)
    regressor.fit(X, REAL)
    assert regressor.predict(X).shape == REAL.shape
    assert regressor.score(X, REAL) > 0.8


@pytest.mark.slow
def test_transformer():
    transformer = keras.wrappers.SKLearnTransformer(model_of(NormalLikelihood(0.5), 1), fit_kwargs=FIT)
    assert transformer.fit(X, REAL).transform(X).size == REAL.size


@pytest.mark.parametrize("run", ["train_on_batch", "test_on_batch"])
def test_one_hot_targets_are_the_classes_that_they_stand_for(eagerly, run):
    """They are what the wrapper makes of labels, and `keras.utils.to_categorical`."""
    classes = np.arange(40) % 2
    one_hot = keras.utils.to_categorical(classes)
    weights = np.where(np.arange(40) < 30, 1.0, 0.0).astype(np.float32)
    found = []
    for y in (classes, one_hot, one_hot.astype(np.int64)):
        model = model_of("categorical", 2)
        for variable, value in zip(model.weights, found[0][1] if found else [], strict=False):
            variable.assign(value)
        start = [variable.numpy() for variable in model.weights]
        logs = getattr(model, run)(X, y, sample_weight=weights, return_dict=True)
        found.append((logs, start))
    for logs, _ in found[1:]:
        assert logs == pytest.approx(found[0][0], rel=1e-6)
    soft = np.full_like(one_hot, 0.5)
    with pytest.raises(ValueError, match=r"classes, whole numbers from 0 to 1. Received: values from -1 to"):
        getattr(model, run)(X, np.where(np.arange(40)[:, None] < 29, one_hot, soft), sample_weight=weights)
    getattr(model, run)(X, np.where(np.arange(40)[:, None] < 30, one_hot, soft), sample_weight=weights)


def test_one_hot_targets_under_draws(eagerly):
    classes = np.arange(40) % 2
    model = model_of("categorical", 2)
    results = [
        model.evaluate(X, y, num_samples=3, return_dict=True)
        for y in (classes, keras.utils.to_categorical(classes))
    ]
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    found = model.predictive(X, num_samples=3)
    np.testing.assert_array_equal(found.log_prob(classes), found.log_prob(np.eye(2)[classes]))
