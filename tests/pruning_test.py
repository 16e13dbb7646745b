"""Pruning: what is dropped, and that what is dropped stays out of everything."""

import json

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import small_models
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_bayesrnn import (
    BayesianModel,
    DistributionPrior,
    MeanFieldNormal,
    NormalPrior,
    PointMass,
    PosteriorSharpening,
    ScaleMixturePrior,
    VariationalDense,
    VariationalWeight,
    noise,
    pruning,
    training,
)
from tfp_bayesrnn.checkpoints import Checkpoints
from tfp_bayesrnn.distributions import CentredNormalPrior
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.evaluation import StreamEvaluator
from tfp_bayesrnn.loop import Loop
from tfp_bayesrnn.posterior import Posterior

tfd = tfp.distributions

PRIORS = {
    **{one: ScaleMixturePrior(0.4, -0.5, -2.0, one) for one in ("row", "weight", "tensor")},
    "normal": NormalPrior(0.7, loc=0.2),
    "learned": NormalPrior(0.7, learned=True),
    "centred": CentredNormalPrior(0.7),
}
NORMAL = ("normal", "learned", "centred")


def make_weight(shape=(4, 6), prior=None, posterior=None, seed=0):
    initializer = keras.initializers.RandomNormal(0.0, 0.5, seed=seed)
    weight = VariationalWeight(shape, initializer, prior or PRIORS["row"], posterior or MeanFieldNormal())
    weight.build()
    return weight


def random_keep(shape, seed=1):
    """Half of the elements; of the first row none, of the second all."""
    keep = np.random.default_rng(seed).random(shape) < 0.5
    keep[0], keep[1] = False, True
    return keep


def pruned_weight(name="row", **arguments):
    weight = make_weight(prior=PRIORS[name], **arguments)
    keep = random_keep(weight.shape)
    pruning.prune(Posterior([weight]), {weight: keep})
    return weight, keep


def parameters(weight):
    rho = weight.rho.numpy().astype(np.float64)
    return weight.mu.numpy().astype(np.float64), np.log1p(np.exp(rho)) + 1e-5


def log_prior(values, keep, name):
    """By loops over the groups of the kept elements, in float64."""
    prior = PRIORS[name]
    groups = {
        "row": [values[row][keep[row]] for row in range(len(values))],
        "weight": [[value] for value in values[keep]],
        "tensor": [values[keep]],
    }[name]
    total = 0.0
    for group in groups:
        components = [
            np.log(share) + scipy.stats.norm.logpdf(group, 0.0, np.exp(log_sigma)).sum()
            for share, log_sigma in ((prior.pi, prior.log_sigma1), (1 - prior.pi, prior.log_sigma2))
        ]
        total += scipy.special.logsumexp(components)
    return total


def language_model(**arguments):
    """A model of which no mean is 0, and masks that keep about half of each weight."""
    model = small_models.language_model(**arguments)
    for weight in model.posterior.weights:
        weight.mu.assign(weight.mu + 0.01)
    masks = {
        weight: np.random.default_rng(place).random(weight.shape) < 0.5
        for place, weight in enumerate(model.posterior.weights)
    }
    return model, masks


def assert_is_masked(values, masks):
    """`values`, weight -> tensor, are 0 where nothing is kept, and there alone."""
    for weight, keep in masks.items():
        np.testing.assert_array_equal(np.asarray(values[weight]) != 0.0, keep)


