"""Flickr8k: 8,000 photos of people and animals with five captions each (Hodosh, Young & Hockenmaier, 2013).

A directory holds the photos and the official text files:

    Flicker8k_Dataset/              the photos: this folder (its name is the archive's), any other folder,
                                    or a .zip or uncompressed .tar archive of them
    Flickr8k.token.txt              IMAGE.jpg#NUMBER <tab> CAPTION, one a line
    Flickr_8k.trainImages.txt       IMAGE.jpg, one a line: 6,000
    Flickr_8k.devImages.txt         1,000, the valid split
    Flickr_8k.testImages.txt        1,000

The text files may also be in a folder Flickr8k_text or in Flickr8k_text.zip. The token file has captions of
an image that does not exist and of photos that no split has; they are not used.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from tfp_bayesrnn.errors import InputError
from zoo.data.captions import CaptionSplit
from zoo.data.described_photos import DescribedPhoto, caption_split, first_few
from zoo.data.folder import data_folder
from zoo.data.lines import decoded
from zoo.data.photo_search import find_photos
from zoo.data.photos import ARCHIVE_ERRORS
from zoo.data.prepared import prepare, prepared_images
from zoo.filesystem.files import is_file, is_there, read_file

PHOTO_FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset")
TOKENS = "Flickr8k.token.txt"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "valid": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
LAYOUT = ", ".join(
    [f"the photos ({PHOTO_FOLDERS[0]}/, or a .zip or .tar of them)", TOKENS, *SPLIT_FILES.values()]
)

_TEXT_FOLDER = "Flickr8k_text"


class Flickr8k(tfds.core.GeneratorBasedBuilder):
    """The official archives as a tensorflow-datasets data set; photos are stored as they are."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put into the folder flickr8k of this directory: {LAYOUT}."
    # Looked up by tensorflow-datasets with the package importlib_resources, which 4.9.10 forgets to require.
    code_path = epath.Path(__file__)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Flickr8k: 8,000 photos with five captions each (Hodosh et al., 2013).",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "image/filename": tfds.features.Text(),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                }
            ),
            homepage="https://hockenmaier.cs.illinois.edu/8k-pictures.html",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        images = read_flickr8k(dl_manager.manual_dir / "flickr8k")
        return {split: self._generate_examples(images[split]) for split in SPLIT_FILES}

    def _generate_examples(self, images: list[DescribedPhoto]) -> Iterator[tuple[str, dict[str, Any]]]:
        for image in images:
            photos, index = image.place
            yield (
                image.name,
                {
                    "image": photos.read(index),
                    "image/filename": image.name,
                    "captions": list(image.texts),
                },
            )


def load_flickr8k(data_dir: str | os.PathLike[str] | None = None) -> dict[str, CaptionSplit]:
    """The three splits.

    Args:
      data_dir: the files' directory. Without it, the data set that tensorflow-datasets prepared from them, in
        `$TFDS_DATA_DIR` or `~/tensorflow_datasets`, prepared now if it was not before.

    Raises:
      InputError: where the files are missing or cannot be used.
    """
    if data_dir is None:
        return load_prepared(Flickr8k())
    images = read_flickr8k(data_dir)
    return {
        split: caption_split(images[split], f"{str(data_dir)!r}, {name}")
        for split, name in SPLIT_FILES.items()
    }


def load_prepared(builder: Flickr8k) -> dict[str, CaptionSplit]:
    """Prepares the data set unless that was done before, and reads it."""
    manual_dir = Path(builder.data_dir).parents[1] / "downloads" / "manual"
    if not builder.is_prepared() and not (manual_dir / "flickr8k").is_dir():
        raise InputError(
            f"dataset 'flickr8k' has to be downloaded by hand: put {LAYOUT} in {manual_dir / 'flickr8k'}, "
            "or in any directory and pass --data_dir=DIR"
        )
    prepare(
        builder,
        "or pass --data_dir=DIR with the official files",
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
    )
    return {
        split: caption_split(
            prepared_images(builder, (split,), name="image/filename", texts="captions"),
            f"{builder.data_dir}, split {split}",
        )
        for split in SPLIT_FILES
    }


