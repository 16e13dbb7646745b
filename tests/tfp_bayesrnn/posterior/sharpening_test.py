"""Posterior sharpening: the distribution of theta, eta, g, errors, precision."""

import math

import keras
import numpy as np
import pytest
import scipy.stats
import small_models
import tensorflow as tf
from sharpened_models import (
    CASES,
    CLOSE,
    SEED,
    Oracle,
    X,
    Y,
    flat,
    random_like,
    scatter,
    sharpened,
    softplus,
    step_of,
)
from small_models import (
    PRIOR,
    assert_identical,
    language_model,
    point_mass_language_model,
    regression,
    tokens,
    values,
)

from tfp_bayesrnn import NormalPrior, PointMass, PosteriorSharpening, VariationalDense
from tfp_bayesrnn.model import training
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw, Posterior


class TestTheta:
    """`sharpen`, for gradients that are given."""

    SIZE = 8  # Values that are sharpened: kernels of [3, 2] and [2, 1]. The biases are point masses.

    def make(self, sigma0=0.3):
        """A model with etas all over the place, a draw of it, and gradients for which the KL is about 1."""
        model = regression(sharpening=PosteriorSharpening(sigma0))
        scatter(model.sharpening.u)
        phi = model.posterior.sample(SEED)
        return model.sharpening, phi, random_like(phi, 0.3 / (sigma0 or 0.3))

    def thetas(self, sharpening, phi, gradients, n):
        """theta's sharpened values [n, 8] for n seeds, and the KL."""

        @tf.function
        def draws(seeds):
            def draw(seed):
                theta, kl = sharpening.sharpen(phi, gradients, seed)
                parts = [tf.reshape(theta[weight], [-1]) for weight in theta if weight.is_variational]
                return tf.concat([*parts, [kl]], 0)

            return tf.map_fn(draw, seeds, fn_output_signature=tf.float32)

        drawn = draws(tf.stack([tf.range(n), tf.fill([n], 1)], axis=1)).numpy().astype(np.float64)
        assert len(set(drawn[:, -1])) == 1  # The KL is exact: no noise in it.
        return drawn[:, :-1], drawn[0, -1]

    @staticmethod
    def mean(sharpening, phi, gradients):
        return sharpened(phi) - flat(sharpening.etas()) * sharpened(gradients)

    @pytest.mark.parametrize("sigma0", [0.02, 0.3, 2.0])
    def test_its_kl_is_that_of_the_two_normals(self, sigma0):
        """By SciPy, and by a Monte Carlo estimate with theta itself, to four standard errors of it."""
        sharpening, phi, gradients = self.make(sigma0)
        mean, prior_mean, n = self.mean(sharpening, phi, gradients), sharpened(phi), 1000
        thetas, kl = self.thetas(sharpening, phi, gradients, n)
        ratios = scipy.stats.norm.logpdf(thetas, mean, sigma0) - scipy.stats.norm.logpdf(
            thetas, prior_mean, sigma0
        )
        estimates = ratios.sum(axis=1)
        assert abs(estimates.mean() - kl) < 4 * estimates.std() / math.sqrt(n)
        assert 4 * estimates.std() / math.sqrt(n) < 0.3 * kl
        # Of two normals of the same scale, it is half the squared distance of their means in units of it.
        np.testing.assert_allclose(kl, 0.5 * np.sum(((mean - prior_mean) / sigma0) ** 2), rtol=1e-5)

    def test_its_kl_where_gradients_are_zero(self):
        sharpening, phi, gradients = self.make()
        zeros = {weight: tf.zeros_like(gradient) for weight, gradient in gradients.items()}
        theta, kl = sharpening.sharpen(phi, zeros, SEED)
        assert kl == 0.0 and np.all(np.isfinite(sharpened(theta)))
        # Zero in one weight only: the KL is the other's alone.
        first, second = (weight for weight in phi if weight.is_variational)
        kls = [sharpening.sharpen(phi, {**zeros, w: gradients[w]}, SEED)[1] for w in (first, second)]
        np.testing.assert_allclose(sum(kls), sharpening.sharpen(phi, gradients, SEED)[1], rtol=1e-6)
        assert min(kls) > 0.0

    def test_it_is_normal_around_phi_minus_eta_g_with_scale_sigma0(self):
        """Kolmogorov-Smirnov at fixed seeds; each of 8 means and standard deviations to 4.5 standard errors.

        A mean of phi, of phi + eta g or of phi - g would be off by some tenths of sigma0 or more.
        """
        sharpening, phi, gradients = self.make()
        n = 3000
        thetas, _ = self.thetas(sharpening, phi, gradients, n)
        standard = (thetas - self.mean(sharpening, phi, gradients)) / 0.3
        assert scipy.stats.kstest(standard.ravel(), "norm").pvalue > 1e-3
        assert np.abs(standard.mean(axis=0)).max() < 4.5 / math.sqrt(n)
        assert np.abs(standard.std(axis=0) - 1.0).max() < 4.5 / math.sqrt(2 * n)

    def test_its_noise_is_independent_of_phis_and_differs_by_weight(self):
        """Correlations over seeds of all 16 noises, the seed of phi and theta being the same."""
        sharpening, phi, gradients = self.make()
        posterior, n = Posterior(list(phi)), 2000

        @tf.function
        def draws(seeds):
            def draw(seed):
                phi = posterior.sample(seed)
                theta, _ = sharpening.sharpen(phi, gradients, seed)
                parts = [*phi.epsilons.values(), *(theta[w] - phi[w] for w in phi.epsilons)]
                return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

            return tf.map_fn(draw, seeds, fn_output_signature=tf.float32)

        noises = draws(tf.stack([tf.range(n), tf.fill([n], 1)], axis=1)).numpy()
        correlations = np.corrcoef(noises, rowvar=False)
        assert correlations.shape == (2 * self.SIZE, 2 * self.SIZE)
        # 120 correlations, each of standard error 1 / sqrt(n): the largest would be 4.5 of them once in 1000.
        assert np.abs(correlations - np.eye(2 * self.SIZE)).max() < 4.5 / math.sqrt(n)

    def test_the_same_seed_gives_the_same_and_another_seed_another(self):
        sharpening, phi, gradients = self.make()
        one, again, other = (
            sharpened(sharpening.sharpen(phi, gradients, tf.constant(seed))[0])
            for seed in ([1, 2], [1, 2], [1, 3])
        )
        np.testing.assert_array_equal(one, again)
        assert np.all(one != other)

    def test_xla_gives_the_same(self):
        """The noise agrees to 2e-5 with eager mode's, and is scaled by sigma0."""
        sharpening, phi, gradients = self.make()

        def draw(seed):
            theta, kl = sharpening.sharpen(phi, gradients, seed)
            return list(theta.values()), kl

        (eager, eager_kl), (compiled, compiled_kl) = draw(SEED), tf.function(draw, jit_compile=True)(SEED)
        for one, other in zip(eager, compiled, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=0.3 * 2e-5 + 1e-6)
        np.testing.assert_allclose(eager_kl, compiled_kl, rtol=1e-5)

    def test_with_sigma0_zero_it_is_phi_and_costs_nothing(self):
        sharpening, phi, gradients = self.make(sigma0=0.0)
        theta, kl = sharpening.sharpen(phi, gradients, SEED)
        assert kl == 0.0
        assert_identical(theta.values(), phi.values())

    def test_point_masses_and_masks_are_phis(self):
        sharpening, phi, gradients = self.make()
        theta, _ = sharpening.sharpen(phi, gradients, tf.constant([8, 9]))
        assert list(theta) == list(phi) and theta.seed is phi.seed
        unchanged = [weight for weight in phi if np.array_equal(theta[weight], phi[weight])]
        assert unchanged == [weight for weight in phi if not weight.is_variational] != []

    def test_of_the_mean_has_no_masks(self):
        model = regression(sharpening=PosteriorSharpening(0.3))
        mean = model.posterior.mean()
        theta, _ = model.sharpening.sharpen(mean, random_like(mean), SEED)
        assert theta.seed is None


