"""The pieces of a training step, and `fit` against the project's own loop."""

import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
from small_models import (
    RecordingHooks,
    as_dataset,
    assert_identical,
    language_model,
    regression_data,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import VariationalDense
from tfp_bayesrnn.loop.loop import Loop
from tfp_bayesrnn.model import recurrence, training
from tfp_bayesrnn.posterior import ambient

X, Y = regression_data()
IS_FIRST = np.array([True, False])


class TestUnpack:
    CASES = {
        "a tensor": (X, X, None),
        "inputs of several names": ({"a": 1, "b": 2}, {"a": 1, "b": 2}, None),
        "one input beside is_first": ({"inputs": 1, "is_first": IS_FIRST}, 1, IS_FIRST),
        "whatever its name": ({"is_first": IS_FIRST, "words": 1}, 1, IS_FIRST),
        "several inputs beside is_first": (
            {"a": 1, "b": 2, "is_first": IS_FIRST},
            {"a": 1, "b": 2},
            IS_FIRST,
        ),
    }

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_is_first_is_taken_out_of_the_inputs(self, case):
        x, inputs, is_first = case
        split = training.split_inputs(x)
        assert split[0] is inputs or split[0] == inputs
        assert split[1] is is_first

    def test_split_inputs_leaves_its_argument_alone(self):
        x = {"inputs": 1, "is_first": IS_FIRST}
        training.split_inputs(x)
        assert set(x) == {"inputs", "is_first"}

    @pytest.mark.parametrize("parts", [(X,), (X, Y), (X, Y, Y)])
    def test_what_is_not_there_is_none(self, parts):
        batch = training.unpack(parts)
        expected = [parts[0], None, *parts[1:], *[None] * (3 - len(parts))]
        assert all(one is other for one, other in zip(batch, expected, strict=True))


class TestFreeEnergyGradients:
    def step(self, model, data, state=None, **arguments):
        seed, kl_weight = tf.constant([1, 2]), tf.constant(0.5)
        return training.free_energy_gradients(
            model.objective, training.unpack(data), state, seed, kl_weight, **arguments
        )

    def test_pieces_are_of_one_draw_and_add_up(self):
        model = small_models.regression()
        step = self.step(model, (X, Y), with_outputs=True)
        draw = model.posterior.sample(tf.constant([1, 2]))
        with ambient.under(draw):
            outputs = model.network(X, training=True)
        np.testing.assert_array_equal(step.outputs, outputs)
        np.testing.assert_array_equal(step.energy.kl, model.posterior.kl(draw))
        np.testing.assert_allclose(
            step.energy.loss, step.energy.nll.per_row + 0.5 * step.energy.kl / 6, rtol=1e-6
        )
        assert step.energy.nll.predictions == 6 and step.state is None

    def test_outputs_are_returned_only_where_asked_for(self):
        assert self.step(small_models.regression(), (X, Y)).outputs is None

    def test_there_is_a_dense_gradient_for_every_trainable_variable_in_order(self):
        model = language_model()
        step = self.step(model, (tokens()[:, :-1], tokens()[:, 1:]))
        shapes = [tuple(gradient.shape) for gradient in step.gradients]
        assert shapes == [tuple(variable.shape) for variable in model.trainable_variables]
        assert all(np.any(gradient != 0.0) for gradient in step.gradients)

    def test_a_variable_that_is_not_used_has_a_zero_gradient(self):
        model = small_models.regression()
        unused = model.network.add_weight(shape=(2,), name="unused")
        step = self.step(model, (X, Y))
        gradients = {v.name: g for v, g in zip(model.trainable_variables, step.gradients, strict=True)}
        np.testing.assert_array_equal(gradients[unused.name], [0.0, 0.0])

    def test_the_state_goes_in_and_comes_out(self):
        model = language_model()
        data = windows(tokens())[1]  # Rows that go on.
        state = [
            [tf.fill(part.shape, 0.3) for part in layer]
            for layer in recurrence.initial_state(model.network, 2)
        ]
        step = self.step(model, data, state, with_outputs=True)
        with ambient.under(model.posterior.sample(tf.constant([1, 2]))):
            outputs, expected = recurrence.run(model.network, data[0]["inputs"], state, training=True)
        np.testing.assert_array_equal(step.outputs, outputs)
        assert_identical(tf.nest.flatten(step.state), tf.nest.flatten(expected))

    def test_nothing_is_changed(self):
        model = small_models.regression()
        before = values([*model.variables, *model.optimizer.variables])
        self.step(model, (X, Y))
        assert_identical(values([*model.variables, *model.optimizer.variables]), before)


def language_model_and_windows():
    return language_model(kl_warmup_steps=4), windows(tokens())


def regression_and_minibatches():
    model = small_models.regression(run_eagerly=False, kl_warmup_steps=4)
    model.compile(model.optimizer, jit_compile=False)
    return model, [(X[:3], Y[:3]), (X[3:], Y[3:])]


@pytest.mark.slow(but=["compiled"])
@pytest.mark.parametrize(
    ("make", "eagerly"),
    [(language_model_and_windows, True), (regression_and_minibatches, False)],
    ids=["carried state, eager", "compiled"],
)
def test_fit_and_the_loop_take_the_same_steps(tmp_path, make, eagerly):
    (fitted, elements), (looped, _) = make(), make()
    history = fitted.fit(as_dataset(elements), epochs=2, verbose=0).history
    hooks = RecordingHooks()
    tf.config.run_functions_eagerly(eagerly)
    try:
        loop = Loop(looped, lambda step: as_dataset(elements).repeat().skip(step), len(elements), tmp_path)
        loop.run(0, 2, hooks)
    finally:
        tf.config.run_functions_eagerly(False)
    assert_identical(values(looped.weights), values(fitted.weights))
    assert_identical(values(looped.optimizer.variables), values(fitted.optimizer.variables))
    for name, by_epoch in history.items():
        logged = [report.logs[name] for report in hooks.reports]
        np.testing.assert_allclose(logged, by_epoch, rtol=1e-6, err_msg=name)


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.3, 1, 0.5)


