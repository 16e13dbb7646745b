"""Priors and variational families against SciPy, TFP and their own samples."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bayes_oracles import PI, SCALE1, SCALE2, mixture_log_prob
from scipy import stats

from tfp_bayesrnn.distributions import (
    DistributionPrior,
    KTiedNormal,
    MeanFieldNormal,
    NormalPrior,
    PointMass,
    Prior,
    ScaleMixtureNormal,
    ScaleMixturePrior,
    families,
    priors,
    softplus,
)

tfd = tfp.distributions

STDDEV = math.sqrt(0.25 * math.exp(-2) + 0.75 * math.exp(-14))  # 0.184, for the released prior.
SHAPES = {"scalar": (), "vector": (5,), "matrix": (4, 3), "3-D": (2, 3, 4)}
GRANULARITIES = ["row", "weight", "tensor"]


def weights_of_both_components(shape, seed=0):
    """Float32 weights some of which are typical of the wide component, some of the narrow one."""
    rng = np.random.default_rng(seed)
    rows = rng.choice([SCALE1, SCALE2], size=(*shape[:-1], 1)) if shape else SCALE2
    return (rows * rng.normal(size=shape)).astype(np.float32)


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
        prior = priors.get(None)
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


@keras.saving.register_keras_serializable("distributions_test")
def laplace(shape):
    return tfd.Independent(tfd.Laplace(tf.zeros(shape), 0.5), len(shape))


@keras.saving.register_keras_serializable("distributions_test")
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
