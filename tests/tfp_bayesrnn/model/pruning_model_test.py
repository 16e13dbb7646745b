"""A pruned model: what is dropped stays out of training, evaluation, replicas and what is saved."""

import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
import tensorflow_probability as tfp
from pruned_models import assert_is_masked, language_model, random_keep

from tfp_bayesrnn import BayesianModel, PosteriorSharpening, VariationalDense, noise
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import Loop
from tfp_bayesrnn.model import training
from tfp_bayesrnn.model.dynamic_evaluation import sgd
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from tfp_bayesrnn.posterior import pruning

tfd = tfp.distributions


class TestPrunedModel:
    def test_a_masked_draw_is_the_pruned_model(self):
        model, masks = language_model()
        seed = noise.make_seed(5)
        draws = [model.posterior.mean(), model.posterior.sample(seed)]
        masked = [pruning.masked_draw(draw, masks) for draw in draws]
        pruning.prune(model.posterior, masks)
        for draw, pruned in zip(masked, (model.posterior.mean(), model.posterior.sample(seed)), strict=True):
            assert_is_masked(pruned, masks)
            for weight in masks:
                np.testing.assert_array_equal(draw[weight], pruned[weight])
        weight = next(iter(masks))
        partly = pruning.masked_draw(draws[0], {weight: masks[weight]})
        assert all(partly[other] is draws[0][other] for other in masks if other is not weight)

    @pytest.mark.slow
    @pytest.mark.parametrize(("jit_compile", "sharpening"), [(False, PosteriorSharpening(0.1)), (True, None)])
    def test_training_leaves_out_what_is_pruned(self, jit_compile, sharpening):
        """With momentum and decay: an optimizer may move mu there, which nothing reads."""
        model, masks = language_model(sharpening=sharpening)
        pruning.prune(model.posterior, masks)
        optimizer = keras.optimizers.SGD(0.3, momentum=0.9, weight_decay=0.01)
        model.compile(optimizer, clip_norm=5.0, jit_compile=jit_compile)
        before = [weight.mean().numpy() for weight in masks]
        data = small_models.as_dataset(small_models.windows(small_models.tokens()))
        model.fit(data, epochs=3, verbose=0)
        draw = model.posterior.sample(1)
        assert_is_masked(draw, masks)
        for weight, old in zip(masks, before, strict=True):
            assert np.any(weight.mean().numpy() != old)
            assert np.all(weight.mean().numpy()[~masks[weight]] == 0.0)
            np.testing.assert_array_equal(weight.keep.numpy(), masks[weight])

    @pytest.mark.slow(but=["False"])
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_a_model_that_has_been_trained(self, jit_compile):
        """Without compiling it again: its functions are traced anew, once."""
        model = small_models.regression(run_eagerly=False)
        model.compile("sgd", jit_compile=jit_compile)
        inputs, targets = small_models.regression_data()
        model.fit(inputs, targets, verbose=0)
        model.predict(inputs, verbose=0)
        whole = model.evaluate(inputs, targets, verbose=0)
        masks = pruning.masks(model.posterior, 0.5)
        pruning.prune(model.posterior, masks)
        assert model.evaluate(inputs, targets, verbose=0) != whole
        model.fit(inputs, targets, epochs=2, verbose=0)
        traced = model.train_function
        model.fit(inputs, targets, verbose=0)
        assert model.train_function is traced
        assert_is_masked(model.posterior.mean(), masks)
        expected = model.predict(inputs, verbose=0)
        first, second = (weight for weight in masks if len(weight.shape) == 2)
        biases = [weight for weight in masks if len(weight.shape) == 1]
        hidden = np.tanh(inputs @ first.mean().numpy() + biases[0].mean().numpy())
        np.testing.assert_allclose(
            hidden @ second.mean().numpy() + biases[1].mean().numpy(), expected, rtol=1e-4, atol=1e-6
        )

    def test_gradients_of_the_free_energy(self):
        model, masks = language_model(sharpening=PosteriorSharpening(0.1))
        pruning.prune(model.posterior, masks)
        batch = training.unpack(small_models.windows(small_models.tokens())[0])
        batch = training.Minibatch(*(None if part is None else tf.constant(part) for part in batch))
        state = model.carried("train", batch).read()
        step = training.free_energy_gradients(
            model.objective, batch, state, noise.make_seed(0), tf.constant(1.0)
        )
        gradients = {id(v): g for v, g in zip(model.trainable_variables, step.gradients, strict=True)}
        for weight, keep in masks.items():
            for variable in weight.trainable_variables:
                assert np.all(gradients[id(variable)].numpy()[~keep] == 0.0)
        variational = [weight for weight in masks if weight.is_variational]
        for weight, gradient in zip(variational, step.sharpening_gradients, strict=True):
            assert np.all(gradient.numpy()[~masks[weight]] == 0.0)

    def test_sharpening_is_that_of_the_smaller_model(self):
        """theta is 0 where nothing is kept, and the KL is that of the other elements."""
        model, masks = language_model(sharpening=PosteriorSharpening(0.1))
        pruning.prune(model.posterior, masks)
        batch = training.unpack(small_models.windows(small_models.tokens())[0])
        batch = training.Minibatch(*(None if part is None else tf.constant(part) for part in batch))
        state = model.carried("train", batch).read()
        phi = model.posterior.mean()
        g, _ = training.likelihood_gradient(phi, model.objective, batch, state, training=False)
        theta, kl = model.sharpening.sharpen(phi, g, noise.make_seed(2))
        variational = {weight: masks[weight] for weight in masks if weight.is_variational}
        assert_is_masked({weight: theta[weight] for weight in variational}, variational)
        squares = [
            np.square(g[weight].numpy()[keep], dtype=np.float64) for weight, keep in variational.items()
        ]
        # softplus(u) is 1 at the start.
        np.testing.assert_allclose(kl, 0.5 * 0.1**2 * sum(square.sum() for square in squares), rtol=1e-5)

    @pytest.mark.slow
    def test_dynamic_evaluation_moves_what_is_kept_alone(self):
        """As with masked values of another model, moved by masked gradients by hand."""
        model, masks = language_model()
        pruning.prune(model.posterior, masks)
        data = small_models.windows(small_models.tokens())
        evaluator = StreamEvaluator(model)
        values = []
        window = evaluator._function

        def recording(current, *arguments):
            values.append(current)
            return window(current, *arguments)

        evaluator._function = recording
        still = evaluator.mean(data)
        del values[:]
        moving = evaluator.mean(data, sgd(0.5))
        assert moving.nll != still.nll
        assert len(values) == len(data) == 3
        for current in values:
            assert_is_masked(dict(zip(model.posterior.weights, current, strict=True)), masks)
        assert any(np.any(one != other) for one, other in zip(values[0], values[2], strict=True))

    def test_a_model_without_distributions(self):
        model = small_models.point_mass_language_model()
        masks = pruning.masks(model.posterior, 0.5, "magnitude")
        expected = StreamEvaluator(model).log_probabilities(
            small_models.windows(small_models.tokens()), pruning.masked_draw(model.posterior.mean(), masks)
        )
        pruning.prune(model.posterior, masks)
        data = small_models.windows(small_models.tokens())
        score = StreamEvaluator(model).mean(data)
        np.testing.assert_allclose(score.nll, -expected.mean(), rtol=1e-6)
        assert float(model.posterior.kl(model.posterior.mean())) == 0.0

    @pytest.mark.slow
    def test_on_replicas(self, mirrored):
        with mirrored(2).scope():
            model, masks = language_model(run_eagerly=False)
        pruning.prune(model.posterior, masks)
        data = small_models.as_dataset(small_models.windows(small_models.tokens()))
        model.fit(data, epochs=2, verbose=0)
        assert_is_masked(model.posterior.mean(), masks)


