"""COCO captions (Chen et al., 2015): photos of everyday scenes with five captions each, or a few more.

A directory holds the official caption files and the photos:

    captions_train2017.json, captions_val2017.json      or those of 2014; also in a folder annotations
    train2017/, val2017/                                any folders, or .zip or uncompressed .tar archives
    dataset_coco.json                                   Karpathy & Li's (2015) splits, where wanted

With `dataset_coco.json` the splits are those the field reports on (train and restval; val; test; 5,000
images in each of the latter two), and it has the captions too. Otherwise the train file is the training
split and the images of the val file, sorted by id, go to valid and test in turn. A single caption file is
split 80 / 10 / 10 by a hash of the image id. Images without a photo are left out with a warning: parts of
COCO can be used.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds
from absl import logging

from tfp_bayesrnn.errors import InputError
from zoo.data.captions import CaptionSplit
from zoo.data.described_photos import DescribedPhoto, caption_split, first_few
from zoo.data.folder import data_folder, files_in
from zoo.data.grammar import SplitMix64
from zoo.data.photo_search import Place, find_photos
from zoo.data.prepared import prepare, prepared_images
from zoo.filesystem.files import is_file, is_folder, read_file

KARPATHY = "dataset_coco.json"
LAYOUT = (
    "captions_train2017.json and captions_val2017.json (or those of 2014, or one of them), or "
    "dataset_coco.json, and the photos in folders, .zip or .tar archives"
)
PREPARED = "coco_captions/2014"
URL = "http://images.cocodataset.org/"

_PREPARED_SPLITS = {"train": ("train", "restval"), "valid": ("val",), "test": ("test",)}
_KARPATHY_SPLITS = {split: ours for ours, splits in _PREPARED_SPLITS.items() for split in splits}
_CAPTION_FILE = re.compile(r"captions_(?P<part>train|val).*\.json")
_PHOTO_ID = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(?P<id>\d{12})\.jpg")
_TIMEOUT_SECONDS = 20


class _Image(NamedTuple):
    """An image as the annotations have it."""

    id: int
    file: str
    texts: list[str]


def load_coco(data_dir: str | os.PathLike[str] | None = None) -> dict[str, CaptionSplit]:
    """The three splits.

    Args:
      data_dir: the files' directory. Without it, `coco_captions/2014` of tensorflow-datasets with Karpathy &
        Li's splits, which downloads 38 GB the first time.

    Raises:
      InputError: where the files are missing or cannot be used, or the download fails.
    """
    if data_dir is None:
        builder = tfds.builder(PREPARED)
        if not builder.is_prepared():
            _check_address(URL)
            logging.warning("dataset 'coco_captions' is downloaded (38 GB) to %s", builder.data_dir)
        return load_prepared(builder)
    images = read_coco(data_dir)
    return {split: caption_split(images[split], f"{split} split of {str(data_dir)!r}") for split in images}


def load_prepared(builder: tfds.core.DatasetBuilder) -> dict[str, CaptionSplit]:
    """Prepares the data set unless that was done before, and reads it."""
    prepare(builder, f"or pass --data_dir=DIR with {LAYOUT}")
    return {
        split: caption_split(
            prepared_images(builder, theirs, name="image/filename", texts="captions/text"),
            f"{builder.data_dir}, split {split}",
        )
        for split, theirs in _PREPARED_SPLITS.items()
    }


def read_coco(data_dir: str | os.PathLike[str]) -> dict[str, list[DescribedPhoto]]:
    """The images of the three splits; those without a photo or a caption are left out with a warning.

    Raises:
      InputError: where the directory or its caption files are missing, a file is malformed, an image is in
        two files, or no photo is found.
    """
    folder = data_folder(data_dir, LAYOUT)
    splits = _read_splits(folder)
    places = find_photos(folder)
    by_id: dict[int, Place] = {}
    for name, known in places.items():
        match = _PHOTO_ID.fullmatch(name)
        if match:
            by_id.setdefault(int(match["id"]), known)
    found: dict[str, list[DescribedPhoto]] = {}
    unseen, untold = [], []
    for split, images in splits.items():
        found[split] = []
        for image in images:
            place = places.get(image.file)
            if place is None and _PHOTO_ID.fullmatch(image.file):
                place = by_id.get(image.id)  # COCO of 2014 and 2017 call the same photo by different names
            if place is None:
                unseen.append(image.file)
            elif not image.texts:
                untold.append(image.file)
            else:
                found[split].append(DescribedPhoto(image.file, tuple(image.texts), place))
    total = sum(map(len, splits.values()))
    if len(unseen) == total:
        raise InputError(
            f"none of the {total} images of COCO has its photo in {folder}, such as {unseen[0]}: "
            f"it should hold {LAYOUT}"
        )
    for missing, problem in ((unseen, "a photo"), (untold, "a caption")):
        if missing:
            logging.warning(
                "COCO in %s: %s of %d without %s, left out", folder, first_few(missing), total, problem
            )
    return found


def _read_splits(folder: Path) -> dict[str, list[_Image]]:
    """The images of every split, with photo or without."""
    folders = [place for place in (folder, folder / "annotations") if is_folder(place)]
    for place in folders:
        if is_file(place / KARPATHY):
            return _read_karpathy(place / KARPATHY)
    files: dict[str, list[Path]] = {"train": [], "val": []}
    for place in folders:
        for path in files_in(place):
            match = _CAPTION_FILE.fullmatch(path.name)
            if match:
                files[match["part"]].append(path)
    for part, paths in files.items():
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise InputError(
                f"data directory {str(folder)!r} holds several {part} files ({names}): leave one"
            )
    if not files["train"] and not files["val"]:
        raise InputError(f"no captions in data directory {str(folder)!r}: it should hold {LAYOUT}")
    if files["train"] and files["val"]:
        train, valid = (_read_captions(files[part][0]) for part in ("train", "val"))
        twice = {image.id for image in train} & {image.id for image in valid}
        if twice:
            raise InputError(
                f"{files['train'][0]} and {files['val'][0]} both have image {min(twice)}: "
                "leave files of one year"
            )
        return {"train": train, "valid": valid[::2], "test": valid[1::2]}
    path = (files["train"] + files["val"])[0]
    logging.info("%s is the only caption file of COCO here: its images are split 80 / 10 / 10 by id", path)
    splits: dict[str, list[_Image]] = {"train": [], "valid": [], "test": []}
    for image in _read_captions(path):
        splits[{0: "valid", 1: "test"}.get(SplitMix64(image.id).below(10), "train")].append(image)
    return splits


def _read_captions(path: Path) -> list[_Image]:
    """The images of an official caption file with their captions, sorted by id."""
    content = _read_json(path)
    images: dict[int, _Image] = {}
    for where, entry in _entries(path, content, "images", {"id": int, "file_name": str}):
        if entry["id"] in images:
            raise InputError(
                f"{where} has id {entry['id']}, as an image before it has; accepted: ids that differ"
            )
        images[entry["id"]] = _Image(entry["id"], entry["file_name"], [])
    for where, entry in _entries(path, content, "annotations", {"image_id": int, "caption": str}):
        if entry["image_id"] not in images:
            raise InputError(
                f"{where} has image_id {entry['image_id']}, and no image has that id; "
                "accepted: ids under 'images'"
            )
        images[entry["image_id"]].texts.append(entry["caption"])
    return [images[index] for index in sorted(images)]


def _read_karpathy(path: Path) -> dict[str, list[_Image]]:
    """The splits of Karpathy's file."""
    splits: dict[str, list[_Image]] = {"train": [], "valid": [], "test": []}
    wanted = {"cocoid": int, "filename": str, "split": str, "sentences": list}
    for where, entry in _entries(path, _read_json(path), "images", wanted):
        if entry["split"] not in _KARPATHY_SPLITS:
            accepted = ", ".join(_KARPATHY_SPLITS)
            raise InputError(f"{where} is in split {entry['split']!r}; accepted: {accepted}")
        raw = [sentence.get("raw") if isinstance(sentence, dict) else None for sentence in entry["sentences"]]
        texts = [text for text in raw if isinstance(text, str)]
        if len(texts) < len(raw):
            raise InputError(f"{where} has a sentence without a text 'raw'")
        splits[_KARPATHY_SPLITS[entry["split"]]].append(_Image(entry["cocoid"], entry["filename"], texts))
    return splits


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(read_file(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}, is not JSON: {error.msg} (column {error.colno})"
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object: it should have 'images' and their captions")
    return content


def _entries(path: Path, content: dict, key: str, fields: dict[str, type]) -> Iterable[tuple[str, dict]]:
    """The objects of a list, each with its place for messages, after a look at what they hold."""
    entries = content.get(key)
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} has no list {key!r} with something in it: it is no caption file of COCO")
    for number, entry in enumerate(entries):
        where = f"{path}: {key}[{number}]"
        for field, kind in fields.items():
            value = entry.get(field) if isinstance(entry, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                names = {int: "a whole number", str: "a text", list: "a list"}
                raise InputError(f"{where} has no {field!r} that is {names[kind]}")
        yield where, entry


def _check_address(url: str) -> None:
    """One attempt to reach the server, since tensorflow-datasets tries a dead one for minutes."""
    try:
        urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; that page need not exist
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise InputError(
            f"cannot download dataset 'coco_captions' from {url} ({reason}): "
            f"put {LAYOUT} in a directory and pass --data_dir=DIR"
        ) from None
