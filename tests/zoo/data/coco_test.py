import io
import json
import os
import shutil
import tarfile
import time
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from tfp_bayesrnn.errors import InputError
from zoo.data import coco
from zoo.data.caption_sets import load_captions
from zoo.data.photos import decode
from zoo.data.prepared import prepared_images

TRAIN, VAL = list(range(100, 108)), [21, 3, 200, 7, 55]


def photo(index):
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (index % 256, 0, 100)).save(file, "JPEG", quality=90)
    return file.getvalue()


def captions_file(path, ids, naming="{:012}.jpg", change=lambda content: content):
    content = {
        "info": {},
        "images": [{"id": index, "file_name": naming.format(index), "height": 6} for index in ids],
        "annotations": [
            {"id": 10 * index + number, "image_id": index, "caption": f"The dog's ball {index}-{number}.\n"}
            for number in range(5)
            for index in ids
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(change(content)))


def write_photos(folder, ids, naming="{:012}.jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for index in ids:
        (folder / naming.format(index)).write_bytes(photo(index))


@pytest.fixture
def official(tmp_path):
    folder = tmp_path / "coco"
    captions_file(folder / "captions_train2017.json", TRAIN)
    captions_file(folder / "captions_val2017.json", VAL)
    write_photos(folder / "train2017", TRAIN)
    write_photos(folder / "val2017", VAL)
    return folder


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr("absl.logging.warning", lambda message, *values: found.append(message % values))
    return found


def ids_of(split):
    """The image ids of a split, after a look at its photos and captions."""
    found = []
    for index, name in enumerate(split.names):
        image = int(Path(name).stem[-12:])
        found.append(image)
        assert split.images.read(index) == photo(image)
        assert split.references[index] == tuple(
            ("the", "dog", "'s", "ball", f"{image}-{n}") for n in range(5)
        )
    return found


def load(folder):
    data = load_captions("coco_captions", folder, min_count=1)
    return {"train": data.train, "valid": data.valid, "test": data.test}


def test_train_and_val(official, warnings):
    splits = load(official)
    assert ids_of(splits["train"]) == TRAIN
    assert ids_of(splits["valid"]) == [3, 21, 200] and ids_of(splits["test"]) == [7, 55]
    assert not warnings
    vocabulary = load_captions("coco_captions", official).vocabulary
    assert set(vocabulary.words[4:]) == {
        "the",
        "dog",
        "'s",
        "ball",
    }  # 5 times or more in the training captions


def test_annotations_folder_archives_and_missing_photos(official, warnings):
    (official / "annotations").mkdir()
    for path in official.glob("*.json"):
        path.rename(official / "annotations" / path.name)
    before = {split: ids_of(found) for split, found in load(official).items()}
    (official / "val2017" / f"{21:012}.jpg").unlink()
    with tarfile.open(official / "val_small.tar", "w") as archive:
        archive.add(official / "val2017", "val2017")
    shutil.rmtree(official / "val2017")
    splits = {split: ids_of(found) for split, found in load(official).items()}
    assert splits == before | {"valid": [3, 200]}  # what is missing moves no image to another split
    assert warnings == [f"COCO in {official}: 1 image (000000000021.jpg) of 13 without a photo, left out"]


def test_a_single_file_is_split_by_a_hash(tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr("absl.logging.info", lambda message, *values: notes.append(message % values))
    ids = range(1, 1001)
    captions_file(tmp_path / "captions_val2017.json", ids)
    write_photos(tmp_path / "val2017", ids)
    images = coco.read_coco(tmp_path)
    found = {split: {image.name for image in images[split]} for split in images}
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 1000
    assert (
        750 < len(found["train"]) < 850 and 70 < len(found["valid"]) < 130 and 70 < len(found["test"]) < 130
    )
    assert len(notes) == 1 and "80 / 10 / 10" in notes[0]
    # An image's split depends on nothing but its id.
    captions_file(tmp_path / "captions_val2017.json", range(990, 1, -3))
    for split, fewer in coco.read_coco(tmp_path).items():
        assert {image.name for image in fewer} <= found[split]


def karpathy_file(path, splits):
    images = [
        {
            "filepath": "val2014",
            "filename": f"COCO_{'train' if split == 'train' else 'val'}2014_{index:012}.jpg",
            "cocoid": index,
            "split": split,
            "sentences": [{"raw": f"The dog's ball {index}-{number}.", "tokens": []} for number in range(5)],
        }
        for split, ids in splits.items()
        for index in ids
    ]
    path.write_text(json.dumps({"dataset": "coco", "images": images}))


@pytest.mark.parametrize("year", [2014, 2017])
def test_karpathys_splits_decide(official, warnings, year):
    if year == 2014:
        shutil.rmtree(official / "train2017")
        shutil.rmtree(official / "val2017")
        write_photos(official / "images" / "train2014", TRAIN, "COCO_train2014_{:012}.jpg")
        write_photos(official / "images" / "val2014", VAL, "COCO_val2014_{:012}.jpg")
    karpathy_file(
        official / "dataset_coco.json", {"train": TRAIN, "restval": [21, 3], "val": [200, 7], "test": [55]}
    )
    splits = load(official)
    assert ids_of(splits["train"]) == [*TRAIN, 21, 3]
    assert ids_of(splits["valid"]) == [200, 7] and ids_of(splits["test"]) == [55]
    assert not warnings


def test_images_may_have_other_names_and_other_numbers_of_captions(tmp_path, warnings):
    def change(content):
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 7][:-1]
        return content

    captions_file(tmp_path / "captions_val2017.json", VAL, "photo {}.png", change)
    captions_file(tmp_path / "captions_train2017.json", TRAIN)
    write_photos(tmp_path / "mine", VAL, "photo {}.png")
    write_photos(tmp_path / "train", TRAIN)
    images = coco.read_coco(tmp_path)
    assert [image.name for image in images["test"]] == ["photo 55.png"]
    assert [len(image.texts) for image in images["valid"] + images["test"]] == [5, 5, 5, 4]
    assert warnings == [f"COCO in {tmp_path}: 1 image (photo 7.png) of 13 without a caption, left out"]


def test_folders_that_cannot_be_used(official, tmp_path):
    with pytest.raises(InputError, match="none' does not exist: it should hold captions_train2017"):
        coco.read_coco(tmp_path / "none")
    with pytest.raises(InputError, match=r"json' is not a directory"):
        coco.read_coco(official / "captions_val2017.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no captions in data directory .*empty'"):
        coco.read_coco(tmp_path / "empty")
    captions_file(official / "annotations" / "captions_val2014.json", VAL)
    with pytest.raises(
        InputError, match=r"several val files \(captions_val2017\.json, captions_val2014\.json\)"
    ):
        coco.read_coco(official)
    shutil.rmtree(official / "annotations")
    captions_file(official / "captions_train2017.json", [*TRAIN, 55, 21])
    with pytest.raises(InputError, match=r"train2017\.json and .*val2017\.json both have image 21: leave"):
        coco.read_coco(official)
    captions_file(official / "captions_train2017.json", TRAIN)
    shutil.rmtree(official / "val2017")
    with pytest.raises(InputError, match=r"valid split of .* has no image with a photo and a caption"):
        load_captions("coco_captions", official)
    shutil.rmtree(official / "train2017")
    with pytest.raises(
        InputError, match=rf"none of the 13 images of COCO has its photo in {official}, such as 0"
    ):
        coco.read_coco(official)


def changed(key, value):
    def change(content):
        content[key[0]][key[1]][key[2]] = value
        return content

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed(("annotations", 3, "image_id"), 99),
            r"annotations\[3\] has image_id 99, and no image has that id",
        ),
        (
            changed(("annotations", 3, "image_id"), True),
            r"annotations\[3\] has no 'image_id' that is a whole number",
        ),
        (changed(("annotations", 2, "caption"), None), r"annotations\[2\] has no 'caption' that is a text"),
        (changed(("images", 1, "id"), "3"), r"images\[1\] has no 'id' that is a whole number"),
        (changed(("images", 1, "id"), 21), r"images\[1\] has id 21, as an image before it"),
        (lambda content: content | {"images": [1]}, r"images\[0\] has no 'id' that is a whole number"),
        (lambda content: content | {"images": []}, r"no list 'images' with something in it"),
        (lambda content: {"images": content["images"]}, r"no list 'annotations' with something in it"),
        (lambda content: [content], r"holds no JSON object"),
    ],
)
def test_malformed_caption_files(official, change, message):
    captions_file(official / "captions_val2017.json", VAL, change=change)
    with pytest.raises(InputError, match=rf"captions_val2017\.json.*{message}") as caught:
        coco.read_coco(official)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [\n1,\n2,,\n]}', r"line 3, is not JSON: .*\(column 3\)"),
        (b"", "line 1, is not JSON"),
        (b'{"images": "\xff"}', "is not JSON: .*0xff"),
        (b"[" * 200_000, "is not JSON"),
    ],
)
def test_files_that_are_not_json(official, content, message):
    for name in ("captions_val2017.json", "dataset_coco.json"):
        (official / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}.*{message}"):
            coco.read_coco(official)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("split", "dev", r"images\[0\] is in split 'dev'; accepted: train, restval, val, test"),
        ("sentences", ["a dog"], r"images\[0\] has a sentence without a text 'raw'"),
        ("sentences", "a dog", r"images\[0\] has no 'sentences' that is a list"),
        ("cocoid", None, r"images\[0\] has no 'cocoid' that is a whole number"),
    ],
)
def test_malformed_split_files(official, field, value, message):
    path = official / "dataset_coco.json"
    karpathy_file(path, {"train": TRAIN})
    content = json.loads(path.read_text())
    content["images"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"dataset_coco\.json: {message}"):
        coco.read_coco(official)


