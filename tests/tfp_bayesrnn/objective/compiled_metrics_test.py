"""Metrics of `compile`, by name and of parameters, against Keras's metrics of what they are to see."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, CategoricalLikelihood, VariationalDense

V = 3


@pytest.mark.usefixtures("eagerly")
def test_metrics_do_not_count_what_is_to_be_ignored():
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    y = np.array([0, 1, 2, -1] * 2)
    model = BayesianModel(
        keras.Sequential([keras.Input([3]), VariationalDense(V)]), 8, CategoricalLikelihood(-1)
    )
    model.compile("sgd", metrics=["accuracy"], weighted_metrics=["accuracy"])
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    expected = np.mean(model.predict(x, verbose=0).argmax(-1)[y >= 0] == y[y >= 0])
    np.testing.assert_allclose(found["accuracy"], expected, rtol=1e-6)


@pytest.mark.usefixtures("eagerly")
class TestMetricsByName:
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    Y = (X[:, 0] > 0.3).astype(np.float32)

    def model(self, likelihood, units, metrics):
        network = keras.Sequential([keras.Input([3]), VariationalDense(units)])
        model = BayesianModel(network, 40, likelihood)
        model.compile("sgd", metrics=metrics)
        return model

    @pytest.mark.parametrize("targets", [(40,), (40, 1)])
    def test_of_zeros_and_ones(self, targets):
        """Keras takes a logit of 0.2 for a 0."""
        names = ["accuracy", "precision", "recall", "auc"]
        model = self.model("bernoulli", 1, names)
        logits = model.predict(self.X, verbose=0)
        found = model.evaluate(self.X, self.Y.reshape(targets), verbose=0, return_dict=True)
        ones = tf.sigmoid(logits)
        for name in names:
            metric = keras.metrics.BinaryAccuracy() if name == "accuracy" else keras.metrics.get(name)
            metric.update_state(self.Y[:, None], ones)
            np.testing.assert_allclose(found[name], metric.result(), rtol=1e-5, err_msg=name)

    def test_of_a_target_whose_scale_is_learned(self):
        model = self.model("normal", 2, ["mae", keras.metrics.RootMeanSquaredError(name="rmse")])
        location = model.predict(self.X, verbose=0)[:, 0]
        found = model.evaluate(self.X, self.Y, verbose=0, return_dict=True)
        np.testing.assert_allclose(found["mae"], np.mean(np.abs(location - self.Y)), rtol=1e-5)
        np.testing.assert_allclose(found["rmse"], np.sqrt(np.mean((location - self.Y) ** 2)), rtol=1e-5)

    def test_of_several_outputs(self):
        inputs = keras.Input([3])
        network = keras.Model(inputs, {"a": VariationalDense(1)(inputs), "b": VariationalDense(4)(inputs)})
        likelihood = {"a": "bernoulli", "b": "categorical"}
        model = BayesianModel(network, 40, likelihood)
        model.compile("sgd", metrics={"a": ["accuracy"], "b": "accuracy"})
        y = {"a": self.Y, "b": self.Y.astype(np.int32)}
        found = model.evaluate(self.X, y, verbose=0, return_dict=True)
        outputs = model.predict(self.X, verbose=0)
        np.testing.assert_allclose(
            found["a_accuracy"], np.mean((outputs["a"][:, 0] > 0) == self.Y), rtol=1e-5
        )
        np.testing.assert_allclose(found["b_accuracy"], np.mean(outputs["b"].argmax(-1) == self.Y), rtol=1e-5)
