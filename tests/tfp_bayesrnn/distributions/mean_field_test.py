"""The mean-field normal family against SciPy and its own gradients."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from bayes_oracles import SHAPES, STDDEV
from scipy import stats

from tfp_bayesrnn.distributions import MeanFieldNormal, softplus


class TestMeanFieldNormal:
    @pytest.mark.parametrize("scale_range", [(0.25, 0.5), (0.5, 1.0), (0.1, 0.1)], ids=str)
    def test_rho_starts_uniform_in_rho(self, scale_range):
        low, high = (math.log(math.expm1(end * STDDEV)) for end in scale_range)
        keras.utils.set_random_seed(0)
        rho = np.ravel(MeanFieldNormal(scale_range).rho_initializer(STDDEV)((100, 100)))
        assert rho.min() >= low - 1e-6 and rho.max() <= high + 1e-6
        if low < high:
            # Were sigma uniform instead, the distribution functions would be 0.08 apart and p below 1e-50.
            assert stats.kstest(rho, stats.uniform(low, high - low).cdf).pvalue > 1e-3

    @pytest.mark.parametrize("value", [1e-6, 1e-3, 0.184, 1.0, 30.0])
    def test_inverse_softplus(self, value):
        assert np.log1p(np.exp(softplus.inverse_softplus(value))) == pytest.approx(value, rel=1e-9)

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_first_and_second_gradient_of_sigma(self, jit_compile):
        rho = tf.constant([-100.0, -30.0, -6.9, -1.0, 0.0, 0.5, 3.0, 50.0])

        @tf.function(jit_compile=jit_compile)
        def gradients(rho):
            with tf.GradientTape() as outer:
                outer.watch(rho)
                with tf.GradientTape() as inner:
                    inner.watch(rho)
                    sigma = softplus.scale_from_rho(rho)
                first = inner.gradient(sigma, rho)
            return first, outer.gradient(first, rho)

        sigmoid = 1.0 / (1.0 + np.exp(-rho.numpy().astype(np.float64)))
        first, second = gradients(rho)
        np.testing.assert_allclose(first, sigmoid, rtol=1e-5, atol=1e-37)
        np.testing.assert_allclose(second, sigmoid * (1.0 - sigmoid), rtol=1e-5, atol=1e-7)

    def test_sigma_is_softplus_of_rho_and_a_floor(self):
        rho = np.array([-100.0, -5.0, 0.0, 3.0, 50.0])
        np.testing.assert_allclose(
            softplus.scale_from_rho(tf.cast(rho, tf.float32)), np.logaddexp(0, rho) + 1e-5, rtol=1e-5
        )

    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    def test_distribution_matches_scipy(self, shape):
        rng = np.random.default_rng(0)
        mu, rho, value = rng.normal(size=(3, *shape)).astype(np.float32)
        distribution = MeanFieldNormal().distribution({"mu": tf.constant(mu), "rho": tf.constant(rho)})
        assert distribution.event_shape == shape and distribution.batch_shape == ()
        scale = np.logaddexp(0, rho.astype(np.float64)) + 1e-5
        expected = np.sum(stats.norm.logpdf(value, mu, scale))
        np.testing.assert_allclose(distribution.log_prob(value), expected, rtol=1e-5)

    @pytest.mark.parametrize(
        "scale_range", [(0.0, 1.0), (1.0, 0.5), (-1.0, 1.0), (0.5,), (0.1, 0.2, 0.3), 0.5], ids=str
    )
    def test_bad_ranges_are_named(self, scale_range):
        with pytest.raises(ValueError, match="Received: scale_range="):
            MeanFieldNormal(scale_range)
