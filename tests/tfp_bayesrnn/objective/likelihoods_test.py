"""Likelihoods against SciPy's densities, moments and samples."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn import (
    BayesianModel,
    BernoulliLikelihood,
    CategoricalLikelihood,
    DistributionLikelihood,
    InputError,
    JointLikelihood,
    NegativeBinomialLikelihood,
    NormalLikelihood,
    PoissonLikelihood,
    QuantileLikelihood,
    StudentTLikelihood,
    VariationalDense,
)
from tfp_bayesrnn.objective import free_energy, likelihoods

B, T, V = 4, 5, 3


def elementwise(targets, outputs):
    """A likelihood whose nats are the outputs themselves."""
    del targets
    return outputs


def softplus(raw):
    return np.logaddexp(0.0, raw) + 1e-6


def student_t(outputs):
    location, scale, freedom = np.moveaxis(outputs, -1, 0)
    return scipy.stats.t(2.0 + softplus(freedom), location, softplus(scale))


def negative_binomial(outputs):
    mean, dispersion = softplus(outputs[..., 0]), softplus(outputs[..., 1])
    return scipy.stats.nbinom(1.0 / dispersion, 1.0 / (1.0 + mean * dispersion))


def reals(generator):
    return generator.normal(size=(B, T))


def counts(generator):
    return generator.integers(0, 9, (B, T))


# Name -> the likelihood, the number of outputs of a target, targets, SciPy's distribution.
CASES = {
    "bernoulli": (
        "bernoulli",
        None,
        lambda g: g.integers(0, 2, (B, T)),
        lambda o: scipy.stats.bernoulli(scipy.special.expit(o)),
    ),
    "normal, known scale": (NormalLikelihood(0.3), None, reals, lambda o: scipy.stats.norm(o, 0.3)),
    "normal": ("normal", 2, reals, lambda o: scipy.stats.norm(o[..., 0], softplus(o[..., 1]))),
    "student_t": ("student_t", 3, reals, student_t),
    "poisson": ("poisson", None, counts, lambda o: scipy.stats.poisson(softplus(o))),
    "negative_binomial": ("negative_binomial", 2, counts, negative_binomial),
    "a distribution": (
        DistributionLikelihood(lambda outputs: tfd.Laplace(outputs, 0.7)),
        None,
        reals,
        lambda o: scipy.stats.laplace(o, 0.7),
    ),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def data_of(count, make, seed):
    generator = np.random.default_rng(seed)
    shape = (B, T) if count is None else (B, T, count)
    return make(generator), (generator.normal(size=shape) * 2.0).astype(np.float32)


class TestAgainstSciPy:
    """In float64; 1e-5 relative is some hundred roundings of a float32, as lgamma needs them."""

    @EACH
    def test_nats(self, case):
        likelihood, count, make, distribution = case
        targets, outputs = data_of(count, make, 4)
        expected = distribution(outputs.astype(np.float64))
        log = getattr(expected, "logpmf", None) if targets.dtype == np.int64 else expected.logpdf
        nats = likelihoods.nats(likelihoods.get(likelihood), tf.constant(targets), tf.constant(outputs))
        assert nats.dtype == tf.float32
        np.testing.assert_allclose(nats, -log(targets), rtol=2e-5, atol=2e-5)

    @EACH
    def test_mean_and_variance(self, case):
        likelihood, count, make, distribution = case
        _, outputs = data_of(count, make, 5)
        likelihood, expected = likelihoods.get(likelihood), distribution(outputs.astype(np.float64))
        np.testing.assert_allclose(likelihood.mean(outputs), expected.mean(), rtol=1e-5, atol=1e-6)
        if not likelihood.is_classes:
            variance = np.broadcast_to(likelihood.variance(outputs), (B, T))
            np.testing.assert_allclose(variance, expected.var(), rtol=1e-4)

    @EACH
    def test_samples_have_the_distribution(self, case):
        """Their distribution function at a target, within five standard errors of 4,000 samples."""
        likelihood, count, make, distribution = case
        targets, outputs = data_of(count, make, 6)
        repeated = tf.constant(np.broadcast_to(outputs, (4000, *outputs.shape)))
        samples = likelihoods.get(likelihood).sample(repeated, tf.constant([1, 2])).numpy()
        expected = distribution(outputs.astype(np.float64)).cdf(targets)
        np.testing.assert_allclose(np.mean(samples <= targets, axis=0), expected, atol=5 * 0.5 / 4000**0.5)

    def test_categorical(self):
        generator = np.random.default_rng(4)
        targets, logits = generator.integers(0, V, (B, T)), generator.normal(size=(B, T, V)) * 3
        likelihood = likelihoods.get("categorical")
        outputs = tf.constant(logits, tf.float32)
        probabilities = scipy.special.softmax(logits, -1)
        expected = -scipy.stats.multinomial.logpmf(np.eye(V)[targets], 1, probabilities)
        np.testing.assert_allclose(likelihood(tf.constant(targets), outputs), expected, rtol=1e-5)
        np.testing.assert_allclose(likelihood.mean(outputs), probabilities, rtol=1e-5)
        samples = likelihood.sample(tf.repeat(outputs[tf.newaxis], 4000, 0), tf.constant([1, 2])).numpy()
        np.testing.assert_allclose(np.mean(samples == 1, axis=0), probabilities[..., 1], atol=0.04)

    @pytest.mark.parametrize("jit", [False, True])
    @pytest.mark.parametrize("name", ["student_t", "poisson", "negative_binomial", "quantile", "normal"])
    @pytest.mark.slow(every=3)
    def test_gradients_are_finite_for_outputs_of_any_size(self, name, jit):
        likelihood = likelihoods.get(name)
        targets = tf.constant([0.0, 1.0, 1e4, 3.0])

        @tf.function(jit_compile=jit)
        def gradient(outputs):
            with tf.GradientTape() as tape:
                tape.watch(outputs)
                nats = likelihood(targets, outputs)
            return nats, tape.gradient(nats, outputs)

        for size in (-50.0, -5.0, 0.0, 5.0, 50.0):
            shape = [4] if likelihood.parameters is None else [4, likelihood.parameters]
            nats, found = gradient(tf.fill(shape, size))
            assert np.isfinite(nats).all() and np.isfinite(found).all()


class TestQuantiles:
    LEVELS = (0.1, 0.5, 0.9)

    def test_the_best_outputs_are_the_quantiles(self):
        samples = np.random.default_rng(0).normal(size=20_001).astype(np.float32)
        likelihood, grid = QuantileLikelihood(self.LEVELS), np.linspace(-2.0, 2.0, 81).astype(np.float32)
        at = lambda place: np.eye(3, dtype=np.float32)[place] * grid[:, None, None]  # noqa: E731
        for place, level in enumerate(self.LEVELS):
            # The others stay at 0, and add the same to each.
            outputs = np.broadcast_to(at(place), [81, len(samples), 3])
            targets = np.broadcast_to(samples, [81, len(samples)])
            nats = np.mean(likelihood(tf.constant(targets), tf.constant(outputs)), axis=1)
            np.testing.assert_allclose(grid[nats.argmin()], scipy.stats.norm.ppf(level), atol=0.05)

    def test_nats_are_the_mean_of_asymmetric_laplace_distributions(self):
        y, quantiles, scale = 1.3, np.array([-1.0, 0.2, 2.0]), 0.5
        expected = [
            -np.log(q * (1 - q) / scale) + (q - (y < f)) * (y - f) / scale
            for q, f in zip(self.LEVELS, quantiles, strict=True)
        ]
        nats = QuantileLikelihood(self.LEVELS, scale)(tf.constant([y]), tf.constant([quantiles], tf.float32))
        np.testing.assert_allclose(nats, [np.mean(expected)], rtol=1e-5)

    def test_the_distribution_has_these_quantiles_and_is_one(self):
        outputs = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)  # They cross.
        distribution = QuantileLikelihood().distribution(tf.constant(outputs))
        for q in (0.001, 0.01, 0.025, 0.3, 0.5, 0.8, 0.975, 0.999):
            at = distribution.quantile(tf.fill([6], q))
            np.testing.assert_allclose(distribution.cdf(at), np.full(6, q), atol=2e-5)
        median = distribution.quantile(tf.fill([6], 0.5))
        np.testing.assert_allclose(median, np.median(outputs, -1), atol=1e-5)
        grid = np.linspace(-60.0, 60.0, 240_001)
        log_density = distribution.log_prob(tf.constant(grid[:, None], tf.float32))
        density = np.exp(log_density.numpy().astype(np.float64))
        step = grid[1] - grid[0]
        # The grid cuts narrow intervals short or long: by 2 %.
        np.testing.assert_allclose(density.sum(0) * step, 1.0, rtol=0.02)
        mean = (grid[:, None] * density).sum(0) * step
        np.testing.assert_allclose(distribution.mean(), mean, atol=0.02)
        variance = ((grid[:, None] - mean) ** 2 * density).sum(0) * step
        np.testing.assert_allclose(distribution.variance(), variance, rtol=0.02)
        samples = distribution.sample(20_000, seed=tf.constant([1, 2])).numpy()
        np.testing.assert_allclose(samples.mean(0), distribution.mean(), atol=0.06)
        np.testing.assert_allclose(samples.std(0), distribution.stddev(), rtol=0.05)

    @pytest.mark.parametrize("levels", [(0.5,), (0.9, 0.1), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)])
    def test_levels_that_are_none(self, levels):
        with pytest.raises(ValueError, match="Received: levels="):
            QuantileLikelihood(levels)


class TestProbabilities:
    """`from_logits=False`, against Keras's losses of probabilities."""

    def test_categorical(self):
        generator = np.random.default_rng(1)
        targets, logits = generator.integers(0, V, 50), generator.normal(size=(50, V)) * 8
        outputs = tf.constant(scipy.special.softmax(logits, -1), tf.float32)
        nats = likelihoods.nats(CategoricalLikelihood(from_logits=False), tf.constant(targets), outputs)
        expected = keras.losses.sparse_categorical_crossentropy(targets, outputs)
        np.testing.assert_allclose(nats, expected, rtol=1e-5, atol=1e-6)

    def test_bernoulli(self):
        generator = np.random.default_rng(1)
        targets, logits = generator.integers(0, 2, (50, 1)), generator.normal(size=(50, 1)) * 3
        outputs = tf.constant(scipy.special.expit(logits), tf.float32)
        nats = likelihoods.nats(BernoulliLikelihood(from_logits=False), tf.constant(targets), outputs)
        expected = keras.losses.binary_crossentropy(targets, outputs)
        np.testing.assert_allclose(nats[:, 0], expected, rtol=1e-4, atol=1e-5)

    def test_what_is_no_probability(self):
        with pytest.raises(
            ValueError, match=r"are probabilities, from 0 to 1\. Received: values from 0 to 3"
        ):
            likelihoods.nats(
                CategoricalLikelihood(from_logits=False), tf.constant([1]), tf.constant([[0.0, 3.0]])
            )

    @pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
    @pytest.mark.parametrize(
        "network",
        [
            lambda a: keras.Sequential([VariationalDense(3), keras.layers.Activation(a)]),
            lambda a: keras.Sequential([keras.Input([2]), VariationalDense(3, activation=a)]),
            lambda a: keras.Sequential(
                [keras.Input([2]), VariationalDense(3, activation=a), keras.layers.Reshape([3])]
            ),
            lambda a: keras.Sequential(
                [keras.Input([4, 2]), keras.layers.TimeDistributed(VariationalDense(3, activation=a))]
            ),
        ],
        ids=["not built", "built", "reshaped", "at each step"],
    )
    def test_probabilities_are_refused_where_logits_are_taken(self, network, activation):
        with pytest.raises(InputError, match=rf"ends in the {activation}.*from_logits=False"):
            BayesianModel(network(activation))
        BayesianModel(network(activation), likelihood=CategoricalLikelihood(from_logits=False))

    def test_so_are_scales_that_are_positive_already(self):
        network = keras.Sequential([keras.Input([2]), VariationalDense(1, activation="softplus")])
        with pytest.raises(InputError, match=r"ends in the softplus.*PoissonLikelihood"):
            BayesianModel(network, likelihood="poisson")
        BayesianModel(network, likelihood=NormalLikelihood(1.0))