def read_flickr8k(data_dir: str | os.PathLike[str]) -> dict[str, list[DescribedPhoto]]:
    """The images of the three splits; those without a photo or a caption are left out with one warning.

    Raises:
      InputError: where the directory or one of its files is missing, a file is malformed, an image is in two
        splits, or more than half of the images are missing.
    """
    folder = data_folder(data_dir, LAYOUT)
    texts = _read_tokens(folder)
    names = {split: _read_names(folder, file) for split, file in SPLIT_FILES.items()}
    _check_disjoint(folder, names)
    places = find_photos(folder, first=PHOTO_FOLDERS)
    every = [name for split in names.values() for name in split]
    unseen = [name for name in every if name not in places]
    untold = [name for name in every if name in places and name not in texts]
    for problem, missing in ((f"photos in {folder}", unseen), (f"captions in {TOKENS}", untold)):
        if 2 * len(missing) > len(every):
            raise InputError(
                f"{len(missing)} of the {len(every)} images of Flickr8k have no {problem}, such as "
                f"{missing[0]}: it should hold {LAYOUT}"
            )
    if unseen or untold:
        problems = [(unseen, "without a photo"), (untold, "without captions")]
        told = " and ".join(f"{first_few(missing)} {problem}" for missing, problem in problems if missing)
        logging.warning("Flickr8k in %s: %s, left out", folder, told)
    return {
        split: [
            DescribedPhoto(name, tuple(texts[name]), places[name])
            for name in of_split
            if name in places and name in texts
        ]
        for split, of_split in names.items()
    }


def _read_tokens(folder: Path) -> dict[str, list[str]]:
    """The captions of each image, in the order of the file."""
    captions: dict[str, list[str]] = {}
    for where, line in _lines(folder, TOKENS):
        key, tab, text = line.partition("\t")
        name, _, number = key.rpartition("#")
        if not tab or not name or not number.isdigit():
            raise InputError(
                f"{where}: {line[:60]!r} is no caption; accepted: IMAGE.jpg#NUMBER <tab> CAPTION"
            )
        captions.setdefault(name, []).append(text.strip())
    return captions


def _read_names(folder: Path, file: str) -> list[str]:
    """The images of a split."""
    names: dict[str, str] = {}
    for where, line in _lines(folder, file):
        name = line.strip()
        if len(name.split()) != 1 or "/" in name:
            raise InputError(f"{where}: {name[:60]!r} is no image; accepted: IMAGE.jpg, one a line")
        if name in names:
            raise InputError(f"{where}: image {name} comes a second time, first in {names[name]}")
        names[name] = where
    return list(names)


def _check_disjoint(folder: Path, names: dict[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for split, file in SPLIT_FILES.items():
        for name in names[split]:
            if name in seen:
                raise InputError(
                    f"{folder}: image {name} is in {seen[name]} and in {file}; accepted: in one of the splits"
                )
            seen[name] = file


def _lines(folder: Path, file: str) -> Iterator[tuple[str, str]]:
    """The lines of a text file that are not blank, each with its place for messages."""
    path, content = _content(folder, file)
    empty = True
    for number, text in decoded(io.BytesIO(content), path):
        if text.strip():
            empty = False
            yield f"{path}, line {number}", text
    if empty:
        raise InputError(f"{path} is empty: it should have a line for every image or caption")


def _content(folder: Path, file: str) -> tuple[str, bytes]:
    """A text file's path and content, wherever it is."""
    for path in (folder / file, folder / _TEXT_FOLDER / file):
        if is_there(path):
            return str(path), read_file(path)
    archive = folder / f"{_TEXT_FOLDER}.zip"
    if is_file(archive):
        try:
            with zipfile.ZipFile(archive) as opened:
                for name in opened.namelist():
                    if name.removeprefix(f"{_TEXT_FOLDER}/") == file:
                        return f"{archive}:{name}", opened.read(name)
        except ARCHIVE_ERRORS as error:
            raise InputError(f"{archive} is not a readable .zip archive ({error})") from None
    raise InputError(f"data directory {str(folder)!r} lacks {file}: it should hold {LAYOUT}")
