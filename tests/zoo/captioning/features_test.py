"""An encoder's vectors of photos: what they are, and when the kept ones are those."""

import contextlib
import os

import keras
import numpy as np
import pytest
from captioning_models import SIZE, MissingPhotos, grid_encoder, pixels, png

from tfp_bayesrnn.errors import InputError
from zoo.captioning import features as module
from zoo.captioning.encoder import build_encoder
from zoo.captioning.features import features_of
from zoo.data.photos import PhotoBytes

COUNT = 5


def photos(missing=(), names=None, replaced=()):
    names = names or [f"photo{place}" for place in range(COUNT)]
    contents = dict(enumerate(map(png, pixels(COUNT)))) | dict(replaced)
    return MissingPhotos(names, list(contents.values()), missing)


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return build_encoder("compact", SIZE, trainable=False, width=2)


@pytest.fixture
def runs(monkeypatch):
    """How often features have been computed."""
    computed, calls = module._compute, []
    monkeypatch.setattr(module, "_compute", lambda *arguments: calls.append(1) or computed(*arguments))
    return calls


def kept(directory):
    return sorted(os.listdir(directory))


def test_they_are_the_encoders(encoder, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 2)  # The last one is smaller.
    found = features_of(encoder, photos(), SIZE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, encoder(pixels(COUNT), training=False), atol=1e-5)


def test_grids_are_kept_in_half_precision_and_mapped(tmp_path, runs):
    encoder = grid_encoder()
    expected = np.array(encoder(pixels(COUNT), training=False))
    assert expected.shape == (COUNT, 2, 2, 7)
    for _ in range(2):
        found = features_of(encoder, photos(missing=(1,)), SIZE, tmp_path)
        assert isinstance(found, np.memmap) and found.dtype == np.float16
        assert np.isnan(found[1]).all()
        # Half a unit in the last of float16's eleven binary places.
        np.testing.assert_allclose(found[[0, 2, 3, 4]], expected[[0, 2, 3, 4]], rtol=2**-11, atol=1e-6)
    assert len(runs) == 1
    path = tmp_path / kept(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(features_of(encoder, photos(missing=(1,)), SIZE, tmp_path), found)
    assert len(runs) == 2


def test_numbers_that_a_grid_cannot_hold(tmp_path):
    encoder = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Rescaling(1000.0)])
    with pytest.raises(
        InputError, match=r"makes numbers up to 2\.55e\+05 of photos; accepted: up to 6\.55e\+04"
    ):
        features_of(
            encoder, PhotoBytes(["white"], [png(np.full([SIZE, SIZE, 3], 255, np.uint8))]), SIZE, tmp_path
        )
    assert kept(tmp_path) == []


def test_another_interpolation_is_another_file(encoder, tmp_path, runs):
    large = MissingPhotos(["a", "b"], [png(image) for image in pixels(2, 3 * SIZE)])
    found = [features_of(encoder, large, SIZE, tmp_path, way) for way in ("bilinear", "nearest")]
    assert len(runs) == 2 and np.abs(found[0] - found[1]).max() > 1e-3


def test_photos_that_cannot_be_read_are_not_a_number(encoder, tmp_path):
    whole = features_of(encoder, photos(), SIZE)
    for _ in range(2):
        found = features_of(encoder, photos(missing=(1, 4)), SIZE, tmp_path)
        assert np.isnan(found).all(axis=1).tolist() == [False, True, False, False, True]
        np.testing.assert_allclose(found[[0, 2, 3]], whole[[0, 2, 3]], atol=1e-5)


def test_kept_vectors_are_used_again(encoder, tmp_path, runs):
    directory = tmp_path / "new" / "cache"
    first = features_of(encoder, photos(), SIZE, directory)
    (name,) = kept(directory)
    assert name.startswith("features-compact-") and name.endswith(".npy")
    np.testing.assert_array_equal(features_of(encoder, photos(), SIZE, str(directory)), first)
    assert len(runs) == 1
    assert kept(directory) == [name]


