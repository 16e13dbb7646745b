"""The commands `train` and `evaluate`, whatever the task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from ml_collections import ConfigDict

from zoo.runs.training_run import carry_out, ready_to_score
from zoo.runs.workdir import Workdir


def train_run(
    experiment: Callable[..., Any],
    config: ConfigDict,
    workdir: str,
    data_dir: str | None,
    strategy: tf.distribute.Strategy,
) -> dict[str, Any] | None:
    """Trains, then evaluates. Of several workers the chief does what is done once.

    Args:
      experiment: as `zoo.task.Task.experiment`.
      config: resolved.
      workdir: the directory of the run.
      data_dir: the data set's directory, where it needs one.
      strategy: to train under.

    Returns:
      The results; None in a worker that is not the chief.
    """
    return carry_out(
        lambda directory: experiment(config, directory, data_dir, strategy), config, workdir, strategy
    )


def evaluate_run(
    experiment: Callable[..., Any],
    config: ConfigDict,
    workdir: str,
    data_dir: str | None,
    strategy: tf.distribute.Strategy,
) -> dict[str, Any]:
    """Evaluates what is in a workdir, on one device; the arguments are those of `train_run`."""
    directory = Workdir(workdir, create=False)
    ready_to_score(directory, None if directory.is_in_use else directory.results_path)
    return experiment(config, directory, data_dir, strategy).evaluate()
