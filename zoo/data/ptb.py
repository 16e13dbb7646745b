"""Penn Treebank as Mikolov prepared it: 10,000 words, 929,589 / 73,760 / 82,430 tokens with `<eos>`.

Mikolov et al. (2010), "Recurrent neural network based language model". The treebank is the Linguistic Data
Consortium's; the archive's README allows research use.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import os
import re
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from tfp_bayesrnn.errors import InputError
from zoo.data.folder import data_folder
from zoo.data.text import NAMINGS, SPLITS, Lines, encode_splits, read_directory, split_files
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.files import is_file, read_file

ARCHIVE = "simple-examples.tgz"
URL = f"http://www.fit.vutbr.cz/~imikolov/rnnlm/{ARCHIVE}"
SHA256 = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
VOCABULARY_SIZE = 10_000

_MEMBER = re.compile(r"(.*/)?data/ptb\.(?P<split>train|valid|test)\.txt")
_MAX_MEMBER_BYTES = 64 << 20  # the largest is 5 MB
_TIMEOUT_SECONDS = 20
_BY_HAND = f"put ptb.train.txt, ptb.valid.txt and ptb.test.txt (or {ARCHIVE}) in a directory: --data_dir=DIR"


class PennTreebankWords(tfds.core.GeneratorBasedBuilder):
    """The archive as a tensorflow-datasets data set: one example a split, `{"text": the whole file}`.

    The SHA-256 of the archive is not public; the three members are verified by theirs, and the archive is
    not kept: what tensorflow-datasets stores afterwards is the copy.

    Args:
      url: the address of the archive (`file:` addresses too).
      sha256: the hashes that the three members should have, by split.
      **kwargs: as for every builder, such as `data_dir`.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Looked up by tensorflow-datasets with the package importlib_resources, which 4.9.10 forgets to require.
    code_path = epath.Path(__file__)

    def __init__(self, *, url: str = URL, sha256: Mapping[str, str] = SHA256, **kwargs: Any):
        self._url = url
        self._sha256 = dict(sha256)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Penn Treebank with the 10,000-word vocabulary of Mikolov et al. (2010).",
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            homepage=URL,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # it retries a dead address many times, and keeps and unpacks the whole archive
        members = fetch(self._url, self._sha256)
        return {split: self._generate_examples(members[split]) for split in SPLITS}

    def _generate_examples(self, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
        yield 0, {"text": content}


def load_ptb(data_dir: str | os.PathLike[str] | None = None) -> tuple[Vocabulary, dict[str, np.ndarray]]:
    """The vocabulary and the splits as int32 streams.

    Args:
      data_dir: where the files are, under any names `zoo.data.text` knows, or in the archive or the folder
        unpacked from it. Without it the archive is downloaded once and kept by tensorflow-datasets, in
        `$TFDS_DATA_DIR` or `~/tensorflow_datasets`. Files that are not Mikolov's are read with a warning.

    Raises:
      InputError: where the download fails, or the files cannot be used or have not 10,000 words.
    """
    if data_dir is None:
        return load_prepared(PennTreebankWords())
    folder = data_folder(data_dir, f"{NAMINGS}, or {ARCHIVE}")
    for inside in ("simple-examples/data", "data"):
        if is_file(folder / inside / "ptb.train.txt"):
            folder = folder / inside
            break
    if is_file(folder / ARCHIVE) and not list(folder.glob("*train.txt")):
        members = fetch((folder / ARCHIVE).absolute().as_uri(), SHA256)
        return encode_splits({split: (f"ptb.{split}.txt", _lines(members[split])) for split in SPLITS})
    vocabulary, splits = read_directory(folder, prefix="ptb.")
    if len(vocabulary) != VOCABULARY_SIZE:
        raise InputError(
            f"{str(folder)!r} has {len(vocabulary)} words with <eos>, dataset 'ptb' has {VOCABULARY_SIZE}; "
            "dataset 'text' takes any files"
        )
    for split, path in split_files(folder, prefix="ptb.").items():
        if hashlib.sha256(read_file(path)).hexdigest() != SHA256[split]:
            logging.warning("%s is not Mikolov's file: perplexities compare with no published one", path)
    return vocabulary, splits


def load_prepared(builder: PennTreebankWords) -> tuple[Vocabulary, dict[str, np.ndarray]]:
    """Prepares the data set unless that was done before, and reads it."""
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # "Downloading and preparing ..." is no result of ours
            builder.download_and_prepare()
    except OSError as error:
        raise InputError(f"cannot prepare dataset 'ptb' in {builder.data_dir}: {error}; {_BY_HAND}") from None
    splits = {}
    for split in SPLITS:
        example = next(iter(tfds.as_numpy(builder.as_dataset(split=split))))
        splits[split] = (f"ptb.{split}.txt", _lines(example["text"]))
    return encode_splits(splits)


def fetch(url: str, sha256: Mapping[str, str]) -> dict[str, bytes]:
    """The three files from the archive at `url`, by split, verified.

    Raises:
      InputError: where the download fails, or the archive is not what it should be.
    """
    with tempfile.TemporaryFile() as archive:
        _download(url, archive)
        archive.seek(0)
        members = read_archive(archive, url)
    for split, content in members.items():
        found = hashlib.sha256(content).hexdigest()
        if found != sha256[split]:
            raise InputError(
                f"{url}: data/ptb.{split}.txt has SHA-256 {found}, expected {sha256[split]}; "
                f"for another version of the files, {_BY_HAND}"
            )
    return members


def _lines(content: bytes) -> Lines:
    return lambda: io.BytesIO(content)


def read_archive(archive: io.BufferedIOBase, name: str) -> dict[str, bytes]:
    """The contents of `data/ptb.{train,valid,test}.txt` of an open archive, by split; nothing is unpacked.

    Args:
      archive: the archive, a gzipped tar file.
      name: the archive's name in errors.

    Raises:
      InputError: where it is no such archive, a member is missing, or one of the three is not a plain
        file inside the archive's own folder (a link, an absolute path, a path through `..`).
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for member in tar:
                match = _MEMBER.fullmatch(member.name)
                if not match:
                    continue
                if member.name.startswith("/") or ".." in member.name.split("/") or not member.isreg():
                    raise InputError(f"{name}: member {member.name!r} is refused: not a plain file inside it")
                if member.size > _MAX_MEMBER_BYTES:
                    raise InputError(f"{name}: member {member.name!r} is refused: {member.size} bytes")
                file = tar.extractfile(member)
                if file is not None:  # As it is of whatever is a plain file.
                    found[match["split"]] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{name} is not a readable .tgz archive ({error}): {_BY_HAND}") from None
    missing = [f"data/ptb.{split}.txt" for split in SPLITS if split not in found]
    if missing:
        raise InputError(f"{name} lacks {', '.join(missing)}: {_BY_HAND}")
    return found


def _download(url: str, target: io.BufferedIOBase) -> None:
    """Copies `url` into `target`: one attempt, given up when nothing comes for some seconds."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            shutil.copyfileobj(response, target)
            expected = response.headers.get("Content-Length")
            if expected is not None and target.tell() < int(expected):
                raise OSError(f"{target.tell()} of {expected} bytes came")
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise InputError(f"cannot download {url} ({reason}): {_BY_HAND}") from None