class TestWhatIsGiven:
    @pytest.mark.parametrize(
        "likelihood",
        [
            *(case[0] for name, case in CASES.items() if name != "a distribution"),
            "categorical",
            CategoricalLikelihood(ignore_class=-1),
            BernoulliLikelihood(from_logits=False),
            QuantileLikelihood([0.2, 0.8], 3.0),
            StudentTLikelihood(),
            PoissonLikelihood(),
            NegativeBinomialLikelihood(),
            {"a": "normal", "b": None},
        ],
        ids=str,
    )
    def test_comes_back_from_its_serialised_form(self, likelihood):
        likelihood = likelihoods.get(likelihood)
        assert likelihoods.get(likelihoods.serialize(likelihood)) == likelihood

    @pytest.mark.parametrize("make", [likelihoods.get, JointLikelihood, DistributionLikelihood])
    def test_a_registered_function_comes_back_too(self, make):
        registered = keras.saving.register_keras_serializable("likelihoods_test")(elementwise)
        again = likelihoods.get(likelihoods.serialize(make(registered)))
        assert again.function is registered and type(again) is type(make(registered))

    def test_extreme_logits_give_finite_nats(self):
        targets, logits = tf.constant([0, 1]), tf.constant([[-200.0, 200.0], [200.0, -200.0]])
        np.testing.assert_allclose(CategoricalLikelihood()(targets, logits), [400.0, 400.0])
        np.testing.assert_allclose(BernoulliLikelihood()(targets, logits[:, 1]), [200.0, 200.0])

    @pytest.mark.parametrize("name", ["gaussian", "Categorical", ""])
    def test_an_unknown_name_is_an_error_that_names_those_there_are(self, name):
        with pytest.raises(ValueError, match=rf"bernoulli.*categorical.*Received: likelihood='{name}'"):
            likelihoods.get(name)

    @pytest.mark.parametrize("scale", [0.0, -1.0, np.nan])
    def test_a_scale_must_be_positive(self, scale):
        with pytest.raises(ValueError, match=f"Received: scale={scale}"):
            NormalLikelihood(scale)

    @pytest.mark.parametrize(
        "loss, instead",
        [
            ("mse", "NormalLikelihood"),
            ("mean_absolute_error", "quantile"),
            ("sparse_categorical_crossentropy", "'categorical'"),
            (keras.losses.MeanSquaredError(), "NormalLikelihood"),
            (keras.losses.MeanSquaredError, "NormalLikelihood"),
            (keras.losses.mean_squared_error, "NormalLikelihood"),
            (keras.losses.BinaryCrossentropy(from_logits=True), "'bernoulli'"),
            (keras.losses.Huber(), "student_t"),
            (keras.losses.hinge, "DistributionLikelihood"),
            (keras.losses.kl_divergence, "DistributionLikelihood"),
        ],
    )
    def test_a_loss_of_keras_is_refused_by_name(self, loss, instead):
        for make in (likelihoods.get, *([] if isinstance(loss, str) else [JointLikelihood])):
            with pytest.raises(ValueError, match=rf"A loss of Keras is no likelihood.*{instead}"):
                make(loss)

    def test_normal_targets_do_not_broadcast(self):
        """[B] against [B, 1] would make B * B predictions."""
        with pytest.raises(ValueError, match=r"Received: targets of shape \(4,\), outputs of shape \(4, 1\)"):
            NormalLikelihood(1.0)(tf.zeros([B]), tf.zeros([B, 1]))

    @pytest.mark.parametrize("targets", [(B,), (B, 1)])
    @pytest.mark.parametrize("name, count", [("normal", 2), ("student_t", 3), ("negative_binomial", 2)])
    def test_targets_with_an_axis_of_1_or_without(self, name, count, targets):
        outputs = tf.zeros([B, count])
        assert likelihoods.nats(likelihoods.get(name), tf.ones(targets), outputs).shape == [B]

    @pytest.mark.parametrize("targets, outputs", [((B,), (B, 1)), ((B, 3), (B, 6)), ((B, 3), (B, 3, 3))])
    def test_outputs_that_are_not_the_parameters(self, targets, outputs):
        with pytest.raises(ValueError, match=r"takes 2 outputs for each target.*Reshape\(\(H, 2\)\)"):
            likelihoods.nats(likelihoods.get("normal"), tf.zeros(targets), tf.zeros(outputs))

    @pytest.mark.parametrize("value", [-1.0, 0.5, np.nan])
    @pytest.mark.parametrize("name, outputs", [("poisson", (1,)), ("negative_binomial", (1, 2))])
    def test_what_is_no_count(self, name, outputs, value):
        with pytest.raises(ValueError, match=r"are counts, whole numbers from 0\. Received: values"):
            likelihoods.nats(likelihoods.get(name), tf.constant([value]), tf.zeros(outputs))

    def test_an_event_has_one_number(self):
        likelihood = DistributionLikelihood(
            lambda outputs: tfd.MultivariateNormalDiag(outputs, tf.ones_like(outputs))
        )
        targets, outputs = np.random.default_rng(1).normal(size=(2, B, T, V)).astype(np.float32)
        nll = free_energy.negative_log_likelihood(likelihood, targets, outputs, None)
        expected = -scipy.stats.norm.logpdf(targets, outputs).sum(-1)
        np.testing.assert_allclose(nll.nats, expected, rtol=1e-5)
        assert nll.predictions == B * T

    def test_what_is_no_distribution(self):
        with pytest.raises(ValueError, match="returns a distribution of TensorFlow Probability"):
            likelihoods.nats(DistributionLikelihood(lambda outputs: outputs), tf.zeros([B]), tf.zeros([B]))
        with pytest.raises(ValueError, match="takes a function"):
            DistributionLikelihood(tfd.Normal(0.0, 1.0))
        with pytest.raises(ValueError, match="by its negative log-likelihood alone"):
            likelihoods.get(elementwise).mean(tf.zeros([B]))


class TestIgnoreClass:
    @pytest.mark.parametrize("ignored", [-1, 0, V + 4])
    def test_against_keras(self, ignored):
        generator = np.random.default_rng(9)
        targets, logits = generator.integers(0, V, (B, T)), generator.normal(size=(B, T, V))
        targets[:, ::2] = ignored
        likelihood = CategoricalLikelihood(ignore_class=ignored)
        nll = free_energy.negative_log_likelihood(likelihood, targets, tf.constant(logits), None)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored)
        assert nll.predictions == np.count_nonzero(targets != ignored)
        np.testing.assert_allclose(nll.total / nll.predictions, loss(targets, logits), rtol=1e-5)
