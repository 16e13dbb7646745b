"""Posterior sharpening: the distribution of theta, the free energy and its gradients, training, saving."""

import math

import keras
import numpy as np
import pytest
import scipy.stats
import small_models
import tensorflow as tf
from bayes_oracles import mixture_log_prob, normal_log_prob, scale_of
from rnn_oracles import lstm_step, sequence
from small_models import (
    PRIOR,
    UNITS,
    as_dataset,
    assert_identical,
    language_model,
    point_mass_language_model,
    regression,
    regression_data,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import (
    BayesianModel,
    Dropout,
    MeanFieldNormal,
    NormalLikelihood,
    NormalPrior,
    PointMass,
    PosteriorSharpening,
    VariationalDense,
    noise,
    recurrence,
    training,
)
from tfp_bayesrnn import posterior as posteriors
from tfp_bayesrnn.evaluation import StreamEvaluator
from tfp_bayesrnn.loop import Loop
from tfp_bayesrnn.posterior import Draw, Posterior

X, Y = regression_data()
SEED = tf.constant([1, 2])
KL_WEIGHT = 0.5

# The same float32 sums in another order: some tens of roundings.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def softplus(u):
    return np.logaddexp(0.0, np.asarray(u, np.float64))


def scatter(u, spread=2.0, seed=5):
    """Gives every eta a value of its own, from about an eighth to three times sigma0^2."""
    generator = np.random.default_rng(seed)
    for variable in u:
        variable.assign(generator.uniform(-spread, spread + 1.0, variable.shape))


def random_like(weights, scale=1.0, seed=6):
    generator = np.random.default_rng(seed)
    return {weight: tf.constant(generator.normal(0.0, scale, weight.shape), tf.float32) for weight in weights}


def flat(tensors):
    return np.concatenate([np.ravel(np.asarray(tensor, np.float64)) for tensor in tensors])


def sharpened(draw):
    """The values of a draw that have a distribution, as one vector."""
    return flat(value for weight, value in draw.items() if weight.is_variational)


def step_of(model, data, state=None, seed=SEED, kl_weight=KL_WEIGHT):
    return training.free_energy_gradients(
        model, training.unpack(data), state, seed, tf.constant(kl_weight, tf.float32)
    )


def all_variables(model):
    """Everything that training changes."""
    parts = [*model.weights, *model.optimizer.variables]
    if model.sharpening:
        parts += [*model.sharpening.u, *model.sharpening.optimizer.variables]
    if model._carried_train:
        parts += model._carried_train.variables_flat
    return values(parts)


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


def regression_case(**arguments):
    """A model, its data, the state it starts from, and its summed NLL as a NumPy function of the weights."""
    model = regression(sharpening=PosteriorSharpening(0.3, **arguments))

    hidden, out = model.network.layers

    def nll(draw):
        outputs = np.tanh(X.astype(np.float64) @ draw[hidden.kernel] + draw[hidden.bias])
        outputs = outputs @ draw[out.kernel] + draw[out.bias]
        residuals = (Y.astype(np.float64) - outputs) / 0.5
        return np.sum(0.5 * residuals**2 + math.log(0.5) + 0.5 * math.log(2.0 * math.pi))

    return model, (X, Y), None, nll


def lstm_case(**arguments):
    """Row 0 starts afresh, row 1 goes on from a state; two of its predictions are padding."""
    model = language_model(sharpening=PosteriorSharpening(0.3, **arguments))
    inputs, targets = windows(tokens())[1]
    inputs["is_first"] = np.array([True, False])
    weights = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.float32)
    state = [
        [tf.constant(part, tf.float32) for part in np.random.default_rng(2).normal(size=(2, 2, UNITS)) / 2]
    ]

    table, lstm, softmax = model.network.layers

    def nll(draw):
        kernels = [draw[weight] for weight in (lstm.cell.kernel, lstm.cell.recurrent_kernel, lstm.cell.bias)]
        start = [np.where([[False], [True]], part.numpy(), 0.0).astype(kernels[0].dtype) for part in state[0]]
        embedded = draw[table.embeddings][inputs["inputs"]]
        hiddens, _ = sequence(lstm_step, embedded, start, kernels)
        logits = hiddens @ draw[softmax.kernel] + draw[softmax.bias]
        log_p = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
        return -np.sum(weights * np.take_along_axis(log_p, targets[..., np.newaxis], -1)[..., 0])

    return model, (inputs, targets, weights), state, nll


CASES = {"regression": regression_case, "LSTM": lstm_case}


