"""The attentive decoder: against NumPy, what it depends on, what is Bayesian in it, and its captions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from captioning_models import MAX_WORDS, SIZE, VOCABULARY, captioning_model, network, pixels, words_of
from export_models import arrays, caption_export
from scipy.special import expit, softmax

from tfp_bayesrnn import PosteriorSharpening
from zoo.captioning.caption_search import Captioner
from zoo.captioning.network import CaptionNetwork

B, K, T, U, A = 3, 2, 4, 5, 4


@pytest.fixture(scope="module")
def model():
    return captioning_model(image_as="attention", sharpening=PosteriorSharpening(0.05))


@pytest.fixture(scope="module")
def inputs():
    return {"image": pixels(B), "words": words_of(B, K, T)}


@pytest.fixture(scope="module")
def logits(model, inputs):
    return model.network(inputs).numpy()


def normalised(vectors, epsilon):
    vectors = vectors - vectors.mean(axis=-1, keepdims=True)
    return vectors / np.sqrt(np.mean(np.square(vectors), axis=-1, keepdims=True) + epsilon)


def test_by_hand(model, inputs, logits):
    net, decoder = model.network, model.network.decoder
    draw, epsilon = model.posterior.mean(), net.normalization.epsilon

    def dense(layer, x):
        bias = draw[layer.bias].numpy() if layer.use_bias else 0.0
        return x @ draw[layer.kernel].numpy() + bias

    cell = decoder.recurrent[0].cell
    kernel, recurrent_kernel, bias = (
        draw[weight].numpy() for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)
    )
    v = draw[decoder.scores.embeddings].numpy()[0]
    grid = np.array(net.encoder(inputs["image"])).reshape(B, -1, 7)
    for image in range(B):
        projected = [layer.get_weights() for layer in (net.projection, net.place_projection)]
        h, c = np.split(normalised(grid[image].mean(0) @ projected[0][0] + projected[0][1], epsilon), [U])
        h, places = np.tanh(h), normalised(grid[image] @ projected[1][0] + projected[1][1], epsilon)
        for time in range(T):
            query, gate = np.split(dense(decoder.queries, h), [A])
            weights = softmax(np.tanh(dense(decoder.keys, places) + query) @ v)
            z = expit(gate) * (weights @ places)
            word = draw[decoder.embedding.embeddings].numpy()[inputs["words"][image, 0, time]]
            i, f, g, o = np.split(np.concatenate([word, z]) @ kernel + h @ recurrent_kernel + bias, 4)
            c = expit(f) * c + expit(i) * np.tanh(g)
            h = expit(o) * np.tanh(c)
            expected = dense(decoder.softmax, word + dense(decoder.deep_output, np.concatenate([h, z])))
            np.testing.assert_allclose(logits[image, 0, time], expected, atol=1e-5)


def test_word_by_word_it_is_the_same(model, inputs, logits):
    net = model.network
    state = net.start(net.features(inputs))
    for time in range(T):
        one, state = net.decoder.run(inputs["words"][:, 1, time : time + 1], state)
        np.testing.assert_allclose(one[:, 0], logits[:, 1, time], atol=1e-5)


def test_it_looks_at_every_place_and_at_no_other_image(model, inputs, logits):
    other = inputs["image"].copy()
    other[1, 8:, 8:] = 255 - other[1, 8:, 8:]
    changed = np.abs(model.network({**inputs, "image": other}).numpy() - logits).max(axis=(1, 2, 3))
    assert changed[1] > 1e-4 and changed[[0, 2]].max() < 1e-6


def test_all_its_weights_are_bayesian_and_trained(model):
    shapes = sorted(tuple(weight.shape) for weight in model.posterior.weights if weight.is_variational)
    words = len(VOCABULARY)
    # Scores, keys, recurrent kernel, queries, softmax, LSTM kernel, deep output, bias, embedding.
    expected = [
        (1, A),
        (6, A),
        (U, 4 * U),
        (U, A + 1),
        (3, words),
        (9, 4 * U),
        (U + 6, 3),
        (4 * U,),
        (words, 3),
    ]
    assert shapes == sorted(expected)


def test_a_step_moves_every_weight(model, inputs):
    before = [variable.numpy() for variable in model.trained_variables]
    targets = words_of(B, K, T, seed=1)
    model.fit(inputs, targets, batch_size=B, verbose=0)
    for variable, value in zip(model.trained_variables, before, strict=True):
        assert np.abs(variable.numpy() - value).max() > 0.0, variable.path


def test_captions_and_their_export(model, tmp_path):
    images = pixels(2, seed=5)
    captioner = Captioner(model, VOCABULARY, MAX_WORDS, samples=2, seed=7, beam=2)
    expected = captioner.caption({"image": images})
    signatures = caption_export(model, tmp_path, beam=2).signatures()
    files = tf.stack([tf.io.encode_png(image) for image in images])
    found = arrays(signatures["caption_mc"](images=files, num_samples=2, seed=7))
    assert [text.decode() for text in found["captions"]] == [" ".join(words) for words in expected.words]
    np.testing.assert_allclose(found["log_prob"], expected.log_probs, atol=1e-5)
    information = expected.of_words.mutual_information
    np.testing.assert_allclose(found["mutual_information"], information, atol=1e-5)
    assert information.max() > 1e-3


@pytest.mark.parametrize("layers", [1, 2])
def test_saved_and_loaded(layers, tmp_path, inputs):
    net = network(image_as="attention", layers=layers)
    net.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert isinstance(loaded, CaptionNetwork)
    np.testing.assert_array_equal(loaded(inputs), net(inputs))
    assert len(net.start(net.features(inputs))) == layers + 1
    assert net.encoder.input_shape == (None, SIZE, SIZE, 3)
