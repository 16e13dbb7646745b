"""Minibatches of photos and captions: what is in which, what random moves change, what bad photos do."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from captioning_models import (
    MAX_WORDS,
    SIZE,
    VOCABULARY,
    captioning_model,
    pixels,
    png,
    references,
    split_of,
)

from tfp_bayesrnn.errors import InputError
from zoo.captioning.batches import CaptionBatches, Images, fit
from zoo.data.captions import CaptionSplit, encode_captions
from zoo.data.photos import PhotoBytes

COUNT, BATCH = 11, 3
ENCODED = encode_captions(references(COUNT), VOCABULARY, MAX_WORDS)
CAPTIONS = {row.tobytes(): place for place, row in enumerate(ENCODED.inputs)}


def batches(split=None, batch=BATCH, size=SIZE, **arguments):
    return CaptionBatches(split or split_of(COUNT), VOCABULARY, batch, size, MAX_WORDS, **arguments)


def elements(dataset, count=None):
    return [
        tf.nest.map_structure(lambda tensor: tensor.numpy(), element)
        for element in itertools.islice(dataset, count)
    ]


def places(inputs):
    """Which images these are, by their captions."""
    return [CAPTIONS[words.tobytes()] for words in inputs["words"]]


def assert_same(actual, expected):
    for one, other in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_images_of_these_tests_can_be_told_apart():
    assert len(CAPTIONS) == COUNT


def test_an_element():
    found = batches()
    assert (found.batch, found.count, len(found)) == (BATCH, COUNT, 4)
    assert found.captions == sum(map(len, references(COUNT)))
    # Captions longer than MAX_WORDS are cut and have no end.
    lengths = [len(caption) for captions in references(COUNT) for caption in captions]
    assert max(lengths) > MAX_WORDS
    assert found.predictions == sum(min(length + 1, MAX_WORDS + (length <= MAX_WORDS)) for length in lengths)
    dataset = found.training(0, seed=1)
    inputs, targets, weights = elements(dataset, 1)[0]
    assert all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(dataset.element_spec))
    assert inputs["image"].shape == (BATCH, SIZE, SIZE, 3) and inputs["image"].dtype == np.uint8
    shape = (BATCH, 3, MAX_WORDS + 1)
    for array, dtype in ((inputs["words"], np.int32), (targets, np.int32), (weights, np.float32)):
        assert array.shape == shape and array.dtype == dtype
    where = places(inputs)
    np.testing.assert_array_equal(inputs["image"], pixels(COUNT)[where])
    np.testing.assert_array_equal(targets, ENCODED.targets[where])
    np.testing.assert_array_equal(weights, ENCODED.weights[where])


def test_captions_per_image():
    inputs, targets, _ = elements(batches(captions_per_image=1).evaluation(), 1)[0]
    assert targets.shape == (BATCH, 1, MAX_WORDS + 1)
    np.testing.assert_array_equal(inputs["words"][:, 0], ENCODED.inputs[:BATCH, 0])


@pytest.mark.slow(but=["1-False", "1000-True"])
@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("first", [1, 3, 7, 1000])
def test_a_minibatch_is_a_function_of_its_step(first, with_features):
    """Step 4 is the first of the second epoch, and step 3, as 7, is filled up."""
    features = np.arange(2.0 * COUNT, dtype=np.float32).reshape(COUNT, 2) if with_features else None
    found = batches(features=(lambda: features) if with_features else None)
    moves = {"shift": True, "flip": True}
    expected = elements(found.training(first - 1, seed=5, **moves), 4)
    assert_same(elements(found.training(first, seed=5, **moves), 3), expected[1:])
    other = elements(found.training(first, seed=6, **moves), 3)
    assert [places(one[0]) for one in other] != [places(one[0]) for one in expected[1:]]


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("with_features", [False, True])
@pytest.mark.parametrize("count", [9, 11, 3, 4])
def test_an_epoch_has_every_image_once(count, with_features):
    """In an order of its own; what fills it up has other images of it, and no weight."""
    features = np.arange(2.0 * count, dtype=np.float32).reshape(count, 2) if with_features else None
    found = batches(split_of(count), features=(lambda: features) if with_features else None)
    assert len(found) == math.ceil(count / BATCH)
    epochs = []
    stream = elements(found.training(0, seed=2), 10 * len(found))
    for start in range(0, len(stream), len(found)):
        epoch = stream[start : start + len(found)]
        where = [place for inputs, _, _ in epoch for place in places(inputs)]
        counts = np.concatenate([weights.any(axis=(1, 2)) for _, _, weights in epoch])
        assert counts.tolist() == [True] * count + [False] * (len(where) - count)
        assert sorted(where[:count]) == list(range(count))
        assert where[count:] == where[: len(where) - count]
        assert sum(weights.sum() for _, _, weights in epoch) == found.predictions
        epochs.append(tuple(where))
    assert len(set(epochs)) > 4  # Of ten, and of six orders of three images.


@pytest.mark.slow
def test_an_epoch_counts_the_nll_of_every_image_and_the_kl_once(eagerly):
    """Steps of learning rate 0: sums of their losses, against sums of what they are made of."""
    found = batches()
    rows = len(found) * BATCH
    model = captioning_model(rows=rows, trainable=False, optimizer=keras.optimizers.SGD(0.0))
    losses, nats, kls = [], [], []
    for data in itertools.islice(found.training(0, seed=1), len(found)):
        figures = {name: float(value) for name, value in model.update(data).items()}
        losses.append(figures["loss"])
        predictions = float(tf.reduce_sum(data[2]))
        nats.append(figures["nll"] * predictions)
        kls.append(figures["kl"])
        # Of 11 images 2 are in the last minibatch, whose loss is a share of what it would be of 3.
        np.testing.assert_allclose(losses[-1], nats[-1] / BATCH + kls[-1] / rows, rtol=1e-5)
    assert len(losses) == 4
    np.testing.assert_allclose(BATCH * sum(losses), sum(nats) + np.mean(kls), rtol=1e-5)


@pytest.mark.parametrize("count", [9, 11, 3, 1])
def test_evaluation_has_every_image_once_in_order(count):
    split = split_of(count)
    found = batches(split, batch=min(BATCH, count))
    encoded = encode_captions(references(count), VOCABULARY, MAX_WORDS)
    inputs, targets, weights = (
        np.concatenate(arrays)
        for arrays in zip(
            *((one[0]["image"], one[1], one[2]) for one in elements(found.evaluation())), strict=True
        )
    )
    assert len(targets) % found.batch == 0 and len(targets) - count < found.batch
    np.testing.assert_array_equal(inputs[:count], pixels(count))
    np.testing.assert_array_equal(targets[:count], encoded.targets)
    np.testing.assert_array_equal(weights[:count], encoded.weights)
    assert not weights[count:].any()


def test_too_few_images():
    with pytest.raises(InputError, match="11 images do not fill a minibatch of 12"):
        batches(batch=12)


@pytest.mark.parametrize("form", ["missing", "corrupt"])
def test_photos_that_cannot_be_read(form, caplog):
    split = split_of(COUNT, **{form: (2, 7)})
    found = batches(split)
    for _ in range(2):
        seen = 0
        for inputs, targets, weights in elements(found.evaluation()):
            for image, words, target, weight in zip(
                inputs["image"], inputs["words"], targets, weights, strict=True
            ):
                place = CAPTIONS[words.tobytes()]
                if seen >= COUNT:
                    assert not weight.any()
                elif place in (2, 7):
                    assert not weight.any() and not image.any()
                    np.testing.assert_array_equal(target, ENCODED.targets[place])
                else:
                    np.testing.assert_array_equal(weight, ENCODED.weights[place])
                seen += 1
    assert found.unreadable == {2, 7}
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(said) == 2  # Each once, in both passes together.
    assert any("photo2.png" in message for message in said)
    stream = elements(found.training(0, seed=0, shift=True), 12)
    assert len(stream) == 12
    for inputs, _, weights in stream:
        for place, weight in zip(places(inputs), weights, strict=True):
            assert not (weight.any() and place in (2, 7))
    met = {
        place for inputs, _, weights in stream for place in np.array(places(inputs))[weights.any(axis=(1, 2))]
    }
    assert met == set(range(COUNT)) - {2, 7}


def test_photos_in_other_forms():
    """Grey and CMYK photos, and a size of its own each."""
    grey = np.full([20, 30], 77, np.uint8)
    names = ("grey.png", "cmyk.jpg", "flat.png")
    flat = np.tile(np.uint8([10, 200, 30]), [3, 5, 1])
    contents = [png(grey), png(flat.repeat(8, 0).repeat(8, 1), "CMYK", "JPEG"), png(flat)]
    split = CaptionSplit(names, references(3), PhotoBytes(names, contents))
    ((inputs, _, weights),) = elements(batches(split).evaluation())
    assert inputs["image"].shape == (3, SIZE, SIZE, 3) and weights.any(axis=(1, 2)).all()
    np.testing.assert_array_equal(inputs["image"][0], 77)
    np.testing.assert_allclose(
        inputs["image"][1].astype(int), np.tile([10, 200, 30], [SIZE, SIZE, 1]), atol=4
    )
    np.testing.assert_array_equal(inputs["image"][2], np.tile([10, 200, 30], [SIZE, SIZE, 1]))


def moved(**moves):
    """(image before, image after, number) of some minibatches; large images, so that they can be shifted."""
    size = 28
    found = batches(split_of(COUNT, size=size), size=size)
    plain, other = (elements(found.training(0, 9, **each), 12) for each in ({}, moves))
    for one, two in zip(plain, other, strict=True):
        assert_same(one[1:], two[1:])
        assert_same(one[0]["words"], two[0]["words"])
        yield from zip(one[0]["image"], two[0]["image"], strict=True)


def test_shifts_are_small_and_of_all_sizes():
    found = set()
    for before, after in moved(shift=True):
        padded = np.pad(before, [(2, 2), (2, 2), (0, 0)], "reflect")
        fits = [
            (y, x)
            for y, x in itertools.product(range(5), repeat=2)
            if np.array_equal(padded[y : y + 28, x : x + 28], after)
        ]
        assert len(fits) == 1  # A fourteenth of 28 pixels is 2.
        found.update(fits)
    assert {y for y, _ in found} == {x for _, x in found} == set(range(5))
    assert len(found) > 8  # One direction does not follow from the other.


def test_flips():
    flipped = [np.array_equal(after, before[:, ::-1]) for before, after in moved(flip=True)]
    kept = [np.array_equal(after, before) for before, after in moved(flip=True)]
    assert all(one != other for one, other in zip(flipped, kept, strict=True))
    assert 8 <= sum(flipped) <= 28  # Of 36; a fair coin is outside in 1 of 1,000.


def test_an_image_is_moved_anew_in_each_epoch():
    found = batches(split_of(COUNT, size=28), size=28)
    versions = {}
    for inputs, _, _ in elements(found.training(0, 9, shift=True), 12):
        for place, image in zip(places(inputs), inputs["image"], strict=True):
            versions.setdefault(place, []).append(image.tobytes())
    assert all(len(set(seen)) > 1 for seen in versions.values() if len(seen) > 2)


def test_evaluation_never_moves_images():
    first, second = (elements(batches().evaluation()) for _ in range(2))
    assert_same(first, second)
    np.testing.assert_array_equal(first[0][0]["image"], pixels(COUNT)[:BATCH])


def test_features_take_the_images_place():
    features = np.random.default_rng(0).normal(size=[COUNT, 4]).astype(np.float32)
    features[5] = np.nan
    split = split_of(COUNT)
    found = batches(split, features=lambda: features)
    rows = []
    for inputs, _, weights in elements(found.evaluation()):
        assert set(inputs) == {"features", "words"}
        rows += zip(inputs["features"], weights, strict=True)
    for place, (row, weight) in enumerate(rows[:COUNT]):
        if place == 5:
            assert not row.any() and not weight.any()
        else:
            np.testing.assert_array_equal(row, features[place])
            np.testing.assert_array_equal(weight, ENCODED.weights[place])
    assert not any(weight.any() for _, weight in rows[COUNT:])
    assert found.unreadable == {5}
    for inputs, _, _ in elements(found.training(0, seed=1), 6):
        expected = np.nan_to_num(features[places(inputs)])
        expected[[place == 5 for place in places(inputs)]] = 0.0
        np.testing.assert_array_equal(inputs["features"], expected)
    assert split.images.asked == []  # No photo was read.


class TestResizing:
    def test_an_image_of_that_size_stays(self):
        image = pixels(size=19)[0]
        for shape in (None, [19, 19, 3]):
            resize = tf.function(lambda one: fit(one, 19), input_signature=[tf.TensorSpec(shape, tf.uint8)])
            if shape is None:
                resize = tf.function(
                    lambda one: fit(one, 19), input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)]
                )
            np.testing.assert_array_equal(resize(image), image)

    def test_a_smaller_one_is_an_average(self):
        image = np.zeros([32, 32, 3], np.uint8)
        image[::2] = 255  # Stripes, which resizing without antialiasing would turn black or white.
        np.testing.assert_allclose(fit(image, 8)[2:-2].numpy().astype(int), 128, atol=2)

    def test_extremes_do_not_wrap_round(self):
        image = np.kron(np.eye(4), np.ones([5, 5]))[..., None].repeat(3, -1).astype(np.uint8) * 255
        resized = fit(image, 33).numpy()
        assert resized.max() == 255 and resized.min() == 0

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (50, 2)])
    def test_any_proportions(self, shape):
        assert fit(np.full([*shape, 3], 9, np.uint8), 7).numpy().tolist() == [[[9] * 3] * 7] * 7


def test_one_photo():
    images = Images(split_of(3, missing=(1,)).images, SIZE)
    image, is_readable = images.one(tf.constant(0))
    assert is_readable and np.array_equal(image, pixels(3)[0])
    image, is_readable = images.one(tf.constant(1))
    assert not is_readable and not np.any(image)