class TestMasks:
    @pytest.mark.parametrize("by", pruning.BY)
    @pytest.mark.parametrize("fraction", [0.0, 0.13, 0.5, 0.8, 0.999, 1.0])
    def test_the_network_s_lowest_are_dropped(self, by, fraction):
        posterior = small_models.language_model().posterior
        masks = pruning.masks(posterior, fraction, by)
        keep = np.concatenate([masks[weight].ravel() for weight in posterior.weights])
        magnitude = np.concatenate([np.abs(weight.mean().numpy()).ravel() for weight in posterior.weights])
        scale = np.concatenate([weight.scale().numpy().ravel() for weight in posterior.weights])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(scale > 0, magnitude / scale, np.inf) if by == "signal_to_noise" else magnitude
        expected = np.ones(len(keep), bool)
        expected[np.lexsort([np.arange(len(keep)), magnitude, ratio])[: round(fraction * len(keep))]] = False
        np.testing.assert_array_equal(keep, expected)

    def test_every_weight_loses_the_same_fraction(self):
        posterior = small_models.language_model().posterior
        masks = pruning.masks(posterior, 0.4, scope="weight")
        for weight in posterior.weights:
            alone = pruning.masks(Posterior([weight]), 0.4, "magnitude")[weight]
            if weight.is_variational:
                alone = pruning.masks(Posterior([weight]), 0.4)[weight]
            np.testing.assert_array_equal(masks[weight], alone)
            assert np.count_nonzero(~masks[weight]) == round(0.4 * masks[weight].size)

    def test_equal_weights_are_dropped_from_the_first_on(self):
        weight = make_weight((6,), posterior=PointMass())
        weight.mu.assign([0.5, -0.2, 0.2, 0.2, -0.7, 0.2])
        posterior = Posterior([weight])
        assert pruning.masks(posterior, 0.5, "magnitude")[weight].tolist() == [1, 0, 0, 0, 1, 1]

    def test_weights_without_a_distribution_come_last_in_the_network(self):
        variational, point = make_weight((4, 5)), make_weight((7,), posterior=PointMass())
        masks = pruning.masks(Posterior([point, variational]), 21 / 27)
        assert not masks[variational].any()
        assert masks[point].sum() == 6
        assert np.argmin(masks[point]) == np.argmin(np.abs(point.mean()))

    def test_what_is_pruned_is_dropped_first(self):
        weight, keep = pruned_weight()
        dropped = np.count_nonzero(~keep)
        for by in pruning.BY:
            masks = pruning.masks(Posterior([weight]), (dropped + 2) / keep.size, by)
            assert not masks[weight][~keep].any()
            assert np.count_nonzero(masks[weight]) == np.count_nonzero(keep) - 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"fraction": 1.1}, "between 0 and 1. Received: fraction=1.1"),
            ({"fraction": -0.1}, "Received: fraction=-0.1"),
            ({"fraction": float("nan")}, "Received: fraction=nan"),
            ({"fraction": 0.5, "by": "size"}, "Received: by='size'"),
            ({"fraction": 0.5, "scope": "layer"}, "Received: scope='layer'"),
        ],
    )
    def test_arguments_that_are_not_accepted(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            pruning.masks(Posterior([make_weight()]), **arguments)

    def test_without_distributions_there_are_no_ratios(self):
        with pytest.raises(ValueError, match="rank its weights by='magnitude'"):
            pruning.masks(Posterior([make_weight(posterior=PointMass())]), 0.5)

    def test_a_weight_that_is_not_finite(self):
        weight = make_weight()
        weight.mu.assign(np.full(weight.shape, np.nan))
        with pytest.raises(ValueError, match="must be finite"):
            pruning.masks(Posterior([weight]), 0.5)


class TestPrunedWeight:
    @pytest.mark.parametrize("family", [MeanFieldNormal(), PointMass()])
    def test_it_is_0_where_nothing_is_kept(self, family):
        weight, keep = pruned_weight(posterior=family)
        epsilon = noise.normals([weight.shape], noise.make_seed(0), 0)[0]
        mu = weight.mu.numpy()
        np.testing.assert_array_equal(weight.mean(), np.where(keep, mu, 0.0))
        np.testing.assert_array_equal(weight.posterior_distribution().mean(), weight.mean())
        assert np.all(weight.posterior_distribution().sample(3, seed=1).numpy()[:, ~keep] == 0.0)
        np.testing.assert_array_equal(weight.signal_to_noise().numpy()[~keep], 0.0)
        if weight.is_variational:
            _, sigma = parameters(weight)
            np.testing.assert_allclose(weight.scale(), np.where(keep, sigma, 0.0), rtol=1e-5)
            np.testing.assert_allclose(
                weight.signal_to_noise(), np.where(keep, np.abs(mu) / sigma, 0.0), rtol=1e-5
            )
            expected = np.where(keep, mu + sigma * epsilon.numpy(), 0.0)
            np.testing.assert_allclose(weight.sample(epsilon), expected, rtol=1e-5, atol=1e-6)
            assert np.all(weight.sample(epsilon).numpy()[~keep] == 0.0)

    @pytest.mark.parametrize("with_epsilon", [True, False])
    @pytest.mark.parametrize("name", PRIORS)
    def test_kl_counts_what_is_kept(self, name, with_epsilon):
        weight, keep = pruned_weight(name)
        mu, sigma = parameters(weight)
        epsilon = noise.normals([weight.shape], noise.make_seed(0), 0)[0]
        value = weight.sample(epsilon)
        kl = weight.kl(value, epsilon if with_epsilon else None)
        if name in NORMAL:
            loc, scale = getattr(weight.prior, "loc", 0.0), weight.prior.scale
            squares = np.square(sigma / scale) + np.square((mu - loc) / scale) - 1.0
            expected = np.sum((0.5 * squares - np.log(sigma / scale))[keep])
        else:
            values = value.numpy().astype(np.float64)
            log_q = scipy.stats.norm.logpdf(values[keep], mu[keep], sigma[keep]).sum()
            expected = log_q - log_prior(values, keep, name)
        # Sums of some ten float32 terms of up to a hundred nats.
        np.testing.assert_allclose(kl, expected, rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize("name", PRIORS)
    def test_kl_has_no_gradient_where_nothing_is_kept(self, name):
        weight, keep = pruned_weight(name)
        epsilon = noise.normals([weight.shape], noise.make_seed(0), 0)[0]
        with tf.GradientTape() as tape:
            value = weight.sample(epsilon)
            loss = weight.kl(value, epsilon) + weight.kl(value) + tf.reduce_sum(tf.sin(value))
        for gradient in tape.gradient(loss, [weight.mu.value, weight.rho.value]):
            np.testing.assert_array_equal(gradient.numpy() != 0.0, keep)

    def test_a_mask_that_keeps_all_changes_nothing(self):
        for name in PRIORS:
            weight = make_weight(prior=PRIORS[name])
            epsilon = noise.normals([weight.shape], noise.make_seed(0), 0)[0]
            before = weight.kl(weight.sample(epsilon), epsilon)
            pruning.prune(Posterior([weight]), {weight: np.ones(weight.shape, bool)})
            np.testing.assert_allclose(weight.kl(weight.sample(epsilon), epsilon), before, rtol=1e-6)

    def test_the_marginal_of_the_mixture_is_a_distribution(self):
        """Its samples are 0 where nothing is kept, and spread as it says elsewhere."""
        weight, keep = pruned_weight("row")
        prior = weight.prior_distribution()
        draws = prior.sample(4000, seed=2).numpy()
        assert np.all(draws[:, ~keep] == 0.0)
        np.testing.assert_array_equal(prior.stddev().numpy() == 0.0, ~keep)
        # The standard error of a standard deviation over 4,000 draws of a mixture this heavy is about 2 %.
        np.testing.assert_allclose(draws.std(axis=0), prior.stddev(), rtol=0.1)
        np.testing.assert_allclose(prior.log_prob(draws[0] + 5.0 * ~keep), prior.log_prob(draws[0]))
        again = prior.marginal(tf.constant(np.tile([True, False, False], 8).reshape(4, 6)))
        assert np.all((again.stddev().numpy() != 0.0) <= keep)

    def test_pruning_again_drops_more_and_unpruning_brings_all_back(self):
        weight = make_weight()
        before = [weight.mean(), weight.scale()]
        posterior = Posterior([weight])
        first, second = random_keep(weight.shape, 1), random_keep(weight.shape, 2)
        for keep in (first, second):
            pruning.prune(posterior, {weight: keep})
        np.testing.assert_array_equal(pruning.masks_of(posterior)[weight], first & second)
        assert [variable.name for variable in weight.variables] == ["mu", "rho", "keep"]
        assert [variable.name for variable in weight.trainable_variables] == ["mu", "rho"]
        pruning.unprune(posterior)
        pruning.unprune(posterior)
        assert [variable.name for variable in weight.variables] == ["mu", "rho"]
        small_models.assert_identical([weight.mean(), weight.scale()], before)
        assert pruning.masks_of(posterior)[weight].all()
        pruning.prune(posterior, {weight: first})
        np.testing.assert_array_equal(pruning.masks_of(posterior)[weight], first)

    def test_masks_that_are_not_accepted(self):
        weight, other = make_weight(), make_weight((3,))
        posterior = Posterior([weight])
        keep = np.ones(weight.shape, bool)
        for masks, message in (
            ({weight: keep, other: np.ones(3, bool)}, "of a weight of the posterior"),
            ({weight: keep[:2]}, r"weight's shape \(4, 6\).*shape=\(2, 6\)"),
            ({weight: keep.astype(np.float32)}, "dtype=float32"),
        ):
            with pytest.raises(ValueError, match=message):
                pruning.prune(posterior, masks)
            assert not weight.is_pruned

    def test_a_prior_whose_marginal_is_not_known(self):
        """Elements that are not independent."""

        def chain(shape):
            return tfd.MultivariateNormalTriL(tf.zeros(shape), tf.linalg.diag(tf.ones(shape)))

        weight, fine = make_weight((3,), prior=DistributionPrior(chain, stddev=1.0)), make_weight()
        posterior = Posterior([fine, weight])
        with pytest.raises(ValueError, match="only if the prior of its kept elements is known"):
            pruning.prune(posterior, {one: np.ones(one.shape, bool) for one in (fine, weight)})
        assert not fine.is_pruned
        assert not weight.is_pruned


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
        step = training.free_energy_gradients(model, batch, state, noise.make_seed(0), tf.constant(1.0))
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
        g, _ = training.likelihood_gradient(phi, model, batch, state, training=False)
        theta, kl = model.sharpening.sharpen(phi, g, noise.make_seed(2))
        variational = {weight: masks[weight] for weight in masks if weight.is_variational}
        assert_is_masked({weight: theta[weight] for weight in variational}, variational)
        squares = [
            np.square(g[weight].numpy()[keep], dtype=np.float64) for weight, keep in variational.items()
        ]
        # softplus(u) is 1 at the start.
        np.testing.assert_allclose(kl, 0.5 * 0.1**2 * sum(square.sum() for square in squares), rtol=1e-5)

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
        moving = evaluator.mean(data, learning_rate=0.5)
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


class TestFigures:
    def test_what_remains(self):
        masks = {make_weight((3, 5)): np.arange(15).reshape(3, 5) < 4, make_weight((8,)): np.zeros(8, bool)}
        # 4 floats, and 2 + 1 bytes of bits.
        assert pruning.remaining(masks) == (23, 4, 92, 19)

    def test_signal_to_noise_in_decibels(self):
        weight, point = make_weight((5,)), make_weight((2,), posterior=PointMass())
        other, gone = make_weight((4,), seed=3), make_weight((2,), seed=4)
        sigma = parameters(weight)[1]
        weight.mu.assign(sigma * [100.0, -10.0, 1.0, 0.1, 0.0])
        other.mu.assign(parameters(other)[1] * [1e9, 1.0, 1.0, 1e-9])
        posterior = Posterior([weight, point, other, gone])
        pruning.prune(posterior, {weight: np.array([1, 1, 1, 1, 1], bool), gone: np.zeros(2, bool)})
        network, first, second = pruning.signal_to_noise(posterior, edges=[-30, -10, 10, 30, 50])
        assert (network.name, network.elements) == ("network", 9)
        assert (first.name, first.elements) == (weight.path, 5)
        # The decibels are 40, 20, 0, -20 and -infinity.
        expected = {5: -np.inf, 25: -20.0, 50: 0.0, 75: 20.0, 95: 40.0}
        assert first.percentiles == pytest.approx(expected, abs=1e-4)
        np.testing.assert_allclose(first.density * 5 * 20, [2, 1, 1, 1])
        np.testing.assert_allclose(second.density * 4 * 20, [1, 2, 0, 1])
        np.testing.assert_allclose(np.sum(network.density * 20), 1.0)
        default = pruning.signal_to_noise(posterior)[0]
        np.testing.assert_allclose(np.sum(default.density * np.diff(default.edges)), 1.0)
        json.dumps(default.density.tolist())

    def test_without_distributions(self):
        assert pruning.signal_to_noise(Posterior([make_weight(posterior=PointMass())])) == []
