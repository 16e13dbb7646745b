"""Noise: the same numbers in every mode, of the right distribution, from streams that do not repeat."""

import ast
import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfp_bayesrnn import noise

COMPILED = {"graph": tf.function, "xla": tf.function(jit_compile=True)}
SEED = noise.make_seed(7)

FUNCTIONS = {
    # name: (function of a seed, largest difference that compilation may make)
    "derive": (lambda seed: noise.derive(seed, 3, 4), 0.0),
    "uniform": (lambda seed: noise.uniform([50, 20], seed), 0.0),
    "bernoulli": (lambda seed: noise.bernoulli([50, 20], 0.3, seed), 0.0),
    # Rounding, of numbers up to 5.8.
    "normal": (lambda seed: noise.normal([500, 20], seed), 2e-6),
}


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("mode", COMPILED)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_numbers_in_every_mode(name, mode):
    function, tolerance = FUNCTIONS[name]
    expected = function(SEED).numpy()
    actual = COMPILED[mode](function)(SEED).numpy()
    assert actual.dtype == expected.dtype
    np.testing.assert_allclose(actual.astype(float), expected.astype(float), rtol=0, atol=tolerance)


def test_numbers_stay_what_they_were():
    """A run resumed with another version of the library, or on another machine, goes on with its noise."""
    seed = noise.derive(noise.make_seed(1), 2, 3)
    np.testing.assert_array_equal(seed, [-1070143139, -884854349])
    np.testing.assert_allclose(noise.normal([3], seed), [-2.1945438, 2.1949441, -0.0219493], atol=2e-6)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31 - 1, 2**62, -(2**63)])
def test_root_seed_of_an_integer_and_of_a_tensor(seed):
    expected = noise.make_seed(seed)
    assert expected.dtype == tf.int32 and expected.shape == [2]
    np.testing.assert_array_equal(tf.function(noise.make_seed)(tf.constant(seed, tf.int64)), expected)


def test_root_seed_of_more_than_64_bits_is_refused():
    with pytest.raises(ValueError, match="64 bits"):
        noise.make_seed(2**63)