class TestEta:
    def test_starts_at_the_first_order_optimum(self):
        """There are as many as sharpened values, all sigma0^2, to the rounding of softplus in float32."""
        model = regression(sharpening=PosteriorSharpening(0.05))
        etas = model.sharpening.etas()
        assert [tuple(eta.shape) for eta in etas] == [(3, 2), (2, 1)]
        np.testing.assert_allclose(flat(etas), 0.05**2, rtol=3e-7)

    @pytest.mark.parametrize("u", [-200.0, -30.0, 0.0, 30.0])
    def test_is_never_negative(self, u):
        model = regression(sharpening=PosteriorSharpening(0.3))
        for variable in model.sharpening.u:
            variable.assign(tf.fill(variable.shape, u))
        etas = flat(model.sharpening.etas())
        assert np.all(etas >= 0.0)
        np.testing.assert_allclose(etas, 0.09 * softplus(u), rtol=1e-6, atol=1e-40)
        step = step_of(model, (X, Y))
        assert step.energy.kl_sharpening >= 0.0
        assert np.all(np.isfinite(flat(step.sharpening_gradients)))


class TestG:
    """The gradient that theta follows."""

    def g(self, model, data, state=None, draw=None):
        draw = draw or model.posterior.sample(SEED)
        g, _ = training.likelihood_gradient(
            draw, model.objective, training.unpack(data), state, training=True
        )
        return g

    @pytest.mark.parametrize("case", CASES)
    def test_is_the_slope_of_the_summed_nll_alone(self, case, monkeypatch):
        """The one that a training step sharpens by, too, whatever the KL's weight in it."""
        model, data, state, nll = CASES[case]()
        oracle = Oracle(model, nll, len(data[1]))
        expected = oracle.gradient(oracle.phi(oracle.parameters()))
        used, sharpen = [], PosteriorSharpening.sharpen

        def record(self, phi, gradients, seed):
            used.append(gradients)
            return sharpen(self, phi, gradients, seed)

        monkeypatch.setattr(PosteriorSharpening, "sharpen", record)
        step_of(model, data, state, kl_weight=7.0)
        for g in (self.g(model, data, state), *used):
            for weight, slope in expected.items():
                np.testing.assert_allclose(g[weight], slope, rtol=1e-4, atol=1e-5)
        assert len(used) == 1

    def test_depends_on_neither_prior_nor_training_rows_nor_kl_weight(self):
        def make(scale, **arguments):
            layers = [
                VariationalDense(2, activation="tanh", prior=NormalPrior(scale)),
                VariationalDense(1, prior=NormalPrior(scale)),
            ]
            return regression(layers, sharpening=PosteriorSharpening(0.3), **arguments)

        one, other = make(1.0), make(0.1, training_rows=600, kl_weight=0.01)
        phi = one.posterior.sample(SEED)
        same = Draw(dict(zip(other.posterior.weights, phi.values(), strict=True)), seed=phi.seed)
        assert_identical(self.g(one, (X, Y), draw=phi).values(), self.g(other, (X, Y), draw=same).values())

    def test_does_not_see_padding(self):
        model = regression(sharpening=PosteriorSharpening(0.3))
        weights = np.array([1, 1, 0, 1, 0, 0], np.float32)
        padded = self.g(model, (X, Y, weights))
        alone = self.g(model, (X[weights > 0], Y[weights > 0]))
        for weight in padded:
            np.testing.assert_allclose(padded[weight], alone[weight], **CLOSE)

    def test_is_a_sum_over_rows_and_over_time(self):
        model = regression(sharpening=PosteriorSharpening(0.3))
        once, twice = self.g(model, (X, Y)), self.g(model, (np.tile(X, (2, 1)), np.tile(Y, (2, 1))))
        for weight in once:
            np.testing.assert_allclose(twice[weight], 2 * once[weight].numpy(), **CLOSE)
        # The last layer's bias shifts every logit alike: its gradient, counts less expected counts, is 0 in
        # all and at least -(the number of predictions of a word) in each.
        model = language_model(sharpening=PosteriorSharpening(0.3))
        ids = tokens()
        bias = model.network.layers[-1].bias
        draw = model.posterior.sample(SEED)
        g = self.g(model, (ids[:, :-1], ids[:, 1:]), draw=draw)[bias]
        with ambient.under(draw):
            p = tf.nn.softmax(model.network(ids[:, :-1], training=True)).numpy()
        counts = np.bincount(ids[:, 1:].ravel(), minlength=small_models.VOCABULARY)
        np.testing.assert_allclose(g, p.sum(axis=(0, 1)) - counts, rtol=1e-5, atol=1e-5)


