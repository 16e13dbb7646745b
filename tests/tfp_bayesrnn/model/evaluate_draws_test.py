"""`evaluate(x, y, num_samples=)`: the predictive distribution's scores, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, VariationalDense, VariationalEmbedding, VariationalLSTM
from tfp_bayesrnn.model.evaluation import StreamEvaluator

ROWS, SAMPLES, SEED = 50, 5, 2
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
W = np.random.default_rng(1).uniform(0.0, 2.0, ROWS).astype(np.float32)
W[::7] = 0.0


def model_of(likelihood, units, **compiled):
    network = keras.Sequential([keras.Input([3]), VariationalDense(4), VariationalDense(units)])
    model = BayesianModel(network, training_rows=ROWS, likelihood=likelihood)
    model.compile("sgd", **compiled)
    return model


def evaluated(model, *data, **arguments):
    return model.evaluate(*data, num_samples=SAMPLES, seed=SEED, return_dict=True, **arguments)


@pytest.mark.parametrize("weights", [None, W], ids=["all", "weighted"])
def test_of_classes(weights):
    model = model_of("categorical", 4, metrics=["accuracy"], weighted_metrics=["accuracy"])
    y = np.random.default_rng(2).integers(0, 4, ROWS)
    kept = np.ones(ROWS) if weights is None else weights
    if weights is not None:
        y[weights == 0.0] = -1
    found = evaluated(model, X, y, sample_weight=weights, batch_size=16)
    predictive = model.predictive(X, SAMPLES, SEED)
    probabilities = predictive.mean()
    chosen = probabilities[np.arange(ROWS), np.maximum(y, 0)]
    nll = np.average(-np.log(chosen), weights=kept)
    np.testing.assert_allclose(found["nll"], nll, rtol=1e-5)
    np.testing.assert_allclose(found["loss"], nll * kept.sum() / ROWS, rtol=1e-5)
    np.testing.assert_allclose(found["perplexity"], np.exp(nll), rtol=1e-5)
    correct = probabilities.argmax(-1) == y
    name = "weighted_accuracy" if "weighted_accuracy" in found else "accuracy"
    np.testing.assert_allclose(found[name], np.average(correct, weights=kept), rtol=1e-5)


def test_calibration_of_classes():
    """Confidences in two bins, by hand: |accuracy - confidence| of each, weighted by its predictions."""
    model = model_of("bernoulli", 1)
    y = (X[:, :1] > 0).astype(np.float32)
    found = evaluated(model, X, y)
    ones = model.predictive(X, SAMPLES, SEED).mean()
    confidence, correct = np.maximum(ones, 1 - ones).ravel(), ((ones > 0.5) == (y > 0.5)).ravel()
    bins = np.minimum((confidence * 15 + 1e-5).astype(int), 14)
    expected = sum(
        abs(correct[bins == b].mean() - confidence[bins == b].mean()) * np.mean(bins == b)
        for b in np.unique(bins)
    )
    np.testing.assert_allclose(found["ece"], expected, rtol=1e-4)
    np.testing.assert_allclose(found["accuracy"], correct.mean())


@pytest.mark.parametrize("likelihood, units", [("normal", 2), ("student_t", 3), ("negative_binomial", 2)])
@pytest.mark.slow(every=3)
def test_of_numbers(likelihood, units):
    model = model_of(likelihood, units, metrics=["mae"])
    y = np.random.default_rng(2).poisson(1.5, ROWS).astype(np.float32)
    found = evaluated(model, X, y, sample_weight=W, batch_size=16)
    predictive = model.predictive(X, SAMPLES, SEED)
    np.testing.assert_allclose(found["nll"], np.average(-predictive.log_prob(y), weights=W), rtol=1e-5)
    for level in (0.5, 0.8, 0.9, 0.95):
        low, high = predictive.interval(level)
        expected = np.average((low <= y) & (y <= high), weights=W)
        np.testing.assert_allclose(found[f"coverage_{level * 100:.0f}"], expected, rtol=1e-5)
    # 256 samples of each of 50 targets: 2 % of the spread.
    expected = np.average(predictive.crps(y, 4000), weights=W)
    np.testing.assert_allclose(found["crps"], expected, atol=0.05 * predictive.stddev().mean())
    np.testing.assert_allclose(found["mae"], np.mean(np.abs(predictive.mean() - y)), rtol=1e-5)


def test_where_the_model_is_right_its_intervals_hold_what_they_say():
    """Targets from the predictive distribution itself: within five standard errors of 4000."""
    x = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    model = model_of("student_t", 3)
    y = model.predictive(x, SAMPLES, SEED).sample(1)[0]
    found = evaluated(model, x, y, batch_size=4000)
    for level in (0.5, 0.8, 0.9, 0.95):
        # One draw of the weights for all rows: the mixture of five is not quite what one draw is.
        error = 5 * (level * (1 - level) / 4000) ** 0.5 + 0.05
        assert abs(found[f"coverage_{level * 100:.0f}"] - level) < error


def test_masks_and_sequences():
    ids = np.array([[1, 2, 3, 0], [3, 1, 0, 0], [2, 2, 2, 2]])
    layers = [VariationalEmbedding(4, 3, mask_zero=True), VariationalLSTM(4, return_sequences=True)]
    model = BayesianModel(keras.Sequential([*layers, VariationalDense(4)]), 3)
    model.compile("sgd")
    y = np.where(ids == 0, -1, ids)
    found = evaluated(model, ids, y)
    log_prob = np.log(model.predictive(ids, SAMPLES, SEED).mean())
    expected = -np.take_along_axis(log_prob, np.maximum(y, 0)[..., None], -1)[..., 0][ids > 0]
    np.testing.assert_allclose(found["nll"], expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["loss"], expected.sum() / 3, rtol=1e-5)


def test_is_the_stream_evaluators_average():
    model = model_of("categorical", 4)
    y = np.random.default_rng(2).integers(0, 4, ROWS)
    model.build(X.shape)
    dataset = tf.data.Dataset.from_tensor_slices((X, y)).batch(16)
    expected = StreamEvaluator(model).average(dataset, SAMPLES, SEED)
    for data in ((X, y), (dataset,)):
        np.testing.assert_allclose(evaluated(model, *data)["nll"], expected.nll, rtol=1e-5)


def test_of_several_outputs():
    inputs = keras.Input([3])
    network = keras.Model(inputs, {"a": VariationalDense(2)(inputs), "b": VariationalDense(4)(inputs)})
    model = BayesianModel(network, ROWS, {"a": "normal", "b": "categorical"})
    model.compile("sgd", metrics={"b": ["accuracy"]})
    y = {"a": X[:, 0], "b": np.random.default_rng(2).integers(0, 4, ROWS)}
    found = evaluated(model, X, y)
    predictive = model.predictive(X, SAMPLES, SEED)
    each = np.concatenate([-predictive[name].log_prob(y[name]) for name in y])
    np.testing.assert_allclose(found["nll"], each.mean(), rtol=1e-5)
    assert {"a_crps", "a_coverage_90", "b_accuracy", "b_ece"} <= found.keys() and "perplexity" not in found


def test_it_changes_nothing():
    model = model_of("normal", 2, metrics=["mae"])
    before = model.evaluate(X, X[:, 0], verbose=0)
    values = evaluated(model, X, X[:, 0])
    assert evaluated(model, X, X[:, 0]) == values
    assert model.evaluate(X, X[:, 0], verbose=0) == before
    assert model.evaluate(X, X[:, 0], num_samples=SAMPLES, seed=SEED) == list(values.values())
