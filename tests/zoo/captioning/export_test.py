"""`zoo.captioning.export` and `zoo.captioning.image_files`, before they are saved."""

import captioning_models
import numpy as np
import pytest
import tensorflow as tf
from captioning_models import MAX_WORDS, SIZE, captioning_model, pixels, png
from export_models import arrays, caption_export

from zoo.captioning.batches import fit
from zoo.captioning.caption_search import Captioner
from zoo.captioning.image_files import decode_images
from zoo.data.photos import decode


def photos():
    """Image files of several sizes."""
    return [png(pixels(1, size, seed=size)[0]) for size in (SIZE, 9, 40)]


def decoded(contents, size=SIZE):
    return np.stack([fit(tf.constant(decode(content, "photo")), size) for content in contents])


@pytest.mark.slow
@pytest.mark.parametrize(("beam", "image_as"), [(1, "state"), (3, "input")])
def test_captions_are_those_of_the_captioner(tmp_path, beam, image_as):
    model = captioning_model(image_as=image_as)
    for variable in model.network.encoder.weights:
        if "moving" in variable.name:  # As after training: not what every batch normalisation begins with.
            variable.assign(variable + 0.1)
    signatures = caption_export(model, tmp_path, beam).signatures()
    contents = photos()
    images = {"image": tf.constant(decoded(contents))}
    for name, samples, more in (
        ("caption", 0, {}),
        ("caption_mc", 3, {"num_samples": tf.constant(3), "seed": tf.constant(7)}),
    ):
        vocabulary = captioning_models.VOCABULARY
        captioner = Captioner(model, vocabulary, MAX_WORDS, samples=samples, seed=7, beam=beam)
        expected = captioner.caption(images)
        found = arrays(signatures[name](images=tf.constant(contents), **more))
        for row, words in enumerate(expected.words):
            assert tuple(word.decode() for word in found["words"][row, : found["lengths"][row]]) == words
            assert found["captions"][row].decode() == " ".join(words)
        np.testing.assert_array_equal(found["predicted"], expected.lengths)
        np.testing.assert_allclose(found["log_prob"], expected.log_probs, atol=1e-5)
        np.testing.assert_allclose(found["log_probs"], expected.of_words.log_probs, atol=1e-5)
        np.testing.assert_allclose(found["entropy"], expected.of_words.entropy, atol=1e-5)
        if samples:
            information = expected.of_words.mutual_information
            np.testing.assert_allclose(found["mutual_information"], information, atol=1e-5)
            assert information.max() > 1e-3
        else:
            assert "mutual_information" not in found


@pytest.mark.slow
def test_the_encoder_is_exported_as_it_is_then(tmp_path):
    model = captioning_model()
    caption = caption_export(model, tmp_path, format="float16").signatures()["caption"]
    images = tf.constant(photos())
    for variable in model.network.weights:
        variable.assign(tf.zeros_like(variable))
    # Nothing has been traced before: with zeros every word would have the same probability, to rounding.
    entropies = caption(images=images)["entropy"].numpy()
    assert np.ptp(entropies[entropies > 0]) > 1e-4


def test_pixels_are_those_that_training_sees():
    grey, colours = pixels(1, 20)[0, :, :, 0], pixels(1, 30, seed=1)[0]
    contents = [png(grey), png(colours), png(colours, "P"), png(colours, "1"), png(colours, form="BMP")]
    contents += [png(np.dstack([colours, grey_alpha(30)])), *photos()]
    np.testing.assert_array_equal(decode_images(tf.constant(contents), SIZE), decoded(contents))


def grey_alpha(size):
    return np.random.default_rng(3).integers(0, 256, [size, size, 1], np.uint8)


def test_the_first_frame_of_a_gif():
    content = png(pixels(1, 20)[0], "P", "GIF")
    np.testing.assert_array_equal(decode_images(tf.constant([content]), SIZE), decoded([content]))


def test_jpeg_is_decoded_nearly_as_pillow_does():
    smooth = np.add.outer(np.arange(60), np.arange(60)).astype(np.uint8)[:, :, None] + np.array([0, 40, 90])
    contents = [png(smooth.astype(np.uint8), form="JPEG"), png(pixels(1, 64)[0], "L", "JPEG")]
    found = np.asarray(decode_images(tf.constant(contents), SIZE)).astype(int)
    assert np.abs(found - decoded(contents)).max() <= 2


def test_a_batch_of_no_images():
    assert decode_images(tf.zeros([0], tf.string), SIZE).shape == (0, SIZE, SIZE, 3)


@pytest.mark.parametrize("content", [b"", b"no image", b"RIFF....WEBP"])
def test_what_is_no_image(content):
    decoding = tf.function(lambda contents: decode_images(contents, SIZE), autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be JPEG, PNG, GIF or BMP.*place\] \[1\]"):
        decoding(tf.constant([png(pixels(1)[0]), content]))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_damaged_image(form):
    content = png(pixels(1, 40)[0], form=form)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_images(tf.constant([content[: len(content) // 2]]), SIZE)


def test_without_scales_there_are_no_samples(tmp_path):
    signatures = caption_export(captioning_model(posterior=None), tmp_path).signatures()
    assert set(signatures) == {"caption", "serving_default"}