class Resized(keras.layers.Layer):
    """Rows as tiny images, enlarged by a kernel whose gradient has no gradient of its own."""

    def call(self, inputs):
        images = tf.reshape(inputs, [-1, 2, 1, 1])
        return tf.reshape(tf.image.resize(images, [4, 1], tf.image.ResizeMethod.BICUBIC), [-1, 4])


class TestErrors:
    @pytest.mark.parametrize("sigma0", [-0.1, math.nan, math.inf])
    def test_of_sigma0(self, sigma0):
        with pytest.raises(ValueError, match=f"Received: sigma0={sigma0}"):
            PosteriorSharpening(sigma0)

    def test_one_for_two_models(self):
        sharpening = PosteriorSharpening(0.3)
        regression(sharpening=sharpening)
        with pytest.raises(ValueError, match="that no other model has"):
            regression(sharpening=sharpening)

    def test_a_network_of_point_masses_has_nothing_to_sharpen(self):
        with pytest.raises(ValueError, match="all of the network's are point masses"):
            point_mass_language_model(sharpening=PosteriorSharpening(0.3))

    def step(self, second_order):
        layers = [VariationalDense(2, prior=PRIOR), Resized(), VariationalDense(1, prior=PRIOR)]
        return regression(layers, sharpening=PosteriorSharpening(0.3, second_order))

    def test_an_operation_without_a_second_order_gradient_is_named_with_what_to_do(self):
        model = self.step(second_order=True)
        with pytest.raises(ValueError, match=r"second_order=False needs none.*ResizeBicubicGrad"):
            step_of(model, (X, Y))
        with pytest.raises(ValueError, match=r"second_order=False needs none.*ResizeBicubicGrad"):
            model.train_on_batch(X, Y)

    def test_and_does_no_harm_where_g_is_fixed(self):
        logs = self.step(second_order=False).train_on_batch(X, Y, return_dict=True)
        assert logs["kl_sharpening"] > 0.0


