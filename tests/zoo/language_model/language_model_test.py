"""The zoo's language model: what is Bayesian in it, its presets, its parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tfp_bayesrnn import InputError, Posterior
from tfp_bayesrnn.posterior import ambient
from zoo.configuration.config import with_overrides
from zoo.language_model.network import LanguageModelNetwork, WordDropout, build_network

VOCABULARY = 30
METHODS = ("deterministic", "dropout", "variational_dropout", "bbb", "bbb_sharpened")


def tiny_network(method, **model):
    sizes = {"units": 6, "embedding_units": 6, **model}
    config = with_overrides(
        zoo.get_preset(f"demo_{method}"), {f"model.{field}": value for field, value in sizes.items()}
    )
    network = build_network(config, VOCABULARY)
    network.build()
    return network


def ids(rows=2, steps=5, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, (rows, steps))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_variational(method):
    posterior = Posterior.of(tiny_network(method))
    variational = {weight.path.split("/", 1)[-1] for weight in posterior.weights if weight.is_variational}
    names = {weight.path.split("/", 1)[-1] for weight in posterior.weights}
    assert len(names) == 9  # Embedding, 2 x (kernel, recurrent kernel, bias), softmax kernel and bias.
    point_masses = names - variational
    if method.startswith("bbb"):
        assert len(point_masses) == 1
        (softmax_bias,) = (w for w in posterior.weights if not w.is_variational)
        assert softmax_bias.shape == (VOCABULARY,)
    else:
        assert point_masses == names


@pytest.mark.parametrize(
    ("preset", "weights"),
    [
        # 2 x 200: V U + 2 (2 U 4U + 4U) + U V + V, and so on.
        ("ptb_small_bbb", 10_000 * 200 * 2 + 2 * (400 * 800 + 800) + 10_000),
        ("ptb_medium_bbb", 10_000 * 650 * 2 + 2 * (1300 * 2600 + 2600) + 10_000),
    ],
)
def test_sizes_of_the_published_models(preset, weights):
    model = zoo.from_preset(preset)
    shapes = [weight.shape for weight in model.posterior.weights]
    assert sum(int(np.prod(shape)) for shape in shapes) == weights
    assert model.training_rows == 20 * 1327
    # Every weight but the softmax's bias has a rho beside its mean.
    assert model.count_params() == 2 * weights - 10_000


def test_initial_values():
    config = zoo.get_preset("ptb_small_bbb")
    network = build_network(config, 200)
    network.build()
    for weight in Posterior.of(network).weights:
        mean = weight.mu.numpy()
        # Uniform in (-0.1, 0.1), forget gates like the rest: half of the range is passed on both sides by any
        # of these tensors with a probability that differs from 1 by less than 1e-40.
        assert -0.1 <= mean.min() < -0.05
        assert 0.05 < mean.max() <= 0.1
        if not weight.is_variational:
            continue
        low, high = (0.25, 0.5) if "lstm" in weight.path else (0.5, 1.0)
        scale = weight.scale().numpy() / 0.184  # METHOD: the prior's standard deviation.
        assert low * 0.99 < scale.min() < low * 1.1
        assert high * 0.9 < scale.max() < high * 1.01


def test_the_kl_of_a_fresh_small_model_is_3_54_nats_per_training_token():
    """An independent prototype's figure: it checks prior, initial scales and accounting all at once."""
    model = zoo.from_preset("ptb_small_bbb")
    tokens = model.training_rows * 35
    kls = [float(model.posterior.kl(model.posterior.sample(seed))) / tokens for seed in (0, 1)]
    # One draw's KL is a sum over 4.6 million weights: two differ by about 1e-3 of it.
    np.testing.assert_allclose(kls, 3.54, atol=0.02)


