"""A workdir's contents, read for the report: every file whole and understood, or an error that names it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple

from tfp_bayesrnn.errors import InputError
from zoo.configuration import methods
from zoo.configuration.config import parse_object
from zoo.filesystem.files import is_there
from zoo.runs.run_data import data_dir_of
from zoo.runs.settings import Config
from zoo.runs.workdir import Workdir

DEFAULT_SAMPLES = 10
"""Draws of the weights that are averaged where the configuration does not say how many."""


class Contents(NamedTuple, Generic[Config]):
    """A workdir and what the modes of the command line have left in it; None for what is not there."""

    config: Config
    directory: Workdir
    data_dir: str | None
    metrics: list[dict[str, Any]]
    results: dict[str, Any] | None
    uncertainty: dict[str, Any] | None
    pruning: dict[str, Any] | None
    divergence: dict[str, Any] | None

    @classmethod
    def read(
        cls, config: Config, workdir: str | os.PathLike[str], data_dir: str | None = None
    ) -> Contents[Config]:
        """Reads it.

        Args:
          config: the run's configuration, resolved.
          workdir: the run's directory.
          data_dir: the data set's directory, where it needs one; None for that of the run.

        Raises:
          InputError: the directory does not exist, or a file cannot be read or is not what it should be.
        """
        directory = Workdir(workdir, create=False)
        return cls(
            config,
            directory,
            data_dir,
            _metrics(directory),
            _object(directory, directory.results_path),
            _object(directory, directory.uncertainty_path),
            _object(directory, directory.pruning_path),
            _object(directory, directory.divergence_path),
        )

    @property
    def found_data_dir(self) -> str | None:
        """The data set's directory: the one that was given, or that of the run.

        Raises:
          InputError: that of the run is needed and has gone.
        """
        return data_dir_of(self.directory, self.config.data.name, self.data_dir)

    @property
    def is_bayesian(self) -> bool:
        """Whether the weights have distributions."""
        return self.config.method in methods.BAYESIAN_METHODS

    @property
    def has_words(self) -> bool:
        """Whether the model predicts words, so that there are perplexities."""
        return bool(self.metrics) and "perplexity" in self.metrics[-1]

    @property
    def samples(self) -> int:
        """Draws of the weights that words are judged by; 0 of weights without distributions."""
        return (self.config.evaluate.num_samples or DEFAULT_SAMPLES) if self.is_bayesian else 0

    @property
    def weights(self) -> str:
        """The weights that words are judged by, in words."""
        if self.samples:
            return f"the average over {self.samples} draws of the weights" if self.samples > 1 else "one draw"
        return "the trained weights"

    def command(self, mode: str) -> str:
        """The command line of a mode for this workdir, for a shell."""
        parts = ["python", "absl_main.py", f"--mode={mode}", f"--workdir={self.directory.path}"]
        if self.data_dir is not None:
            parts.append(f"--data_dir={self.data_dir}")
        return shlex.join(parts)


@contextmanager
def understood(path: Path, mode: str) -> Iterator[None]:
    """Turns the exceptions that a file with other content than it should have causes into an `InputError`.

    Args:
      path: the path of the file, which was read as JSON already.
      mode: the mode of the command line that writes it.
    """
    try:
        yield
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not hold what --mode={mode} writes ({type(error).__name__}: {error}): make it again"
        ) from error


def _object(directory: Workdir, path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file."""
    if not is_there(path):
        return None
    return parse_object(directory.read(path).decode("utf-8", "replace"), str(path))


def _metrics(directory: Workdir) -> list[dict[str, Any]]:
    lines = enumerate(directory.read_metrics_lines(), start=1)
    return [parse_object(line, f"{directory.metrics_path}: line {number}") for number, line in lines]
