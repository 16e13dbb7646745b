"""Captions and their uncertainty, against loops over the network and formulas in NumPy."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from captioning_models import VOCABULARY, captioning_model, pixels

from tfp_bayesrnn import InputError, PointMass, noise
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.prediction.draws import GivenDraws
from zoo.captioning.caption_search import FORBIDDEN, Captioner, check_beam, score_words
from zoo.data.captions import END, PAD, SPECIAL_WORDS, START, encode_captions
from zoo.data.vocabulary import Vocabulary

B, MAX_WORDS, SAMPLES, SEED = 5, 6, 3, 11
IMAGES = {"features": np.random.default_rng(2).normal(size=(B, 32)).astype(np.float32)}
TAUGHT = (
    ("a", "red", "dog", "runs"),
    ("dog",),
    ("far", "a", "red"),
    ("a", "a", "dog", "far"),
    ("runs", "dog"),
)


@pytest.fixture(scope="module")
def model():
    """One that has learned to caption the images a little, so that captions differ and end."""
    made = captioning_model(units=8, optimizer=keras.optimizers.Adam(0.05), trainable=False, kl_weight=0.01)
    captions = encode_captions([[caption] for caption in TAUGHT], VOCABULARY, MAX_WORDS)
    data = ({**IMAGES, "words": captions.inputs}, captions.targets, captions.weights)
    made.fit(tf.data.Dataset.from_tensors(data).repeat(60), verbose=0)
    return made


def captioner(model, **arguments):
    return Captioner(model, VOCABULARY, MAX_WORDS, **{"seed": SEED, **arguments})


class Captions(dict):
    """Captions by (samples, beam): of the mean or of draws, by greedy search or beams; made when needed."""

    def __init__(self, model):
        self.model = model

    def __missing__(self, key):
        samples, beam = key
        self[key] = captioner(self.model, samples=samples, beam=beam).caption(IMAGES)
        return self[key]


@pytest.fixture(scope="module")
def found(model):
    return Captions(model)


def single_draws(model, samples):
    """The draws of a captioner, each made by itself; the mean for 0."""
    if not samples:
        return [model.posterior.mean()]
    root = noise.derive(noise.make_seed(SEED), noise.Stream.DESCRIPTION_DRAWS)
    return [model.posterior.sample(noise.derive(root, sample)) for sample in range(samples)]


def probabilities(model, words, samples):
    """p(next word | image, words before), float64 [S, B, T, V], of words [B, T], each network by itself."""
    words = np.concatenate([np.full([B, 1], START), words[:, :-1]], axis=1)[:, None]
    logits = []
    for draw in single_draws(model, samples):
        with ambient.under(draw):
            logits.append(model.network({**IMAGES, "words": words.astype(np.int32)})[:, 0].numpy())
    logits = np.asarray(logits, np.float64)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def entropy(p):
    return -(p * np.log(p)).sum(axis=-1)


def ids_of(captions, length=MAX_WORDS + 1):
    """Ids [B, L] of the words and, where it came, the end."""
    ids = np.full([B, length], PAD)
    for row, (words, size) in enumerate(zip(captions.words, captions.lengths, strict=True)):
        ids[row, : len(words)] = VOCABULARY.encode(words)
        if size == len(words) + 1:
            ids[row, len(words)] = END
    return ids


@pytest.mark.parametrize("samples", [0, SAMPLES])
def test_greedy_by_hand(model, found, samples):
    """Word by word, each time by the whole network on all words so far."""
    captions = found[samples, 1]
    ids, log_probs, ended = np.zeros([B, MAX_WORDS + 1], int), np.zeros(B), np.zeros(B, bool)
    for time in range(MAX_WORDS + 1):
        p = probabilities(model, ids, samples).mean(axis=0)[:, time]
        allowed = np.where(np.isin(np.arange(len(VOCABULARY)), FORBIDDEN), 0.0, p)
        chosen = np.where(ended, PAD, allowed.argmax(axis=1))
        log_probs += np.where(ended, 0.0, np.log(p[np.arange(B), chosen]))
        ids[:, time] = chosen
        ended |= chosen == END
    expected = [tuple(VOCABULARY.decode(row[(row != PAD) & (row != END)][:MAX_WORDS])) for row in ids]
    assert captions.words == expected
    assert len(set(expected)) > 1
    np.testing.assert_allclose(captions.log_probs, log_probs, atol=1e-4)
    np.testing.assert_array_equal(captions.lengths, (ids != PAD).sum(axis=1))


def test_these_captions_are_of_several_lengths(found):
    lengths = {len(words) for captions in found.values() for words in captions.words}
    assert len(lengths) > 1
    for captions in found.values():
        assert all(len(words) <= MAX_WORDS for words in captions.words)


@pytest.mark.parametrize("samples", [0, SAMPLES])
@pytest.mark.parametrize("beam", [1, 3])
def test_the_score_of_a_caption_is_that_of_its_words(model, found, samples, beam):
    captions = found[samples, beam]
    np.testing.assert_allclose(captions.of_words.log_probs.sum(axis=1), captions.log_probs, atol=1e-4)


@pytest.mark.parametrize("samples", [0, SAMPLES])
@pytest.mark.parametrize("beam", [1, 3])
def test_words_against_numpy(model, found, samples, beam):
    captions = found[samples, beam]
    ended = captions.lengths == [len(words) + 1 for words in captions.words]
    # What was cut from a caption without an end cannot be told from its words.
    ids, rows = ids_of(captions)[:, :-1], np.arange(MAX_WORDS) < captions.lengths[:, None]
    assert ended.any()
    p = probabilities(model, ids, samples)
    average = p.mean(axis=0)
    chosen = np.take_along_axis(average, ids[..., None], axis=-1)[..., 0]
    total, aleatoric = entropy(average), entropy(p).mean(axis=0)
    words = captions.of_words
    for actual, expected in (
        (words.log_probs, np.log(chosen)),
        (words.entropy, total),
        (words.mutual_information, total - aleatoric),
    ):
        np.testing.assert_allclose(actual[:, :-1], np.where(rows, expected, 0.0), atol=1e-5)
    assert (words.mutual_information >= 0.0).all() and (words.mutual_information <= words.entropy).all()
    if samples:
        assert words.mutual_information[:, 0].min() > 1e-4
    else:
        assert not words.mutual_information.any()
    for array in words:
        assert array.shape == (B, MAX_WORDS + 1)
        assert not array[np.arange(MAX_WORDS + 1) >= captions.lengths[:, None]].any()
    np.testing.assert_allclose(
        captions.uncertainty(),
        [words.entropy[i, :n].mean() for i, n in enumerate(captions.lengths)],
        rtol=1e-5,
    )


def test_draws_are_no_average_of_weights(model, found):
    """The draws' average is another model than the mean."""
    assert np.abs(found[SAMPLES, 1].of_words.entropy[:, 0] - found[0, 1].of_words.entropy[:, 0]).max() > 1e-3


