import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tfp_bayesrnn.errors import InputError
from zoo.data.caption_sets import load_captions
from zoo.data.flickr8k import SPLIT_FILES, TOKENS, Flickr8k, load_prepared, read_flickr8k
from zoo.data.photos import decode
from zoo.data.prepared import PhotoRecords, prepared_images

NAMES = {
    "train": [f"{number}_a.jpg" for number in range(6)],
    "valid": ["7_b.jpg"],
    "test": ["9_c.jpg", "8_c.jpg"],
}
EVERY = [name for names in NAMES.values() for name in names]


def photo(name):
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (int(name[0]) * 25, 0, 100)).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_texts(folder, names=NAMES, tokens=EVERY):
    folder.mkdir(parents=True, exist_ok=True)
    for split, of_split in names.items():
        (folder / SPLIT_FILES[split]).write_text("".join(f"{name}\n" for name in of_split))
    lines = [
        f"{name}#{number}\tThe dog {name[0]} 's ball , {number} .\n" for name in tokens for number in range(5)
    ]
    # As in the official file, captions of an image that does not exist.
    lines += [f"22_x.jpg.1#{number}\tNobody knows .\n" for number in range(5)]
    (folder / TOKENS).write_text("".join(lines))


def write_photos(folder, names=EVERY):
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*names, "5000_unused.jpg"]:
        (folder / name).write_bytes(photo(name))


@pytest.fixture
def official(tmp_path):
    write_texts(tmp_path / "flickr")
    write_photos(tmp_path / "flickr" / "Flicker8k_Dataset")
    return tmp_path / "flickr"


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr("absl.logging.warning", lambda message, *values: found.append(message % values))
    return found


def check(splits, warnings=()):
    assert not warnings
    for split, names in NAMES.items():
        found = splits[split]
        assert list(found.names) == names
        for index, name in enumerate(names):
            assert found.references[index] == tuple(
                ("the", "dog", name[0], "'s", "ball", str(number)) for number in range(5)
            )
            assert found.images.read(index) == photo(name)
            assert decode(found.images.read(index), name).shape == (6, 8, 3)


def splits_of(data):
    return {"train": data.train, "valid": data.valid, "test": data.test}


def test_the_official_layout(official, warnings):
    data = load_captions("flickr8k", official, min_count=1)
    check(splits_of(data), warnings)
    assert data.name == "flickr8k"
    words = data.vocabulary.words
    assert words[:8] == ("<pad>", "<start>", "<end>", "<unk>", "'s", "ball", "dog", "the")
    assert "9" not in words and "nobody" not in words  # only training captions count
    assert set(load_captions("flickr8k", official).vocabulary.words[4:]) >= {"dog", "5"}  # 5 times or more
    assert str(official) in data.train.images.name(0)


