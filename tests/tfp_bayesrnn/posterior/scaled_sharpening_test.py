"""Sharpening with scales that are learned: its distribution, its KL, and where its free energy is least."""

import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from sharpened_models import CLOSE, SEED, flat, random_like
from small_models import language_model, regression, values, windows

from tfp_bayesrnn import BayesianModel, PosteriorSharpening, ScaledSharpening, noise, pruning
from tfp_bayesrnn.model import training
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from tfp_bayesrnn.posterior import posterior as posteriors
from tfp_bayesrnn.posterior.posterior import Draw


def scattered(model, seed=5):
    """Gives every element a curvature between a tenth and ten times 1 / sigma0^2, every weight a sigma0."""
    generator, sharpening = np.random.default_rng(seed), model.sharpening
    for log_curvature, log_sigma0 in zip(sharpening.u, sharpening.log_sigma0, strict=True):
        log_sigma0.assign(generator.uniform(-2.0, 0.0))
        spread = generator.uniform(-2.3, 2.3, log_curvature.shape)
        log_curvature.assign(spread - 2.0 * float(log_sigma0.value))
    return model


def scales(sharpening):
    """sigma0 and the standard deviation of theta, of every element, in float64."""
    prior, own = [], []
    for log_curvature, log_sigma0 in zip(sharpening.u, sharpening.log_sigma0, strict=True):
        sigma0 = np.full(log_curvature.shape, np.exp(np.float64(log_sigma0.value)))
        prior.append(sigma0)
        own.append((sigma0**-2 + np.exp(np.float64(log_curvature.value))) ** -0.5)
    return flat(prior), flat(own)


class TestTheta:
    def make(self):
        model = scattered(regression(sharpening=ScaledSharpening(0.3)))
        phi = model.posterior.sample(SEED)
        return model.sharpening, phi, random_like(phi, 2.0)

    def test_its_kl_is_that_of_the_two_normals(self):
        """By the integral in closed form, and by Monte Carlo with theta itself, to four standard errors."""
        sharpening, phi, g = self.make()
        sigma0, own = scales(sharpening)
        distance = own**2 * flat(g.values())
        exact = np.log(sigma0 / own) + (own**2 + distance**2) / (2.0 * sigma0**2) - 0.5
        theta, kl = sharpening.sharpen(phi, g, SEED)
        np.testing.assert_allclose(kl, exact.sum(), rtol=1e-5)
        estimates = []
        for seed in range(400):
            theta = flat(sharpening.sharpen(phi, g, tf.constant([seed, 1]))[0].values())
            mean = flat(phi.values()) - distance
            ratios = scipy.stats.norm.logpdf(theta, mean, own) - scipy.stats.norm.logpdf(
                theta, flat(phi.values()), sigma0
            )
            estimates.append(ratios.sum())
        error = np.std(estimates) / math.sqrt(len(estimates))
        assert abs(np.mean(estimates) - kl) < 4.0 * error and 4.0 * error < 0.3 * kl

    def test_every_weight_follows_its_gradient_point_masses_too(self):
        sharpening, phi, g = self.make()
        _, own = scales(sharpening)
        thetas = [flat(sharpening.sharpen(phi, g, tf.constant([seed, 2]))[0].values()) for seed in range(400)]
        standard = (thetas - (flat(phi.values()) - own**2 * flat(g.values()))) / own
        assert any(not weight.is_variational for weight in phi)
        # 20 elements: the mean and the variance of 400 standard normals, to 4.5 standard errors.
        assert np.all(np.abs(standard.mean(axis=0)) < 4.5 / math.sqrt(400))
        assert np.all(np.abs(standard.var(axis=0) - 1.0) < 4.5 * math.sqrt(2.0 / 400))

    def test_at_the_start_it_is_all_but_the_papers(self):
        """Of weights that have a distribution; of millions of elements the KL of scales is nothing."""
        ours, papers = (regression(sharpening=form(0.3)) for form in (ScaledSharpening, PosteriorSharpening))
        phi = ours.posterior.sample(SEED)
        g = random_like(phi)
        _, kl = ours.sharpening.sharpen(phi, {w: tf.zeros_like(x) for w, x in g.items()}, SEED)
        elements = sum(math.prod(weight.shape) for weight in phi)
        assert 0.0 < kl < 1e-8 * elements
        of_papers = dict(zip(phi, papers.posterior.weights, strict=True))
        other_phi = Draw({of_papers[weight]: value for weight, value in phi.items()})
        other_g = {of_papers[weight]: value for weight, value in g.items()}
        etas = [eta for eta, weight in zip(ours.sharpening.etas(), phi, strict=True) if weight.is_variational]
        np.testing.assert_allclose(flat(etas), flat(papers.sharpening.etas()), rtol=1e-4)
        kl_of_papers = papers.sharpening.sharpen(other_phi, other_g, SEED)[1]
        only = {w: x if w.is_variational else tf.zeros_like(x) for w, x in g.items()}
        np.testing.assert_allclose(ours.sharpening.sharpen(phi, only, SEED)[1], kl_of_papers, rtol=1e-3)

    def test_what_is_pruned_stays_zero_and_costs_nothing(self):
        model = scattered(regression(sharpening=ScaledSharpening(0.3)))
        pruning.prune(model.posterior, pruning.masks(model.posterior, 0.5))
        phi = model.posterior.sample(SEED)
        zeros = {weight: tf.zeros_like(value) for weight, value in phi.items()}
        theta, kl = model.sharpening.sharpen(phi, zeros, SEED)
        kept = flat(
            tf.ones(weight.shape) if weight.keep is None else weight.keep.value for weight in phi
        ).astype(bool)
        assert 0 < kept.sum() < len(kept)
        assert np.all(flat(theta.values())[~kept] == 0.0) and np.all(flat(theta.values())[kept] != 0.0)
        sigma0, own = scales(model.sharpening)
        exact = np.log(sigma0 / own) + own**2 / (2.0 * sigma0**2) - 0.5
        np.testing.assert_allclose(kl, exact[kept].sum(), rtol=1e-5)


