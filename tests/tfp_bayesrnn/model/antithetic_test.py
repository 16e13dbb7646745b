"""Antithetic training: two halves of a minibatch under draws of opposite noise."""

import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
from small_models import assert_identical, language_model, regression_data, tokens, values, windows

from tfp_bayesrnn import (
    BayesianModel,
    MeanFieldNormal,
    NormalPrior,
    PosteriorSharpening,
    VariationalDense,
)
from tfp_bayesrnn.model import antithetic, recurrence, training

SEED, KL_WEIGHT = tf.constant([1, 2]), tf.constant(0.5)
X, Y = regression_data(rows=5)


def gradients(module, model, data, state=None, **more):
    return module.free_energy_gradients(
        model.objective, training.unpack(data), state, SEED, KL_WEIGHT, **more
    )


class TestMirroredDraw:
    def test_the_mean_of_a_pair_is_the_mean_of_the_posterior(self):
        posterior = small_models.regression().posterior
        pair = posterior.sample(SEED), posterior.sample(SEED, mirrored=True)
        assert pair[0].epsilons
        for weight in pair[0].epsilons:
            assert np.any(pair[0][weight] != pair[1][weight])
            np.testing.assert_allclose((pair[0][weight] + pair[1][weight]) / 2, weight.mean(), atol=1e-6)
            assert_identical([pair[1].epsilons[weight]], [-pair[0].epsilons[weight]])

    def test_the_masks_of_dropout_are_others(self):
        posterior = small_models.regression().posterior
        assert np.any(posterior.sample(SEED).seed != posterior.sample(SEED, mirrored=True).seed)


class TestFreeEnergyGradients:
    @pytest.mark.parametrize("sharpening", [False, True], ids=["one draw", "sharpened"])
    @pytest.mark.parametrize("rows", [4, 5], ids=["halves", "of five rows three are the first"])
    def test_each_half_is_as_by_itself(self, rows, sharpening):
        model = small_models.regression(sharpening=PosteriorSharpening(0.05) if sharpening else None)
        x, y = X[:rows], Y[:rows]
        middle = (rows + 1) // 2
        step = gradients(antithetic, model, (x, y), with_outputs=True)
        halves = [
            gradients(training, model, (x[:middle], y[:middle]), with_outputs=True),
            gradients(training, model, (x[middle:], y[middle:]), with_outputs=True, mirrored=True),
        ]
        parts = middle / rows, 1 - middle / rows
        for name in ("gradients", "sharpening_gradients"):
            for one, *others in zip(*(getattr(each, name) for each in (step, *halves)), strict=True):
                expected = sum(part * np.asarray(other) for part, other in zip(parts, others, strict=True))
                np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
        loss = sum(part * each.energy.loss for part, each in zip(parts, halves, strict=True))
        np.testing.assert_allclose(step.energy.loss, loss, rtol=1e-6)
        nats = [each.energy.nll.total for each in halves]
        np.testing.assert_allclose(step.energy.nll.total, sum(nats), rtol=1e-6)
        np.testing.assert_allclose(step.energy.nll.per_row, sum(nats) / rows, rtol=1e-6)
        np.testing.assert_allclose(
            step.energy.kl_sharpening, sum(each.energy.kl_sharpening for each in halves), rtol=1e-6
        )
        assert_identical([step.outputs], [np.concatenate([each.outputs for each in halves])])

    def test_one_row_is_a_first_half_alone(self):
        model = small_models.regression()
        one, plain = (gradients(module, model, (X[:1], Y[:1])) for module in (antithetic, training))
        assert_identical(one.gradients, plain.gradients)
        assert_identical([one.energy.loss], [plain.energy.loss])

    def test_rows_keep_their_states(self):
        model = language_model()
        data = windows(tokens())[1]  # Rows that go on.
        state = [
            [tf.random.normal(part.shape) for part in layer]
            for layer in recurrence.initial_state(model.network, 2)
        ]
        step = gradients(antithetic, model, data, state)
        alone = [
            gradients(
                training,
                model,
                tf.nest.map_structure(lambda value: value[row : row + 1], data),  # noqa: B023
                tf.nest.map_structure(lambda value: value[row : row + 1], state),  # noqa: B023
                mirrored=row == 1,
            ).state
            for row in (0, 1)
        ]
        expected = tf.nest.map_structure(lambda *rows: np.concatenate(rows), *alone)
        # A matrix of one row is multiplied by other code than one of two.
        for one, other in zip(tf.nest.flatten(step.state), tf.nest.flatten(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    def test_equal_halves_of_a_quadratic_free_energy_have_its_gradient_without_noise(self):
        """y = x w with a normal likelihood and prior: all of the gradient of mu is of first order in eps."""
        layer = VariationalDense(
            1, use_bias=False, prior=NormalPrior(1.0), posterior=MeanFieldNormal((0.5, 1.0))
        )
        model = small_models.regression([layer])
        x, y = np.tile(X[:2], (2, 1)), np.tile(Y[:2], (2, 1))
        found = {
            variable.name: gradient
            for variable, gradient in zip(
                model.trainable_variables, gradients(antithetic, model, (x, y)).gradients, strict=True
            )
        }
        mu = layer.kernel.mean() if callable(getattr(layer.kernel, "mean", None)) else layer.kernel
        residual = x @ np.asarray(mu) - y
        expected = (
            x.T @ residual / (len(x) * 0.5**2) + 0.5 * np.asarray(mu) / 6
        )  # Likelihood 0.5, KL's share.
        np.testing.assert_allclose(found["mu"], expected, rtol=1e-4, atol=1e-5)


class TestModel:
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_fit_takes_its_steps_with_partial_minibatches_too(self, jit_compile):
        model = small_models.regression(compiled=False, antithetic=True)
        model.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile, metrics=["mae"])
        by_hand = small_models.regression()
        for start in (0, 3):
            data = X[start : start + 3], Y[start : start + 3]
            step = antithetic.free_energy_gradients(
                by_hand.objective, training.unpack(data), None, by_hand.step_seed(), tf.constant(1.0)
            )
            training.apply_gradients(by_hand.objective, by_hand.optimizer, None, step)
        model.fit(X, Y, batch_size=3, shuffle=False, verbose=0)
        # The order of sums under XLA.
        for one, other in zip(values(model.weights), values(by_hand.weights), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)

    def test_it_is_saved(self):
        model = small_models.regression(antithetic=True)
        assert BayesianModel.from_config(model.get_config()).antithetic
        assert not small_models.regression().get_config()["antithetic"]