@pytest.mark.parametrize("kind", ["tar", "zip", "folder"])
def test_other_layouts(official, warnings, kind):
    photos = official / "Flicker8k_Dataset"
    if kind == "tar":
        with tarfile.open(official / "photos_112.tar", "w") as archive:
            archive.add(photos, "photos_112")
        (official / "Flickr8k_text").mkdir()
    elif kind == "zip":
        with zipfile.ZipFile(official / "Flickr8k_Dataset.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in photos.iterdir():
                archive.write(path, f"Flicker8k_Dataset/{path.name}")
                archive.writestr(f"__MACOSX/Flicker8k_Dataset/._{path.name}", b"macOS")
        with zipfile.ZipFile(official / "Flickr8k_text.zip", "w") as archive:
            for path in official.glob("Flickr*.txt"):
                archive.write(path, path.name)
                path.unlink()
    else:
        photos.rename(official / "small")
    shutil.rmtree(photos, ignore_errors=True)
    if kind == "tar":
        for path in official.glob("Flickr*.txt"):
            path.rename(official / "Flickr8k_text" / path.name)
    check(splits_of(load_captions("flickr8k", official, min_count=1)), warnings)


def test_missing_photos_and_captions_are_left_out_with_one_warning(official, warnings):
    for name in ("0_a.jpg", "3_a.jpg"):
        (official / "Flicker8k_Dataset" / name).unlink()
    write_texts(official, tokens=[name for name in EVERY if name != "8_c.jpg"])
    data = load_captions("flickr8k", official, min_count=1)
    assert data.train.names == ("1_a.jpg", "2_a.jpg", "4_a.jpg", "5_a.jpg") and data.test.names == (
        "9_c.jpg",
    )
    assert data.train.images.read(2) == photo("4_a.jpg")
    assert warnings == [
        f"Flickr8k in {official}: 2 images (0_a.jpg, 3_a.jpg) without a photo and "
        "1 image (8_c.jpg) without captions, left out"
    ]


def test_a_wrong_folder_is_an_error(official, tmp_path):
    shutil.rmtree(official / "Flicker8k_Dataset")
    write_photos(official / "elsewhere", NAMES["train"][:4])
    with pytest.raises(InputError, match=rf"5 of the 9 images .* no photos in {official}, such as 4_a\.jpg"):
        read_flickr8k(official)
    write_photos(official / "elsewhere")
    write_texts(official, tokens=["9_c.jpg"])
    with pytest.raises(InputError, match=r"8 of the 9 images .* no captions in Flickr8k\.token\.txt"):
        read_flickr8k(official)
    with pytest.raises(InputError, match="none' does not exist: it should hold the photos"):
        read_flickr8k(tmp_path / "none")
    with pytest.raises(InputError, match=r"token\.txt' is not a directory"):
        read_flickr8k(official / TOKENS)
    (official / TOKENS).unlink()
    with pytest.raises(InputError, match=r"lacks Flickr8k\.token\.txt: it should hold the photos"):
        read_flickr8k(official)
    (official / "Flickr8k_text.zip").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"Flickr8k_text\.zip is not a readable \.zip archive"):
        read_flickr8k(official)


def test_a_split_without_photos_is_an_error(official):
    (official / "Flicker8k_Dataset" / "7_b.jpg").unlink()
    with pytest.raises(InputError, match=r"Flickr_8k\.devImages\.txt has no image with a photo"):
        load_captions("flickr8k", official)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            TOKENS,
            b"0_a.jpg#0\tfine\n0_a.jpg#1 no tab\n",
            r"token\.txt, line 2: '0_a\.jpg#1 no tab' is no caption",
        ),
        (TOKENS, b"0_a.jpg\tno number\n", r"token\.txt, line 1: .*accepted: IMAGE\.jpg#NUMBER <tab> CAPTION"),
        (TOKENS, b"#1\tno name\n", r"token\.txt, line 1"),
        (TOKENS, b"0_a.jpg#0\tok\n\n0_a.jpg#1\tcaf\xe9\n", r"token\.txt, line 3: byte 0xe9 is not UTF-8"),
        (TOKENS, b"\n \n", r"token\.txt is empty"),
        (SPLIT_FILES["train"], b"", r"trainImages\.txt is empty"),
        (SPLIT_FILES["test"], b"9_c.jpg\n8_c.jpg 7_c.jpg\n", r"testImages\.txt, line 2: .*one a line"),
        (SPLIT_FILES["test"], b"photos/9_c.jpg\n", r"testImages\.txt, line 1: .*accepted: IMAGE\.jpg"),
        (
            SPLIT_FILES["test"],
            b"9_c.jpg\n8_c.jpg\n9_c.jpg\n",
            r"line 3: image 9_c\.jpg comes a second time.*line 1",
        ),
        (
            SPLIT_FILES["test"],
            b"9_c.jpg\n7_b.jpg\n",
            r"7_b\.jpg is in Flickr_8k\.devImages\.txt and in .*testIm",
        ),
    ],
)
def test_malformed_files(official, file, content, message):
    (official / file).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_flickr8k(official)
    assert "\n" not in str(caught.value) and str(official) in str(caught.value)


def test_a_file_that_cannot_be_opened(official):
    (official / TOKENS).unlink()
    (official / TOKENS).mkdir()
    with pytest.raises(InputError, match=r"cannot read .*token\.txt: Is a directory"):
        read_flickr8k(official)


