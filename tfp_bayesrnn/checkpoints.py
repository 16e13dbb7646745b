"""Checkpoints that survive what happens to files: interrupted writes, full disks, truncation, flipped bits.

A checkpoint is a `tf.train.Checkpoint` over the *variables* of the objects given, listed by name. Tracking
the Keras objects themselves would leave out the state of their seed generators, and would depend on whether a
model has been compiled.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from tfp_bayesrnn.errors import InputError

_PREFIX = "ckpt"
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# What reading a damaged checkpoint raises. The reader turns TensorFlow's errors into Python's by their kind:
# data loss into RuntimeError, say, and a file that ends too early into IndexError.
_DAMAGE = (tf.errors.OpError, OSError, ValueError, LookupError, RuntimeError)


# Variable name, such as "model/003-lstm-kernel" -> shape and type.
_Saved = dict[str, tuple[tuple[int, ...], tf.DType]]


class Checkpoints:
    """The checkpoints of one run, in one directory.

    The newest `max_to_keep` are kept, each named after its step, and the best one apart from them under
    `best/`. A checkpoint is written beside its place, flushed to disk and renamed, so an interrupted or
    failed write never shows among them. Which checkpoints there are is read from the directory alone: there
    is no state file that could disagree with it.

    Args:
      directory: Where they are; created at the first save.
      trackables: Name -> `keras.Model`, `keras.Layer`, `keras.Optimizer`, anything else with a list of
        `variables`, or a single variable. Models and optimizers must be built before saving or restoring,
        and no variable may be in two of them.
      max_to_keep: How many checkpoints to keep besides the best.
    """

    def __init__(
        self, directory: str | os.PathLike[str], trackables: Mapping[str, Any], max_to_keep: int = 2
    ):
        if max_to_keep < 1:
            raise ValueError(f"max_to_keep must be at least 1. Received: max_to_keep={max_to_keep}")
        self.directory = Path(directory)
        self.max_to_keep = max_to_keep
        self._trackables = dict(trackables)

    @property
    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, readable or not, ascending."""
        return _steps(self.directory)

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, readable or not."""
        return max(self.steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint."""
        return max(_steps(self._best_directory), default=None)

    def save(self, step: int) -> str:
        """Writes the checkpoint of `step`, then deletes all but it and the `max_to_keep - 1` before it.

        Returns:
          The checkpoint's path, as `tf.train.load_checkpoint` takes it.

        Raises:
          InputError: it could not be written (disk full, no permission). Earlier ones are as they were.
        """
        return self._save(self.directory, step, self.max_to_keep)

    def save_best(self, step: int) -> str:
        """Writes the checkpoint of `step` as the best one, in place of the best before. See `save`."""
        return self._save(self._best_directory, step, 1)

    def restore_latest(self) -> int | None:
        """Restores the newest checkpoint that can be read.

        Damaged ones are passed over with a warning that names them and the one used instead. Nothing is
        assigned before a checkpoint has been read whole, checksums included.

        Returns:
          The step restored; None if there is no checkpoint.

        Raises:
          InputError: no checkpoint can be read, or one that can is of another model.
        """
        return self._restore(self.directory)

    def restore_best(self) -> int | None:
        """Restores the best checkpoint. See `restore_latest`."""
        return self._restore(self._best_directory)

    @property
    def _best_directory(self) -> Path:
        return self.directory / "best"

    def _save(self, directory: Path, step: int, keep: int) -> str:
        target = directory / f"{_PREFIX}-{step}"
        partial = directory / f".partial-{os.getpid()}"
        try:
            partial.mkdir(parents=True, exist_ok=True)
            self._checkpoint().write(str(partial / target.name))
            _move_into_place(partial, target)
            _delete_others(directory, step, keep)
        except (tf.errors.OpError, OSError) as error:
            raise InputError(
                f"cannot write checkpoint {target}: {_reason(error)}; earlier checkpoints are kept"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return str(target)

    def _restore(self, directory: Path) -> int | None:
        damaged: list[str] = []
        for step in reversed(_steps(directory)):
            path = str(directory / f"{_PREFIX}-{step}")
            try:
                saved = _read_whole(path)
            except _DAMAGE as error:
                damaged.append(f"{path} ({_reason(error)})")
                continue
            self._check_same_model(path, saved)
            self._checkpoint().read(path).assert_existing_objects_matched().expect_partial()
            if damaged:
                logging.warning(
                    "cannot read checkpoint %s; using the one before, %s", ", ".join(damaged), path
                )
            return step
        if damaged:
            raise InputError(f"none of the checkpoints can be read: {', '.join(damaged)}")
        return None

    def _groups(self) -> dict[str, dict[str, Any]]:
        groups = {group: _named_variables(group, held) for group, held in self._trackables.items()}
        group_of: dict[int, str] = {}
        for group, variables in groups.items():
            for name, variable in variables.items():
                first = group_of.setdefault(id(_tf_variable(variable)), group)
                if first != group:
                    raise ValueError(f"{name} is a variable of both {first} and {group}: give one of them")
        return groups

    def _checkpoint(self) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(
            **{
                group: {name: _tf_variable(variable) for name, variable in variables.items()}
                for group, variables in self._groups().items()
            }
        )

    def _check_same_model(self, path: str, saved: _Saved) -> None:
        for group, variables in self._groups().items():
            found = {name: value for name, value in saved.items() if name.startswith(f"{group}/")}
            for name, variable in variables.items():
                shown = f"{group} variable {getattr(variable, 'path', name)}"
                value = found.pop(f"{group}/{name}", None)
                if value is None:
                    raise InputError(f"checkpoint {path} is of another model: it has no {shown}")
                shape, dtype = value
                if shape != tuple(variable.shape):
                    raise InputError(
                        f"checkpoint {path} is of another model: {shown} has shape {shape} there "
                        f"and {tuple(variable.shape)} here"
                    )
                if dtype != tf.as_dtype(variable.dtype):
                    raise InputError(
                        f"checkpoint {path} is of another model: {shown} is {dtype.name} there "
                        f"and {tf.as_dtype(variable.dtype).name} here"
                    )
            if found:
                raise InputError(
                    f"checkpoint {path} is of another model: it holds {min(found)}, which this one has not"
                )


def _named_variables(group: str, held: Any) -> dict[str, Any]:
    """One trackable's variables by names that do not depend on what else the process has made."""
    if isinstance(held, tf.Variable | keras.Variable):
        variables = [held]
    else:
        variables = list(held.variables)
    if not variables:
        raise ValueError(f"{group} has no variables yet: build it first. Received: {held!r}")
    return {f"{i:03d}-{_stable_name(variable)}": variable for i, variable in enumerate(variables)}


def _stable_name(variable: Any) -> str:
    name = getattr(variable, "path", None) or variable.name.split(":")[0]
    without_counters = re.sub(r"_\d+(?=[-_/]|$)", "", name)
    return re.sub(r"[^0-9A-Za-z_]", "-", without_counters)


def _tf_variable(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _read_whole(path: str) -> _Saved:
    """Shape and type of every variable of a checkpoint, each value read and its checksum verified."""
    reader = tf.train.load_checkpoint(path)
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    saved = {}
    for key in shapes:
        reader.get_tensor(key)
        if key.endswith(_VALUE):
            saved[key.removesuffix(_VALUE)] = tuple(shapes[key]), types[key]
    return saved


def _steps(directory: Path) -> list[int]:
    """Ascending steps of which any file exists: one that lost a file is found, and found damaged."""
    pattern = re.compile(rf"{_PREFIX}-(\d+)\.(?:index|data-\d+-of-\d+)")
    if not directory.is_dir():
        return []
    matches = [pattern.fullmatch(name) for name in os.listdir(directory)]
    return sorted({int(match[1]) for match in matches if match})


def _files(prefix: Path) -> list[Path]:
    """A checkpoint's files, the index last: without it, the others do not make a checkpoint."""
    files = [path for path in prefix.parent.iterdir() if path.name.startswith(f"{prefix.name}.")]
    return sorted(files, key=lambda path: (path.name.endswith(".index"), path.name))


def _move_into_place(partial: Path, target: Path) -> None:
    files = _files(partial / target.name)
    for path in files:
        _flush_to_disk(path)
    _delete(target)
    for path in files:
        os.replace(path, target.parent / path.name)
    _flush_to_disk(target.parent)


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _delete(prefix: Path) -> None:
    for path in reversed(_files(prefix)):
        path.unlink(missing_ok=True)


def _delete_others(directory: Path, step: int, keep: int) -> None:
    """Deletes all but the newest `keep` up to `step`.

    Later ones are of a run that has been set back to an earlier step, past a damaged checkpoint perhaps.
    """
    steps = _steps(directory)
    kept = [other for other in steps if other <= step][-keep:]
    for other in steps:
        if other not in kept:
            _delete(directory / f"{_PREFIX}-{other}")


def _reason(error: BaseException) -> str:
    """What is wrong, without the op and the path that TensorFlow puts around it."""
    text = str(getattr(error, "message", None) or getattr(error, "strerror", None) or error)
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", text).strip()
    line = (text.splitlines() or [type(error).__name__])[0]
    return line.split("; ")[-1].strip()[:200]