def test_nothing_is_kept_unless_asked_for(encoder, tmp_path, runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        features_of(encoder, photos(), SIZE)
    assert len(runs) == 2 and not kept(tmp_path)


def test_the_same_encoder_made_again_uses_them_too(tmp_path, runs):
    """Keras numbers the layers of a process; their names say nothing of what they do."""
    for _ in range(2):
        keras.utils.set_random_seed(0)
        features_of(build_encoder("compact", SIZE, trainable=False, width=2), photos(), SIZE, tmp_path)
    assert len(runs) == 1


def changed_weights():
    keras.utils.set_random_seed(0)
    encoder = build_encoder("compact", SIZE, trainable=False, width=2)
    encoder.variables[-1].assign(encoder.variables[-1] + 1e-3)
    return encoder


@pytest.mark.slow(but=["weights", "order"])
@pytest.mark.parametrize(
    "change",
    ["weights", "size", "names", "a photo's bytes", "a photo that has gone", "order"],
)
def test_they_are_computed_again_when_anything_changes(change, encoder, tmp_path, runs):
    features_of(encoder, photos(), SIZE, tmp_path)
    other = photos()
    if change == "weights":
        encoder = changed_weights()
    elif change == "size":
        encoder = build_encoder("compact", 20, trainable=False, width=2)
    elif change == "names":
        other = photos(names=["x", *(f"photo{place}" for place in range(1, COUNT))])
    elif change == "a photo's bytes":
        other = photos(replaced={2: png(pixels(1, seed=9)[0])})
    elif change == "a photo that has gone":
        other = photos(missing=(3,))
    else:
        other = photos(names=[f"photo{place}" for place in reversed(range(COUNT))])
    found = features_of(encoder, other, 20 if change == "size" else SIZE, tmp_path)
    assert len(runs) == 2 and len(kept(tmp_path)) == 2
    expected = features_of(encoder, other, 20 if change == "size" else SIZE)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow(but=["empty", "dtype"])
@pytest.mark.parametrize("damage", ["empty", "cut", "text", "zip", "pickle", "shape", "dtype"])
def test_a_damaged_file_is_computed_again(damage, encoder, tmp_path, runs, caplog):
    first = features_of(encoder, photos(), SIZE, tmp_path)
    path = tmp_path / kept(tmp_path)[0]
    content = path.read_bytes()
    if damage == "shape":
        np.save(path, first[1:])
    elif damage == "dtype":
        np.save(path, first.astype(np.float64))
    elif damage == "pickle":
        np.save(path, np.array([{}], object), allow_pickle=True)
    else:
        path.write_bytes({"empty": b"", "cut": content[:-7], "text": b"no array", "zip": b"PK\3\4xy"}[damage])
    np.testing.assert_allclose(features_of(encoder, photos(), SIZE, tmp_path), first, atol=1e-5)
    (warning,) = (
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and record.name == "absl"
    )
    assert str(path) in warning and "damaged" in warning
    np.testing.assert_allclose(features_of(encoder, photos(), SIZE, tmp_path), first, atol=1e-5)
    assert len(runs) == 2 and kept(tmp_path) == [path.name]


def test_a_flipped_byte_is_seen(encoder, tmp_path, monkeypatch):
    first = features_of(encoder, photos(), SIZE, tmp_path)
    path = tmp_path / kept(tmp_path)[0]
    sound, calls = path.read_bytes(), []

    def compute(encoder, images, features):
        calls.append(1)
        features[:] = first

    monkeypatch.setattr(module, "_compute", compute)
    monkeypatch.setattr(module, "written_whole", lambda path: contextlib.nullcontext(tmp_path / "elsewhere"))
    monkeypatch.setattr(module.logging, "warning", lambda *_: None)
    monkeypatch.setattr(module, "_fingerprint", lambda *_: path.stem.split("-")[-1])
    places = range(0, len(sound), 5)
    for place in places:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 8]) + sound[place + 1 :])
        seen = len(calls)
        found = features_of(encoder, photos(), SIZE, tmp_path)
        # Of the header some are harmless, such as those in its padding.
        assert len(calls) > seen or (place < 128 and np.array_equal(found, first)), place
    assert len(calls) > len(places) - 26


def test_a_file_of_an_earlier_version_has_no_checksum(encoder, tmp_path, runs):
    first = features_of(encoder, photos(), SIZE, tmp_path)
    np.save(tmp_path / kept(tmp_path)[0], first)
    np.testing.assert_array_equal(features_of(encoder, photos(), SIZE, tmp_path), first)
    assert len(runs) == 1


def test_a_pipe_in_the_files_place_is_refused(encoder, tmp_path):
    features_of(encoder, photos(), SIZE, tmp_path)
    path = tmp_path / kept(tmp_path)[0]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="it is a named pipe"):
        features_of(encoder, photos(), SIZE, tmp_path)


def test_a_directory_that_cannot_be_used(encoder, tmp_path):
    """Files where there should be directories: permissions would not stop root."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file"):
        features_of(encoder, photos(), SIZE, tmp_path / "file")


def test_a_failed_write_leaves_nothing(encoder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*: No space left on device"):
        features_of(encoder, photos(), SIZE, tmp_path)
    assert kept(tmp_path) == []
