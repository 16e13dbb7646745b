"""`CentredNormalPrior`: where its centres come from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import (
    BayesianModel,
    CentredNormalPrior,
    KTiedNormal,
    Posterior,
    VariationalDense,
    VariationalEmbedding,
    VariationalLSTM,
    to_bayesian,
)

IDS = tf.constant([[1, 2, 3], [3, 0, 1]])
PRETRAINED = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def centres_of(layer):
    return {weight.name: weight.prior_distribution().mean().numpy() for weight in variational(layer)}


def means_of(layer):
    return {weight.name: weight.mean().numpy() for weight in variational(layer)}


def variational(layer):
    return Posterior.of(layer).variational


def assert_centred(layer):
    for name, centre in centres_of(layer).items():
        np.testing.assert_array_equal(centre, means_of(layer)[name], err_msg=name)


EMBEDDING = {
    "constant": keras.initializers.Constant(PRETRAINED),
    "seeded": keras.initializers.RandomNormal(seed=3),
    "without a seed": keras.initializers.RandomUniform(),
    "name": "glorot_uniform",
    "function": lambda shape, dtype=None: tf.cast(PRETRAINED, dtype),
    "zeros": "zeros",
}


@pytest.mark.parametrize("name", EMBEDDING)
def test_the_centre_is_the_initial_mean_whatever_the_initializer(name):
    """It was 0: a KL of thousands of nats to begin with, which pulls pretrained embeddings to 0."""
    layer = VariationalEmbedding(4, 3, embeddings_initializer=EMBEDDING[name], prior=CentredNormalPrior(0.1))
    layer(IDS)
    assert_centred(layer)
    if name != "zeros":
        assert np.any(layer.embeddings.mean() != 0.0)
    if name in ("constant", "function"):
        np.testing.assert_array_equal(layer.embeddings.prior_distribution().mean(), PRETRAINED)


@pytest.mark.parametrize("posterior", [None, KTiedNormal(1)])
def test_in_every_layer_and_family(posterior):
    network = keras.Sequential(
        [
            VariationalEmbedding(4, 3, prior=CentredNormalPrior(), posterior=posterior),
            VariationalLSTM(2, prior=CentredNormalPrior()),  # Whose forget bias is amended.
            VariationalDense(2, prior=CentredNormalPrior(), variational_bias=True),
        ]
    )
    network(IDS)
    for layer in network.layers:
        assert_centred(layer)


@pytest.mark.parametrize("way", ["fit", "initialize", "saved", "clone"])
def test_it_is_the_mean_that_a_model_starts_with(way, tmp_path, eagerly):
    """Built by Keras before its first step, started anew from a seed, loaded, or cloned."""
    prior = CentredNormalPrior(0.5)
    network = keras.Sequential([VariationalEmbedding(4, 3, prior=prior), VariationalDense(4, prior=prior)])
    model = BayesianModel(network, training_rows=2)
    model.compile(keras.optimizers.SGD(0.0 if way == "fit" else 0.5), run_eagerly=way != "fit")
    if way == "fit":
        tf.config.run_functions_eagerly(False)
    model.fit(IDS, IDS, verbose=0)
    if way == "fit":
        assert_centred(model.network)
        return
    assert any(np.any(mean != centres_of(network)[name]) for name, mean in means_of(network).items())
    if way == "initialize":
        model.posterior.initialize(3)
        assert_centred(model.network)
    elif way == "saved":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        for one, other in zip(variational(network), variational(loaded.network), strict=True):
            np.testing.assert_array_equal(one.prior_distribution().mean(), other.prior_distribution().mean())
    else:
        again = keras.models.clone_model(network)
        again(IDS)
        assert_centred(again)


@pytest.mark.parametrize("centre", [PRETRAINED, PRETRAINED.tolist(), tf.constant(PRETRAINED), 0.25])
def test_centres_that_are_given(centre):
    prior = CentredNormalPrior(0.1, centre=centre)
    for each in (prior, keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(prior))):
        layer = VariationalEmbedding(4, 3, prior=each)
        layer(IDS)
        found = layer.embeddings.prior_distribution().mean().numpy()
        np.testing.assert_array_equal(found, np.broadcast_to(np.float32(centre), (4, 3)))
        layer.embeddings.initialize(3)
        layer.embeddings.assign(np.ones((4, 3)))
        np.testing.assert_array_equal(layer.embeddings.prior_distribution().mean(), found)


def test_conversion_centres_on_the_trained_weights():
    trained = keras.Sequential([keras.Input([None], dtype="int32"), keras.layers.Embedding(4, 3)])
    for prior, expected in (
        (CentredNormalPrior(), trained.layers[0].embeddings.numpy()),
        (CentredNormalPrior(centre=PRETRAINED), PRETRAINED),
    ):
        model = to_bayesian(trained, training_rows=2, prior=prior)
        (weight,) = variational(model.network)
        np.testing.assert_array_equal(weight.prior_distribution().mean(), expected)
        np.testing.assert_array_equal(weight.mean(), trained.layers[0].embeddings)


def test_under_replicas(mirrored):
    with mirrored(2).scope():
        layer = VariationalEmbedding(4, 3, prior=CentredNormalPrior())
        layer.build((None,))
    assert_centred(layer)


@pytest.mark.slow
def test_pretrained_embeddings_stay_where_the_prior_is(eagerly):
    """With little data a posterior is near its prior: near the pretrained matrix, not near 0."""
    distances = []
    for prior in (CentredNormalPrior(0.1, centre=PRETRAINED), CentredNormalPrior(0.1, centre=0.0)):
        layer = VariationalEmbedding(
            4, 3, embeddings_initializer=keras.initializers.Constant(PRETRAINED), prior=prior
        )
        model = BayesianModel(keras.Sequential([layer, VariationalDense(4, prior=prior.__class__())]), 2)
        model.compile(keras.optimizers.Adam(0.05), run_eagerly=True)
        model.fit(IDS, IDS, epochs=40, verbose=0)
        distances.append(np.abs(layer.embeddings.mean().numpy() - PRETRAINED).mean())
    assert distances[0] < 0.2 < distances[1]


@pytest.mark.parametrize(
    "make, message",
    [
        pytest.param(lambda: CentredNormalPrior(0.0), "Received: scale=0.0", id="scale"),
        pytest.param(lambda: CentredNormalPrior(centre=[np.nan]), "Received: centre=", id="not finite"),
        pytest.param(
            lambda: VariationalEmbedding(5, 3, prior=CentredNormalPrior(centre=PRETRAINED))(IDS),
            r"Received: centre of shape \(4, 3\), weight of shape \(5, 3\)",
            id="shape",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