class Oracle:
    """The free energy of a sharpened minibatch by NumPy, in float64, with noise as the library draws it.

    The gradient of the NLL is by complex steps, so it is exact to rounding, and the free energy can in turn
    be differentiated numerically also where g moves with the weights.
    """

    SIGMA0 = 0.3

    def __init__(self, model, nll, rows):
        self.nll, self.rows, self.model = nll, rows, model
        self.weights = model.posterior.weights
        self.chosen = [weight for weight in self.weights if weight.is_variational]
        epsilons = model.posterior.sample(SEED).epsilons
        normals = posteriors.standard_normals(self.chosen, SEED, posteriors.SHARPENING)
        self.epsilons = {weight: epsilons[weight].numpy().astype(np.float64) for weight in self.chosen}
        self.normals = {weight: normals[weight].numpy().astype(np.float64) for weight in self.chosen}

    def parameters(self):
        """{(kind, weight): value}, in float64."""
        found = {("mu", weight): weight.mu for weight in self.weights}
        found |= {("rho", weight): weight.rho for weight in self.chosen}
        found |= {("u", w): u for w, u in zip(self.chosen, self.model.sharpening.u, strict=True)}
        return {key: variable.numpy().astype(np.float64) for key, variable in found.items()}

    def phi(self, p):
        return {
            w: p["mu", w] + scale_of(p["rho", w]) * self.epsilons[w] if w in self.epsilons else p["mu", w]
            for w in self.weights
        }

    def gradient(self, values):
        """Of the summed NLL, with respect to every value of the sharpened weights."""
        gradients = {}
        for weight in self.chosen:
            gradients[weight] = np.zeros(weight.shape)
            for index in np.ndindex(*weight.shape):
                moved = {w: value.astype(np.complex128) for w, value in values.items()}
                moved[weight][index] += 1e-30j
                gradients[weight][index] = self.nll(moved).imag / 1e-30
        return gradients

    def energy(self, p, g=None):
        """(loss, NLL per row, KL, KL of the sharpening)."""
        phi = self.phi(p)
        g = g or self.gradient(phi)
        theta, kl, kl_sharpening = dict(phi), 0.0, 0.0
        for w in self.chosen:
            eta = self.SIGMA0**2 * softplus(p["u", w])
            theta[w] = phi[w] - eta * g[w] + self.SIGMA0 * self.normals[w]
            kl_sharpening += np.sum((eta * g[w]) ** 2) / (2 * self.SIGMA0**2)
            scales = math.exp(PRIOR.log_sigma1), math.exp(PRIOR.log_sigma2)
            kl += normal_log_prob(phi[w], p["mu", w], p["rho", w])
            kl -= mixture_log_prob(phi[w], phi[w].ndim, "row", PRIOR.pi, *scales)
        per_row = self.nll(theta) / self.rows
        loss = per_row + KL_WEIGHT * kl / self.model.training_rows + kl_sharpening / self.rows
        return loss, per_row, kl, kl_sharpening

    def slopes(self, g=None):
        """Central differences of the loss along one random direction for each variable: {key: (slope, it)}.

        In float64 a step of 1e-5 leaves errors of about 1e-9.
        """
        generator, p, found, step = np.random.default_rng(4), self.parameters(), {}, 1e-5
        for key, value in p.items():
            direction = generator.normal(size=value.shape)
            ends = [self.energy({**p, key: value + sign * step * direction}, g)[0] for sign in (1.0, -1.0)]
            found[key] = (ends[0] - ends[1]) / (2 * step), direction
        return found