class TestOptimum:
    """NLL = h / 2 (theta - m)^2 with phi = 0 and m ~ N(0, tau^2), new in each minibatch.

    The evidence of a minibatch is N(m; 0, sigma0^2 + 1 / h), so sigma0^2 = tau^2 - 1 / h is the best prior;
    with log_curvature = ln h the bound is then tight. Noise and m of -1 and 1 standard deviation have the
    same means of squares as normal ones: the averages below are exact.
    """

    H, TAU = 4.0, 1.5

    def slopes(self, monkeypatch, log_curvature, log_sigma0):
        """The free energy, averaged, and its gradient in log_curvature and log_sigma0."""
        model = regression(sharpening=ScaledSharpening(0.3), features=1)
        sharpening, weight = model.sharpening, model.posterior.weights[0]
        sharpening.u[0].assign(tf.fill(sharpening.u[0].shape, log_curvature))
        sharpening.log_sigma0[0].assign(log_sigma0)
        zeros = {each: tf.zeros(each.shape) for each in model.posterior.weights}
        energies = []
        with tf.GradientTape() as tape:
            variables = [sharpening.u[0].value, sharpening.log_sigma0[0].value]
            tape.watch(variables)
            for sign in (-1.0, 1.0):
                monkeypatch.setattr(
                    posteriors,
                    "standard_normals",
                    lambda weights, *_, sign=sign: {one: tf.fill(one.shape, sign) for one in weights},
                )
                for m in (-self.TAU, self.TAU):
                    g = {**zeros, weight: tf.fill(weight.shape, -self.H * m)}
                    theta, kl = sharpening.sharpen(Draw(zeros), g, SEED)
                    energies.append(0.5 * self.H * tf.reduce_sum((theta[weight] - m) ** 2) + kl)
            energy = tf.add_n(energies) / 4.0
        elements = math.prod(weight.shape)
        gradients = tape.gradient(energy, variables)
        return float(energy) / elements, float(tf.reduce_mean(gradients[0])), float(gradients[1]) / elements

    def test_is_the_evidence_and_the_exact_posterior(self, monkeypatch):
        variance = self.TAU**2 - 1.0 / self.H
        best = (math.log(self.H), 0.5 * math.log(variance))
        energy, *gradient = self.slopes(monkeypatch, *best)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-5)
        # -ln of the mean likelihood: N(m; 0, sigma0^2 + 1 / h) without the constant of the NLL.
        evidence = -scipy.stats.norm.logpdf(self.TAU, 0.0, self.TAU) - 0.5 * math.log(2 * math.pi / self.H)
        np.testing.assert_allclose(energy, evidence, rtol=1e-5)
        for place in (0, 1):
            for change in (-0.5, 0.5):
                moved = list(best)
                moved[place] += change
                other, *slope = self.slopes(monkeypatch, *moved)
                assert other > energy and np.sign(slope[place]) == np.sign(change)

    def test_the_papers_form_is_no_optimum(self, monkeypatch):
        variance = self.TAU**2 - 1.0 / self.H
        papers, *_ = self.slopes(monkeypatch, -20.0, 0.5 * math.log(variance))
        best, *_ = self.slopes(monkeypatch, math.log(self.H), 0.5 * math.log(variance))
        assert papers > best + 1.0