def test_the_state_goes_in_and_comes_out():
    network = tiny_network("deterministic")
    tokens = ids(steps=7)
    whole, final = network.run(tokens, network.get_initial_state(2))
    first, state = network.run(tokens[:, :3], network.get_initial_state(2))
    second, last = network.run(tokens[:, 3:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    np.testing.assert_allclose(last[1][0], final[1][0], atol=1e-6)
    np.testing.assert_allclose(network(tokens), whole, atol=1e-6)
    assert whole.shape == network.compute_output_shape(tokens.shape)


def test_tied_softmax_is_one_weight_with_one_draw_and_one_kl():
    tied, untied = tiny_network("bbb", tied=True), tiny_network("bbb")
    assert len(Posterior.of(tied).weights) == len(Posterior.of(untied).weights) - 1
    draw = Posterior.of(tied).sample(1)
    table = draw[tied.embedding.embeddings]
    with ambient.under(draw):
        hidden = tf.ones([1, 1, 6])
        np.testing.assert_allclose(tied.embedding.attend(hidden)[0, 0], tf.reduce_sum(table, 1), rtol=1e-5)
        np.testing.assert_allclose(tied.embedding(np.array([[3]]))[0, 0], table[3], rtol=1e-6)


def test_tied_softmax_needs_equal_sizes():
    with pytest.raises(ValueError, match="Received: embedding_units=4, units=6"):
        LanguageModelNetwork(VOCABULARY, units=6, embedding_units=4, tied=True)


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tied", [False, True])
def test_saves_and_loads(method, tied, tmp_path):
    network = tiny_network(method, tied=tied)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded(ids()), network(ids()))
    assert loaded.get_config() == network.get_config()


@pytest.mark.parametrize(("method", "tied_over_time"), [("dropout", False), ("variational_dropout", True)])
def test_masks_over_time(method, tied_over_time):
    """What reaches the softmax is dropped in the same places at every step only under Gal's dropout."""
    rates = {"dropout": 0.5} if method == "dropout" else {"output_dropout": 0.5}
    network = tiny_network(method, **rates)
    seen = []
    network.softmax.call = lambda inputs, training=False: seen.append(inputs) or inputs
    with ambient.under(Posterior.of(network).sample(3)):
        network.run(ids(rows=1, steps=12), network.get_initial_state(1))
    dropped = np.asarray(seen[0][0]) == 0.0
    assert 0.0 < dropped.mean() < 1.0
    assert np.all(dropped == dropped[0]) == tied_over_time


def test_dropout_is_off_under_the_mean_and_on_in_samples():
    network = tiny_network("variational_dropout", word_dropout=0.5)
    posterior = Posterior.of(network)
    with ambient.under(posterior.mean()):
        mean = network(ids(), training=True)
    np.testing.assert_array_equal(mean, network(ids()))
    samples = []
    for seed in (1, 1, 2):
        with ambient.under(posterior.sample(seed)):
            samples.append(network(ids()).numpy())
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.allclose(samples[0], samples[2])


def test_word_dropout_drops_word_types_within_a_row():
    layer = WordDropout(0.5, VOCABULARY)
    tokens = np.tile(ids(rows=4, steps=10), [1, 2])  # Every word occurs at least twice in its row.
    dropped = np.asarray(layer(tf.ones([4, 20, 3]), tf.constant(tokens), training=True)) == 0.0
    np.testing.assert_array_equal(dropped.all(-1), dropped.any(-1))
    np.testing.assert_array_equal(dropped[:, :10], dropped[:, 10:])
    for row in range(4):
        for word in np.unique(tokens[row]):
            assert len(np.unique(dropped[row, tokens[row] == word])) == 1
    assert 0.2 < dropped.mean() < 0.8


def test_words_are_dropped_in_training_and_not_in_evaluation_samples():
    layer = WordDropout(0.5, VOCABULARY)
    draw = Posterior([]).sample(0)
    for training, some_dropped in ((True, True), (False, False)):
        with ambient.under(draw):
            kept = layer(tf.ones([2, 30, 1]), tf.constant(ids(steps=30)), training=training)
        assert bool(tf.reduce_any(kept == 0.0)) == some_dropped


def test_half_precision_computes_in_it_and_keeps_float32_variables():
    changed = {"model.units": 6, "model.embedding_units": 6, "compute_dtype": "bfloat16"}
    config = with_overrides(zoo.get_preset("demo_bbb"), changed)
    network = build_network(config, VOCABULARY)
    assert network(ids()).dtype == tf.bfloat16
    assert {variable.dtype for variable in network.trainable_variables} == {"float32"}


def test_from_preset_is_reproducible_and_takes_overrides():
    first, second = (
        zoo.from_preset("demo_bbb", {"model.units": 8, "model.embedding_units": 8}) for _ in "ab"
    )
    for a, b in zip(first.trainable_variables, second.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    other = zoo.from_preset("demo_bbb", {"model.units": 8, "model.embedding_units": 8, "seed": 1})
    assert not np.array_equal(first.trainable_variables[0], other.trainable_variables[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo_bb",), "demo_bbb"),
        (("demo_bbb", {"train.learningrate": 1.0}), "train.learning_rate"),
        (("demo_bbb", {"train.batch": 0}), "at least 1"),
        (("text_small_bbb",), "pass corpus="),
    ],
)
def test_from_preset_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        zoo.from_preset(*arguments)