class TestFreeEnergy:
    @pytest.mark.parametrize("case", CASES)
    def test_of_a_minibatch_is_that_of_a_computation_by_numpy(self, case):
        """Float32 against float64: some tens of roundings, and of theta's of 1e-7 the NLL's slope times."""
        model, data, state, nll = CASES[case]()
        scatter(model.sharpening.u)
        oracle = Oracle(model, nll, len(data[1]))
        energy = step_of(model, data, state).energy
        actual = [energy.loss, energy.nll.per_row, energy.kl, energy.kl_sharpening]
        np.testing.assert_allclose(actual, oracle.energy(oracle.parameters()), rtol=2e-5)

    @pytest.mark.parametrize("second_order", [False, True], ids=["g fixed", "through g"])
    @pytest.mark.parametrize("case", CASES)
    def test_its_gradients_are_central_differences(self, case, second_order):
        """By mu, rho and u of every weight, along a random direction; with g held at its value, or not.

        The gradients are float32 numbers: 2e-5 is some hundred of their roundings, and by a hundred times
        that the two kinds differ.
        """
        model, data, state, nll = CASES[case](second_order=second_order)
        scatter(model.sharpening.u)
        oracle = Oracle(model, nll, len(data[1]))
        p = oracle.parameters()
        fixed, moving = oracle.slopes(oracle.gradient(oracle.phi(p))), oracle.slopes()
        step = step_of(model, data, state)
        of = {id(v): g for v, g in zip(model.trainable_variables, step.gradients, strict=True)}
        of |= {id(u): g for u, g in zip(model.sharpening.u, step.sharpening_gradients, strict=True)}
        variables = {("mu", w): w.mu for w in oracle.weights}
        variables |= {("rho", w): w.rho for w in oracle.chosen}
        variables |= {("u", w): u for w, u in zip(oracle.chosen, model.sharpening.u, strict=True)}
        for key, (slope, direction) in (moving if second_order else fixed).items():
            actual = np.sum(of[id(variables[key])].numpy() * direction)
            size = 2e-5 * (abs(slope) + np.linalg.norm(of[id(variables[key])]))
            assert abs(actual - slope) < size, (key, actual, slope)
            other = (fixed if second_order else moving)[key][0]
            if key[0] == "u":  # g does not depend on u.
                assert abs(other - slope) < 1e-6 * (1.0 + abs(slope))
            else:
                assert abs(other - slope) > 100 * size, (key, slope, other)

    def test_is_never_below_the_nll_it_contains(self):
        generator = np.random.default_rng(0)
        model = regression(sharpening=PosteriorSharpening(0.3))
        for seed in range(10):
            for variable in model.sharpening.u:
                variable.assign(generator.normal(0.0, 4.0, variable.shape))
            energy = step_of(model, (X, Y), seed=noise.make_seed(seed)).energy
            assert energy.kl_sharpening > 0.0
            assert energy.loss > energy.nll.per_row + KL_WEIGHT * energy.kl / 6

    @pytest.mark.parametrize("kl_weight", [0.0, 0.5, 1.0])
    def test_the_price_of_sharpening_is_by_the_row_and_never_tempered(self, kl_weight):
        model = regression(sharpening=PosteriorSharpening(0.3), training_rows=40)
        energies = [step_of(model, (X, Y), kl_weight=weight).energy for weight in (kl_weight, 1.0)]
        loss, nll, kl, kl_sharpening = energies[0]
        assert kl_sharpening == energies[1].kl_sharpening and nll.rows == 6.0
        assert kl_sharpening / 6 > 0.1  # Much more than the tolerance.
        np.testing.assert_allclose(loss, nll.total / 6 + kl_weight * kl / 40 + kl_sharpening / 6, rtol=1e-6)

    def test_the_networks_own_regularisers_are_added_once_and_at_theta(self):
        """The network runs twice: an activity's penalty is that of the second pass."""
        layers = [
            VariationalDense(2, prior=PRIOR, activity_regularizer=keras.regularizers.L2(0.7)),
            VariationalDense(1, prior=PRIOR),
        ]
        model = regression(layers, sharpening=PosteriorSharpening(0.3))
        phi = model.posterior.sample(SEED)
        g, _ = training.likelihood_gradient(phi, model, training.unpack((X, Y)), None, training=True)
        theta, _ = model.sharpening.sharpen(phi, g, SEED)
        hidden = X @ theta[layers[0].kernel].numpy() + theta[layers[0].bias].numpy()
        energy = step_of(model, (X, Y)).energy
        free_energy = energy.nll.per_row + KL_WEIGHT * energy.kl / 6 + energy.kl_sharpening / 6
        penalty = 0.7 * np.sum(hidden**2) / 6  # Keras divides an activity's by the rows.
        np.testing.assert_allclose(energy.loss - free_energy, penalty, rtol=1e-4)


class TestG:
    """The gradient that theta follows."""

    def g(self, model, data, state=None, draw=None):
        draw = draw or model.posterior.sample(SEED)
        g, _ = training.likelihood_gradient(draw, model, training.unpack(data), state, training=True)
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
        with draw.in_force():
            p = tf.nn.softmax(model.network(ids[:, :-1], training=True)).numpy()
        counts = np.bincount(ids[:, 1:].ravel(), minlength=small_models.VOCABULARY)
        np.testing.assert_allclose(g, p.sum(axis=(0, 1)) - counts, rtol=1e-5, atol=1e-5)