def test_the_builder(official, tmp_path, warnings, capsys, monkeypatch):
    root = tmp_path / "tfds"
    manual = root / "downloads" / "manual" / "flickr8k"
    with pytest.raises(
        InputError, match=f"by hand: put the photos .* in {manual}, or in any directory and pass"
    ):
        load_prepared(Flickr8k(data_dir=root))
    manual.parent.mkdir(parents=True)
    shutil.move(official, manual)
    builder = Flickr8k(data_dir=root)
    check_any_order(load_prepared(builder))
    assert {split: builder.info.splits[split].num_examples for split in NAMES} == {
        "train": 6,
        "valid": 1,
        "test": 2,
    }
    # Prepared once: the official files are not needed again.
    shutil.rmtree(manual)
    monkeypatch.setattr("zoo.data.flickr8k.Flickr8k", lambda: Flickr8k(data_dir=root))
    check_any_order(splits_of(load_captions("flickr8k", min_count=1)))
    assert capsys.readouterr().out == ""
    assert not [warning for warning in warnings if warning.startswith("Flickr8k")]
    check_damage(builder, tmp_path)


def check_any_order(splits):
    """tensorflow-datasets shuffles."""
    for split, names in NAMES.items():
        found = splits[split]
        assert sorted(found.names) == sorted(names)
        for index, name in enumerate(found.names):
            assert found.images.read(index) == photo(name)
            assert found.references[index][1] == ("the", "dog", name[0], "'s", "ball", "1")


def check_damage(builder, tmp_path):
    path = builder.info.splits["train"].filepaths[0]
    records = PhotoRecords(path)
    assert len(records) == 6 and records.name(2) == f"{path}:2"
    with pytest.raises(InputError, match="has no split 'dev': prepare"):
        prepared_images(builder, ("dev",), "image/filename", "captions")
    with pytest.raises(InputError, match="0 holds no photo: it has no feature 'picture'"):
        PhotoRecords(path, image="picture").read(0)
    content = Path(path).read_bytes()
    for length in (len(content) - 1, 100, 5):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(InputError, match="cut is cut short or no TFRecord file"):
            PhotoRecords(tmp_path / "cut")
    (tmp_path / "damaged").write_bytes(content[:12] + b"\xff" * 60 + content[72:])
    with pytest.raises(InputError, match=r"damaged:0 is damaged"):
        PhotoRecords(tmp_path / "damaged").read(0)
    with pytest.raises(InputError, match=r"cannot read .*absent: No such file"):
        PhotoRecords(tmp_path / "absent")


def test_nothing_is_prepared_from_malformed_files(official, tmp_path):
    manual = tmp_path / "tfds" / "downloads" / "manual" / "flickr8k"
    manual.parent.mkdir(parents=True)
    (official / TOKENS).write_text("no caption\n")
    shutil.move(official, manual)
    builder = Flickr8k(data_dir=tmp_path / "tfds")
    with pytest.raises(InputError, match=r"token\.txt, line 1: 'no caption' is no caption"):
        load_prepared(builder)
    assert not builder.is_prepared()


@pytest.mark.slow
@pytest.mark.data
def test_the_real_files(warnings):
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("TFP_BAYESRNN_SHARED_DATA", beside)) / "flickr8k"
    if not folder.is_dir():
        pytest.skip(f"no Flickr8k files in {folder}")
    data = load_captions("flickr8k", folder)
    splits = splits_of(data)
    assert not warnings
    assert [len(split.names) for split in splits.values()] == [6_000, 1_000, 1_000]
    for split in splits.values():
        assert len(split.images) == len(set(split.names)) == len(split.names)
        assert {len(references) for references in split.references} == {5}
    assert 2_500 < len(data.vocabulary) < 2_600
    train = splits["train"]
    place = train.names.index("1000268201_693b08cb0e.jpg")
    assert train.references[place][1] == ("a", "girl", "going", "into", "a", "wooden", "building")
    assert decode(train.images.read(place), "x").shape == (224, 224, 3)
    for index in range(0, 6_000, 60):
        assert decode(train.images.read(index), train.images.name(index)).shape == (224, 224, 3)