def splitmix64(state):
    """The output function of SplitMix64 (Steele et al., 2014), on uint64 numbers."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return state ^ (state >> np.uint64(31))


def derived(seed, *data):
    """`noise.derive` of the root seed of an integer, in NumPy; the data may be arrays."""
    state = splitmix64(np.asarray([seed]).astype(np.uint64))
    for value in data:
        steps = np.atleast_1d(value).astype(np.int64) + 1
        state = splitmix64(state + np.uint64(0x9E3779B97F4A7C15) * steps.astype(np.uint64))
    return state


@pytest.mark.parametrize("data", [(), (0,), (1, 2), (-1, 92_889), (2**40, 3, 0)])
@pytest.mark.parametrize("seed", [0, 5, -3, 2**40])
def test_derive_is_splitmix64(seed, data):
    actual = noise.derive(noise.make_seed(seed), *data).numpy().view(np.uint64)
    np.testing.assert_array_equal(actual, derived(seed, *data))


def test_all_steps_and_replicas_of_the_longest_schedule_have_seeds_of_their_own():
    # Of 32 bits, three pairs of the 70 x 1327 steps were equal: (37235, 49718) was one.
    steps, replicas = np.meshgrid(np.arange(70 * 1327), np.arange(8))
    seeds = derived(0, steps.ravel(), replicas.ravel())
    assert len(np.unique(seeds)) == len(seeds)
    one, other = (noise.derive(noise.make_seed(0), step, 0) for step in (37235, 49718))
    assert np.any(noise.normal([4], one) != noise.normal([4], other))


def box_muller(radius_bits, angle_bits):
    """Points of the plane, [2, N], in double precision; radius and angle have 23 bits, the signs one each."""
    u = (np.asarray(radius_bits, np.uint32) >> 9) * 2.0**-23 + 2.0**-24
    angle = ((np.asarray(angle_bits, np.uint32) >> 9) + 0.5) * 2.0**-23 * (math.pi / 2)
    signs = [1.0 - 2.0 * (np.asarray(angle_bits, np.uint32) >> bit & 1) for bit in (0, 1)]
    # The sine first: the angle is measured from the middle of the quarter, and turned by an eighth.
    return np.sqrt(-2.0 * np.log(u)) * [signs[0] * np.sin(angle), signs[1] * np.cos(angle)]


@pytest.mark.parametrize("mode", ["eager", *COMPILED])
def test_extreme_bits_give_finite_normals(mode, monkeypatch):
    radius, angle = [0, 0, 2**32 - 1, 2**32 - 1, 2**31], [0, 2**32 - 1, 0, 2**32 - 1, 2**31]
    bits = tf.constant([*radius, *angle], tf.uint32)
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda *args, **kwargs: bits)
    normals = COMPILED.get(mode, lambda f: f)(lambda: noise.normal([10], SEED))().numpy()
    assert np.all(np.isfinite(normals)) and np.all(normals != 0.0)
    # In the corners a small number is the difference of two of about the radius.
    np.testing.assert_allclose(normals.reshape(2, 5), box_muller(radius, angle), rtol=1e-5, atol=3e-6)
    assert np.abs(normals).max() == pytest.approx(math.sqrt(2 * 24 * math.log(2)))  # < 5.77


def test_normal_is_box_mullers_of_the_bits():
    bits = tf.random.stateless_uniform([5000], SEED, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    wanted = box_muller(*bits.numpy().reshape(2, 2500)).ravel()
    np.testing.assert_allclose(noise.normal([5000], SEED), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(noise.normal([4999], SEED), noise.normal([5000], SEED)[:4999])


def test_the_two_numbers_of_a_pair_are_independent():
    n = 40_000
    x, y = noise.normal([2, n], SEED).numpy().astype(np.float64)
    for one, other in [(x, y), (x**2, y**2), (np.abs(x), y), (x > 0, y > 0)]:
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(n)
    # Any angle: uniform over the whole circle.
    assert stats.kstest(np.arctan2(y, x), stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-3
    assert stats.kstest(x**2 + y**2, stats.chi2(2).cdf).pvalue > 1e-3


def test_normal_is_standard_normal():
    n = 40_000
    sample = noise.normal([n], SEED).numpy().astype(np.float64)
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    # Five standard errors: of the mean 1, of x^2 sqrt(2), of x^3 sqrt(15), of x^4 sqrt(96), over sqrt(n).
    for power, expected, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs(np.mean(sample**power) - expected) < 5 * math.sqrt(variance / n)


def test_uniform_is_uniform_and_never_at_its_ends_or_zero():
    sample = noise.uniform([40_000], SEED).numpy()
    assert stats.kstest(sample, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert np.all(np.abs(sample) < 1) and np.all(sample != 0)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli_rate(probability):
    n = 40_000
    rate = np.mean(noise.bernoulli([n], probability, SEED))
    # Five standard errors; for 0 and 1 that is exactly never and always.
    assert abs(rate - probability) <= 5 * math.sqrt(probability * (1 - probability) / n)


def test_derived_seeds_differ():
    seeds = {"root": SEED, "other root": noise.make_seed(8), "swapped": noise.derive(SEED, 2, 1)}
    seeds |= {f"derived {i}": noise.derive(SEED, i) for i in range(50)}
    seeds |= {f"twice derived 1, {i}": noise.derive(SEED, 1, i) for i in range(50)}
    assert len({tuple(seed.numpy()) for seed in seeds.values()}) == len(seeds)


def test_derive_is_a_function_of_seed_and_data():
    np.testing.assert_array_equal(noise.derive(SEED, 5, 6), noise.derive(noise.derive(SEED, 5), 6))
    np.testing.assert_array_equal(noise.derive(SEED, 5), noise.derive(SEED, tf.constant(5, tf.int64)))
    assert np.any(noise.derive(SEED, 5) != noise.derive(noise.make_seed(8), 5))
    np.testing.assert_array_equal(noise.derive(SEED), SEED)


@pytest.mark.parametrize(
    "first, second",
    [
        pytest.param(SEED, noise.make_seed(8), id="neighbouring run seeds"),
        pytest.param(noise.derive(SEED, 1), noise.derive(SEED, 2), id="neighbouring steps"),
        pytest.param(noise.derive(SEED, 1, 0), noise.derive(SEED, 2, 0), id="same weight, next step"),
        pytest.param(noise.derive(SEED, 0, 1), noise.derive(SEED, 1, 0), id="swapped"),
        pytest.param(SEED, noise.derive(SEED, 0), id="root and derived"),
    ],
)
def test_streams_are_independent(first, second):
    n = 20_000
    a, b = noise.normal([n], first).numpy(), noise.normal([n], second).numpy()
    # Five standard errors of a correlation, 1 / sqrt(n). Lags: one stream must not be the other shifted.
    for lag in (0, 1, 4):
        assert abs(np.corrcoef(a[lag:], b[: n - lag])[0, 1]) < 5 / math.sqrt(n)
    assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 5 / math.sqrt(n)


def test_shape_may_be_a_tensor():
    shaped = tf.function(lambda shape: noise.normal(shape, SEED))
    np.testing.assert_allclose(shaped(tf.constant([3, 2])), noise.normal([3, 2], SEED), atol=2e-5)


def test_streams_of_seeds_have_numbers_of_their_own_and_are_nowhere_else():
    numbers = [stream.value for stream in noise.Stream.__members__.values()]
    assert len(set(numbers)) == len(noise.Stream.__members__)
    seeds = {tuple(noise.derive(SEED, stream).numpy()) for stream in noise.Stream}
    assert len(seeds) == len(numbers)
    np.testing.assert_array_equal(noise.derive(SEED, noise.Stream.PRUNED_KL), noise.derive(SEED, -7))
    for package in ("tfp_bayesrnn", "zoo"):
        for path in (pathlib.Path(__file__).parents[2] / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "derive":
                    streams = node.args[1:2]
                    assert not any(isinstance(arg, ast.Constant | ast.UnaryOp) for arg in streams), path