class TestState:
    def test_both_passes_start_from_the_same_state_and_thetas_goes_on(self, monkeypatch):
        model = language_model(layers=[Dropout(0.3)], sharpening=PosteriorSharpening(0.3))
        data = windows(tokens())[1]
        state = [
            [tf.fill(part.shape, 0.3) for part in layer]
            for layer in recurrence.initial_state(model.network, 2)
        ]
        calls, run_under = [], training.run_under

        def record(draw, model, batch, state, training):
            forward = run_under(draw, model, batch, state, training)
            calls.append((draw, state, training, forward))
            return forward

        monkeypatch.setattr(training, "run_under", record)
        with tf.GradientTape() as tape:
            tape.watch(tf.nest.flatten(state))
            step = step_of(model, data, state)
        (phi, first, *flags, phi_forward), (theta, second, *more_flags, theta_forward) = calls
        assert_identical(tf.nest.flatten(first), tf.nest.flatten(state))
        assert_identical(tf.nest.flatten(second), tf.nest.flatten(state))
        assert flags == more_flags == [True]
        assert_identical(phi.values(), model.posterior.sample(SEED).values())
        assert np.all(sharpened(theta) != sharpened(phi))
        assert_identical(tf.nest.flatten(step.state), tf.nest.flatten(theta_forward.state))
        apart = [
            np.max(np.abs(one - other))
            for one, other in zip(
                tf.nest.flatten(step.state), tf.nest.flatten(phi_forward.state), strict=True
            )
        ]
        assert min(apart) > 1e-3
        assert set(tape.gradient(tf.nest.flatten(step.state), tf.nest.flatten(state)) or [None]) == {None}

    def test_that_fit_carries_is_thetas(self):
        model = language_model(sharpening=PosteriorSharpening(0.3))
        first, second, _ = windows(tokens())
        model.train_on_batch(*first)
        carried = model._carried_train.read()
        expected = step_of(model, second, carried, model.step_seed(), kl_weight=1.0).state
        model.train_on_batch(*second)
        assert_identical(tf.nest.flatten(model._carried_train.read()), tf.nest.flatten(expected))

    def test_dropout_masks_are_the_same_in_both_passes_and_those_of_the_plain_step(self):
        """With sigma0 near 0 theta is near phi, and so are the outputs, unless other units were dropped."""
        model = language_model(layers=[Dropout(0.5)], sharpening=PosteriorSharpening(1e-4))
        plain = language_model(layers=[Dropout(0.5)])
        (data,) = windows(tokens(length=4))
        batch, phi = training.unpack(data), plain.posterior.sample(SEED)
        expected = training.run_under(phi, plain, batch, None, training=True).outputs
        outputs, run_under = [], training.run_under

        def record(*args, **kwargs):
            forward = run_under(*args, **kwargs)
            outputs.append(forward.outputs)
            return forward

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "run_under", record)
            step_of(model, data)
        np.testing.assert_allclose(outputs, [expected] * 2, atol=2e-3)  # Some sums of 1e-4 each.
        others = [plain.posterior.sample(noise.make_seed(seed)).seed for seed in range(3)]
        for seed in others:  # The same weights under other masks.
            other = training.run_under(Draw(phi, seed=seed), plain, batch, None, training=True).outputs
            assert np.abs(other - expected).max() > 0.05


class TestOff:
    """sigma0 = 0 is Bayes by Backprop, bit for bit."""

    def assert_same(self, plain, off, histories):
        assert_identical(values(off.trainable_variables), values(plain.trainable_variables))
        assert_identical(values(off.optimizer.variables), values(plain.optimizer.variables))
        assert set(histories[1]) == {*histories[0], "kl_sharpening"}
        for name, by_epoch in histories[0].items():
            assert histories[1][name] == by_epoch, name
        assert set(histories[1]["kl_sharpening"]) == {0.0}
        # The loss does not depend on u: its gradients are zeros, and Adam leaves it where it was.
        np.testing.assert_allclose(flat(off.sharpening.u), math.log(math.e - 1.0), rtol=1e-6)

    def test_for_a_language_model_with_dropout_and_carried_state(self):
        plain, off = (
            language_model(layers=[Dropout(0.3)], sharpening=sharpening)
            for sharpening in (None, PosteriorSharpening(0.0))
        )
        histories = []
        for model in (plain, off):
            dataset = as_dataset(windows(tokens()))
            histories.append(model.fit(dataset, epochs=2, verbose=0).history)
        self.assert_same(plain, off, histories)
        assert_identical(*(values(model._carried_train.variables_flat) for model in (plain, off)))

    def test_for_a_regression_in_a_graph(self):
        plain, off = (
            regression(compiled=False, sharpening=sharpening)
            for sharpening in (None, PosteriorSharpening(0.0))
        )
        histories = []
        for model in (plain, off):
            model.compile(keras.optimizers.SGD(0.1, momentum=0.9), jit_compile=False)
            histories.append(model.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0).history)
        self.assert_same(plain, off, histories)

    @pytest.mark.parametrize(
        "stateful",
        [lambda: keras.layers.BatchNormalization(momentum=0.9), lambda: keras.layers.Dropout(0.5, seed=1)],
        ids=["moving averages", "the seeds of Keras's own dropout"],
    )
    def test_for_what_a_training_pass_changes(self, stateful):
        weights = []
        for sharpening in (None, PosteriorSharpening(0.0)):
            keras.utils.set_random_seed(1)
            layer = stateful()
            model = regression([layer, VariationalDense(1, prior=PRIOR)], sharpening=sharpening)
            for _ in range(2):
                model.train_on_batch(X, Y)
            weights.append(values([*model.network.variables, *layer.variables]))
        assert_identical(*weights)

    def test_the_energies_and_states_of_a_step(self):
        models = [language_model(sharpening=s) for s in (None, PosteriorSharpening(0.0))]
        state = [[tf.fill([2, UNITS], 0.3)] * 2]
        plain, off = (step_of(model, windows(tokens())[1], state) for model in models)
        assert_identical(tf.nest.flatten(off.energy), tf.nest.flatten(plain.energy))
        assert_identical(off.gradients, plain.gradients)
        assert_identical(tf.nest.flatten(off.state), tf.nest.flatten(plain.state))
        assert plain.sharpening_gradients == [] and not np.any(flat(off.sharpening_gradients))


