"""The files of checkpoints: written beside their place and moved into it, found and read whole, deleted."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.folders import flush_to_disk
from tfp_bayesrnn.filesystem.paths import check_regular, plain

PREFIX = "ckpt"
# The directory in which a checkpoint is written, and the one in which it waits only to be moved.
PARTIAL, _READY = ".partial-", ".ready-"
_FILE = re.compile(rf"{PREFIX}-(\d+)\.(?:index|data-\d+-of-\d+)")
# How often checkpoints that went while they were read are looked for again.
_REREADS = 100
# The end of names in checkpoints that `tf.train.Checkpoint` wrote, as earlier versions did.
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# Errors of reading a damaged checkpoint. The reader turns TensorFlow's errors into Python's by their kind:
# data loss into RuntimeError, say, and a file that ends too early into IndexError.
_DAMAGE = (tf.errors.OpError, OSError, ValueError, LookupError, RuntimeError)


# From a name, such as "model/003-lstm-kernel", to a value.
Saved = dict[str, np.ndarray]


def newest_readable(directory: Path) -> tuple[tuple[int, Saved] | None, list[str]]:
    """The step and values of the newest checkpoint that can be read, and the paths of those that cannot.

    A checkpoint that goes or comes while it is read, since another process writes, is not a damaged one.
    """
    for _ in range(_REREADS):
        there = found(directory)
        damaged: list[str] = []
        for step in reversed(there):
            try:
                return (step, _read(directory, step, there[step])), damaged
            except _DAMAGE as error:
                damaged.append(f"{directory / f'{PREFIX}-{step}'} ({reason(error)})")
                if found(directory) != there:
                    break
        else:
            break
    return None, damaged


def _read(directory: Path, step: int, files: Sequence[Path]) -> Saved:
    """Returns every value of a checkpoint, some of whose files may still wait to be moved."""
    if {file.parent for file in files} == {directory}:
        return _read_whole(str(directory / f"{PREFIX}-{step}"))
    with tempfile.TemporaryDirectory() as together:
        for file in files:
            os.symlink(file.absolute(), os.path.join(together, file.name))
        return _read_whole(os.path.join(together, f"{PREFIX}-{step}"))


def _read_whole(path: str) -> Saved:
    """Returns every value of a checkpoint, its checksum verified."""
    prefix = Path(path)
    for file in _files(prefix):
        check_regular(file)
    with plain(prefix.parent) as folder:
        reader = tf.train.load_checkpoint(str(folder / prefix.name))
        return {
            key.removesuffix(_VALUE): reader.get_tensor(key) for key in reader.get_variable_to_shape_map()
        }


def found(directory: Path) -> dict[int, list[Path]]:
    """Returns step -> files of its checkpoint, ascending.

    A checkpoint that lost a file is included, to be found damaged. The files of one that waits to be moved,
    or is just being moved, are given wherever they are.
    """
    by_step: dict[int, dict[str, Path]] = {}
    for place in (directory, *_ready(directory)):
        for name in _names(place):
            match = _FILE.fullmatch(name)
            if match:
                by_step.setdefault(int(match[1]), {})[name] = place / name
    return {step: list(files.values()) for step, files in sorted(by_step.items())}


def digest(directory: Path, step: int) -> str | None:
    """SHA-256 over the files of the checkpoint of a step, in hexadecimal; None where one goes meanwhile."""
    sums = hashlib.sha256()
    for path in sorted(found(directory).get(step, ()), key=lambda path: path.name):
        try:
            with open(path, "rb") as file:
                sums.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            return None
    return sums.hexdigest()


def _ready(directory: Path) -> list[Path]:
    """The directories of checkpoints that only have to be moved."""
    waiting = (directory / name for name in _names(directory) if name.startswith(_READY))
    return sorted(path for path in waiting if path.is_dir())


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:  # Never made, or deleted meanwhile.
        return []
    except OSError as error:
        raise InputError(f"cannot look for checkpoints in {directory}: {reason(error)}") from error


def _steps(directory: Path) -> list[int]:
    """Ascending steps of the checkpoints that are in their place."""
    return sorted({int(match[1]) for match in map(_FILE.fullmatch, _names(directory)) if match})


def _files(prefix: Path) -> list[Path]:
    """A checkpoint's files, the index last: without it, the others do not make a checkpoint."""
    files = [path for path in prefix.parent.iterdir() if path.name.startswith(f"{prefix.name}.")]
    return sorted(files, key=lambda path: (path.name.endswith(".index"), path.name))


def move_into_place(partial: Path, target: Path) -> None:
    """Commits a checkpoint: from the first rename on it is there, if with the help of `finish_write`."""
    for path in _files(partial / target.name):
        flush_to_disk(path)
    ready = target.parent / f"{_READY}{target.name}"
    shutil.rmtree(ready, ignore_errors=True)
    os.replace(partial, ready)
    flush_to_disk(target.parent)
    _move_out(ready)


def finish(directory: Path) -> None:
    """Moves checkpoints that a killed process had written, but not moved, to their place."""
    for ready in _ready(directory):
        try:
            _move_out(ready)
        except OSError as error:
            raise InputError(f"cannot move checkpoint {ready} to its place: {reason(error)}") from error


def _move_out(ready: Path) -> None:
    for path in _files(ready / ready.name.removeprefix(_READY)):
        os.replace(path, ready.parent / path.name)
    flush_to_disk(ready.parent)
    ready.rmdir()


def delete_partial(directory: Path) -> None:
    """Deletes what writes that were killed have left."""
    for path in directory.glob(f"{PARTIAL}*"):
        shutil.rmtree(path)


def delete(prefix: Path) -> None:
    """Deletes a checkpoint, its index first: without it, what is left is none."""
    for path in reversed(_files(prefix)):
        path.unlink(missing_ok=True)


def delete_others(directory: Path, step: int, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints up to `step`.

    Later ones belong to a run that has been set back to an earlier step, past a damaged checkpoint perhaps.
    """
    steps = _steps(directory)
    kept = [other for other in steps if other <= step][-keep:]
    for other in steps:
        if other not in kept:
            delete(directory / f"{PREFIX}-{other}")


def reason(error: BaseException) -> str:
    """The cause of an error, without the op and the path that TensorFlow puts around it."""
    text = str(getattr(error, "message", None) or getattr(error, "strerror", None) or error)
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", text).strip()
    line = (text.splitlines() or [type(error).__name__])[0]
    return line.split("; ")[-1].strip()[:200]