class TestApplyGradients:
    """Against `tf.clip_by_global_norm` and Keras's own `apply`, three times with gradients of any size."""

    OPTIMIZERS = {
        "descent": lambda: keras.optimizers.SGD(0.3),
        "descent by a schedule": lambda: keras.optimizers.SGD(schedule()),
        "momentum": lambda: keras.optimizers.SGD(0.3, momentum=0.9),
        "Nesterov momentum": lambda: keras.optimizers.SGD(0.3, momentum=0.9, nesterov=True),
        "weight decay": lambda: keras.optimizers.SGD(0.3, weight_decay=0.1),
        "clipping of its own": lambda: keras.optimizers.SGD(0.3, clipvalue=0.1),
        "a moving average": lambda: keras.optimizers.SGD(0.3, use_ema=True, ema_overwrite_frequency=2),
        "accumulation": lambda: keras.optimizers.SGD(0.3, gradient_accumulation_steps=2),
        "a loss scale": lambda: keras.optimizers.SGD(0.3, loss_scale_factor=4.0),
        "Adam": lambda: keras.optimizers.Adam(0.3),
    }

    def model(self, optimizer, clip_norm, constraint=None):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(2, kernel_constraint=constraint), VariationalDense(1)]
        model = small_models.regression(layers, compiled=False)
        model.compile(optimizer, clip_norm=clip_norm, run_eagerly=True)
        return model

    def check(self, make_optimizer, clip_norm, constraint=None):
        model, oracle = (self.model(make_optimizer(), clip_norm, constraint) for _ in range(2))
        generator = np.random.default_rng(0)
        for size in (10.0, 1.0, 0.1):
            gradients = [
                tf.constant(size * generator.normal(size=variable.shape), tf.float32)
                for variable in model.trainable_variables
            ]
            step = training.Step(None, gradients, [], None, None)
            norm = training.apply_gradients(model.objective, model.optimizer, model.clip_norm, step)
            clipped, wanted = gradients, tf.linalg.global_norm(gradients)
            if clip_norm is not None:
                clipped, _ = tf.clip_by_global_norm(gradients, clip_norm)
            # Keras's optimizer takes gradients of a scaled loss; these are of the loss itself.
            scale = oracle.optimizer.loss_scale_factor or 1.0
            oracle.optimizer.apply([scale * one for one in clipped], oracle.trainable_variables)
            assert float(norm) == pytest.approx(float(wanted), rel=1e-6)
        for one, other in zip(values(model.variables), values(oracle.variables), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        states = [values(each.optimizer.variables) for each in (model, oracle)]
        for one, other in zip(*states, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize("clip_norm", [None, 2.0])
    @pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
    def test_of_any_optimizer(self, optimizer, clip_norm):
        self.check(optimizer, clip_norm)

    def test_under_a_constraint(self):
        self.check(self.OPTIMIZERS["descent"], 2.0, keras.constraints.NonNeg())

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("optimizer", ["descent", "momentum"])
    def test_what_is_not_finite_is_not_clipped_away(self, optimizer, value):
        model = self.model(self.OPTIMIZERS[optimizer](), 2.0)
        gradients = [tf.ones(variable.shape) for variable in model.trainable_variables]
        gradients[0] = tf.fill(gradients[0].shape, np.float32(value))
        norm = training.apply_gradients(
            model.objective, model.optimizer, model.clip_norm, training.Step(None, gradients, [], None, None)
        )
        assert not np.isfinite(norm)
        assert all(np.all(np.isnan(each)) for each in values(model.trainable_variables))