class SmallCoco(tfds.core.GeneratorBasedBuilder):
    """The features of coco_captions that matter here, and its splits."""

    VERSION = tfds.core.Version("1.1.0")
    code_path = epath.Path(__file__)
    IDS = {"train": TRAIN, "restval": [21, 3], "val": [200, 7], "test": [55]}

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": tfds.features.Scalar(np.int64),
            "captions": tfds.features.Sequence(
                {"text": tfds.features.Text(), "id": tfds.features.Scalar(np.int64)}
            ),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(ids) for split, ids in self.IDS.items()}

    def _generate_examples(self, ids):
        for index in ids:
            texts = [{"text": f"The dog's ball {index}-{number}.", "id": number} for number in range(5)]
            yield (
                index,
                {
                    "image": photo(index),
                    "image/filename": f"COCO_val2014_{index:012}.jpg",
                    "image/id": index,
                    "captions": texts,
                },
            )


def test_what_tensorflow_datasets_prepared(tmp_path, monkeypatch, capsys):
    builder = SmallCoco(data_dir=tmp_path)
    splits = coco.load_prepared(builder)
    assert sorted(ids_of(splits["train"])) == sorted([*TRAIN, 21, 3])
    assert sorted(ids_of(splits["valid"])) == [7, 200] and ids_of(splits["test"]) == [55]
    # Prepared, it needs no server.
    monkeypatch.setattr(coco, "URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(coco.tfds, "builder", lambda name: {"coco_captions/2014": builder}[name])
    assert len(load_captions("coco_captions", min_count=1).train.names) == 10
    assert capsys.readouterr().out == ""


def test_a_data_set_that_cannot_be_prepared(tmp_path, monkeypatch):
    def fail(self, ids):
        raise RuntimeError("the server\nsent something else")
        yield

    monkeypatch.setattr(SmallCoco, "_generate_examples", fail)
    with pytest.raises(
        InputError, match=r"cannot prepare dataset 'small_coco' .*server sent .*--data_dir=DIR"
    ) as caught:
        coco.load_prepared(SmallCoco(data_dir=tmp_path))
    assert "\n" not in str(caught.value)


def test_without_a_server_it_is_one_quick_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(coco, "URL", "http://127.0.0.1:9/")
    builder = SmallCoco(data_dir=tmp_path)
    monkeypatch.setattr(coco.tfds, "builder", lambda name: builder)
    start = time.monotonic()
    with pytest.raises(
        InputError, match=r"cannot download dataset 'coco_captions' from .*--data_dir=DIR"
    ) as caught:
        load_captions("coco_captions")
    assert "\n" not in str(caught.value) and time.monotonic() - start < 10
    assert not builder.is_prepared()


def test_a_server_that_answers_is_left_to_tensorflow_datasets(tmp_path, monkeypatch, warnings):
    def answer(url, timeout):
        raise urllib.error.HTTPError(url, 403, "Forbidden", None, None)

    monkeypatch.setattr(coco.urllib.request, "urlopen", answer)
    monkeypatch.setattr(coco.tfds, "builder", lambda name: SmallCoco(data_dir=tmp_path))
    assert len(load_captions("coco_captions", min_count=1).train.names) == 10
    assert [text for text in warnings if "is downloaded (38 GB)" in text]


def test_another_format_of_prepared_files_is_refused(tmp_path):
    builder = SmallCoco(data_dir=tmp_path, file_format="array_record")
    with pytest.raises(InputError, match="is prepared as 'array_record': accepted 'tfrecord'"):
        prepared_images(builder, ("train",), "image/filename", "captions/text")


def test_the_features_are_those_of_coco_captions(tmp_path):
    """The builder of tensorflow-datasets, unprepared, has the features and files that are read here."""
    builder = tfds.builder(coco.PREPARED, data_dir=tmp_path)
    features = builder.info.features
    small = SmallCoco(data_dir=tmp_path).info.features
    for feature in ("image", "image/filename", "captions"):
        assert features[feature].get_tensor_info() == small[feature].get_tensor_info()
    assert builder.info.file_format == tfds.core.FileFormat.TFRECORD


@pytest.mark.data
def test_the_real_files(warnings):
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("TFP_BAYESRNN_SHARED_DATA", beside)) / "coco"
    if not folder.is_dir():
        pytest.skip(f"no COCO files in {folder}")
    images = [image for split in coco._read_splits(folder).values() for image in split]
    assert len(images) == 5_000 and sum(len(image.texts) for image in images) == 25_014
    data = load_captions("coco_captions", folder)
    splits = (data.train, data.valid, data.test)
    assert sum(len(split.names) for split in splits) == 283
    assert all(len(split.names) > 10 for split in splits)
    assert (
        len(warnings) == 1 and ": 4717 images (" in warnings[0] and "of 5000 without a photo" in warnings[0]
    )
    for split in splits:
        for index in range(len(split.names)):
            shape = decode(split.images.read(index), split.images.name(index)).shape
            assert min(shape[:2]) == 256 and shape[2] == 3
