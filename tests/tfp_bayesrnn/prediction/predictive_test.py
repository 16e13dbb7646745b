"""`BayesianModel.predictive`, and the averages over draws that everything goes through, against SciPy."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn import (
    BayesianModel,
    DistributionLikelihood,
    Dropout,
    NormalLikelihood,
    PointMass,
    Predictive,
    VariationalDense,
    VariationalEmbedding,
    VariationalLSTM,
    noise,
    pruning,
    released,
)
from tfp_bayesrnn.prediction import averages, uncertainty

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
SAMPLES, SEED = 4, 3
eagerly = pytest.mark.usefixtures("eagerly")


def model_of(likelihood, units, **kwargs):
    kwargs = {**released.OTHERS, **kwargs}  # Draws that differ by more than the tolerances.
    network = keras.Sequential(
        [keras.Input([3]), VariationalDense(4, **kwargs), VariationalDense(units, **kwargs)]
    )
    model = BayesianModel(network, training_rows=20, likelihood=likelihood)
    model.build([None, 3])
    model.compile("sgd")
    return model


def draws_of(model):
    root = noise.derive(noise.make_seed(SEED), noise.Stream.EVALUATION_DRAWS)
    return [model.posterior.sample(noise.derive(root, sample)) for sample in range(SAMPLES)]


def outputs_of(model, x=X):
    return np.stack([draw.run(model.network, x).numpy().astype(np.float64) for draw in draws_of(model)])


def softplus(raw):
    return np.logaddexp(0.0, raw) + 1e-6


def normal(outputs):
    return scipy.stats.norm(outputs[..., 0], softplus(outputs[..., 1]))


def student_t(outputs):
    location, scale, freedom = np.moveaxis(outputs, -1, 0)
    return scipy.stats.t(2.0 + softplus(freedom), location, softplus(scale))


def poisson(outputs):
    return scipy.stats.poisson(softplus(outputs))


def negative_binomial(outputs):
    mean, dispersion = softplus(outputs[..., 0]), softplus(outputs[..., 1])
    return scipy.stats.nbinom(1.0 / dispersion, 1.0 / (1.0 + mean * dispersion))


FAMILIES = {
    "normal": ("normal", 2, normal),
    "a known scale": (NormalLikelihood(0.5), 1, lambda o: scipy.stats.norm(o, 0.5)),
    "student_t": ("student_t", 3, student_t),
    "poisson": ("poisson", 1, poisson),
    "negative_binomial": ("negative_binomial", 2, negative_binomial),
    "a distribution without quantiles": (
        DistributionLikelihood(
            lambda outputs: tfd.MixtureSameFamily(
                tfd.Categorical(logits=tf.zeros_like(outputs)), tfd.Normal(outputs, 0.5)
            )
        ),
        1,
        lambda o: scipy.stats.norm(o[..., 0], 0.5),
    ),
}


@eagerly
class TestClasses:
    @pytest.mark.parametrize("likelihood, units", [("categorical", 5), ("bernoulli", 2)])
    def test_probabilities_and_entropies(self, likelihood, units):
        model = model_of(likelihood, units)
        found, logits = model.predictive(X, SAMPLES, SEED, batch_size=8), outputs_of(model)
        if likelihood == "bernoulli":
            ones = scipy.special.expit(logits)
            np.testing.assert_allclose(found.mean(), ones.mean(0), rtol=1e-5)
            each = np.stack([1 - ones, ones], axis=-1)
        else:
            each = scipy.special.softmax(logits, axis=-1)
            np.testing.assert_allclose(found.mean(), each.mean(0), rtol=1e-5)
        total, aleatoric = (scipy.special.entr(p).sum(-1) for p in (each.mean(0), each))
        np.testing.assert_allclose(found.entropy(), total, rtol=1e-5)
        np.testing.assert_allclose(found.aleatoric(), aleatoric.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found.epistemic(), total - aleatoric.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.total(), found.aleatoric() + found.epistemic(), rtol=1e-6)
        assert np.all(found.epistemic() >= 0.0) and np.max(found.epistemic()) > 0.01

    def test_log_probability_and_samples(self):
        model = model_of("categorical", 5)
        found = model.predictive(X, SAMPLES, SEED)
        y = np.arange(20) % 5
        probabilities = scipy.special.softmax(outputs_of(model), -1).mean(0)
        np.testing.assert_allclose(found.log_prob(y), np.log(probabilities[np.arange(20), y]), rtol=1e-4)
        samples = found.sample(2000)
        assert samples.shape == (2000, 20)
        # Five standard errors of a share among 2000.
        np.testing.assert_allclose(
            np.mean(samples == 2, axis=0), probabilities[:, 2], atol=5 * 0.5 / 2000**0.5
        )
        np.testing.assert_array_equal(found.sample(3), found.sample(3))
        assert np.any(found.sample(50) != found.sample(50, seed=9))

    def test_numbers_are_not_those_of_classes(self):
        found = model_of("categorical", 5).predictive(X, 2)
        for method, arguments in (("stddev", ()), ("interval", ()), ("quantile", (0.5,)), ("cdf", (0,))):
            with pytest.raises(ValueError, match=r"not one of targets of this kind.*CategoricalLikelihood"):
                getattr(found, method)(*arguments)
        with pytest.raises(ValueError, match="entropy is not one of"):
            model_of("normal", 2).predictive(X, 2).entropy()


@pytest.mark.parametrize("case", FAMILIES.values(), ids=FAMILIES)
class TestNumbers:
    """The mixture of SciPy's distributions, by its definitions."""

    def test_moments(self, case):
        likelihood, units, distribution = case
        model = model_of(likelihood, units)
        found, each = model.predictive(X, SAMPLES, SEED), distribution(outputs_of(model))
        np.testing.assert_allclose(found.mean(), each.mean().mean(0), rtol=1e-4, atol=1e-6)
        epistemic = each.mean().var(0)
        aleatoric = np.broadcast_to(each.var(), each.mean().shape).mean(0)
        np.testing.assert_allclose(found.epistemic(), epistemic, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.aleatoric(), aleatoric, rtol=1e-4)
        np.testing.assert_allclose(found.stddev(), np.sqrt(aleatoric + epistemic), rtol=1e-4)

    @pytest.mark.slow(every=2)
    def test_distribution_function_and_quantiles(self, case):
        likelihood, units, distribution = case
        model = model_of(likelihood, units)
        found, each = model.predictive(X, SAMPLES, SEED), distribution(outputs_of(model))
        levels = np.array([0.025, 0.5, 0.975])
        quantiles = found.quantile(levels)
        assert quantiles.shape == (3, *found.mean().shape)
        if found.likelihood.is_discrete:
            for level, quantile in zip(levels, quantiles, strict=True):
                np.testing.assert_array_equal(quantile, np.round(quantile))
                assert np.all(each.cdf(quantile).mean(0) >= level - 1e-6)
                assert np.all(each.cdf(quantile - 1).mean(0) < level + 1e-6)
        else:
            for level, quantile in zip(levels, quantiles, strict=True):
                np.testing.assert_allclose(each.cdf(quantile).mean(0), level, atol=1e-5)
        low, high = found.interval(0.95)
        np.testing.assert_array_equal(low, quantiles[0])
        np.testing.assert_array_equal(high, quantiles[2])
        np.testing.assert_allclose(found.cdf(quantiles[1]), each.cdf(quantiles[1]).mean(0), atol=1e-5)

    @pytest.mark.slow(every=3)
    def test_log_probability(self, case):
        likelihood, units, distribution = case
        model = model_of(likelihood, units)
        found, each = model.predictive(X, SAMPLES, SEED), distribution(outputs_of(model))
        y = np.zeros(found.mean().shape) + 2.0
        log_prob = each.logpmf if found.likelihood.is_discrete else each.logpdf
        expected = scipy.special.logsumexp(log_prob(y), axis=0) - np.log(SAMPLES)
        np.testing.assert_allclose(found.log_prob(y), expected, rtol=1e-4)

    @pytest.mark.slow(every=3)
    def test_samples(self, case):
        """Their distribution function, within five standard errors of 2000."""
        likelihood, units, distribution = case
        model = model_of(likelihood, units)
        found, each = model.predictive(X, SAMPLES, SEED), distribution(outputs_of(model))
        samples = found.sample(2000)
        at = np.round(found.mean())
        expected = each.cdf(at).mean(0)
        np.testing.assert_allclose(np.mean(samples <= at, axis=0), expected, atol=5 * 0.5 / 2000**0.5)

    @pytest.mark.slow(every=3)
    def test_crps(self, case):
        """Against 2 * the integral of the pinball loss over quantiles (Gneiting and Raftery, 2007)."""
        found = model_of(*case[:2]).predictive(X, SAMPLES, SEED)
        y = np.zeros(found.mean().shape) + 1.0
        levels = (np.arange(200) + 0.5) / 200
        residuals = y - found.quantile(levels)
        levels = levels.reshape([-1] + [1] * y.ndim)
        expected = 2 * np.mean(np.maximum(levels * residuals, (levels - 1) * residuals), axis=0)
        # 4000 samples leave an error of 1 % or 2 % of the spread.
        np.testing.assert_allclose(found.crps(y, 4000), expected, atol=0.05 * np.max(found.stddev()))


