"""Scores of texts from files: what any program has written down of its predictions.

A file, or a directory, holds for any of the texts, "test" at least, in the order of their predictions (word 2
of the text is the first that is predicted), either

* values of each prediction, [N]: "entropy" in nats and any of "log_prob" (of the word that came, nats),
  "confidence" (the largest probability), "correct" (0 or 1: whether the most probable word came), "brier",
  "aleatoric" (mean entropy over samples of the weights, nats) and "reverse_information" (mean divergence of
  the average from the samples, nats); or
* the probabilities of all words, [N, V], or those of S samples of the weights, [S, N, V].

The forms of it:

    FILE.npz     arrays "test_entropy", "reversed_log_prob" ..., or "test_probabilities"
    FILE.csv     columns "stream", "entropy" ..., a line for each prediction
    FILE.npy     probabilities for the test text
    DIRECTORY    test.npy, reversed.npy ...: probabilities, of which a part at a time is read
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.errors import InputError, unknown_name
from tfp_bayesrnn.filesystem.paths import check_regular, local_path
from zoo.filesystem.files import explained
from zoo.uncertainty.records import VALUES, Records, in_order, make_records
from zoo.uncertainty.scorers import Progress
from zoo.uncertainty.streams import Stream

_PROBABILITIES = "probabilities"
_POSITIONS = 256  # The number of positions whose probabilities are looked at together.


class FileScorer:
    """The scores that a file holds; see the module. It is a `Scorer`."""

    def __init__(self, path: str, name: str, vocabulary_size: int):
        """Reads the file, or finds the files of a directory.

        Args:
          path: the path of the file or directory.
          name: the name of the model.
          vocabulary_size: the number of words in the vocabulary, V.

        Raises:
          InputError: it cannot be read, or holds something else.
        """
        self.name, self.method, self.weights, self.layout = name, "from a file", "", "as in the file"
        self._path, self._vocabulary_size = local_path(path, "path"), vocabulary_size
        self._values = _read(self._path)

    def fit_temperature(self, stream: Stream, progress: Progress = iter) -> None:
        """See `Scorer`: there are no probabilities of every word of the validation text."""

    def tempered(self, temperature: float) -> None:
        """See `Scorer`."""

    def score(self, name: str, stream: Stream, progress: Progress = iter) -> Records | None:
        """See `Scorer`.

        Raises:
          InputError: the file's scores of the text cannot be right.
        """
        values = self._values.get(name)
        if values is None:
            return None
        if _PROBABILITIES in values:
            return self._of_probabilities(name, values[_PROBABILITIES], stream, progress)
        if "entropy" not in values:
            raise InputError(f"{self._path} has no entropy for {name}: it is what is compared")
        records = Records(**{field: np.asarray(value, np.float64) for field, value in values.items()})
        for field, value in zip(records._fields, records, strict=True):
            if value is not None:
                self._check(name, field, value, stream)
        return records

    def _check(self, name: str, field: str, values: np.ndarray, stream: Stream) -> None:
        if values.shape != (stream.predictions,):
            raise InputError(
                f"{self._path}: {field} for {name} has shape {list(values.shape)}; accepted: "
                f"[{stream.predictions}], one value for each word after the first"
            )
        largest = np.log(self._vocabulary_size)
        low, high = {
            "entropy": (0.0, largest),
            "aleatoric": (0.0, largest),
            "log_prob": (-np.inf, 0.0),
            "brier": (0.0, 2.0),
            "reverse_information": (0.0, np.inf),
        }.get(field, (0.0, 1.0))
        outside = np.flatnonzero(~((values >= low - 1e-4) & (values <= high + 1e-4)))
        if len(outside):
            what = f"{field} of prediction {outside[0]} of {name} is {values[outside[0]]:g}"
            raise InputError(f"{self._path}: {what}; accepted: {low:g} to {high:g}, entropies in nats")

    def _of_probabilities(
        self, name: str, probabilities: np.ndarray, stream: Stream, progress: Progress
    ) -> Records:
        expected = (stream.predictions, self._vocabulary_size)
        if probabilities.ndim not in (2, 3) or probabilities.shape[-2:] != expected:
            raise InputError(
                f"{self._path}: probabilities for {name} have shape {list(probabilities.shape)}; accepted: "
                f"{list(expected)}, or [samples, {expected[0]}, {expected[1]}]"
            )
        if probabilities.ndim == 2:
            probabilities = probabilities[np.newaxis]
        found = []
        for start in progress(range(0, stream.predictions, _POSITIONS)):
            part = tf.constant(probabilities[:, start : start + _POSITIONS].astype(np.float32))
            sums = tf.reduce_sum(part, axis=-1)
            if not bool(tf.reduce_all(part >= 0)) or not bool(tf.reduce_all(tf.abs(sums - 1.0) < 1e-2)):
                raise InputError(
                    f"{self._path}: from prediction {start} of {name} on there are values that are no "
                    "probabilities; accepted: 0 or more, summing to 1 over the words"
                )
            targets = tf.constant(stream.tokens[start + 1 : start + 1 + part.shape[1]])
            log_probs = tf.math.log(part) - tf.math.log(sums)[..., tf.newaxis]
            fields = make_records(log_probs, targets)
            found.append([None if field is None else field.numpy()[np.newaxis] for field in fields])
        return in_order(found, [stream.predictions])


def _read(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The values of each field, by the name of the text and that of the field."""
    with explained(path, "read"):
        try:
            if path.is_dir():
                found = {file.stem: {_PROBABILITIES: _map(file)} for file in sorted(path.glob("*.npy"))}
            elif path.suffix == ".npy":
                found = {"test": {_PROBABILITIES: _map(path)}}
            elif path.suffix == ".npz":
                check_regular(path)
                with open(path, "rb") as file, np.load(file) as arrays:
                    found = _by_stream(path, {name: arrays[name] for name in arrays.files})
            else:
                found = _read_csv(path)
        except InputError:
            raise
        except OSError:
            raise
        except Exception as error:  # NumPy's, zipfile's and csv's readers raise many types.
            raise InputError(f"cannot read {path}: {error or type(error).__name__}") from None
    if "test" not in found:
        raise InputError(f"{path} holds nothing for test, the text that others are compared with")
    return found


def _map(path: Path) -> np.ndarray:
    check_regular(path)
    return np.load(path, mmap_mode="r")


def _by_stream(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    fields = (*VALUES, _PROBABILITIES)
    for name, values in arrays.items():
        field = next((field for field in fields if name.endswith(f"_{field}")), None)
        if field is None:
            raise unknown_name(f"array in {path}", name, [f"test_{field}" for field in fields])
        found.setdefault(name.removesuffix(f"_{field}"), {})[field] = values
    return found


def _read_csv(path: Path) -> dict[str, dict[str, np.ndarray]]:
    check_regular(path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file)
        columns = lines.fieldnames or []
        for column in columns:
            if column not in ("stream", *VALUES):
                raise unknown_name(f"column in {path}", column, ("stream", *VALUES))
        found: dict[str, dict[str, list[float]]] = {}
        for line in lines:
            of_stream = found.setdefault(line.get("stream") or "test", {})
            for field in columns:
                if field != "stream":
                    of_stream.setdefault(field, []).append(_number(path, lines.line_num, field, line[field]))
    return {
        name: {field: np.array(values) for field, values in fields.items()} for name, fields in found.items()
    }


def _number(path: Path, line: int, field: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise InputError(f"{path}, line {line}: {field} {text!r} is not a number") from None
