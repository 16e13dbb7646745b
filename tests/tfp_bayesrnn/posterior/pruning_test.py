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
from pruned_models import random_keep

from tfp_bayesrnn import (
    DistributionPrior,
    MeanFieldNormal,
    NormalPrior,
    PointMass,
    ScaleMixturePrior,
    VariationalWeight,
    noise,
)
from tfp_bayesrnn.distributions import CentredNormalPrior
from tfp_bayesrnn.posterior import pruning
from tfp_bayesrnn.posterior.posterior import Posterior

tfd = tfp.distributions

PRIORS = {
    **{one: ScaleMixturePrior(0.4, -0.5, -2.0, one) for one in ("row", "weight", "tensor")},
    "normal": NormalPrior(0.7, loc=0.2),
    "learned": NormalPrior(0.7, learned=True),
    "centred": CentredNormalPrior(0.7, centre=0.0),
}
NORMAL = ("normal", "learned", "centred")


def make_weight(shape=(4, 6), prior=None, posterior=None, seed=0):
    initializer = keras.initializers.RandomNormal(0.0, 0.5, seed=seed)
    weight = VariationalWeight(shape, initializer, prior or PRIORS["row"], posterior or MeanFieldNormal())
    weight.build()
    return weight


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


class TestMasks:
    @pytest.mark.slow(every=3)
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

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize("scope", pruning.SCOPES)
    @pytest.mark.parametrize(
        ("mu", "dropped", "fraction", "kept"),
        [
            ([0, 1, 2, 3], [1], 0.25, [0, 2, 3]),
            ([0, 1, 2, 3], [1], 0.5, [2, 3]),
            ([0, 0, 0, 3], [1, 2], 0.5, [0, 3]),
            ([0, 0, 2, 0], [3], 0.25, [0, 1, 2]),
            ([0, 0, 2, 0], [3], 0.5, [1, 2]),
            ([0, -0.0, 2, 3], [2, 3], 0.75, [1]),
            ([5, 1, 2, 3], [0], 0.25, [1, 2, 3]),
        ],
    )
    @pytest.mark.parametrize(
        ("family", "by"),
        [
            (MeanFieldNormal(), "signal_to_noise"),
            (MeanFieldNormal(), "magnitude"),
            (PointMass(), "magnitude"),
        ],
    )
    def test_what_is_pruned_ranks_below_a_kept_mean_of_0(
        self, family, by, mu, dropped, fraction, kept, scope
    ):
        weight = make_weight((4,), NormalPrior(1.0), posterior=family)
        weight.mu.assign(mu)
        posterior = Posterior([weight])
        pruning.prune(posterior, {weight: ~np.isin(np.arange(4), dropped)})
        masks = pruning.masks(posterior, fraction, by, scope)
        assert np.flatnonzero(masks[weight]).tolist() == kept
        pruning.prune(posterior, masks)
        assert np.flatnonzero(pruning.masks_of(posterior)[weight]).tolist() == kept

    def test_pruning_step_by_step_is_pruning_at_once(self):
        """Of means many of which are exactly 0, and equal ratios."""
        weights = []
        for _ in range(2):
            weight = make_weight((5, 8), NormalPrior(1.0))
            weight.mu.assign(np.random.default_rng(0).integers(-1, 2, (5, 8)).astype(np.float32))
            weights.append(weight)
        posterior = Posterior(weights)
        at_once = pruning.masks(posterior, 0.8)
        for fraction in (0.1, 0.35, 0.5, 0.8):
            pruning.prune(posterior, pruning.masks(posterior, fraction))
            kept = sum(keep.sum() for keep in pruning.masks_of(posterior).values())
            assert kept == 80 - round(fraction * 80)
        for weight in weights:
            np.testing.assert_array_equal(pruning.masks_of(posterior)[weight], at_once[weight])

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