class TestDraws:
    def test_are_those_of_a_seed_whatever_the_minibatches(self):
        model = model_of("normal", 2)
        whole = model.predictive(X, SAMPLES, SEED)
        np.testing.assert_allclose(whole.outputs, outputs_of(model), rtol=1e-4, atol=1e-6)
        for x in (X, tf.data.Dataset.from_tensor_slices(X).batch(7), iter([X[:3], X[3:]])):
            parts = model.predictive(x, SAMPLES, SEED, batch_size=7)
            np.testing.assert_allclose(parts.outputs, whole.outputs, rtol=1e-5, atol=1e-6)
        assert np.any(model.predictive(X, SAMPLES, SEED + 1).outputs != whole.outputs)

    def test_one_function_serves_every_size(self):
        model = model_of("normal", 2)
        model.predictive(X, SAMPLES, SEED, batch_size=7)
        model.predictive(X, SAMPLES + 1, SEED + 1, batch_size=3)
        (function,) = model._sampled_network._functions.values()
        assert function._function.experimental_get_tracing_count() == 1

    def test_see_what_is_pruned_and_trained_since(self):
        model = model_of("normal", 2)
        before = model.predictive(X, SAMPLES, SEED).outputs
        model.fit(X, X[:, 0], verbose=0)
        assert np.any(model.predictive(X, SAMPLES, SEED).outputs != before)
        pruning.prune(model.posterior, pruning.masks(model.posterior, 0.5))
        np.testing.assert_allclose(
            model.predictive(X, SAMPLES, SEED).outputs, outputs_of(model), rtol=1e-4, atol=1e-6
        )

    @eagerly
    @pytest.mark.parametrize("samples, kwargs", [(1, {}), (3, {"posterior": PointMass()})])
    def test_where_all_agree_nothing_is_epistemic(self, samples, kwargs):
        found = model_of("categorical", 5, **kwargs).predictive(X, samples)
        np.testing.assert_allclose(found.epistemic(), 0.0, atol=3e-7)
        assert np.all(found.epistemic() >= 0.0)

    @eagerly
    def test_of_dropout_have_masks(self):
        layers = [keras.Input([3]), VariationalDense(8, posterior=PointMass()), Dropout(0.5)]
        model = BayesianModel(
            keras.Sequential([*layers, VariationalDense(2, posterior=PointMass())]), likelihood="normal"
        )
        assert np.all(model.predictive(X, 5).epistemic() > 0.0)

    @eagerly
    def test_of_several_outputs_have_their_structure(self):
        inputs = keras.Input([3])
        outputs = {"class": VariationalDense(5)(inputs), "rest": VariationalDense(2)(inputs)}
        likelihood = {"class": "categorical", "rest": None}
        model = BayesianModel(keras.Model(inputs, outputs), training_rows=20, likelihood=likelihood)
        found = model.predictive(X, 2)
        assert found["rest"] is None and found["class"].mean().shape == (20, 5)
        np.testing.assert_array_equal(model.predict(X, num_samples=2)["class"], found["class"].mean())

    @eagerly
    def test_of_a_sequence(self):
        ids = np.array([[1, 2, 0], [3, 0, 0]])
        layers = [VariationalEmbedding(4, 3, mask_zero=True), VariationalLSTM(4, return_sequences=True)]
        model = BayesianModel(keras.Sequential([*layers, VariationalDense(2)]), 2, "normal")
        found = model.predictive(ids, 3)
        assert found.mean().shape == (2, 3) and found.sample(5).shape == (5, 2, 3)

    @eagerly
    def test_what_is_refused(self):
        model = model_of("normal", 2)
        for samples in (0, 1.5, True):
            with pytest.raises(ValueError, match=r"integer of at least 1. Received: num_samples="):
                model.predictive(X, samples)
        for x in ([[0.5, 1.0, 2.0]], 3.0, "x"):
            with pytest.raises(ValueError, match=r"of a list of numbers make an array.*Received: x="):
                model.predictive(x, 2)
        with pytest.raises(ValueError, match="StreamEvaluator"):
            model.predictive({"inputs": X, "is_first": np.ones(20, bool)}, 2)
        with pytest.raises(ValueError, match="Give either one draw"):
            model.predict(X, draw=model.posterior.mean(), num_samples=2)
        found = model.predictive(X, 2)
        for call in (
            lambda: found.quantile([0.5, 1.0]),
            lambda: found.interval(0.0),
            lambda: found.sample(0),
        ):
            with pytest.raises(ValueError, match="Received: "):
                call()

    @eagerly
    def test_of_a_function_have_a_log_probability_alone(self):
        found = model_of(lambda targets, outputs: tf.square(targets - outputs), 1).predictive(
            X, SAMPLES, SEED
        )
        y = X[:, :1]
        expected = scipy.special.logsumexp(-((y - found.outputs) ** 2), axis=0) - np.log(SAMPLES)
        np.testing.assert_allclose(found.log_prob(y), expected, rtol=1e-4, atol=1e-6)
        with pytest.raises(ValueError, match=r"DistributionLikelihood.*Received: likelihood="):
            found.mean()


def test_a_predictive_of_outputs_from_elsewhere():
    found = Predictive(np.zeros([2, 5, 2]), "normal")
    np.testing.assert_allclose(found.mean(), np.zeros(5))


def test_crps_of_a_normal_distribution():
    """Its closed form (Gneiting and Raftery, 2007, eq. 5); 0.01 is three standard errors."""
    samples = tf.constant(np.random.default_rng(0).normal(size=(20_000, 1)), tf.float32)
    for y in (-1.0, 0.0, 2.5):
        expected = y * (2 * scipy.stats.norm.cdf(y) - 1) + 2 * scipy.stats.norm.pdf(y) - np.pi**-0.5
        np.testing.assert_allclose(uncertainty.crps_of_samples(samples, [y]), [expected], atol=0.01)


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