class TestPrecision:
    @pytest.fixture(autouse=True)
    def policy(self):
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        yield
        keras.mixed_precision.set_global_policy("float32")

    @pytest.mark.parametrize("second_order", [False, True])
    @pytest.mark.parametrize("case", CASES)
    def test_only_the_networks_arithmetic_is_of_half_precision(self, case, second_order):
        model, data, state, _ = CASES[case](second_order=second_order)
        if state is not None:
            state = tf.nest.map_structure(lambda part: tf.cast(part, tf.bfloat16), state)
        batch = training.unpack(data)
        phi = model.posterior.sample(SEED)
        g, forward = training.likelihood_gradient(phi, model.objective, batch, state, training=True)
        theta, kl = model.sharpening.sharpen(phi, g, SEED)
        step = step_of(model, data, state)
        assert forward.outputs.dtype == tf.bfloat16
        assert {u.dtype for u in model.sharpening.u} == {"float32"}
        tensors = [*model.sharpening.etas(), *phi.values(), *g.values(), *theta.values(), kl]
        tensors += [*tf.nest.flatten(step.energy), *step.gradients, *step.sharpening_gradients]
        assert {tensor.dtype for tensor in tensors} == {tf.float32}
        # The KL is of float32's accuracy, given g.
        expected = 0.5 * np.sum((flat(model.sharpening.etas()) * sharpened(g) / 0.3) ** 2)
        np.testing.assert_allclose(step.energy.kl_sharpening, expected, rtol=1e-5)
        model.train_on_batch(*data)


def test_variables_are_named_after_their_weights():
    model = language_model(sharpening=PosteriorSharpening(0.3))
    weights = model.posterior.variational
    names = [f"u-{weight.path.replace('/', '-')}" for weight in weights]
    assert [u.name for u in model.sharpening.u] == names
    assert len(set(names)) == len(names)
    assert [tuple(u.shape) for u in model.sharpening.u] == [weight.shape for weight in weights]


def test_point_mass_layers_beside_variational_ones_are_left_out():
    layers = [VariationalDense(2, posterior=PointMass()), VariationalDense(1, prior=PRIOR)]
    model = regression(layers, sharpening=PosteriorSharpening(0.3))
    assert [tuple(u.shape) for u in model.sharpening.u] == [(2, 1)]
    before = values([layers[0].kernel.mu])
    model.train_on_batch(X, Y)  # A point mass is trained as ever.
    assert np.all(before[0] != layers[0].kernel.mu.numpy())
