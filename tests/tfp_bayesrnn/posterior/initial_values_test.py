"""Initial values: no two weights share their numbers, whatever initializers they were given."""

import itertools
import math

import keras
import numpy as np
import pytest

from tfp_bayesrnn import (
    BayesianModel,
    PointMass,
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalLSTM,
)
from tfp_bayesrnn.posterior import initial_values
from tfp_bayesrnn.posterior.posterior import Posterior
from zoo import presets
from zoo.captioning.model import build_model as build_captioning_model
from zoo.configuration.config import with_overrides
from zoo.forecasting.model import build_model as build_forecasting_model
from zoo.language_model.model import build_model as build_language_model

RandomUniform = keras.initializers.RandomUniform


def numbers_of(network):
    """Path -> initial numbers of every variable that does not start from one constant."""
    values = {variable.path: np.ravel(variable.numpy()) for variable in network.variables}
    values = {path: value[value != 1.0] for path, value in values.items()}  # Of forget gates that start open.
    return {
        path: value
        for path, value in values.items()
        if value.dtype.kind == "f" and value.size and np.ptp(value) > 0
    }


def assert_uncorrelated(values):
    """Equal numbers, reshaped or cut, correlate by 1; independent ones by six standard errors at the most."""
    assert len(values) > 1
    for (one, first), (other, second) in itertools.combinations(values.items(), 2):
        n = min(first.size, second.size)
        correlation = np.corrcoef(first[:n], second[:n])[0, 1]
        assert abs(correlation) < 6 / math.sqrt(n), f"{one} and {other}: {correlation}"


def small(name, **dotted):
    """A preset with few weights: what is initialised how is its own."""
    config = presets.get_preset(name)
    sizes = {"model.units": 40}
    if config.task != "forecasting":
        sizes["model.embedding_units"] = 40 if config.model.tied else 48
    if config.task == "captioning":
        encoder = {"name": "compact", "width": 12, "image_size": 16, "weights": "", "trainable": True}
        sizes |= {f"encoder.{field}": value for field, value in encoder.items()}
    return with_overrides(config, {**sizes, **dotted})


def built(config):
    if config.task == "captioning":
        return build_captioning_model(config, 60, training_images=10, steps_per_epoch=2)
    if config.task == "forecasting":
        return build_forecasting_model(config, 60, training_rows=10, steps_per_epoch=2)
    return build_language_model(config, 60, windows_per_epoch=2)


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("name", presets.preset_names())
def test_no_two_weights_of_a_preset_start_alike(name):
    assert_uncorrelated(numbers_of(built(small(name)).network))


@pytest.mark.parametrize("name", ["demo_bbb", "shapes_demo_bbb"])
def test_initial_values_are_a_function_of_the_seed(name):
    config = small(name)
    first, again = (built(config).posterior.weights for _ in range(2))
    other = built(small(name, seed=1)).posterior.weights
    for weight, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(weight.mu, same.mu)
        # But for forget gates that start at one.
        assert np.mean(weight.mu.numpy() == different.mu.numpy()) < 0.3
        if weight.is_variational:
            np.testing.assert_array_equal(weight.rho, same.rho)
            assert np.all(weight.rho.numpy() != different.rho.numpy())


def test_methods_start_from_the_same_means():
    means = [
        {weight.path.split("/", 2)[2]: weight.mu.numpy() for weight in built(small(name)).posterior.weights}
        for name in ("demo_deterministic", "demo_bbb")
    ]
    assert means[0].keys() == means[1].keys()
    for name, mean in means[0].items():
        np.testing.assert_array_equal(mean, means[1][name])


LAYERS = {
    "lstm": lambda given: VariationalLSTM(
        16,
        kernel_initializer=given,
        recurrent_initializer=given,
        bias_initializer=given,
        unit_forget_bias=False,
    ),
    "gru": lambda given: VariationalGRU(
        16, kernel_initializer=given, recurrent_initializer=given, bias_initializer=given
    ),
    "dense": lambda given: VariationalDense(64, kernel_initializer=given, bias_initializer=given),
    "bidirectional": lambda given: keras.layers.Bidirectional(
        VariationalLSTM(16, kernel_initializer=given, recurrent_initializer=given, unit_forget_bias=False)
    ),
}
INITIALIZERS = {
    "unseeded": lambda: RandomUniform(-0.1, 0.1),
    "seeded": lambda: RandomUniform(-0.1, 0.1, seed=3),
    "generator": lambda: RandomUniform(-0.1, 0.1, seed=keras.random.SeedGenerator(3)),
    "normal": lambda: keras.initializers.RandomNormal(seed=3),
    "glorot": keras.initializers.GlorotUniform,
}