@pytest.mark.parametrize("samples", [0, SAMPLES])
def test_beams_find_nothing_worse(found, samples):
    assert (found[samples, 3].log_probs >= found[samples, 1].log_probs - 1e-4).all()


@pytest.mark.slow
def test_words_that_are_never_said(model):
    """Even where they are the most probable ones."""
    softmax = model.network.decoder.softmax
    bias = next(one for one in softmax.trainable_variables if one.shape == (len(VOCABULARY),))
    before = bias.numpy()
    try:
        bias.assign(np.where(np.isin(np.arange(len(VOCABULARY)), FORBIDDEN), 20.0, before))
        for arguments in ({"beam": 1}, {"beam": 3}, {"sampling": {"temperature": 2.0}}):
            captions = captioner(model, samples=2, **arguments).caption(IMAGES)
            assert any(captions.words) or arguments == {"beam": 3}
            assert not {word for words in captions.words for word in words} & set(SPECIAL_WORDS)
            assert (captions.log_probs < math.log(1e-3)).all()  # The model's own, not shared out anew.
    finally:
        bias.assign(before)


@pytest.mark.slow(but=["0"])
@pytest.mark.parametrize("samples", [0, SAMPLES])
def test_captions_do_not_depend_on_the_batch(model, found, samples):
    made, whole = captioner(model, samples=samples), found[samples, 3]
    for image in range(B):
        alone = made.caption({"features": IMAGES["features"][image : image + 1]})
        assert alone.words == whole.words[image : image + 1]
        np.testing.assert_allclose(alone.log_probs, whole.log_probs[image : image + 1], atol=1e-5)
        for one, other in zip(alone.of_words, whole.of_words, strict=True):
            np.testing.assert_allclose(one[0], other[image], atol=1e-5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_captions(model, found):
    again = captioner(model, samples=SAMPLES)
    for _ in range(2):  # The draws are those of the captioner, not of the batch.
        captions = again.caption(IMAGES)
        assert captions.words == found[SAMPLES, 3].words
        np.testing.assert_array_equal(captions.log_probs, found[SAMPLES, 3].log_probs)
    other = captioner(model, samples=SAMPLES, seed=SEED + 1).caption(IMAGES)
    assert np.abs(other.of_words.entropy[:, 0] - found[SAMPLES, 3].of_words.entropy[:, 0]).max() > 1e-3


@pytest.mark.slow
def test_images(model):
    """As they come in a minibatch, which has words too."""
    images = pixels(B)
    made = captioner(model)
    of_images = made.caption({"image": images, "words": np.zeros([B, 1, 2], np.int32)})
    of_features = made.caption({"features": model.network.features({"image": images})})
    assert of_images.words == of_features.words
    np.testing.assert_allclose(of_images.log_probs, of_features.log_probs, atol=1e-5)


@pytest.mark.slow
def test_sampled_captions(model):
    made, again, other = (captioner(model, sampling={}, seed=seed) for seed in (1, 1, 2))
    first, second = made.caption(IMAGES), made.caption(IMAGES)
    assert first.words != second.words  # Another minibatch, another noise.
    for captions in (first, second):
        assert again.caption(IMAGES).words == captions.words
        np.testing.assert_allclose(captions.of_words.log_probs.sum(axis=1), captions.log_probs, atol=1e-4)
    assert other.caption(IMAGES).words != first.words
    greedy = captioner(model, beam=1).caption(IMAGES)
    assert captioner(model, sampling={"top_k": 1}).caption(IMAGES).words == greedy.words


def test_sampled_words_have_the_models_distribution(model):
    made, p = captioner(model, sampling={}, samples=2), probabilities(model, np.zeros([B, 1], int), 2)
    p = p.mean(axis=0)[0, 0]
    p[list(FORBIDDEN)] = 0.0
    count = 2_000
    captions = made.caption({"features": np.repeat(IMAGES["features"][:1], count, axis=0)})
    first = [VOCABULARY.encode(words[:1])[0] if words else END for words in captions.words]
    expected = p / p.sum()
    seen = np.bincount(first, minlength=len(VOCABULARY)) / count
    assert (np.abs(seen - expected) < 4.5 * np.sqrt(expected * (1 - expected) / count) + 1e-9).all()


@pytest.mark.slow
def test_length_penalty_prefers_longer_captions(model):
    lengths = [
        captioner(model, length_penalty=penalty).caption(IMAGES).lengths.sum() for penalty in (-3.0, 3.0)
    ]
    assert lengths[1] > lengths[0]


def test_scored_words_of_one_draw_are_those_of_the_network(model):
    words = np.random.default_rng(0).integers(4, len(VOCABULARY), (B, 4))
    sizes = tf.constant([0, 1, 2, 3, 4])
    draws = GivenDraws(single_draws(model, 2)[1:])
    scores = score_words(model.network, model.network.features(IMAGES), tf.constant(words), sizes, draws)
    p = probabilities(model, words, 2)[1]
    expected = np.log(np.take_along_axis(p, words[..., None], axis=-1)[..., 0])
    np.testing.assert_allclose(
        scores.log_probs, np.where(np.arange(4) < sizes.numpy()[:, None], expected, 0.0), atol=1e-5
    )
    assert not np.any(scores.mutual_information)


@pytest.mark.slow
def test_dropout_is_off():
    """In every mode: samples are of weights."""
    model = captioning_model(posterior=None, training_rows=None, dropout=0.4)
    assert isinstance(model.network.decoder._recurrent_posterior, PointMass)
    mean = captioner(model).caption(IMAGES)
    # The mean drops nothing: it is the network itself.
    start = np.full([B, 1, 1], START, np.int32)
    logits = model.network({**IMAGES, "words": start})[:, 0, 0]
    np.testing.assert_allclose(
        mean.of_words.entropy[:, 0], entropy(tf.nn.softmax(tf.cast(logits, tf.float64)).numpy()), atol=1e-5
    )
    samples = captioner(model, samples=3).caption(IMAGES)
    assert samples.words == mean.words
    np.testing.assert_allclose(samples.log_probs, mean.log_probs, rtol=1e-5)
    assert samples.of_words.mutual_information.max() < 1e-5


def test_some_of_the_images(found):
    whole = found[0, 3]
    some = whole.of([3, 0])
    assert some.words == [whole.words[3], whole.words[0]]
    np.testing.assert_array_equal(some.log_probs, whole.log_probs[[3, 0]])
    np.testing.assert_array_equal(some.uncertainty(), whole.uncertainty()[[3, 0]])


@pytest.mark.parametrize("arguments", [{"beam": 0}, {"samples": -1}])
def test_numbers_that_make_no_sense(model, arguments):
    with pytest.raises(ValueError, match=f"Received: .*{next(iter(arguments))}="):
        captioner(model, **arguments)


@pytest.mark.parametrize(("words", "longest"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_there_are_no_more_beams_than_sequences(words, longest):
    """A caption that is cut has been seen to go on, so a search goes one word further."""
    vocabulary = Vocabulary([*SPECIAL_WORDS, *"abc"[:words]])
    count = sum(len(list(itertools.product("abc"[:words], repeat=length))) for length in range(longest + 2))
    check_beam(count, vocabulary, longest)
    said = f"evaluate.beam={count + 1} is not accepted: it must be at most {count}, as many as there are"
    with pytest.raises(InputError, match=said):
        check_beam(count + 1, vocabulary, longest)
