"""Posterior sharpening in training: updates, `fit`, saving, resume."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from sharpened_models import (
    X,
    Y,
    all_variables,
    flat,
    lstm_case,
    scatter,
    step_of,
)
from small_models import (
    PRIOR,
    RecordingHooks,
    as_dataset,
    assert_identical,
    language_model,
    regression,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import (
    BayesianModel,
    Dropout,
    NormalLikelihood,
    PosteriorSharpening,
    VariationalDense,
)
from tfp_bayesrnn.loop.loop import Loop
from tfp_bayesrnn.model.evaluation import StreamEvaluator


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
        assert math.hypot(*norms) > norms[0] * (1 + 1e-4)  # Ten times what was allowed above.

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
        history = model.fit(dataset, epochs=8, verbose=0).history
        assert set(history) == {"loss", "free_energy", "nll", "kl", "kl_sharpening", "gradient_norm"}
        assert history["free_energy"][-1] < 0.8 * history["free_energy"][0]
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
        np.testing.assert_allclose(history["free_energy"], [(4 * losses[0] + 2 * losses[1]) / 6], rtol=1e-5)

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

    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_xla_takes_the_same_steps_through_g(self):
        """The noise agrees to 2e-5 with eager mode's."""
        models = [regression(sharpening=PosteriorSharpening(0.3, second_order=True)) for _ in range(2)]
        models[1].compile(keras.optimizers.SGD(0.1), jit_compile=True)
        losses = [[model.train_on_batch(X, Y) for _ in range(2)] for model in models]
        np.testing.assert_allclose(*losses, rtol=1e-4)
        for eager, compiled in zip(*map(all_variables, models), strict=True):
            np.testing.assert_allclose(eager, compiled, rtol=1e-3, atol=1e-4)

    @pytest.mark.slow
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
    @pytest.mark.slow(but=["the default-3"])
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

    def test_u_that_was_saved_in_another_order_is_refused(self):
        sharpening, store = regression(sharpening=PosteriorSharpening(0.3)).sharpening, {}
        keras.layers.Layer.save_own_variables(sharpening, store)
        assert len(store) == len(sharpening.u)
        with pytest.raises(ValueError, match=r"in the order of their paths.*Received: saved="):
            sharpening.load_own_variables(store)

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


@pytest.mark.usefixtures("eagerly")
class TestResume:
    @staticmethod
    def run(directory, stop_before=None):
        sharpening = PosteriorSharpening(0.3, optimizer=keras.optimizers.Adam(0.05, epsilon=1e-20))
        model = language_model(layers=[Dropout(0.2)], sharpening=sharpening)

        def stream(step):
            while True:
                yield tf.nest.map_structure(tf.constant, ELEMENTS[step % STEPS])
                step += 1

        class Stopping(RecordingHooks):
            def steps(self, steps, label):
                for step in steps:
                    if step == stop_before:
                        raise Interrupted
                    yield step

        hooks = Stopping()
        loop = Loop(model, stream, STEPS, directory, checkpoint_seconds=0.0)
        first = loop.restore()
        try:
            loop.run(first, 2, hooks)
        except Interrupted:
            pass
        return first, model, [report.logs for report in hooks.reports]

    @pytest.mark.slow
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