class TestSaving:
    def test_a_saved_model_is_pruned(self, tmp_path):
        model = BayesianModel(
            keras.Sequential([VariationalDense(4), VariationalDense(1)]),
            training_rows=6,
            likelihood="bernoulli",
        )
        model.build((None, 3))
        model.compile("sgd")
        first = model.posterior.weights[0]
        pruning.prune(model.posterior, {first: random_keep(first.shape)})
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        for weight, other in zip(model.posterior.weights, loaded.posterior.weights, strict=True):
            assert weight.is_pruned == other.is_pruned == (weight is first)
            small_models.assert_identical([other.mean(), other.scale()], [weight.mean(), weight.scale()])
        inputs, _ = small_models.regression_data()
        np.testing.assert_array_equal(model.predict(inputs, verbose=0), loaded.predict(inputs, verbose=0))

    @pytest.mark.parametrize("which", ["all", "some"])
    def test_a_checkpoint_brings_its_masks(self, tmp_path, which):
        model, masks = language_model(sharpening=PosteriorSharpening(0.1))
        if which == "some":
            masks = dict(list(masks.items())[1::2])
        pruning.prune(model.posterior, masks)
        Checkpoints(tmp_path, {"model": model}).save(3)
        other, _ = language_model(sharpening=PosteriorSharpening(0.1))
        for weight in other.posterior.weights:
            weight.mu.assign(tf.ones(weight.shape))
        assert Checkpoints(tmp_path, {"model": other}).restore_latest() == 3
        for weight, restored in zip(model.posterior.weights, other.posterior.weights, strict=True):
            assert restored.is_pruned == (weight in masks)
            small_models.assert_identical(restored.variables, weight.variables)
        # And again, into a model that has its masks.
        assert Checkpoints(tmp_path, {"model": other}).restore_latest() == 3

    def test_a_checkpoint_without_masks_is_not_that_of_a_pruned_model(self, tmp_path):
        model, masks = language_model()
        checkpoints = Checkpoints(tmp_path, {"model": model})
        checkpoints.save(3)
        pruning.prune(model.posterior, masks)
        with pytest.raises(InputError, match=r"it has no model variable .*keep"):
            checkpoints.restore_latest()

    @pytest.mark.slow
    def test_a_loop_goes_on_with_the_masks(self, tmp_path):
        data = small_models.as_dataset(small_models.windows(small_models.tokens()))

        def loop():
            model, _ = language_model(run_eagerly=False)
            return Loop(model, lambda step: data.skip(step % 3).concatenate(data.repeat()), 3, tmp_path)

        first = loop()
        first.run(0, 1, small_models.RecordingHooks())
        masks = pruning.masks(first.model.posterior, 0.6)
        pruning.prune(first.model.posterior, masks)
        first.checkpoints.save(3)
        second = loop()
        assert second.restore() == 3
        before = small_models.values(second.model.trainable_variables)
        second.run(3, 3, small_models.RecordingHooks())
        posterior = second.model.posterior
        expected = dict(zip(posterior.weights, masks.values(), strict=True))
        assert_is_masked(posterior.mean(), expected)
        assert_is_masked(posterior.sample(0), {w: k for w, k in expected.items() if w.is_variational})
        after = small_models.values(second.model.trainable_variables)
        assert any(np.any(one != other) for one, other in zip(after, before, strict=True))