class TestQuadratic:
    """One vector w with a diagonal Hessian h of the NLL: all of sharpening is known in closed form.

    With g = h (w - w*) and theta = w - sigma0^2 a g + sigma0 eps, the expectation of NLL(theta) + KL is

        NLL(w) + sum(sigma0^2 h / 2 - sigma0^2 a g^2 + sigma0^2 (1 + sigma0^2 h) a^2 g^2 / 2)

    and least at a = 1 / (1 + sigma0^2 h).
    """

    H = np.array([1.0, 5.0, 20.0])
    BEST = np.array([4.0, -3.0, 2.0])
    INPUTS = np.diag(np.sqrt(H)).astype(np.float32)  # Orthogonal columns; the likelihood's scale is 1.
    TARGETS = (np.sqrt(H) * BEST).astype(np.float32)[:, np.newaxis]

    def make(self, sigma0, **arguments):
        layer = VariationalDense(
            1, use_bias=False, prior=NormalPrior(1.0), posterior=MeanFieldNormal((0.05, 0.1))
        )
        sharpening = PosteriorSharpening(sigma0, **arguments)
        return regression(
            [layer], likelihood=NormalLikelihood(1.0), training_rows=3, sharpening=sharpening, compiled=False
        )

    def bound(self, model, a, sigma0):
        """In closed form, with phi at the mean."""
        (weight,) = model.posterior.weights
        away = weight.mean().numpy().ravel().astype(np.float64) - self.BEST
        g, variance = self.H * away, sigma0**2
        nll = 0.5 * np.sum(self.H * away**2) + 1.5 * math.log(2 * math.pi)
        change = variance * (0.5 * self.H - a * g**2 + 0.5 * (1.0 + variance * self.H) * a**2 * g**2)
        return nll + np.sum(change), np.sum(variance * g**2)

    def evaluate(self, model, seeds):
        """Mean and standard error of the bound over theta's noise, in nats for all three rows."""
        evaluator = StreamEvaluator(model)
        bounds = [
            evaluator.sharpened_bound([(self.INPUTS, self.TARGETS)], seed=seed) for seed in range(seeds)
        ]
        totals = np.array([3 * (bound.nll + bound.kl) for bound in bounds])
        return totals.mean(), totals.std() / math.sqrt(seeds)

    def test_eta_is_learned_to_be_the_best(self):
        """Only u learns. A gradient's noise is that of an error of sigma0 / |w - w*|, here 0.15 at most, in
        a; the last tenth of the schedule, where the steps are small, averages over a hundred of them."""
        sigma0, steps = 0.3, 1000
        rate = keras.optimizers.schedules.CosineDecay(0.1, steps)
        model = self.make(sigma0, optimizer=keras.optimizers.Adam(rate, epsilon=1e-20))
        model.compile(keras.optimizers.SGD(0.0), jit_compile=False, steps_per_execution=50)
        dataset = tf.data.Dataset.from_tensor_slices((self.INPUTS, self.TARGETS)).batch(3).cache().repeat()
        before = values(model.trainable_variables)
        model.fit(dataset, steps_per_epoch=steps, verbose=0)
        assert_identical(values(model.trainable_variables), before)
        best = 1.0 / (1.0 + sigma0**2 * self.H)  # 0.92, 0.69 and 0.36.
        (eta,) = model.sharpening.etas()
        learned = eta.numpy().ravel() / sigma0**2
        np.testing.assert_allclose(learned, best, atol=0.03)
        # And the bound has come down to its least value, from what it was at eta = sigma0^2.
        expected, _ = self.bound(model, best, sigma0)
        mean, error = self.evaluate(model, 200)
        at_start, _ = self.bound(model, 1.0, sigma0)
        assert abs(mean - expected) < 4 * error
        assert at_start - mean > 20 * error

    def test_where_steps_are_small_the_best_is_sigma0_squared(self):
        """With sigma0^2 h near 0 the bound is a parabola around a = 1, whatever h: of a size of
        sigma0^2 g^2 / 2 = 0.05 nats, which noise of h sigma0^3 g blurs by a part in a hundred."""
        sigma0 = 0.003
        model = self.make(sigma0)
        model.compile(jit_compile=False)
        (weight,) = model.posterior.weights
        (u,) = model.sharpening.u
        weight.mu.assign(self.BEST[:, np.newaxis] + 10.0 / self.H[:, np.newaxis] * [[1.0], [-1.0], [1.0]])
        bounds = {}
        for a in (0.5, 0.8, 1.0, 1.25, 2.0):
            u.assign(tf.fill(u.shape, a + math.log(-math.expm1(-a))))
            np.testing.assert_allclose(model.sharpening.etas()[0], a * sigma0**2, rtol=1e-6)
            bounds[a], _ = self.evaluate(model, 1)
        _, size = self.bound(model, 1.0, sigma0)
        for a in bounds:
            rise = (bounds[a] - bounds[1.0]) / (0.5 * size)
            np.testing.assert_allclose(rise, (a - 1.0) ** 2, atol=0.02)
            assert rise > 0.0 or a == 1.0


