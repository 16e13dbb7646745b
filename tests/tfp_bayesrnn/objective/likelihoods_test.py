"""Likelihoods against SciPy's densities."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfp_bayesrnn import NormalLikelihood
from tfp_bayesrnn.objective import likelihoods

B, T, V = 4, 5, 3


def elementwise(targets, outputs):
    """A likelihood whose nats are the outputs themselves."""
    del targets
    return outputs


class TestLikelihoods:
    """Against SciPy in float64; 1e-5 absolute is some ten roundings of a float32 of size 10."""

    CASES = {
        "categorical": (
            "categorical",
            lambda generator: (generator.integers(0, V, (B, T)), generator.normal(size=(B, T, V)) * 3),
            lambda targets, logits: scipy.stats.multinomial.logpmf(
                np.eye(V)[targets], 1, scipy.special.softmax(logits, -1)
            ),
        ),
        "bernoulli": (
            "bernoulli",
            lambda generator: (generator.integers(0, 2, (B, T)), generator.normal(size=(B, T)) * 3),
            lambda targets, logits: scipy.stats.bernoulli.logpmf(targets, scipy.special.expit(logits)),
        ),
        "normal": (
            NormalLikelihood(0.3),
            lambda generator: (generator.normal(size=(B, T)), generator.normal(size=(B, T))),
            lambda targets, outputs: scipy.stats.norm.logpdf(targets, outputs, 0.3),
        ),
    }

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_is_scipys_density(self, case):
        likelihood, make, log_density = case
        targets, outputs = make(np.random.default_rng(4))
        nats = likelihoods.get(likelihood)(tf.constant(targets), tf.constant(outputs, tf.float32))
        assert nats.dtype == tf.float32
        np.testing.assert_allclose(nats, -log_density(targets, outputs), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_comes_back_from_its_serialised_form(self, case):
        likelihood, make, _ = case
        likelihood = likelihoods.get(likelihood)
        again = likelihoods.get(likelihoods.serialize(likelihood))
        targets, outputs = make(np.random.default_rng(5))
        targets, outputs = tf.constant(targets), tf.constant(outputs, tf.float32)
        np.testing.assert_array_equal(again(targets, outputs), likelihood(targets, outputs))

    def test_a_registered_function_comes_back_too(self):
        registered = keras.saving.register_keras_serializable("likelihoods_test")(elementwise)
        assert likelihoods.get(likelihoods.serialize(registered)) is registered

    def test_extreme_logits_give_finite_nats(self):
        targets, logits = tf.constant([0, 1]), tf.constant([[-200.0, 200.0], [200.0, -200.0]])
        np.testing.assert_allclose(likelihoods.categorical(targets, logits), [400.0, 400.0])
        np.testing.assert_allclose(likelihoods.bernoulli(targets, logits[:, 1]), [200.0, 200.0])

    @pytest.mark.parametrize("name", ["gaussian", "Categorical", ""])
    def test_an_unknown_name_is_an_error_that_names_those_there_are(self, name):
        with pytest.raises(ValueError, match=rf"bernoulli.*categorical.*Received: likelihood='{name}'"):
            likelihoods.get(name)

    @pytest.mark.parametrize("scale", [0.0, -1.0])
    def test_a_scale_must_be_positive(self, scale):
        with pytest.raises(ValueError, match=f"Received: scale={scale}"):
            NormalLikelihood(scale)

    def test_normal_targets_do_not_broadcast(self):
        """[B] against [B, 1] would make B * B predictions."""
        with pytest.raises(ValueError, match=r"Received: targets of shape \(4,\), outputs of shape \(4, 1\)"):
            NormalLikelihood()(tf.zeros([B]), tf.zeros([B, 1]))
