"""The directory a run leaves its results in: configuration, metrics, results, checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem import folders
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.configuration import config as configs
from zoo.configuration.fields import Change
from zoo.filesystem import ownership
from zoo.filesystem.checksums import Checksums, damaged
from zoo.filesystem.files import explained, is_folder, is_there, json_text, read_file, to_jsonable
from zoo.runs.settings import RunConfig

if TYPE_CHECKING:
    from tfp_bayesrnn.loop.checkpoints import Checkpoints

CONFIG = "config.json"


class Workdir:
    """One run's directory and the files in it.

    Files that are written whole (`config.json`, `results.json`) appear whole or not at all: they are written
    beside their place, flushed to disk and renamed. `metrics.jsonl` grows by a line at a time. All of it is
    valid JSON: numbers that are not finite are written as null. Damage to a file is seen when it is read
    (`zoo.filesystem.checksums`).

    Args:
      path: The directory; it is created, with its parents, unless `create` is false.
      create: Whether a missing directory is made. Without, it is an error.

    Raises:
      InputError: the path is a file, cannot be created or (with `create=False`) does not exist.
    """

    def __init__(self, path: str | os.PathLike[str], create: bool = True):
        self.path = local_path(path, "workdir")
        self._is_owned = False
        if not is_there(self.path):
            with suppress(OSError):
                folders.recover(self.path)  # One that was being replaced, as `--mode=prune` does.
        if is_there(self.path) and not is_folder(self.path):
            raise InputError(f"workdir {path} is a file; a directory is needed")
        if create:
            with explained(self.path, "create"):
                self.path.mkdir(parents=True, exist_ok=True)
        elif not is_folder(self.path):
            raise InputError(
                f"workdir {path} does not exist; accepted: the workdir of a finished --mode=train"
            )

    @property
    def config_path(self) -> Path:
        """The whole resolved configuration."""
        return self.path / CONFIG

    @property
    def metrics_path(self) -> Path:
        """One JSON object per evaluation, a line each."""
        return self.path / "metrics.jsonl"

    @property
    def results_path(self) -> Path:
        """The run's final figures."""
        return self.path / "results.json"

    @property
    def divergence_path(self) -> Path:
        """The last steps of a training that diverged."""
        return self.path / "diverged.json"

    @property
    def pruning_path(self) -> Path:
        """The perplexity by the fraction of weights dropped; of a pruned workdir, what was dropped."""
        return self.path / "pruning.json"

    @property
    def pruning_plot_path(self) -> Path:
        """The same perplexities as a drawing."""
        return self.path / "pruning.svg"

    @property
    def pruned_dir(self) -> Path:
        """The workdir of the pruned model."""
        return self.path / "pruned"

    @property
    def uncertainty_path(self) -> Path:
        """Figures of models side by side: calibration, entropies, what tells texts apart."""
        return self.path / "uncertainty.json"

    @property
    def vocabulary_path(self) -> Path:
        """The vocabulary the run was trained with."""
        return self.path / "vocabulary.txt"

    @property
    def data_path(self) -> Path:
        """The record by which the data of the run are known again (`zoo.runs.run_data`)."""
        return self.path / "data.json"

    @property
    def checkpoints_dir(self) -> Path:
        """Checkpoints, the best one in a directory of its own."""
        return self.path / "checkpoints"

    @property
    def tensorboard_dir(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def export_dir(self) -> Path:
        """Exported models."""
        return self.path / "export"

    @property
    def has_trained(self) -> bool:
        """Whether there is a checkpoint, readable or not, of a step or more."""
        held = self._held()
        return any(held.steps) or bool(held.best_step)

    @property
    def best_digest(self) -> str | None:
        """What the best checkpoint is known by (`Checkpoints.digest_of_best`); None where there is none."""
        return self._held().digest_of_best()

    def _held(self) -> Checkpoints:
        # Not at the top: it imports TensorFlow, which a look at a run's configuration can do without.
        from tfp_bayesrnn.loop.checkpoints import Checkpoints

        return Checkpoints(self.checkpoints_dir, {}, writes=False)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Within, no other process writes here (`zoo.filesystem.ownership`).

        Raises:
          WorkdirInUse: another process does.
          InputError: nothing can be written here.
        """
        if self._is_owned:
            yield
            return
        with ownership.owned(self.path):
            self._is_owned = True
            try:
                yield
            finally:
                self._is_owned = False

    @property
    def is_in_use(self) -> bool:
        """Whether another process trains here."""
        return not self._is_owned and ownership.is_in_use(self.path)

    def accept(self, config: RunConfig) -> bool:
        """Checks that this may become, or is, the workdir of a run of `config`. It writes nothing.

        A workdir that belongs to a run whose result so far `config` would change is refused. Fields that do
        not change it (`fields.Change.RESUMED`) may be others; so may the schedule of a pruned model that has
        not been trained since (`FINE_TUNED`). A run that has no checkpoint yet has no
        result: what a start has left that failed before its first binds nobody.

        Returns:
          Whether it is that of a run that has trained, so that there is something to resume.

        Raises:
          InputError: another configuration's workdir, with each differing field and both values.
        """
        has_trained = self.has_trained
        if is_there(self.config_path):
            saved = configs.parse_saved(self.read_config(), str(self.config_path))
            if not has_trained and configs.is_part(RunConfig, saved):
                return False
            free = Change.FINE_TUNED if self.is_just_pruned else Change.RESUMED
            differing = configs.describe_differences(saved, config, free)
            if differing:
                raise InputError(
                    f"workdir {self.path} belongs to another configuration: {differing}; "
                    "give another --workdir or the same configuration, which it is without --preset"
                )
        elif is_there(self.checkpoints_dir):
            raise InputError(
                f"workdir {self.path} holds checkpoints but no config.json: give another --workdir"
            )
        return has_trained

    def claim(self, config: RunConfig) -> bool:
        """`accept` and `bind`."""
        has_trained = self.accept(config)
        self.bind(config)
        return has_trained

    def bind(self, config: RunConfig) -> None:
        """Writes `config.json`. With the first checkpoint this is the workdir of `config`.

        Raises:
          InputError: it cannot be written.
        """
        self.write(self.config_path, configs.to_json(config))

    @property
    def is_just_pruned(self) -> bool:
        """Whether the workdir is that of a pruned model, from `--mode=prune`, not trained since."""
        try:
            made = json.loads(self.read(self.pruning_path))
            step, _ = made["step"], made["fraction"]  # A measurement of a run has no fraction.
        except (OSError, ValueError, LookupError, TypeError):
            return False
        return {file.stem for file in self.checkpoints_dir.glob("ckpt-*.index")} == {f"ckpt-{step}"}

    def read_config(self) -> str:
        """The text of `config.json`, of which `zoo.registry.read_config` makes the run's configuration.

        Raises:
          InputError: there is none, or it cannot be read.
        """
        if not is_there(self.config_path):
            raise InputError(
                f"workdir {self.path} holds no config.json; accepted: the workdir of --mode=train"
            )
        return self.read(self.config_path).decode("utf-8", "replace")

    def write(self, path: Path, content: str | bytes) -> None:
        """Writes one of the directory's files whole, and its checksum.

        Raises:
          InputError: it cannot be written.
        """
        Checksums(self.path).write(path, content)

    def write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        """Writes a value as indented JSON; see `write` and `zoo.filesystem.files.to_jsonable`."""
        self.write(path, json_text(value))

    def read(self, path: Path) -> bytes:
        """The content of one of the directory's files.

        Raises:
          InputError: it cannot be read, or is damaged.
        """
        return Checksums(self.path).read(path)

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Adds one line to `metrics.jsonl`."""
        line = (json.dumps(to_jsonable(metrics), allow_nan=False) + "\n").encode()
        before = read_file(self.metrics_path) if is_there(self.metrics_path) else b""
        Checksums(self.path).add(self.metrics_path, before + line)
        with explained(self.metrics_path, "write"), open(self.metrics_path, "ab") as file:
            file.write(line)

    def read_metrics_lines(self) -> list[str]:
        """The lines of `metrics.jsonl`, without one that a crash tore or that is just being written.

        Raises:
          InputError: the file cannot be read, or is damaged.
        """
        return self._metrics_lines()[0]

    def read_metrics(self) -> list[dict[str, Any]]:
        """The entries of `metrics.jsonl`, oldest first. What a crash tore is left out, with a warning.

        Raises:
          InputError: the file cannot be read, or is damaged.
        """
        lines, torn = self._metrics_lines()
        metrics = []
        for number, line in enumerate([*lines, *torn], start=1):
            entry = _parse_object(line) if number <= len(lines) else None
            if entry is None:
                logging.warning("%s: line %d is not a JSON object; left out", self.metrics_path, number)
            else:
                metrics.append(entry)
        return metrics

    def _metrics_lines(self) -> tuple[list[str], list[str]]:
        """The whole lines, and the torn one, if there is any."""
        path, sums = self.metrics_path, Checksums(self.path)
        if not is_there(path):
            return [], []
        content = read_file(path)
        whole, end, torn = content.rpartition(b"\n")
        if content and sums.knows(path, content) is False:
            # A line whose end was altered is not a torn line.
            is_torn = torn and sums.knows(path, content[:-1] + b"\n") is False
            if not is_torn or (whole and sums.knows(path, whole + end) is False):
                raise damaged(path)
        lines = [line.decode("utf-8", "replace") for line in [*(whole + end).split(b"\n")[:-1], torn]]
        return lines[:-1], lines[-1:] if torn else []

    def truncate_metrics(self, step: int) -> None:
        """Drops torn lines of `metrics.jsonl`, and those after `step`, which a resumed run writes again."""
        if not is_there(self.metrics_path):
            return
        kept = [entry for entry in self.read_metrics() if entry.get("step", 0) <= step]
        text = "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in map(to_jsonable, kept))
        self.write(self.metrics_path, text)

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Writes `results.json`, in place of the one before."""
        self.write_json(self.results_path, results)

    def write_divergence(self, evidence: Mapping[str, Any]) -> None:
        """Writes `diverged.json`, in place of the one before."""
        self.write_json(self.divergence_path, evidence)

    def read_results(self) -> dict[str, Any] | None:
        """The contents of `results.json`; None where there is none or it is no JSON object.

        Raises:
          InputError: it cannot be read, or is damaged.
        """
        if not is_there(self.results_path):
            return None
        return _parse_object(self.read(self.results_path).decode("utf-8", "replace"))


def _parse_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
