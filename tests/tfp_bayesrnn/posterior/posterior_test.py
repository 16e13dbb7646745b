"""A draw is a value: what it holds, what it costs (KL), and in whose hands it is."""

import itertools
import math
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bayes_oracles import mixture_log_prob, normal_kl, normal_log_prob, scale_of
from scipy import stats

from tfp_bayesrnn import noise
from tfp_bayesrnn.distributions import (
    DistributionPrior,
    MeanFieldNormal,
    NormalPrior,
    PointMass,
    ScaleMixturePrior,
)
from tfp_bayesrnn.layers import VariationalDense, VariationalEmbedding, VariationalLSTM
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.weights import VariationalWeight

tfd = tfp.distributions

MODES = {"eager": lambda f: f, "graph": tf.function, "xla": tf.function(jit_compile=True)}


def make_weight(shape=(4, 3), prior=None, posterior=None, seed=0, name="weight"):
    weight = VariationalWeight(
        shape,
        keras.initializers.RandomUniform(-0.1, 0.1, seed=seed),
        prior or ScaleMixturePrior(),
        posterior or MeanFieldNormal((0.25, 0.5)),
        name=name,
    )
    keras.utils.set_random_seed(seed)
    weight.build()
    return weight


def over_seeds(function, n):
    """`function` of each of n seeds, stacked."""
    seeds = tf.stack([tf.range(n), tf.fill([n], 1)], axis=1)
    mapped = tf.function(lambda seeds: tf.map_fn(function, seeds, fn_output_signature=tf.float32))
    return mapped(seeds).numpy()


def numpy_draw(draw):
    return [value.numpy() for value in draw.values()]