class TestUpdate:
    def after(self, steps=1, learning_rate=0.1, clip_norm=None, optimizer=None, sigma0=0.3):
        # Adam would hide a change of the gradient's scale.
        optimizer = optimizer or keras.optimizers.SGD(0.5)
        model = regression(compiled=False, sharpening=PosteriorSharpening(sigma0, optimizer=optimizer))
        model.compile(keras.optimizers.SGD(learning_rate), clip_norm=clip_norm, run_eagerly=True)
        for _ in range(steps):
            model.train_on_batch(X, Y)
        return model

    def test_u_is_not_clipped(self):
        clipped, free = self.after(clip_norm=1e-6), self.after()
        assert_identical(values(clipped.sharpening.u), values(free.sharpening.u))
        assert np.all(flat(free.sharpening.u) != flat(self.after(steps=0).sharpening.u))
        moved = flat(clipped.trainable_variables) - flat(self.after(steps=0).trainable_variables)
        assert np.linalg.norm(moved) < 1e-6  # The clip there is: what follows it moves by 0.1 * 1e-6.

    def test_us_gradient_is_not_in_the_norm_that_others_are_clipped_by(self):
        model = regression(compiled=False, sharpening=PosteriorSharpening(0.3))
        model.compile(keras.optimizers.SGD(0.1), clip_norm=1.0, run_eagerly=True)
        step = step_of(model, (X, Y), seed=model.step_seed(), kl_weight=1.0)
        norms = [np.linalg.norm(flat(part)) for part in (step.gradients, step.sharpening_gradients)]
        logs = model.train_on_batch(X, Y, return_dict=True)
        np.testing.assert_allclose(logs["gradient_norm"], norms[0], rtol=1e-5)
        assert math.hypot(*norms) > norms[0] * (1 + 1e-3)

    def test_the_models_learning_rate_is_not_us(self):
        rates = [self.after(learning_rate=rate) for rate in (0.0, 0.1, 10.0)]
        for model in rates[1:]:
            assert_identical(values(model.sharpening.u), values(rates[0].sharpening.u))

    def test_u_follows_its_own_optimizer(self):
        """By hand: SGD's step at its rate; Adam's first is the rate, whatever the gradient's size."""
        start = flat(self.after(steps=0).sharpening.u)
        model = self.after(steps=0)
        gradient = flat(step_of(model, (X, Y), seed=model.step_seed(), kl_weight=1.0).sharpening_gradients)
        by_sgd = flat(self.after().sharpening.u)
        np.testing.assert_allclose(by_sgd - start, -0.5 * gradient, rtol=1e-4, atol=1e-6)
        for sigma0 in (0.3, 0.01):
            adam = keras.optimizers.Adam(1e-2, epsilon=1e-20)
            moved = flat(self.after(sigma0=sigma0, optimizer=adam).sharpening.u) - start
            np.testing.assert_allclose(np.abs(moved), 1e-2, rtol=1e-3)

    def test_the_defaults_step_does_not_depend_on_the_scale_of_the_gradient(self):
        """Down to 1e-8, which the usual epsilon of an optimizer would drown."""
        moves = []
        for scale in (1.0, 1e-4, 1e-8):
            sharpening = regression(sharpening=PosteriorSharpening(0.02)).sharpening
            generator, before = np.random.default_rng(6), flat(sharpening.u)
            gradients = [generator.choice([-1.0, 1.0], u.shape) * scale for u in sharpening.u]
            sharpening.apply_gradients([tf.constant(gradient, tf.float32) for gradient in gradients])
            moves.append(flat(sharpening.u) - before)
        assert np.abs(moves[0]).min() > 5e-4
        for move in moves[1:]:
            # A step of 1e-3 on a u of 0.54: float32 leaves it four digits, epsilon some more.
            np.testing.assert_allclose(move, moves[0], rtol=5e-3)

    def test_the_models_optimizer_knows_nothing_of_u(self):
        model = regression(compiled=False, sharpening=PosteriorSharpening(0.3))
        model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
        model.train_on_batch(X, Y)
        plain = regression(compiled=False)
        plain.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
        plain.train_on_batch(X, Y)
        shapes = [[tuple(v.shape) for v in m.optimizer.variables] for m in (model, plain)]
        assert shapes[0] == shapes[1]
        assert len(model.trainable_variables) == len(plain.trainable_variables)
        us = {id(u) for u in model.sharpening.u}
        assert not us & {id(v) for v in model.trainable_variables}
        assert us < {id(v) for v in model.non_trainable_variables}
        slots = {tuple(v.shape) for v in model.sharpening.optimizer.variables} - {()}
        assert slots == {tuple(u.shape) for u in model.sharpening.u}


class TestFit:
    def test_trains_a_feed_forward_network(self):
        model = regression(run_eagerly=False, sharpening=PosteriorSharpening(0.05))
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        u = flat(model.sharpening.u)
        dataset = as_dataset([(X[:3], Y[:3]), (X[3:], Y[3:])] * 20)
        history = model.fit(dataset, epochs=4, verbose=0).history
        assert set(history) == {"loss", "nll", "kl", "kl_sharpening", "gradient_norm"}
        assert history["loss"][-1] < 0.8 * history["loss"][0]
        assert min(history["kl_sharpening"]) > 0.0 and np.all(flat(model.sharpening.u) != u)

    def test_the_logs_are_of_an_epoch_weighing_the_smaller_last_batch_as_what_it_is(self):
        model = regression(compiled=False, sharpening=PosteriorSharpening(0.3))
        model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        model.sharpening.optimizer.learning_rate = 0.0
        kls, losses = [], []
        for step, rows in enumerate((slice(0, 4), slice(4, 6))):
            model.optimizer.iterations.assign(step)
            energy = step_of(model, (X[rows], Y[rows]), seed=model.step_seed(), kl_weight=1.0).energy
            kls.append(float(energy.kl_sharpening))
            losses.append(float(energy.loss))
        model.optimizer.iterations.assign(0)
        history = model.fit(X, Y, batch_size=4, shuffle=False, verbose=0).history
        np.testing.assert_allclose(history["kl_sharpening"], [sum(kls) / 6], rtol=1e-5)
        np.testing.assert_allclose(history["loss"], [(4 * losses[0] + 2 * losses[1]) / 6], rtol=1e-5)

    def test_perplexity_pays_for_the_targets_that_theta_has_seen(self):
        model = language_model(sharpening=PosteriorSharpening(0.3))
        ids = tokens(rows=3)
        history = model.fit(ids[:, :-1], ids[:, 1:], batch_size=2, epochs=2, verbose=0).history
        kl = np.array(history["kl_sharpening"])
        assert kl.min() > 0.01
        np.testing.assert_allclose(history["perplexity"], np.exp(history["nll"] + kl), rtol=1e-5)

    def test_evaluation_is_of_the_mean_and_says_nothing_of_sharpening(self):
        ids = tokens()
        logs = [
            language_model(sharpening=sharpening).evaluate(
                ids[:, :-1], ids[:, 1:], verbose=0, return_dict=True
            )
            for sharpening in (None, PosteriorSharpening(0.3))
        ]
        assert logs[0] == logs[1] and set(logs[1]) == {"loss", "nll", "perplexity"}

    @pytest.mark.parametrize("second_order", [False, True])
    def test_a_network_that_the_first_step_builds_is_sharpened(self, second_order):
        model = BayesianModel(
            keras.Sequential([VariationalDense(1, prior=PRIOR)]),
            training_rows=6,
            likelihood=NormalLikelihood(0.5),
            sharpening=PosteriorSharpening(0.3, second_order),
        )
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        history = model.fit(X, Y, batch_size=6, epochs=2, verbose=0).history
        assert min(history["kl_sharpening"]) > 0.0 and len(model.sharpening.u) == 1

    def test_xla_takes_the_same_steps_through_g(self):
        """The noise agrees to 2e-5 with eager mode's."""
        models = [regression(sharpening=PosteriorSharpening(0.3, second_order=True)) for _ in range(2)]
        models[1].compile(keras.optimizers.SGD(0.1), jit_compile=True)
        losses = [[model.train_on_batch(X, Y) for _ in range(2)] for model in models]
        np.testing.assert_allclose(*losses, rtol=1e-4)
        for eager, compiled in zip(*map(all_variables, models), strict=True):
            np.testing.assert_allclose(eager, compiled, rtol=1e-3, atol=1e-4)

    def test_a_graph_differentiates_an_lstm_twice_as_eager_mode_does(self):
        """There its loop over time is an operation of its own."""
        model, data, state, _ = lstm_case(second_order=True)
        eager = step_of(model, data, state)
        graph = tf.function(lambda: step_of(model, data, state)._replace(outputs=0))()
        for one, other in zip(eager.gradients, graph.gradients, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def optimizers():
    return {
        "the default": lambda: None,
        "RMSprop": lambda: keras.optimizers.RMSprop(0.02, momentum=0.5, epsilon=1e-12),
        "a schedule": lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), epsilon=1e-20
        ),
    }


class TestSaving:
    @pytest.mark.parametrize("steps_before", [0, 3])
    @pytest.mark.parametrize("optimizer", optimizers())
    def test_a_loaded_model_trains_on_as_if_it_had_not_been_saved(self, tmp_path, optimizer, steps_before):
        sharpening = PosteriorSharpening(0.3, second_order=True, optimizer=optimizers()[optimizer]())
        model = regression(compiled=False, sharpening=sharpening)
        model.compile(keras.optimizers.Adam(0.05), clip_norm=0.5, run_eagerly=True)
        for _ in range(steps_before):
            model.train_on_batch(X, Y)
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        assert again.sharpening is not sharpening
        assert (again.sharpening.sigma0, again.sharpening.second_order) == (0.3, True)
        assert type(again.sharpening.optimizer) is type(sharpening.optimizer)
        assert_identical(values(again.weights), values(model.weights))
        for _ in range(3):
            logs = [each.train_on_batch(X, Y, return_dict=True) for each in (again, model)]
            assert logs[0] == logs[1]
        assert_identical(all_variables(again), all_variables(model))
        assert int(model.sharpening.optimizer.iterations) == steps_before + 3
        evaluators = [StreamEvaluator(each) for each in (again, model)]
        bounds = [evaluator.sharpened_bound([(X, Y)], seed=1) for evaluator in evaluators]
        assert bounds[0] == bounds[1]

    def test_weights_alone_are_saved_with_u(self, tmp_path):
        model, other = (regression(sharpening=PosteriorSharpening(0.3)) for _ in range(2))
        scatter(model.sharpening.u)
        model.save_weights(tmp_path / "m.weights.h5")
        other.load_weights(tmp_path / "m.weights.h5")
        assert_identical(values(other.sharpening.u), values(model.sharpening.u))

    def test_the_configuration_comes_back(self):
        sharpening = PosteriorSharpening(0.07, True, keras.optimizers.RMSprop(0.02), name="sharper")
        again = PosteriorSharpening.from_config(sharpening.get_config())
        assert again.get_config() == sharpening.get_config()
        assert (again.sigma0, again.second_order, again.name) == (0.07, True, "sharper")
        assert isinstance(again.optimizer, keras.optimizers.RMSprop)
        assert again.optimizer is not sharpening.optimizer
        assert float(again.optimizer.learning_rate) == np.float32(0.02)

    def test_the_models_configuration_has_it(self):
        for sharpening in (None, PosteriorSharpening(0.07)):
            model = regression(compiled=False, sharpening=sharpening)
            again = BayesianModel.from_config(model.get_config())
            assert again.get_config() == model.get_config()
            assert (again.sharpening is None) == (sharpening is None)


ELEMENTS = windows(tokens(length=4), unroll=2)
STEPS = len(ELEMENTS)


class Interrupted(Exception):
    """The process ends here."""


class TestResume:
    @pytest.fixture(autouse=True)
    def eagerly(self):
        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)

    @staticmethod
    def run(directory, stop_before=None):
        sharpening = PosteriorSharpening(0.3, optimizer=keras.optimizers.Adam(0.05, epsilon=1e-20))
        model = language_model(layers=[Dropout(0.2)], sharpening=sharpening)

        def stream(step):
            while True:
                yield tf.nest.map_structure(tf.constant, ELEMENTS[step % STEPS])
                step += 1

        def progress(steps, label):
            for step in steps:
                if step == stop_before:
                    raise Interrupted
                yield step

        reports = []

        def on_epoch_end(report):
            reports.append(report.logs)
            return 0.0

        loop = Loop(model, stream, STEPS, directory, checkpoint_seconds=0.0)
        first = loop.restore()
        try:
            loop.run(first, 2, on_epoch_end, progress)
        except Interrupted:
            pass
        return first, model, reports

    def test_goes_on_bit_for_bit(self, tmp_path):
        _, whole, reports = self.run(tmp_path / "whole")
        for stop_before in (2, STEPS + 2):
            self.run(tmp_path / f"{stop_before}", stop_before)
            first, resumed, last_reports = self.run(tmp_path / f"{stop_before}")
            assert first == stop_before - 1
            assert_identical(all_variables(resumed), all_variables(whole))
            assert last_reports[-1] == reports[-1]
        # What a resume that forgot them would get wrong.
        assert int(whole.sharpening.optimizer.iterations) == 2 * STEPS
        fresh = language_model(layers=[Dropout(0.2)], sharpening=PosteriorSharpening(0.3))
        for u, start in zip(whole.sharpening.u, fresh.sharpening.u, strict=True):
            assert np.abs(u.numpy() - start.numpy()).max() > 0.05
        assert np.any(flat(whole.sharpening.optimizer.variables[2:]) != 0.0)


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
        with pytest.raises(ValueError, match="make another"):
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
        g, forward = training.likelihood_gradient(phi, model, batch, state, training=True)
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
    assert [u.name for u in model.sharpening.u] == [f"{weight.name}_u" for weight in weights]
    assert [tuple(u.shape) for u in model.sharpening.u] == [weight.shape for weight in weights]


def test_point_mass_layers_beside_variational_ones_are_left_out():
    layers = [VariationalDense(2, posterior=PointMass()), VariationalDense(1, prior=PRIOR)]
    model = regression(layers, sharpening=PosteriorSharpening(0.3))
    assert [tuple(u.shape) for u in model.sharpening.u] == [(2, 1)]
    before = values([layers[0].kernel.mu])
    model.train_on_batch(X, Y)  # A point mass is trained as ever.
    assert np.all(before[0] != layers[0].kernel.mu.numpy())
