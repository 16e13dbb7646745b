"""`predictive`, and the averages over draws that everything goes through, against NumPy."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, NormalLikelihood, PointMass, VariationalDense, noise, predictive
from tfp_bayesrnn.prediction import averages, uncertainty

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
SAMPLES, SEED = 4, 3
pytestmark = pytest.mark.usefixtures("eagerly")


def model_of(likelihood, units, **kwargs):
    network = keras.Sequential(
        [keras.Input([3]), VariationalDense(4, **kwargs), VariationalDense(units, **kwargs)]
    )
    model = BayesianModel(network, training_rows=20, likelihood=likelihood)
    model.build([None, 3])
    return model


def outputs_of(model):
    root = noise.derive(noise.make_seed(SEED), noise.Stream.EVALUATION_DRAWS)
    draws = [model.posterior.sample(noise.derive(root, sample)) for sample in range(SAMPLES)]
    return np.stack([draw.run(model.network, X).numpy().astype(np.float64) for draw in draws])


@pytest.mark.parametrize("likelihood, units", [("categorical", 5), ("bernoulli", 2)])
def test_probabilities_and_entropies(likelihood, units):
    model = model_of(likelihood, units)
    found, logits = predictive(model, X, SAMPLES, SEED, batch_size=8), outputs_of(model)
    if likelihood == "bernoulli":
        ones = scipy.special.expit(logits)
        np.testing.assert_allclose(found.mean, ones.mean(0), rtol=1e-5)
        each = np.stack([1 - ones, ones], axis=-1)
    else:
        each = scipy.special.softmax(logits, axis=-1)
        np.testing.assert_allclose(found.mean, each.mean(0), rtol=1e-5)
    total, aleatoric = (scipy.special.entr(p).sum(-1) for p in (each.mean(0), each))
    np.testing.assert_allclose(found.total, total, rtol=1e-5)
    np.testing.assert_allclose(found.aleatoric, aleatoric.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.epistemic, total - aleatoric.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.total, found.aleatoric + found.epistemic, rtol=1e-6)
    assert np.all(found.epistemic >= 0.0) and np.max(found.epistemic) > 0.01


def test_the_law_of_total_variance():
    model = model_of(NormalLikelihood(0.5), 1)
    found, outputs = predictive(model, X, SAMPLES, SEED), outputs_of(model)
    np.testing.assert_allclose(found.mean, outputs.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.aleatoric, np.full([20, 1], 0.25))
    np.testing.assert_allclose(found.epistemic, outputs.var(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.total, 0.25 + outputs.var(0), rtol=1e-5)


def test_several_outputs_have_their_structure():
    inputs = keras.Input([3])
    outputs = {"class": VariationalDense(5)(inputs), "rest": VariationalDense(2)(inputs)}
    likelihood = {"class": "categorical", "rest": None}
    model = BayesianModel(keras.Model(inputs, outputs), training_rows=20, likelihood=likelihood)
    found = predictive(model, X, 2)
    assert found["rest"] is None and found["class"].mean.shape == (20, 5)


@pytest.mark.parametrize("samples, kwargs", [(1, {}), (3, {"posterior": PointMass()})])
def test_where_all_draws_agree_nothing_is_epistemic(samples, kwargs):
    found = predictive(model_of("categorical", 5, **kwargs), X, samples)
    np.testing.assert_allclose(found.epistemic, 0.0, atol=3e-7)
    assert np.all(found.epistemic >= 0.0)


def test_what_has_no_such_parts_is_refused():
    model = model_of(lambda targets, outputs: tf.square(targets - outputs), 1)
    with pytest.raises(ValueError, match=r"NormalLikelihood.*Received: likelihood="):
        predictive(model, X)
    for samples in (0, 1.5, True):
        with pytest.raises(ValueError, match=r"integer of at least 1. Received: samples="):
            predictive(model, X, samples)


def test_the_one_formula():
    parts = uncertainty.of_parts(np.array([1.0, 1.0]), np.array([0.25, 1.0 + 1e-9]))
    np.testing.assert_array_equal(parts.epistemic, [0.75, 0.0])
    np.testing.assert_array_equal(parts.total, parts.aleatoric + parts.epistemic)


def test_logarithms_of_means_hold_what_is_too_small_for_a_float32():
    pairs = np.array([[-200.0, -np.inf], [-201.0, -np.inf]], np.float32)
    expected = scipy.special.logsumexp(pairs.astype(np.float64), axis=0)
    np.testing.assert_allclose(averages.log_add_exp(*map(tf.constant, pairs)), expected, rtol=1e-6)
    np.testing.assert_allclose(averages.log_mean_exp(pairs), expected - np.log(2))


def test_the_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="of at least one array"):
        averages.log_mean_exp([])
