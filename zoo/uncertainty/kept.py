"""Records that are kept as soon as a text is scored, so that the same command again goes on from there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tfp_bayesrnn
from tfp_bayesrnn.prediction.uncertainty import Fit
from zoo.filesystem.files import explained, is_file, is_there, read_file, write_whole
from zoo.uncertainty.records import Records
from zoo.uncertainty.scorers import Progress, Scorer
from zoo.uncertainty.sources import path_of
from zoo.uncertainty.streams import Stream


def fingerprint(sources: Sequence[str]) -> str | None:
    """A sum over all that the scores of sources depend on; None where that cannot be known.

    Trained workdirs, SavedModels and Keras files are known by their content. A function of Python is not:
    what it returns may depend on anything. Files of scores need no keeping.

    Args:
      sources: the names, as `zoo.uncertainty.sources` lists them; several for an ensemble.
    """
    found = hashlib.sha256(tfp_bayesrnn.__version__.encode())
    for source in sources:
        path = Path(path_of(source))
        files = sorted(_files(path))
        if not files:
            return None
        for file in files:
            # A file is known by its name within the source, which may be moved.
            found.update(os.fsencode(file.relative_to(path) if file != path else path.suffix) + b"\0")
            found.update(hashlib.sha256(read_file(file)).digest())
    return found.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if is_file(path / "config.json"):
        yield path / "config.json"
        yield from (path / "checkpoints" / "best").glob("ckpt-*")
    elif is_file(path / "saved_model.pb"):
        yield from (file for file in path.rglob("*") if file.is_file())
    elif path.suffix in (".keras", ".h5"):
        yield path


class KeptScorer:
    """A `Scorer` whose records are written down, and read again where they are there already."""

    def __init__(self, scorer: Scorer, folder: Path, identity: Sequence[Any]):
        """Takes a scorer and where its records are.

        Args:
          scorer: what scores a text that has no records yet.
          folder: the folder of the records; it is made with the first.
          identity: all that the records depend on besides the text, as JSON takes it.
        """
        self.name, self.method = scorer.name, scorer.method
        self.weights, self.layout = scorer.weights, scorer.layout
        self._scorer, self._folder = scorer, folder
        self._identity = [*identity, scorer.weights, scorer.layout]

    def score(self, name: str, stream: Stream, progress: Progress = iter) -> Records | None:
        """See `Scorer`.

        Raises:
          InputError: what the scorer within raises; the records cannot be written.
        """
        path = self._path(name, stream)
        found = _read(path)
        if found is not None and found.keys() <= set(Records._fields) and "entropy" in found:
            return Records(**{field: values.astype(np.float64) for field, values in found.items()})
        records = self._scorer.score(name, stream, progress)
        if records is not None:
            fields = zip(Records._fields, records, strict=True)
            self._write(path, {field: values for field, values in fields if values is not None})
        return records

    def fit_temperature(self, stream: Stream, progress: Progress = iter) -> Fit | None:
        """See `Scorer`, and `score`."""
        path = self._path("temperature", stream)
        found = _read(path)
        if found is not None and found.keys() == set(Fit._fields):
            return Fit(**{field: float(value) for field, value in found.items()})
        fit = self._scorer.fit_temperature(stream, progress)
        if fit is not None:
            self._write(path, {field: np.array(value) for field, value in fit._asdict().items()})
        return fit

    def tempered(self, temperature: float) -> Scorer | None:
        """See `Scorer`."""
        scorer = self._scorer.tempered(temperature)
        if scorer is None:
            return None
        return KeptScorer(scorer, self._folder, [*self._identity, "temperature", temperature])

    def _path(self, name: str, stream: Stream) -> Path:
        text = hashlib.sha256(np.ascontiguousarray(stream.tokens, "<i4").data).hexdigest()
        identity = json.dumps([self._identity, text, Records._fields])
        return self._folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}-{name[:40]}.npz"

    def _write(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        content = io.BytesIO()
        kept: dict[str, Any] = {}
        for field, values in arrays.items():
            single = values.astype(np.float32)
            kept[field] = single if np.array_equal(single, values) else values
        np.savez_compressed(content, **kept)
        with explained(self._folder, "create"):
            self._folder.mkdir(exist_ok=True)
        write_whole(path, content.getvalue())


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file; None where there is none that is whole."""
    if not is_there(path):
        return None
    try:
        with np.load(io.BytesIO(read_file(path))) as arrays:
            return {field: arrays[field] for field in arrays.files}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
