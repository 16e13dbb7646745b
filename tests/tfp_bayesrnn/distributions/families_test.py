"""Variational families: what is refused, and the k-tied normal against NumPy and SciPy in float64."""

import keras
import numpy as np
import own_families
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bayes_oracles import mixture_log_prob, scale_of
from scipy import stats

from tfp_bayesrnn import (
    KTiedNormal,
    MeanFieldNormal,
    NormalPrior,
    PointMass,
    ScaleMixturePrior,
    VariationalDense,
    VariationalFamily,
    VariationalWeight,
    noise,
)

tfd = tfp.distributions


def make_weight(posterior, shape=(4, 3), prior=None, seed=0):
    keras.utils.set_random_seed(seed)
    initializer = keras.initializers.RandomUniform(-0.5, 0.5, seed=seed)
    weight = VariationalWeight(shape, initializer, prior or NormalPrior(0.5), posterior)
    weight.build()
    return weight


def wide(self, variables):
    return tfd.Independent(tfd.Normal(variables["mu"], 1.0), len(variables["mu"].shape))


class Bare(VariationalFamily):
    add_variables = MeanFieldNormal.add_variables


REFUSED = {
    "a distribution without its sample": (
        type("Wide", (MeanFieldNormal,), {"distribution": wide}),
        "posterior=Wide.*inherits sample, mean, scale",
    ),
    "a sample without its distribution": (
        type("Scaled", (MeanFieldNormal,), {"sample": lambda self, variables, noise: variables["mu"]}),
        "posterior=Scaled.*redefines sample and inherits distribution",
    ),
    "a density of another distribution": (
        type("Shifted", (KTiedNormal,), {"sample": wide, "distribution": wide}),
        "posterior=Shifted.*inherits mean, scale, log_prob, variables_for, exported, exported_sample",
    ),
    "a point mass that spreads": (
        type("Spread", (PointMass,), {"distribution": wide, "noise_shape": lambda self, shape: shape}),
        "posterior=Spread.*inherits sample",
    ),
    "too little": (Bare, "must define add_variables.*lacks sample, distribution"),
    "no family": (keras.initializers.Zeros, "must be a variational family.*posterior=<.*Zeros"),
}


@pytest.mark.parametrize("kind, message", REFUSED.values(), ids=REFUSED)
def test_a_family_that_contradicts_itself_is_refused(kind, message):
    with pytest.raises(ValueError, match=message):
        VariationalDense(2, posterior=kind())


def test_a_subclass_with_another_scale_is_sampled_and_judged_by_it():
    class Exponential(MeanFieldNormal):
        def scale(self, variables):
            return tf.exp(variables["rho"])

    weight = make_weight(Exponential())
    epsilon = tf.ones(weight.shape)
    sigma = np.exp(weight.rho.numpy().astype(np.float64))
    np.testing.assert_allclose(weight.sample(epsilon) - weight.mean(), sigma, rtol=1e-4)
    np.testing.assert_allclose(weight.posterior_distribution().stddev(), sigma, rtol=1e-5)
    np.testing.assert_allclose(weight.exported()["scale"], sigma, rtol=1e-5)
    with pytest.raises(ValueError, match="No posterior of the family Exponential has this scale"):
        weight.assign(np.zeros((4, 3)), np.full((4, 3), 0.1))
    assert np.all(weight.mean() != 0.0)


def test_values_of_other_shapes_are_refused():
    flat = type("Flat", (own_families.Laplace,), {"mean": lambda self, variables: variables["mu"][0]})
    with pytest.raises(ValueError, match=r"mean of a.*\(4, 3\). Received: posterior=Flat.*shape=\(3,\)"):
        make_weight(flat()).mean()

    class Batch(own_families.Laplace):
        sample = own_families.Laplace.sample

        def distribution(self, variables):
            return tfd.Laplace(variables["mu"], tf.exp(variables["log_scale"]))

    weight = make_weight(Batch())
    with pytest.raises(ValueError, match=r"KL of a.*of shape \(\). Received: posterior=Batch.*\(4, 3\)"):
        weight.kl(weight.mean())

    class Forgetful(own_families.Laplace):
        def add_variables(self, *arguments):
            return {"mu": super().add_variables(*arguments)["mu"]}

    with pytest.raises(ValueError, match=r"must return all variables.*posterior=Forgetful"):
        make_weight(Forgetful())


# The k-tied normal.

FAMILY = KTiedNormal(2, (0.25, 0.5))
FLOOR = np.sqrt(1e-5 / 2)


def parameters(weight):
    """mu, rho_u and rho_v in float64."""
    values = {v.name: v.numpy().astype(np.float64) for v in weight.variables}
    return values["mu"], values["rho_u"], values["rho_v"]


def sigma_of(rho_u, rho_v, shape=(4, 3)):
    u, v = (np.logaddexp(0.0, rho) + FLOOR for rho in (rho_u, rho_v))
    return (u @ v.T).reshape(shape)


