"""The captioning network: what logits depend on, what is Bayesian in it, what training moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from captioning_models import (
    MAX_WORDS,
    SIZE,
    VOCABULARY,
    captioning_model,
    decoder,
    network,
    pixels,
    split_of,
    words_of,
)

from tfp_bayesrnn import BayesianModel, InputError, PosteriorSharpening
from tfp_bayesrnn.loop.loop import Hooks, Loop
from tfp_bayesrnn.posterior import ambient
from zoo.captioning.batches import CaptionBatches
from zoo.captioning.encoder import build_encoder
from zoo.captioning.network import CaptionNetwork

B, K, T, V = 3, 2, 5, len(VOCABULARY)


@pytest.fixture(scope="module", params=["input", "state"])
def net(request):
    return network(image_as=request.param)


@pytest.fixture(scope="module")
def inputs():
    return {"image": pixels(B), "words": words_of(B, K, T)}


@pytest.fixture(scope="module")
def logits(net, inputs):
    return net(inputs).numpy()


def test_shapes(net, inputs, logits):
    assert logits.shape == (B, K, T, V)
    assert net.compute_output_shape({"image": (B, SIZE, SIZE, 3), "words": (B, K, T)}) == (B, K, T, V)
    assert net.features(inputs).shape == (B, 32)


def test_by_hand(net, inputs, logits):
    """One caption after the other: the image's vector as first input or as LSTM state, then the words."""
    decoder, features = net.decoder, net.encoder(inputs["image"], training=False)
    kernel, bias = net.projection.get_weights()
    vectors = (features @ kernel + bias).numpy()
    vectors -= vectors.mean(axis=-1, keepdims=True)
    vectors /= np.sqrt(np.mean(np.square(vectors), axis=-1, keepdims=True) + net.normalization.epsilon)
    (lstm,) = decoder.recurrent
    for image in range(B):
        for caption in range(K):
            words = inputs["words"][image, caption]
            vector, embedded = vectors[image, None], decoder.embedding(words)
            if net.image_as == "input":
                sequence = tf.concat([vector, embedded], axis=0)
                hidden = lstm(sequence[None])[:, 1:]  # What follows the image itself is no prediction.
            else:
                assert vector.shape == (1, 2 * lstm.units)
                state = [np.tanh(vector[:, : lstm.units]), vector[:, lstm.units :]]
                hidden = lstm(embedded[None], initial_state=state)
            expected = decoder.softmax(hidden)[0]
            np.testing.assert_allclose(logits[image, caption], expected, atol=1e-5)


def test_a_language_model_that_begins_with_the_image(net, inputs, logits):
    """The same word by word through `LanguageModelNetwork.run`."""
    state = net.start(net.features(inputs))
    for time in range(T):
        one, state = net.decoder.run(inputs["words"][:, 0, time : time + 1], state)
        np.testing.assert_allclose(one[:, 0], logits[:, 0, time], atol=1e-5)


def changed(array, places, value):
    array = array.copy()
    array[places] = value
    return array


def test_only_the_own_image_and_earlier_words_matter(net, inputs, logits):
    words = inputs["words"]
    other_word = 4 + (words[1, 0, 3] - 3) % 5
    assert other_word != words[1, 0, 3]
    after = net({**inputs, "words": changed(words, (1, 0, 3), other_word)}).numpy()
    same = np.ones([B, K, T], bool)
    same[1, 0, 3:] = False
    np.testing.assert_allclose(after[same], logits[same], atol=1e-6)
    assert (np.abs(after - logits).max(axis=-1)[~same] > 1e-4).all()

    after = net({**inputs, "image": changed(inputs["image"], 1, 255 - inputs["image"][1])}).numpy()
    np.testing.assert_allclose(after[[0, 2]], logits[[0, 2]], atol=1e-6)
    assert (np.abs(after - logits).max(axis=-1)[1] > 1e-5).all()


def test_the_number_of_captions_images_and_padding_do_not_matter(net, inputs, logits):
    alone = net({"image": inputs["image"][1:2], "words": inputs["words"][1:2, 1:]})
    np.testing.assert_allclose(alone[0, 0], logits[1, 1], atol=1e-6)
    padded = np.pad(inputs["words"], [(0, 0), (0, 2), (0, 3)])
    np.testing.assert_allclose(net({**inputs, "words": padded})[:, :K, :T], logits, atol=1e-6)


