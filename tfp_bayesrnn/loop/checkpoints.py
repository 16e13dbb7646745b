"""Checkpoints that survive what happens to files: interrupted writes, full disks, truncation, flipped bits.

A checkpoint is a file of TensorFlow's with the values of the *variables* of the objects given, by name.
Tracking the Keras objects themselves would leave out the state of their seed generators, and would depend on
whether a model has been compiled.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path, plain
from tfp_bayesrnn.loop import checkpoint_files as files
from tfp_bayesrnn.posterior import pruning
from tfp_bayesrnn.replicas import ReplicaVariables

# Trackables that checkpoints of earlier versions lack: they stay as they are.
_LATER = ("kl_weight",)


class Checkpoints:
    """The checkpoints of one run, in one directory.

    The newest `max_to_keep` are kept, each named after its step, and beside them the best one under
    `best/` and the state of a diverged run under `diverged/`. A checkpoint is written beside its place,
    flushed to disk and renamed, so an interrupted or failed write never shows among them. Which checkpoints
    there are is read from the directory alone: there is no state file that could disagree with it.

    Only saving, and `finish_write`, change anything on disk. Whoever restores may do so beside the process
    that writes, or from a directory that cannot be written to.

    Args:
      directory: The directory that holds them; created at the first save. A leading `~` is the home folder.
      trackables: Name -> `keras.Model`, `keras.Layer`, `keras.Optimizer`, `replicas.ReplicaVariables`,
        anything else with a list of `variables`, or a single variable. Models and optimizers must be built
        before saving or restoring, and no variable may be in two of them.
      max_to_keep: How many checkpoints to keep besides the best.
      best: The names of the trackables that the best checkpoint holds; None for all.
      writes: Whether this process writes. All workers of a run save, since it takes all of them to know every
        replica's values, and one of them writes; all read.

    Raises:
      InputError: if the directory is not a path of this machine (`filesystem.paths.local_path`), or none that
        TensorFlow can be made to read from (`filesystem.paths.plain`).
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        trackables: Mapping[str, Any],
        max_to_keep: int = 2,
        best: Sequence[str] | None = None,
        writes: bool = True,
    ):
        if max_to_keep < 1:
            raise ValueError(f"max_to_keep must be at least 1. Received: max_to_keep={max_to_keep}")
        self.directory = local_path(directory, "directory")
        with plain(self.directory):  # Fails early, before there is something to read.
            pass
        self.max_to_keep = max_to_keep
        self._trackables = dict(trackables)
        self._best = dict(trackables) if best is None else {name: trackables[name] for name in best}
        self._writes = writes

    @property
    def steps(self) -> list[int]:
        """The steps that have a checkpoint, readable or not, ascending."""
        return list(files.found(self.directory))

    @property
    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, readable or not."""
        return max(self.steps, default=None)

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint."""
        return max(files.found(self._best_directory), default=None)

    def digest_of_best(self) -> str | None:
        """SHA-256 of the best checkpoint's files, by which it is known again; None where there is none.

        Two checkpoints of one step differ in it if any value does.
        """
        step = self.best_step
        return None if step is None else files.digest(self._best_directory, step)

    def save(self, step: int) -> str:
        """Writes the checkpoint of `step`, then deletes all but it and the `max_to_keep - 1` before it.

        Returns:
          The checkpoint's path, as `tf.train.load_checkpoint` takes it, unless `[` or a backslash is in it.

        Raises:
          InputError: if it could not be written (disk full, no permission). Earlier ones are as they were.
        """
        return self._save(self.directory, step, self.max_to_keep, self._trackables)

    def save_best(self, step: int) -> str:
        """Writes the checkpoint of `step` as the best one, in place of the best before. See `save`."""
        return self._save(self._best_directory, step, 1, self._best)

    def save_diverged(self, step: int) -> str:
        """Writes the state of a diverged `step`, for inspection. It is never restored. See `save`."""
        return self._save(self.directory / "diverged", step, 1, self._trackables)

    def finish_write(self) -> None:
        """Moves checkpoints that a killed process had written, but not moved, to their place."""
        for directory in (self.directory, self._best_directory):
            files.finish(directory)

    def delete(self, step: int) -> None:
        """Deletes the checkpoint of a step, if there is one; the best one stays.

        Raises:
          InputError: if it cannot be deleted.
        """
        if step in self.steps:
            files.finish(self.directory)
            try:
                files.delete(self.directory / f"{files.PREFIX}-{step}")
            except OSError as error:
                raise InputError(
                    f"cannot delete checkpoint {step} in {self.directory}: {files.reason(error)}"
                ) from error

    def restore_latest(self) -> int | None:
        """Restores the newest checkpoint that can be read, be it one that was written but not yet moved.

        Damaged ones are passed over with a warning that names them and the one used instead. Nothing is
        assigned before a checkpoint has been read whole, checksums included. Masks that it holds of pruned
        weights (`tfp_bayesrnn.posterior.pruning`) are made where the model has none.

        Returns:
          The step restored; None if there is no checkpoint.

        Raises:
          InputError: if no checkpoint can be read, or one that can is of another model.
        """
        return self._restore(self.directory, self._trackables)

    def restore_best(self) -> int | None:
        """Restores the best checkpoint. See `restore_latest`."""
        return self._restore(self._best_directory, self._best)

    @property
    def _best_directory(self) -> Path:
        return self.directory / "best"

    def _save(self, directory: Path, step: int, keep: int, trackables: Mapping[str, Any]) -> str:
        target = directory / f"{files.PREFIX}-{step}"
        groups = _groups(trackables)
        values = {
            f"{group}/{name}": value
            for group, held in groups.items()
            for name, value in zip(held.names, held.read(), strict=True)
        }
        if not self._writes:
            return str(target)
        partial = directory / f"{files.PARTIAL}{os.getpid()}"
        files.finish(directory)
        try:
            files.delete_partial(directory)
            partial.mkdir(parents=True)
            tf.raw_ops.SaveV2(
                prefix=str(partial / target.name),
                tensor_names=list(values),
                shape_and_slices=[""] * len(values),
                tensors=list(values.values()),
            )
            files.move_into_place(partial, target)
            files.delete_others(directory, step, keep)
        except (tf.errors.OpError, OSError) as error:
            raise InputError(
                f"cannot write checkpoint {target}: {files.reason(error)}; earlier checkpoints are kept"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return str(target)

    def _restore(self, directory: Path, trackables: Mapping[str, Any]) -> int | None:
        newest, damaged = files.newest_readable(directory)
        if newest is None:
            if damaged:
                raise InputError(f"none of the checkpoints can be read: {', '.join(damaged)}")
            return None
        step, saved = newest
        path = str(directory / f"{files.PREFIX}-{step}")
        _add_saved_masks(saved, trackables)
        groups = _groups(trackables)
        for group in _LATER:
            if not any(name.startswith(f"{group}/") for name in saved):
                groups.pop(group, None)
        _check_same_model(path, saved, groups)
        for group, held in groups.items():
            held.write([saved[f"{group}/{name}"] for name in held.names])
        if damaged:
            logging.warning("cannot read checkpoint %s; using the one before, %s", ", ".join(damaged), path)
        return step


class _Group:
    """One trackable: its variables under names that do not depend on what else the process has made."""

    def __init__(self, group: str, held: Any):
        self._held = held
        single = isinstance(held, tf.Variable | keras.Variable)
        self.variables = [held] if single else list(held.variables)
        if not self.variables:
            raise ValueError(f"{group} has no variables yet: build it first. Received: {held!r}")
        self.names = [f"{i:03d}-{_stable_name(variable)}" for i, variable in enumerate(self.variables)]

    def shapes(self) -> list[tuple[int | None, ...]]:
        if isinstance(self._held, ReplicaVariables):
            return self._held.shapes()
        return [tuple(variable.shape) for variable in self.variables]

    def read(self) -> list[tf.Tensor]:
        if isinstance(self._held, ReplicaVariables):
            return self._held.read()
        return [tf.convert_to_tensor(_tf_variable(variable)) for variable in self.variables]

    def write(self, values: list[np.ndarray]) -> None:
        if isinstance(self._held, ReplicaVariables):
            self._held.write(values)
            return
        for variable, value in zip(self.variables, values, strict=True):
            _tf_variable(variable).assign(value)


def _groups(trackables: Mapping[str, Any]) -> dict[str, _Group]:
    groups = {group: _Group(group, held) for group, held in trackables.items()}
    group_of: dict[int, str] = {}
    for group, held in groups.items():
        for name, variable in zip(held.names, held.variables, strict=True):
            first = group_of.setdefault(id(_tf_variable(variable)), group)
            if first != group:
                raise ValueError(f"{name} is a variable of both {first} and {group}: give one of them")
    return groups


def _add_saved_masks(saved: files.Saved, trackables: Mapping[str, Any]) -> None:
    """Makes the masks of weights that were pruned when the checkpoint was written."""
    for group, held in trackables.items():
        if isinstance(held, keras.layers.Layer):
            names = [name.removeprefix(f"{group}/") for name in saved if name.startswith(f"{group}/")]
            pruning.add_saved_masks(held, sorted(names, key=lambda name: int(name.split("-")[0])))


def _check_same_model(path: str, saved: files.Saved, groups: Mapping[str, _Group]) -> None:
    for group, held in groups.items():
        found = {name for name in saved if name.startswith(f"{group}/")}
        for name, variable, shape in zip(held.names, held.variables, held.shapes(), strict=True):
            shown = f"{group} variable {getattr(variable, 'path', name)}"
            value = saved.get(f"{group}/{name}")
            found.discard(f"{group}/{name}")
            if value is None:
                raise InputError(f"checkpoint {path} is of another model: it has no {shown}")
            if len(value.shape) != len(shape) or any(
                size not in (None, there) for size, there in zip(shape, value.shape, strict=True)
            ):
                raise InputError(
                    f"checkpoint {path} is of another model: {shown} has shape {value.shape} there "
                    f"and {shape} here"
                )
            dtype = tf.as_dtype(variable.dtype)
            if value.dtype != dtype.as_numpy_dtype:
                raise InputError(
                    f"checkpoint {path} is of another model: {shown} is {value.dtype.name} there "
                    f"and {dtype.name} here"
                )
        if found:
            raise InputError(
                f"checkpoint {path} is of another model: it holds {min(found)}, which this one has not"
            )


def _stable_name(variable: Any) -> str:
    name = getattr(variable, "path", None) or variable.name.split(":")[0]
    without_counters = re.sub(r"_\d+(?=[-_/]|$)", "", name)
    return re.sub(r"[^0-9A-Za-z_]", "-", without_counters)


def _tf_variable(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable
