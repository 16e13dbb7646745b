"""Posterior sharpening: the free energy and its gradients, RNN state, the closed form of a quadratic."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from sharpened_models import (
    CASES,
    KL_WEIGHT,
    SEED,
    Oracle,
    X,
    Y,
    flat,
    scatter,
    sharpened,
    step_of,
)
from small_models import (
    PRIOR,
    UNITS,
    as_dataset,
    assert_identical,
    language_model,
    regression,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import (
    Dropout,
    MeanFieldNormal,
    NormalLikelihood,
    NormalPrior,
    PosteriorSharpening,
    VariationalDense,
    noise,
)
from tfp_bayesrnn.model import recurrence, training
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.posterior.sharpening import default_optimizer


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

    @pytest.mark.slow(but=["LSTM-through g"])
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
        energy = energies[0]
        loss, nll, kl, kl_sharpening = energy.loss, energy.nll, energy.kl, energy.kl_sharpening
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
        g, _ = training.likelihood_gradient(
            phi, model.objective, training.unpack((X, Y)), None, training=True
        )
        theta, _ = model.sharpening.sharpen(phi, g, SEED)
        hidden = X @ theta[layers[0].kernel].numpy() + theta[layers[0].bias].numpy()
        energy = step_of(model, (X, Y)).energy
        free_energy = energy.nll.per_row + KL_WEIGHT * energy.kl / 6 + energy.kl_sharpening / 6
        penalty = 0.7 * np.sum(hidden**2) / 6  # Keras divides an activity's by the rows.
        np.testing.assert_allclose(energy.loss - free_energy, penalty, rtol=1e-4)


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
        expected = training.run_under(phi, plain.objective, batch, None, training=True).outputs
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
            other = training.run_under(
                Draw(phi, seed=seed), plain.objective, batch, None, training=True
            ).outputs
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

    @pytest.mark.slow
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

    @pytest.mark.slow
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

    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_the_default_optimizer_finds_it_too_where_most_gradients_are_zero(self):
        """As for the weights of a rare word: of 20 minibatches 19 have an error of 0 and so no gradient.

        Its steps, of 0.01 * sqrt(20) at most where the gradient is not 0, leave a with noise of about 0.05.
        """
        sigma0 = 0.3
        model = self.make(sigma0, optimizer=default_optimizer(0.01))
        model.compile(keras.optimizers.SGD(0.0), jit_compile=False, steps_per_execution=50)
        batches = tf.data.Dataset.from_tensors((self.INPUTS, self.TARGETS)).cache().repeat()
        weights = np.zeros([20, 3], np.float32)
        weights[0] = 1.0
        batches = tf.data.Dataset.zip(batches, tf.data.Dataset.from_tensor_slices(weights).repeat())
        steps = 10_000
        model.fit(batches.map(lambda data, weight: (*data, weight)), steps_per_epoch=steps, verbose=0)
        learned = model.sharpening.etas()[0].numpy().ravel() / sigma0**2
        np.testing.assert_allclose(learned, 1.0 / (1.0 + sigma0**2 * self.H), atol=0.15)

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
