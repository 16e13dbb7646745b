"""The scale mixture of normals against SciPy, TFP and its own samples."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bayes_oracles import PI, SCALE1, SCALE2, SHAPES, STDDEV, mixture_log_prob, weights_of_both_components

from tfp_bayesrnn.distributions import ScaleMixtureNormal

tfd = tfp.distributions

GRANULARITIES = ["row", "weight", "tensor"]


class TestScaleMixtureNormal:
    @pytest.mark.parametrize("granularity", GRANULARITIES)
    @pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
    @pytest.mark.parametrize("samples", [(), (6,), (2, 3)], ids=["one", "six", "two by three"])
    def test_log_prob_matches_scipy(self, shape, granularity, samples):
        values = [weights_of_both_components(shape, seed) for seed in range(math.prod(samples))]
        value = np.reshape(values, (*samples, *shape))
        actual = ScaleMixtureNormal(shape, granularity=granularity).log_prob(value)
        assert actual.shape == samples
        # Float32 sums of at most 24 terms of size 10.
        np.testing.assert_allclose(
            actual, mixture_log_prob(value, len(shape), granularity), rtol=1e-5, atol=1e-5
        )

    def test_weight_granularity_is_a_mixture_same_family(self):
        value = weights_of_both_components((4, 3))
        mixture = tfd.MixtureSameFamily(
            tfd.Categorical(probs=[PI, 1 - PI]), tfd.Normal(0.0, [SCALE1, SCALE2])
        )
        actual = ScaleMixtureNormal((4, 3), granularity="weight").log_prob(value)
        np.testing.assert_allclose(actual, tf.reduce_sum(mixture.log_prob(value)), rtol=1e-5)

    @pytest.mark.parametrize("granularity", GRANULARITIES)
    @pytest.mark.parametrize("size", [50.0, 1e-8], ids=["far out", "tiny"])
    def test_extreme_weights_do_not_underflow(self, size, granularity):
        """In probability space the density at 50 is zero even in float64."""
        value = tf.fill([3, 2], size)
        with tf.GradientTape() as tape:
            tape.watch(value)
            log_prob = ScaleMixtureNormal((3, 2), granularity=granularity).log_prob(value)
        np.testing.assert_allclose(log_prob, mixture_log_prob(value, 2, granularity), rtol=1e-5)
        # At 50 only the wide component counts, at 1e-8 the precision is the components' posterior mean.
        elements = {"weight": 1, "row": 2, "tensor": 6}[granularity]
        odds = PI / (1 - PI) * (SCALE2 / SCALE1) ** elements
        wide = 1.0 if size > 1 else odds / (1 + odds)
        slope = -size * (wide / SCALE1**2 + (1 - wide) / SCALE2**2)
        np.testing.assert_allclose(tape.gradient(log_prob, value), np.full([3, 2], slope), rtol=1e-4)

    @pytest.mark.parametrize("granularity", GRANULARITIES)
    def test_gradient_matches_finite_differences(self, granularity):
        value = weights_of_both_components((4, 3), seed=3)
        # Near where the components are equally likely, so that both slopes show.
        value[0] = 2.5 * SCALE2
        with tf.GradientTape() as tape:
            variable = tf.constant(value)
            tape.watch(variable)
            log_prob = ScaleMixtureNormal((4, 3), granularity=granularity).log_prob(variable)
        step, expected = 1e-7, np.zeros((4, 3))
        for index in np.ndindex(4, 3):
            moved = np.zeros((4, 3))
            moved[index] = step
            ends = [mixture_log_prob(value + sign * moved, 2, granularity) for sign in (1, -1)]
            expected[index] = (ends[0] - ends[1]) / (2 * step)
        # Slopes reach 4000; float32 and the differences agree to 1e-4 of each, 1e-3 where it is near zero.
        np.testing.assert_allclose(tape.gradient(log_prob, variable), expected, rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize(
        "shape, granularity", [((1,), "weight"), ((2,), "row"), ((2,), "weight"), ((2, 1), "tensor")]
    )
    def test_density_integrates_to_one(self, shape, granularity):
        # A grid that is dense at zero: +-6 standard deviations of the wide component, by a cubic map.
        ends = np.linspace(-1, 1, 401)
        grid, slopes = 6 * ends**3, 18 * ends**2 * (ends[1] - ends[0])
        rank = math.prod(shape)
        points = np.stack(np.meshgrid(*[grid] * rank, indexing="ij"), axis=-1)
        volumes = np.prod(np.stack(np.meshgrid(*[slopes] * rank, indexing="ij")), axis=0)
        mixture = ScaleMixtureNormal(shape, 0.3, 1.0, 0.05, granularity)
        density = np.exp(mixture.log_prob(points.reshape(*points.shape[:-1], *shape).astype(np.float32)))
        # What lies beyond six standard deviations is 2e-9; the rest is float32's rounding of the density.
        np.testing.assert_allclose(np.sum(density * volumes), 1.0, atol=1e-4)

    @pytest.mark.parametrize(
        "granularity, row_agrees, tensor_agrees",
        [
            # The probability that all 3 weights of a row, or all 12 of the tensor, come from one component.
            pytest.param("weight", 0.3**3 + 0.7**3, 0.3**12 + 0.7**12, id="weight"),
            pytest.param("row", 1.0, 0.3**4 + 0.7**4, id="row"),
            pytest.param("tensor", 1.0, 1.0, id="tensor"),
        ],
    )
    def test_samples_share_a_component(self, granularity, row_agrees, tensor_agrees):
        n = 4000
        # Components so far apart that one look tells them: a wide weight is below 1e-4 with probability 8e-5.
        mixture = ScaleMixtureNormal((4, 3), 0.3, 1.0, 1e-5, granularity)
        narrow = np.abs(mixture.sample(n, seed=(1, 2)).numpy()) < 1e-4
        actual = [
            np.mean(narrow.mean()),
            np.mean((narrow.mean(axis=-1) % 1) == 0),
            np.mean((narrow.mean(axis=(-1, -2)) % 1) == 0),
        ]
        # Five standard errors of a rate over n tensors, and what is misjudged.
        np.testing.assert_allclose(
            actual, [0.7, row_agrees, tensor_agrees], rtol=0, atol=5 * math.sqrt(0.25 / n) + 1e-3
        )

    @pytest.mark.parametrize("granularity", GRANULARITIES)
    def test_sample_moments(self, granularity):
        n = 20_000
        mixture = ScaleMixtureNormal((2, 2), 0.5, 1.0, 0.5, granularity)
        sample = mixture.sample(n, seed=(3, 4)).numpy().astype(np.float64)
        assert sample.shape == (n, 2, 2)
        variance, fourth = 0.5 * (1 + 0.25), 1.5 * (1 + 0.0625)
        # Five standard errors, element by element.
        np.testing.assert_allclose(sample.mean(axis=0), mixture.mean(), atol=5 * math.sqrt(variance / n))
        np.testing.assert_allclose(
            np.mean(sample**2, axis=0), mixture.variance(), atol=5 * math.sqrt((fourth - variance**2) / n)
        )

    def test_samples_repeat_and_take_shapes(self):
        mixture = ScaleMixtureNormal((4, 3))
        assert mixture.sample(seed=(1, 2)).shape == (4, 3)
        assert mixture.sample((2, 5), seed=(1, 2)).shape == (2, 5, 4, 3)
        np.testing.assert_array_equal(mixture.sample(seed=(1, 2)), mixture.sample(seed=(1, 2)))
        assert np.all(mixture.sample(seed=(1, 2)) != mixture.sample(seed=(1, 3)))

    def test_event_is_the_whole_weight(self):
        mixture = ScaleMixtureNormal((4, 3))
        assert mixture.event_shape == (4, 3) and mixture.batch_shape == ()
        np.testing.assert_array_equal(mixture.event_shape_tensor(), [4, 3])
        np.testing.assert_allclose(mixture.mean(), np.zeros((4, 3)))
        np.testing.assert_allclose(mixture.stddev(), np.full((4, 3), STDDEV), rtol=1e-6)

    def test_log_prob_compiles(self):
        value = weights_of_both_components((4, 3))
        log_prob = ScaleMixtureNormal((4, 3)).log_prob
        np.testing.assert_allclose(tf.function(log_prob, jit_compile=True)(value), log_prob(value), rtol=1e-5)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"mixing_probability": 0.0},
            {"mixing_probability": 1.0},
            {"mixing_probability": float("nan")},
            {"scale1": 0.0},
            {"scale2": -1.0},
            {"granularity": "column"},
        ],
        ids=str,
    )
    def test_bad_arguments_are_named(self, arguments):
        (name,) = arguments
        with pytest.raises(ValueError, match=rf"Received: .*{name}="):
            ScaleMixtureNormal((2, 2), **arguments)