class TestTraining:
    def test_gradients_are_finite_differences(self):
        model = scattered(language_model(sharpening=ScaledSharpening(0.3)))
        batch, state = training.unpack(windows(np.arange(26).reshape(2, 13) % 7)[0]), None
        step = training.free_energy_gradients(model.objective, batch, state, SEED, tf.constant(0.5))
        sharpening, epsilon = model.sharpening, 1e-2
        places = [0, 2, len(sharpening.u), len(sharpening.u) + 3]
        # Without the gradient through g, as in training by default: it is held at its value.
        g, _ = training.likelihood_gradient(
            model.posterior.sample(SEED), model.objective, batch, state, training=True
        )

        def energy():
            theta, kl = sharpening.sharpen(model.posterior.sample(SEED), g, SEED)
            forward = training.run_under(theta, model.objective, batch, state, training=True)
            return float((forward.nll.total + kl) / forward.nll.rows)

        for place in places:
            variable = sharpening.learned[place]
            direction = np.ones(variable.shape, np.float32)
            start, both = np.asarray(variable.value), []
            for sign in (-1.0, 1.0):
                variable.assign(start + sign * epsilon * direction)
                both.append(energy())
            variable.assign(start)
            numeric = (both[1] - both[0]) / (2.0 * epsilon)
            exact = float(tf.reduce_sum(step.sharpening_gradients[place]))
            np.testing.assert_allclose(exact, numeric, rtol=2e-2, atol=2e-3)

    def test_it_trains_and_is_saved(self, tmp_path):
        model = language_model(sharpening=ScaledSharpening(0.05))
        ids = np.random.default_rng(0).integers(0, 7, (4, 9)).astype(np.int32)
        before = flat(model.sharpening.learned)
        history = model.fit(ids[:, :-1], ids[:, 1:], batch_size=2, epochs=2, verbose=0).history
        assert min(history["kl_sharpening"]) > 0.0
        after = flat(model.sharpening.learned)
        assert np.all(np.isfinite(after)) and np.any(after != before)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert isinstance(again, BayesianModel) and isinstance(again.sharpening, ScaledSharpening)
        np.testing.assert_array_equal(flat(again.sharpening.learned), after)
        for one, other in zip(values(again.weights), values(model.weights), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_its_bound_by_hand(self):
        model = scattered(language_model(sharpening=ScaledSharpening(0.1)))
        elements = windows(np.arange(26).reshape(2, 13) % 7)
        elements = [({**x, "is_first": np.array([True, True])}, y) for x, y in elements]
        found = StreamEvaluator(model).sharpened_bound(elements, seed=3)
        root = noise.derive(noise.make_seed(3), noise.Stream.EVALUATION_SHARPENING)
        nll = kl = variance = 0.0
        mean, count = model.posterior.mean(), 0
        state = [[tf.zeros([2, 3])] * 2]
        for index, data in enumerate(elements):
            batch = training.unpack(data)
            g, _ = training.likelihood_gradient(mean, model.objective, batch, state, training=False)
            theta, cost = model.sharpening.sharpen(mean, g, noise.derive(root, index))
            forward = training.run_under(theta, model.objective, batch, state, training=False)
            nll, kl = nll + float(forward.nll.total), kl + float(cost)
            _, own = scales(model.sharpening)
            variance += np.sum(own**2 * flat(g.values()) ** 2)
            count += batch.targets.size
        np.testing.assert_allclose([found.nll, found.kl], [nll / count, kl / count], **CLOSE)
        np.testing.assert_allclose(found.standard_error, math.sqrt(variance) / count, rtol=1e-4)

    @pytest.mark.parametrize("sigma0", [0.0, -1.0, math.inf])
    def test_a_scale_that_is_none_is_refused(self, sigma0):
        with pytest.raises(ValueError, match="sigma0 must"):
            ScaledSharpening(sigma0)