def rebuilt(layer):
    return type(layer).from_config(layer.get_config())


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("change", [lambda layer: layer, rebuilt], ids=["made", "from its config"])
@pytest.mark.parametrize("initializer", INITIALIZERS)
@pytest.mark.parametrize("layer", LAYERS)
def test_one_initializer_for_several_weights_of_a_layer(layer, initializer, change):
    if initializer == "generator" and (change is rebuilt or layer == "bidirectional"):
        pytest.skip("Keras gives every copy of a layer a generator that starts anew")
    if initializer in ("seeded", "normal") and layer == "bidirectional":
        pytest.skip("Keras makes each direction from the config, with the seed that was asked for")
    layer = change(LAYERS[layer](INITIALIZERS[initializer]()))
    layer.build((2, 3, 16))
    assert_uncorrelated(numbers_of(layer))


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_one_initializer_for_several_layers(initializer):
    given = INITIALIZERS[initializer]()
    layers = [
        VariationalEmbedding(30, 16, embeddings_initializer=given),
        *(VariationalLSTM(16, kernel_initializer=given, return_sequences=True) for _ in range(2)),
        VariationalDense(16, kernel_initializer=given, posterior=PointMass()),
    ]
    model = BayesianModel(keras.Sequential(layers), training_rows=1)
    model.build((2, 3))
    assert_uncorrelated(numbers_of(model.network))


@pytest.mark.parametrize("kind", ["RandomUniform", "GlorotNormal", "Orthogonal", "HeUniform"])
def test_a_seeded_initializer_of_one_weight_gives_what_keras_gives(kind):
    make = getattr(keras.initializers, kind)
    layer = VariationalDense(5, kernel_initializer=make(seed=7))
    layer.build((None, 4))
    np.testing.assert_array_equal(layer.kernel.mu, make(seed=7)((4, 5)))


def test_initializers_without_a_seed_are_left_alone():
    numbers = np.arange(20, dtype=np.float32).reshape(4, 5)
    for given in (keras.initializers.Ones(), lambda shape, dtype=None: numbers, numbers):
        layer = VariationalDense(5, kernel_initializer=given)
        layer.build((None, 4))
        Posterior.of(layer).initialize(3)
        np.testing.assert_array_equal(layer.kernel.mu, keras.initializers.get(given)((4, 5)))


def test_initialize_is_of_the_same_distribution():
    layer = VariationalLSTM(50, bias_initializer="random_normal")
    layer.build((None, None, 50))
    before = {weight.name: (weight.mu.numpy(), weight.rho.numpy()) for weight in Posterior.of(layer).weights}
    Posterior.of(layer).initialize(3)
    forget = slice(50, 100)
    np.testing.assert_array_equal(layer.cell.bias.mu[forget], np.ones(50))
    for weight in Posterior.of(layer).weights:
        for variable, old in zip((weight.mu, weight.rho), before[weight.name], strict=True):
            assert np.mean(variable.numpy() == old) < 0.3
            # Both are samples of one distribution: their scales agree to about 1 / sqrt(numbers).
            assert np.std(variable) == pytest.approx(np.std(old), rel=5 / math.sqrt(old.size))


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, -5])
def test_named_seeds_are_valid_for_keras_and_differ(seed):
    seeds = {initial_values.named_seed(seed, name) for name in map(str, range(1000))}
    assert len(seeds) == 1000 and all(0 <= one < 2**31 for one in seeds)


def test_layers_of_one_seed_draw_different_noise():
    """Bidirectional makes both directions from one config, with one seed."""
    epsilons = []
    keras.utils.set_random_seed(0)
    layer = keras.layers.Bidirectional(VariationalLSTM(16, kl_weight=0.1, seed=3))
    layer.build((2, 3, 8))
    sample = Posterior.sample

    def recorded(posterior, seed):
        draw = sample(posterior, seed)
        epsilons.extend(np.ravel(epsilon) for epsilon in draw.epsilons.values())
        return draw

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Posterior, "sample", recorded)
        layer(np.zeros((2, 3, 8), np.float32), training=True)
    assert_uncorrelated(dict(enumerate(epsilons)))