class TestSampling:
    posterior = Posterior([make_weight(), make_weight(), make_weight((5,), posterior=PointMass())])

    @pytest.mark.parametrize("mode", MODES)
    def test_same_seed_same_draw(self, mode):
        expected = numpy_draw(self.posterior.sample(3))
        actual = MODES[mode](lambda seed: list(self.posterior.sample(seed).values()))(noise.make_seed(3))
        # Between modes the noise, at most 5.3, differs by up to 2e-5, here times a sigma below 0.1.
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)

    @pytest.mark.parametrize("seed", [3, np.int64(3), tf.constant(3)], ids=["int", "numpy", "tensor"])
    def test_seed_may_be_any_integer(self, seed):
        for a, b in zip(
            self.posterior.sample(seed).values(),
            self.posterior.sample(noise.make_seed(3)).values(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)

    def test_other_seeds_and_other_weights_get_other_noise(self):
        first, second = self.posterior.sample(0), self.posterior.sample(1)
        a, b, _ = self.posterior.weights
        noises = [first.epsilons[a], first.epsilons[b], second.epsilons[a], second.epsilons[b]]
        for x, y in itertools.combinations(noises, 2):
            assert np.all(x != y)

    def test_draw_is_mean_plus_scale_times_noise(self):
        draw = self.posterior.sample(5)
        for weight, epsilon in draw.epsilons.items():
            expected = weight.mu.numpy() + scale_of(weight.rho) * epsilon.numpy()
            np.testing.assert_allclose(draw[weight], expected, rtol=0, atol=1e-6)

    def test_draws_have_the_mean_and_scale_of_the_posterior(self):
        weight, n = make_weight((2, 2)), 1000
        draws = over_seeds(lambda seed: Posterior([weight]).sample(seed)[weight], n)
        standardised = (draws - weight.mu.numpy()) / scale_of(weight.rho)
        assert stats.kstest(standardised.ravel(), "norm").pvalue > 1e-3

    def test_mean_draw_holds_the_means_and_no_noise(self):
        draw = self.posterior.mean()
        assert draw.seed is None and not draw.epsilons
        for weight, value in draw.items():
            np.testing.assert_array_equal(value, weight.mu)

    def test_draw_is_a_value(self):
        """What happens to the posterior after a draw does not change the draw."""
        weight = make_weight()
        posterior = Posterior([weight])
        draw, mean = posterior.sample(0), posterior.mean()
        before = [draw[weight].numpy(), mean[weight].numpy()]
        weight.mu.assign_add(tf.ones((4, 3)))
        np.testing.assert_array_equal(draw[weight], before[0])
        np.testing.assert_array_equal(mean[weight], before[1])
        copy = Draw({weight: 2 * draw[weight]})
        assert list(copy) == [weight] and len(copy) == 1
        np.testing.assert_array_equal(draw[weight], before[0])

    def test_point_mass_has_no_rho_no_noise_and_no_kl(self):
        weight = make_weight((5,), posterior=PointMass())
        posterior = Posterior([weight])
        draw = posterior.sample(0)
        assert weight.rho is None and weight.trainable_variables == [weight.mu]
        assert not weight.is_variational and not posterior.is_variational and self.posterior.is_variational
        assert draw.epsilons == {}
        np.testing.assert_array_equal(draw[weight], weight.mu)
        assert posterior.kl(draw) == 0.0
        np.testing.assert_array_equal(weight.posterior_distribution().mean(), weight.mu)

    def test_signal_to_noise(self):
        weight = make_weight()
        expected = np.abs(weight.mu.numpy()) / scale_of(weight.rho)
        np.testing.assert_allclose(weight.signal_to_noise(), expected, rtol=1e-5)
        assert np.all(np.isinf(make_weight(posterior=PointMass()).signal_to_noise()))

    def test_posterior_without_weights(self):
        posterior = Posterior([])
        assert posterior.kl(posterior.sample(0)) == 0.0 and not posterior.is_variational


def laplace(shape):
    return tfd.Independent(tfd.Laplace(tf.zeros(shape), 0.5), len(shape))


PRIORS = {
    # name: (prior, its log-density by SciPy); KLs at a sample.
    "mixture by row": (ScaleMixturePrior(), lambda w: mixture_log_prob(w, w.ndim, "row")),
    "mixture by weight": (
        ScaleMixturePrior(granularity="weight"),
        lambda w: mixture_log_prob(w, w.ndim, "weight"),
    ),
    "mixture of the tensor": (
        ScaleMixturePrior(granularity="tensor"),
        lambda w: mixture_log_prob(w, w.ndim, "tensor"),
    ),
    "laplace": (DistributionPrior(laplace), lambda w: np.sum(stats.laplace.logpdf(w, scale=0.5))),
}


class TestKL:
    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize("with_noise", [True, False], ids=["from the noise", "from the value"])
    @pytest.mark.parametrize("prior, log_pdf", PRIORS.values(), ids=PRIORS)
    def test_is_log_q_minus_log_p_at_the_very_sample(self, prior, log_pdf, with_noise):
        weight = make_weight((6, 5), prior)
        draw = Posterior([weight]).sample(3)
        if not with_noise:
            draw = Draw(dict(draw))
        value = draw[weight].numpy().astype(np.float64)
        expected = normal_log_prob(value, weight.mu, weight.rho) - log_pdf(value)
        # Without the noise, (w - mu) / sigma carries the rounding of w: 1e-7 * 0.3 / 0.05 each.
        np.testing.assert_allclose(Posterior([weight]).kl(draw), expected, rtol=2e-5)

    def test_counts_every_weight_and_every_element_once(self):
        """The sum, not the mean: a weight of twice the rows has twice the KL; and parts add up."""
        small, large = (make_weight((rows, 4), NormalPrior(0.3)) for rows in (50, 100))
        for weight in (small, large):
            weight.mu.assign(tf.fill(weight.shape, 0.1))
            weight.rho.assign(tf.fill(weight.shape, -2.0))
        posterior = Posterior([small, large])
        draw = posterior.sample(0)
        one = normal_kl(0.1, -2.0, 0.3)
        np.testing.assert_allclose(small.kl(draw[small]), 200 * one, rtol=1e-5)
        np.testing.assert_allclose(posterior.kl(draw), 600 * one, rtol=1e-5)

    @pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
    def test_is_analytic_for_normal_priors(self, learned):
        weight = make_weight((20, 10), NormalPrior(0.2, learned=learned))
        expected = normal_kl(weight.mu, weight.rho, 0.2)
        posterior, n = Posterior([weight]), 200
        for seed in (0, 1):  # Whatever the draw.
            np.testing.assert_allclose(posterior.kl(posterior.sample(seed)), expected, rtol=1e-5)
        estimates = []
        q, p = weight.posterior_distribution(), weight.prior_distribution()
        for value in q.sample(n, seed=(1, 2)):
            estimates.append(q.log_prob(value) - p.log_prob(value))
        assert abs(np.mean(estimates) - expected) < 4 * np.std(estimates) / math.sqrt(n)

    def test_one_sample_estimates_average_to_the_integral(self):
        weight = make_weight((10, 10), ScaleMixturePrior(granularity="weight"))
        n = 300
        posterior = Posterior([weight])
        estimates = over_seeds(lambda seed: posterior.kl(posterior.sample(seed)), n)
        # E_q[log q - log p] weight by weight. The grid, of step sigma / 625, resolves the narrow component.
        grid, step = np.linspace(-8, 8, 10_001, retstep=True)
        mu, sigma = weight.mu.numpy().astype(np.float64)[..., None], scale_of(weight.rho)[..., None]
        value = mu + sigma * grid
        integrand = stats.norm.logpdf(value, mu, sigma) - mixture_log_prob(value, 0, "weight")
        expected = np.sum(integrand * stats.norm.pdf(grid)) * step
        assert abs(estimates.mean() - expected) < 4 * estimates.std() / math.sqrt(n)

    @pytest.mark.parametrize(
        "prior, log_pdf",
        [PRIORS["mixture by row"], PRIORS["mixture by weight"], PRIORS["laplace"]],
        ids=["row", "weight", "laplace"],
    )
    def test_gradients_go_through_the_sample(self, prior, log_pdf):
        """d KL / d mu and d rho at fixed noise, against central differences in float64."""
        weight = make_weight((3, 4), prior)
        with tf.GradientTape() as tape:
            draw = Posterior([weight]).sample(4)
            kl = Posterior([weight]).kl(draw)
        gradients = tape.gradient(kl, [weight.mu.value, weight.rho.value])
        epsilon = draw.epsilons[weight].numpy().astype(np.float64)
        mu, rho = (v.numpy().astype(np.float64) for v in (weight.mu, weight.rho))

        def kl_of(mu, rho):
            value = mu + scale_of(rho) * epsilon
            return normal_log_prob(value, mu, rho) - log_pdf(value)

        step = 1e-6
        for at, gradient in enumerate(gradients):
            expected = np.zeros(weight.shape)
            for index in np.ndindex(*weight.shape):
                ends = []
                for sign in (1, -1):
                    moved = [mu.copy(), rho.copy()]
                    moved[at][index] += sign * step
                    ends.append(kl_of(*moved))
                expected[index] = (ends[0] - ends[1]) / (2 * step)
            # Float32 rounding of the sample is magnified by the narrow component's precision, up to e^14.
            np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3)

    def test_gradient_of_the_analytic_kl_reaches_a_learned_scale(self):
        weight = make_weight((20, 10), NormalPrior(0.2, learned=True))
        (log_scale,) = (v for v in weight.trainable_variables if "prior_log_scale" in v.path)
        with tf.GradientTape() as tape:
            kl = weight.kl(weight.mean())
        step = 1e-5
        ends = [normal_kl(weight.mu, weight.rho, 0.2 * math.exp(sign * step)) for sign in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(tape.gradient(kl, log_scale.value), expected, rtol=1e-4)

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
    def test_all_is_float32_under_a_half_precision_policy(self, policy):
        layer = VariationalDense(3, variational_bias=True, prior=NormalPrior(0.3, learned=True), dtype=policy)
        layer.build((None, 2))
        posterior = Posterior.of(layer)
        assert {v.dtype for v in layer.trainable_variables} == {"float32"}

        class Reader(keras.layers.Layer):
            """Reads the posterior where Keras casts variables to halves."""

            def call(self, inputs):
                draw = posterior.sample(0)
                self.read = [*draw.values(), *draw.epsilons.values(), posterior.kl(draw)]
                self.read += [w.mean() for w in posterior.weights] + [w.scale() for w in posterior.weights]
                return inputs

        reader = Reader(dtype=policy)
        reader(tf.zeros([1, 2]))
        assert {value.dtype for value in reader.read} == {tf.float32}
        np.testing.assert_array_equal(reader.read[0], posterior.sample(0)[posterior.weights[0]])


class SharedEmbedding(keras.layers.Layer):
    """Ids to logits over the ids, by one table."""

    def __init__(self):
        super().__init__()
        self.table = VariationalEmbedding(6, 4, prior=ScaleMixturePrior())

    def call(self, ids, training=False):
        return self.table.attend(self.table(ids, training=training), training=training)


def twice_called():
    layer = VariationalDense(4, use_bias=False, prior=ScaleMixturePrior())
    inputs = keras.Input((4,))
    return keras.Model(inputs, layer(layer(inputs))), tf.ones([2, 4])


class TestSharedWeights:
    NETWORKS = {
        "tied embedding": lambda: (SharedEmbedding(), tf.constant([[1, 2]])),
        "layer called twice": twice_called,
    }

    @pytest.mark.parametrize("name", NETWORKS)
    def test_weight_used_twice_is_drawn_and_counted_once(self, name):
        network, inputs = self.NETWORKS[name]()
        network(inputs)
        posterior = Posterior.of(network)
        (weight,) = posterior.weights
        draw = posterior.sample(0)
        with ambient.under(draw):
            outputs = network(inputs, training=True)
        table = draw[weight].numpy()
        expected = table[[1, 2]] @ table.T if name == "tied embedding" else (np.ones((2, 4)) @ table) @ table
        np.testing.assert_allclose(np.reshape(outputs, expected.shape), expected, rtol=1e-5, atol=1e-6)
        value = table.astype(np.float64)
        once = normal_log_prob(value, weight.mu, weight.rho) - mixture_log_prob(value, 2, "row")
        np.testing.assert_allclose(posterior.kl(draw), once, rtol=1e-5)

    def test_weights_of_several_layers_come_once_and_in_a_fixed_order(self):
        """The order numbers the streams of noise, so a network built anew must have the same."""

        def names():
            layers = VariationalDense(2, name="dense"), VariationalLSTM(2, name="lstm")
            first, second = layers
            first.build((None, 3))
            second.build((None, None, 3))
            weights = Posterior.of(first, second, first).weights
            cell = second.cell
            assert {*weights} == {first.kernel, first.bias, cell.kernel, cell.recurrent_kernel, cell.bias}
            assert len(weights) == 5
            return [weight.mu.path for weight in weights]

        assert names() == names()


class TestInForce:
    draws = [Posterior([]).sample(0), Posterior([]).sample(1)]

    def test_innermost_draw_is_in_force(self):
        a, b = self.draws
        assert ambient.draw_in_force() is None
        with ambient.under(a) as entered:
            assert entered.draw is a and ambient.draw_in_force() is a
            with ambient.under(b):
                assert ambient.draw_in_force() is b
            assert ambient.draw_in_force() is a
        assert ambient.draw_in_force() is None

    def test_an_exception_ends_it(self):
        with pytest.raises(KeyError), ambient.under(self.draws[0]), ambient.under(self.draws[1]):
            raise KeyError
        assert ambient.draw_in_force() is None

    def test_it_is_of_one_thread(self):
        """Each replica of a distribution strategy runs in a thread of its own, under a draw of its own."""
        seen = {}

        def other():
            seen["at first"] = ambient.draw_in_force()
            with ambient.under(self.draws[1]):
                seen["under its own"] = ambient.draw_in_force()

        with ambient.under(self.draws[0]):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            seen["here"] = ambient.draw_in_force()
        assert seen == {"at first": None, "under its own": self.draws[1], "here": self.draws[0]}

    def test_mask_seeds_are_of_the_draw_and_numbered(self):
        def two_seeds(draw):
            with ambient.under(draw):
                return [tuple(ambient.next_mask_seed().numpy()) for _ in range(2)]

        a, b = self.draws
        assert two_seeds(a) == two_seeds(a)
        assert len({*two_seeds(a), *two_seeds(b)}) == 4

    def test_masks_and_weights_do_not_share_seeds(self):
        posterior = Posterior([make_weight(()), make_weight(())])
        draw = posterior.sample(0)
        with ambient.under(draw):
            masks = [noise.normal((), ambient.next_mask_seed()).numpy() for _ in range(2)]
        assert not {float(m) for m in masks} & {float(e) for e in draw.epsilons.values()}

    def test_mean_has_no_masks(self):
        with ambient.under(Posterior([]).mean()):
            assert ambient.next_mask_seed() is None


def test_weight_reports_its_distributions():
    weight = make_weight((4, 3), NormalPrior(0.2, learned=True))
    weight._prior_variables["log_scale"].assign(math.log(0.7))
    np.testing.assert_allclose(weight.prior_distribution().stddev(), np.full((4, 3), 0.7), rtol=1e-6)
    np.testing.assert_allclose(weight.posterior_distribution().mean(), weight.mu)
    np.testing.assert_allclose(weight.posterior_distribution().stddev(), scale_of(weight.rho), rtol=1e-5)
    np.testing.assert_allclose(weight.scale(), scale_of(weight.rho), rtol=1e-5)
