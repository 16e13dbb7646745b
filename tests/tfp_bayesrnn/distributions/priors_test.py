"""Priors against SciPy and TFP; what of priors and families is saved."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bayes_oracles import SHAPES, STDDEV, mixture_log_prob, weights_of_both_components
from scipy import stats

from tfp_bayesrnn import released
from tfp_bayesrnn.distributions import (
    DistributionPrior,
    KTiedNormal,
    MeanFieldNormal,
    NormalPrior,
    PointMass,
    Prior,
    ScaleMixturePrior,
    families,
    priors,
)

tfd = tfp.distributions

GRANULARITIES = ["row", "weight", "tensor"]


def add_variable(name, shape, initializer):
    """What a `VariationalWeight` gives to `Prior.add_variables`."""
    return keras.Variable(initializer, shape=shape, name=name)


class TestScaleMixturePrior:
    @pytest.mark.parametrize("granularity", GRANULARITIES)
    def test_distribution_has_the_scales_given_as_logarithms(self, granularity):
        prior = ScaleMixturePrior(0.5, -2.0, -6.0, granularity)
        value = weights_of_both_components((4, 3))
        expected = mixture_log_prob(value, 2, granularity, 0.5, math.exp(-2.0), math.exp(-6.0))
        np.testing.assert_allclose(prior.distribution((4, 3)).log_prob(value), expected, rtol=1e-5)

    def test_released_values_and_their_standard_deviation(self):
        prior = released.PRIOR
        assert prior.get_config() == {
            "pi": 0.25,
            "log_sigma1": -1.0,
            "log_sigma2": -7.0,
            "granularity": "row",
        }
        assert prior.stddev((3, 4)) == pytest.approx(STDDEV, rel=1e-12)
        assert STDDEV == pytest.approx(0.184, abs=5e-4)  # As published.
        assert prior.add_variables(add_variable) == {}

    @pytest.mark.parametrize("arguments", [{"pi": 1.5}, {"granularity": "col"}], ids=str)
    def test_bad_arguments_are_reported_at_once(self, arguments):
        with pytest.raises(ValueError, match="Received: "):
            ScaleMixturePrior(**arguments)


class TestNormalPrior:
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    def test_log_prob_matches_scipy(self, shape):
        value = np.random.default_rng(0).normal(size=shape)
        distribution = NormalPrior(0.3, loc=0.1).distribution(shape)
        assert distribution.event_shape == shape and distribution.batch_shape == ()
        expected = np.sum(stats.norm.logpdf(value, 0.1, 0.3))
        np.testing.assert_allclose(distribution.log_prob(tf.cast(value, tf.float32)), expected, rtol=1e-5)

    def test_fixed_prior_has_no_variables(self):
        assert NormalPrior(0.3).add_variables(add_variable) == {}
        assert NormalPrior(0.3).stddev((2,)) == 0.3

    def test_learned_scale_starts_at_scale_and_is_trained_by_its_logarithm(self):
        prior = NormalPrior(0.3, learned=True)
        variables = prior.add_variables(add_variable)
        assert list(variables) == ["log_scale"]
        log_scale = variables["log_scale"].value
        value = np.array([0.5, -0.2, 0.1])
        with tf.GradientTape() as tape:
            tape.watch(log_scale)
            log_prob = prior.distribution((3,), log_scale=log_scale).log_prob(tf.cast(value, tf.float32))
        np.testing.assert_allclose(log_prob, np.sum(stats.norm.logpdf(value, scale=0.3)), rtol=1e-5)
        expected = np.sum(value**2) / 0.3**2 - 3  # d/d log s of -n log s - sum w^2 / (2 s^2)
        np.testing.assert_allclose(tape.gradient(log_prob, log_scale), expected, rtol=1e-5)

    @pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
    def test_bad_scale_is_named(self, scale):
        with pytest.raises(ValueError, match="Received: scale="):
            NormalPrior(scale)


@keras.saving.register_keras_serializable("priors_test")
def laplace(shape):
    return tfd.Independent(tfd.Laplace(tf.zeros(shape), 0.5), len(shape))


@keras.saving.register_keras_serializable("priors_test")
def horseshoe(shape):
    return tfd.Independent(tfd.Horseshoe(tf.fill(shape, 0.1)), len(shape))


def cauchy(shape):
    return tfd.Independent(tfd.Cauchy(tf.zeros(shape), 1.0), len(shape))


def flattened_normal(shape):
    flat = tfd.MultivariateNormalDiag(tf.zeros([math.prod(shape)]), tf.fill([math.prod(shape)], 2.0))
    return tfd.TransformedDistribution(flat, tfp.bijectors.Reshape(shape))


class TestDistributionPrior:
    FACTORIES = {
        "laplace": (laplace, lambda w: np.sum(stats.laplace.logpdf(w, scale=0.5)), 0.5 * math.sqrt(2)),
        "flattened multivariate normal": (
            flattened_normal,
            lambda w: np.sum(stats.norm.logpdf(w, scale=2.0)),
            None,
        ),
        "joint sample": (
            lambda shape: tfd.Sample(tfd.StudentT(5.0, 0.0, 0.2), shape),
            lambda w: np.sum(stats.t.logpdf(w, 5, scale=0.2)),
            0.2 * math.sqrt(5 / 3),
        ),
    }

    @pytest.mark.parametrize("name", FACTORIES)
    def test_any_distribution_over_the_weight(self, name):
        factory, log_pdf, stddev = self.FACTORIES[name]
        value = np.random.default_rng(0).normal(size=(4, 3))
        prior = priors.get(factory)
        actual = prior.distribution((4, 3)).log_prob(tf.cast(value, tf.float32))
        np.testing.assert_allclose(actual, log_pdf(value), rtol=1e-5)
        if stddev is not None:
            assert prior.stddev((4, 3)) == pytest.approx(stddev, rel=1e-5)

    @pytest.mark.parametrize(
        "factory, message",
        [
            pytest.param(lambda shape: 3.0, "Received: float", id="no distribution"),
            pytest.param(
                lambda shape: tfd.Normal(tf.zeros(shape), 1.0), r"batch_shape=\(4, 3\)", id="a batch"
            ),
            pytest.param(lambda shape: tfd.Normal(0.0, 1.0), r"event_shape=\(\)", id="another event"),
        ],
    )
    def test_what_a_factory_must_return(self, factory, message):
        with pytest.raises(ValueError, match=message):
            DistributionPrior(factory).distribution((4, 3))

    @pytest.mark.parametrize("factory", [horseshoe, cauchy], ids=["not implemented", "undefined"])
    def test_distribution_without_a_standard_deviation(self, factory):
        with pytest.raises(ValueError, match=r"stddev.* Received: "):
            DistributionPrior(factory).stddev((4, 3))
        assert DistributionPrior(factory, stddev=0.2).stddev((4, 3)) == 0.2

    @pytest.mark.parametrize(
        "arguments", [{"factory": 3}, {"factory": laplace, "stddev": 0.0}], ids=["factory", "stddev"]
    )
    def test_bad_arguments_are_named(self, arguments):
        with pytest.raises(ValueError, match=rf"Received: {list(arguments)[-1]}="):
            DistributionPrior(**arguments)


ROUND_TRIPS = {
    "scale mixture": ScaleMixturePrior(0.5, -2.0, -6.0, "tensor"),
    "normal": NormalPrior(0.3, 0.1),
    "learned normal": NormalPrior(0.3, learned=True),
    "distribution": DistributionPrior(laplace),
    "distribution with a stddev": DistributionPrior(horseshoe, stddev=0.2),
    "mean field": MeanFieldNormal((0.25, 0.5)),
    "k-tied": KTiedNormal(3, (0.25, 0.5)),
    "point mass": PointMass(),
}


@pytest.mark.parametrize("original", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_config_round_trip(original):
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(original)))
    get = priors.get if isinstance(original, Prior) else families.get
    for restored in (keras.saving.deserialize_keras_object(serialized), get(serialized)):
        assert type(restored) is type(original)
        assert restored.get_config() == original.get_config()
    assert get(original) is original


@pytest.mark.parametrize("get", [priors.get, families.get], ids=["prior", "posterior"])
@pytest.mark.parametrize("value", [3, "row", {"pi": 0.5}], ids=str)
def test_get_names_what_it_cannot_take(get, value):
    with pytest.raises(ValueError, match=r"Received: (prior|posterior)="):
        get(value)
