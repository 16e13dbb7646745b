"""The commands `train` and `evaluate`, whatever the task."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.workers import Workers
from zoo.configuration import config as configs
from zoo.filesystem.writable import check_file_writable
from zoo.runs.experiment import Experiment
from zoo.runs.settings import RunConfig
from zoo.runs.training_run import nothing_trained
from zoo.runs.workdir import Workdir


def train_run(
    make: Callable[..., Experiment],
    config: RunConfig,
    workdir: str,
    data_dir: str | None,
    strategy: tf.distribute.Strategy,
) -> dict[str, Any] | None:
    """Trains, then evaluates. Of several workers the chief does what is done once.

    Args:
      make: the task's experiment (`zoo.task.Task.experiment`).
      config: the resolved configuration.
      workdir: the directory of the run.
      data_dir: the data set's directory, where it needs one; None for that of the run so far.
      strategy: the strategy to train under.

    Returns:
      The results; None in a worker that is not the chief.
    """
    directory, workers = Workdir(workdir), Workers(strategy)
    with ExitStack() as until_the_end:
        with workers.needed():
            if not workers.agree(zlib.crc32(configs.to_json(config).encode())):
                raise InputError(
                    "the workers have different configurations: give all of them the same command"
                )
            _take(directory, config, workers, until_the_end)
            experiment = make(config, directory, data_dir, strategy)
            logging.info("training on %d replica(s)", strategy.num_replicas_in_sync)
            experiment.train()
        return experiment.evaluate() if workers.is_chief else None


def evaluate_run(
    make: Callable[..., Experiment],
    config: RunConfig,
    workdir: str,
    data_dir: str | None,
    strategy: tf.distribute.Strategy,
) -> dict[str, Any]:
    """Evaluates what is in a workdir, on one device; the arguments are those of `train_run`."""
    directory = Workdir(workdir, create=False)
    ready_to_score(directory, None if directory.is_in_use else directory.results_path)
    return make(config, directory, data_dir, strategy).evaluate()


def _take(workdir: Workdir, config: RunConfig, workers: Workers, until: ExitStack) -> None:
    """Has the chief own the workdir, if that accepts the configuration; called by all workers.

    Raises:
      InputError: in every worker, if it does not, or another process owns it.
    """
    refused = None
    if workers.is_chief:
        try:
            until.enter_context(workdir.owned())
            check_file_writable(workdir.results_path)
            workdir.accept(config)
        except InputError as error:
            refused = error
    if any(workers.total([refused is not None])):
        raise refused or InputError(f"the chief cannot train in {workdir.path}: it says why")


def ready_to_score(workdir: Workdir, output: Path | None) -> None:
    """Checks, before hours of work, that there is a model to score and that the figures can be written.

    Args:
      workdir: the run's workdir.
      output: the file of the figures; None where nothing is written.

    Raises:
      InputError: either is not so.
    """
    if Checkpoints(workdir.checkpoints_dir, {}, writes=False).best_step is None:
        raise nothing_trained(workdir)
    if output is not None:
        check_file_writable(output)