def test_features_instead_of_images(net, inputs, logits):
    found = net({"features": net.features(inputs), "words": inputs["words"]})
    np.testing.assert_allclose(found, logits, atol=1e-6)


def test_gradients_reach_every_part(net, inputs):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.log_softmax(net(inputs))[..., 4])
    variables = net.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    assert {variable.path.split("/")[0] for variable in net.encoder.trainable_variables} <= {
        variable.path.split("/")[0] for variable in variables
    }
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0.0, variable.path


def test_feature_dropout_is_of_training_only(inputs):
    dropping = network(feature_dropout=0.6)
    plain = network()
    plain.set_weights(dropping.get_weights())
    np.testing.assert_allclose(dropping(inputs), plain(inputs), atol=1e-6)
    first, second = (dropping(inputs, training=True).numpy() for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_states_of_several_layers():
    """Each layer starts from a part of its own."""
    net = network(image_as="state", layers=2)
    vector = np.random.default_rng(0).normal(size=(B, 20)).astype(np.float32)
    state = net.decoder.state_from(vector)
    parts = [vector[:, first : first + 5] for first in (0, 5, 10, 15)]
    expected = [[np.tanh(parts[0]), parts[1]], [np.tanh(parts[2]), parts[3]]]
    np.testing.assert_allclose(state, expected, atol=1e-6)
    assert net.projection.units == 20
    assert net({"image": pixels(B), "words": words_of(B, K, T)}).shape == (B, K, T, V)


def test_another_way_to_start_is_refused():
    with pytest.raises(InputError, match="unknown image_as 'word'"):
        network(image_as="word")


class TestAsABayesianModel:
    def test_only_the_decoder_is_bayesian(self):
        model = captioning_model()
        weights = {id(weight) for weight in model.posterior.weights}
        parts = model.network
        layers = [
            *parts.decoder._flatten_layers(),
            *parts.encoder._flatten_layers(),
            parts.projection,
            parts.normalization,
        ]
        assert weights == {id(layer) for layer in layers if id(layer) in weights}
        of_decoder = {id(layer) for layer in parts.decoder._flatten_layers()}
        assert weights <= of_decoder
        sizes = sorted(int(np.prod(weight.shape)) for weight in model.posterior.variational)
        assert sizes == sorted([V * 3, 3 * 20, 5 * 20, 20, 5 * V])

    def test_draws_do_not_touch_the_image(self, inputs):
        model = captioning_model()
        with ambient.under(model.posterior.sample(1)):
            features = model.network.features(inputs)
            projected = model.network.projection(features)
        np.testing.assert_array_equal(features, model.network.features(inputs))
        np.testing.assert_array_equal(projected, model.network.projection(features))

    def test_the_objective_of_a_minibatch(self):
        """NLL of all captions of an image, averaged over images, and KL / images, or a share of it."""
        data = minibatch()
        losses, kls = [], []
        for kl_weight in (1.0, 0.25, 0.0):
            model = captioning_model(rows=6, kl_weight=kl_weight)
            figures = model.update(data)
            losses.append(float(figures["free_energy"]))
            kls.append(float(figures["kl"]))
        nll = float(figures["nll"]) * float(tf.reduce_sum(data[2])) / B
        assert kls[0] == kls[1] == kls[2] > 1.0
        for loss, weight in zip(losses, (1.0, 0.25, 0.0), strict=True):
            assert loss == pytest.approx(nll + weight * kls[0] / 6, rel=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("sharpening", [None, 0.05])
    def test_images_without_captions_change_nothing_but_the_denominator(self, sharpening):
        """The loss is a mean over all B rows, those without weight too: B times the gradient is the same.

        With KL / training_rows in the same proportion and the learning rate in the inverse one the update is.
        Of features here: an encoder's batch statistics see every image.
        """
        data = with_features(B)
        empty = tf.nest.map_structure(lambda array: np.concatenate([array, array[:1]]), data)
        empty[2][B:] = 0.0
        updated = []
        for rows, minibatch_ in ((B, data), (B + 1, empty)):
            model = captioning_model(
                trainable=False,
                run_eagerly=True,
                rows=2 * rows,
                optimizer=keras.optimizers.SGD(0.05 * rows),
                sharpening=PosteriorSharpening(sharpening) if sharpening else None,
            )
            before = [variable.numpy() for variable in model.trainable_variables]
            model.fit(tf.data.Dataset.from_tensors(minibatch_), epochs=2, verbose=0)
            updated.append([variable.numpy() for variable in model.trainable_variables])
        for start, one, other in zip(before, *updated, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)
            assert np.abs(one - start).max() > 1e-4

    @pytest.mark.slow
    def test_two_replicas_train_all_of_it(self, mirrored, tmp_path):
        """Encoder and decoder, with draws, batch statistics and both kinds of dropout."""
        batches = CaptionBatches(split_of(8), VOCABULARY, 4, SIZE, MAX_WORDS)
        with mirrored(2).scope():
            model = captioning_model(
                rows=8, dropout=0.1, feature_dropout=0.1, optimizer=keras.optimizers.Adam(0.03)
            )
        before = [variable.numpy() for variable in model.network.weights]
        loop = Loop(model, lambda step: batches.training(step, 0), len(batches), tmp_path)
        reports = []

        class Report(Hooks):
            def on_epoch_end(self, report):
                reports.append(report.logs["nll"])
                return report.logs["nll"]

        loop.run(0, 6, Report())
        assert reports[-1] < reports[0]
        for variable, value in zip(model.network.weights, before, strict=True):
            assert (variable.numpy() != value).any(), variable.path

    def test_a_loop_over_features(self, tmp_path):
        features = np.random.default_rng(0).normal(size=[8, 32]).astype(np.float32)
        features[3] = np.nan
        batches = CaptionBatches(split_of(8), VOCABULARY, 4, SIZE, MAX_WORDS, features=lambda: features)
        model = captioning_model(rows=8, trainable=False)
        figures = model.update(next(iter(batches.training(0, 0))))
        assert np.isfinite(figures["loss"]) and np.isfinite(figures["gradient_norm"])

    @pytest.mark.slow
    def test_saved_and_loaded(self, tmp_path, inputs):
        for trainable in (True, False):
            how = {"image_as": "state" if trainable else "input", "trainable": trainable}
            model = captioning_model(feature_dropout=0.2, run_eagerly=True, **how)
            model.update(minibatch())
            model.save(tmp_path / "model.keras")
            loaded = keras.saving.load_model(tmp_path / "model.keras")
            assert isinstance(loaded, BayesianModel)
            np.testing.assert_array_equal(loaded.network(inputs), model.network(inputs))
            assert loaded.network.feature_dropout.rate == 0.2
            assert loaded.network.image_as == model.network.image_as
            assert len(loaded.trainable_variables) == len(model.trainable_variables)
            assert float(loaded.posterior.kl(loaded.posterior.mean())) == pytest.approx(
                float(model.posterior.kl(model.posterior.mean()))
            )

    def test_half_precision(self, net, inputs, logits):
        keras.utils.set_random_seed(4)
        encoder = build_encoder("compact", SIZE, width=2)
        parts = {"image_as": net.image_as, "dtype": "mixed_bfloat16"}
        half = CaptionNetwork(encoder, decoder(dtype="mixed_bfloat16"), **parts)
        half.build()
        found = half(inputs)
        assert found.dtype == tf.bfloat16
        np.testing.assert_allclose(tf.cast(found, tf.float32), logits, atol=0.05)


def with_features(count):
    inputs, targets, weights = minibatch(count)
    features = np.random.default_rng(1).normal(size=[count, 32]).astype(np.float32)
    return {"features": features, "words": inputs["words"]}, targets, weights


def minibatch(count=B):
    batches = CaptionBatches(split_of(count), VOCABULARY, count, SIZE, MAX_WORDS)
    (data,) = batches.evaluation()
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), data)


def test_point_masses_need_no_number_of_rows():
    model = captioning_model(posterior=None, training_rows=None)
    assert not model.posterior.is_variational
    assert float(model.update(minibatch())["kl"]) == 0.0