@pytest.mark.parametrize("shape", [(), (5,), (6, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("k", [1, 3])
def test_scales_start_in_their_range(k, shape):
    weight = make_weight(KTiedNormal(k, (0.25, 0.5)), shape)
    sigma = weight.scale().numpy()
    assert sigma.shape == shape
    assert np.all((sigma > 0.5 * 0.25 - 1e-6) & (sigma < 0.5 * 0.5 + 2e-5))
    if len(shape) < 2:
        assert [v.name for v in weight.variables] == ["mu", "rho"]
        np.testing.assert_allclose(sigma, scale_of(weight.rho), rtol=1e-5)
    else:
        assert [tuple(v.shape) for v in weight.variables[1:]] == [(np.prod(shape[:-1]), k), (shape[-1], k)]
        assert np.linalg.matrix_rank(sigma.reshape(-1, shape[-1]), tol=1e-5) == k


def test_it_is_normal_with_the_product_as_its_scale():
    weight = make_weight(FAMILY)
    mu, rho_u, rho_v = parameters(weight)
    sigma = sigma_of(rho_u, rho_v)
    np.testing.assert_allclose(weight.scale(), sigma, rtol=1e-5)
    np.testing.assert_allclose(weight.signal_to_noise(), np.abs(mu) / sigma, rtol=1e-5)
    n = 20_000
    variables = {variable.name: variable.value for variable in weight.variables}
    draws = FAMILY.sample(variables, noise.normal([n, 4, 3], noise.make_seed(0))).numpy()
    # Within five standard errors.
    np.testing.assert_array_less(np.abs(draws.mean(0) - mu), 5 * sigma / np.sqrt(n))
    np.testing.assert_array_less(np.abs(draws.std(0) / sigma - 1), 5 / np.sqrt(2 * n))
    assert np.all(np.abs(np.corrcoef(draws.reshape(n, -1).T) - np.eye(12)) < 5 / np.sqrt(n))


def objective(mu, rho_u, rho_v, epsilon):
    """KL to N(0, 0.25), and the sum of the sines of the sample."""
    sigma = sigma_of(rho_u, rho_v)
    ratio = (sigma / 0.5) ** 2
    kl = np.sum(0.5 * (ratio + (mu / 0.5) ** 2 - 1 - np.log(ratio)))
    return kl + np.sum(np.sin(mu + sigma * epsilon))


def test_kl_and_gradients_are_those_of_finite_differences():
    weight = make_weight(FAMILY)
    epsilon = np.random.default_rng(0).normal(size=(4, 3))
    with tf.GradientTape() as tape:
        value = weight.sample(tf.constant(epsilon, tf.float32))
        total = weight.kl(value) + tf.reduce_sum(tf.sin(value))
    found = tape.gradient(total, [variable.value for variable in weight.variables])
    at = parameters(weight)
    np.testing.assert_allclose(total, objective(*at, epsilon), rtol=1e-5)
    for place, gradient in enumerate(found):
        for index in np.ndindex(*gradient.shape):
            moved = [[value.copy() for value in at] for _ in range(2)]
            for sign, values in zip((1e-5, -1e-5), moved, strict=True):
                values[place][index] += sign
            expected = (objective(*moved[0], epsilon) - objective(*moved[1], epsilon)) / 2e-5
            np.testing.assert_allclose(gradient[index], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("with_noise", [True, False])
def test_the_estimate_of_the_kl_is_the_difference_of_densities(with_noise):
    weight = make_weight(FAMILY, prior=ScaleMixturePrior())
    mu, rho_u, rho_v = parameters(weight)
    epsilon = noise.normal((4, 3), noise.make_seed(1))
    value = weight.sample(epsilon)
    log_q = np.sum(stats.norm.logpdf(value.numpy().astype(np.float64), mu, sigma_of(rho_u, rho_v)))
    expected = log_q - mixture_log_prob(value, 2, "row")
    np.testing.assert_allclose(weight.kl(value, epsilon if with_noise else None), expected, rtol=1e-4)


def test_it_is_set_to_scales_that_it_has():
    for shape in ((4, 3), (2, 2, 3), (5,)):
        weight, mean = make_weight(FAMILY, shape), np.full(shape, 0.25)
        weight.assign(mean, np.full(shape, 0.05))
        np.testing.assert_allclose(weight.scale(), np.full(shape, 0.05), rtol=1e-4)
        np.testing.assert_array_equal(weight.mean(), mean)
    weight = make_weight(FAMILY)
    before = parameters(weight)
    rows = np.array([[0.1], [0.2], [0.4], [0.8]]) * [0.1, 0.2, 0.3]
    for scales, message in (
        (np.random.default_rng(0).uniform(0.1, 0.2, (4, 3)), "KTiedNormal can be set to are of rank one"),
        (np.full((4, 3), 1e-6), "No posterior of the family KTiedNormal has this scale"),
    ):
        with pytest.raises(ValueError, match=message):
            weight.assign(np.zeros((4, 3)), scales)
        np.testing.assert_array_equal(parameters(weight)[0], before[0])
    weight.assign(np.zeros((4, 3)), rows)
    np.testing.assert_allclose(weight.scale(), rows, rtol=1e-4)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "2"])
def test_ranks_that_are_not_accepted(k):
    with pytest.raises(ValueError, match="Received: k="):
        KTiedNormal(k)
