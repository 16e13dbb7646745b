"""A training run of any task: its loop, what it reports, how it ends."""

from __future__ import annotations

import math
import signal
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import EpochReport, Figures, Hooks, Loop, TrainingDiverged, TrainingStopped
from tfp_bayesrnn.workers import Workers
from zoo.configuration import config as configs
from zoo.filesystem.ownership import WorkdirInUse
from zoo.filesystem.writable import check_file_writable, printed_after
from zoo.machine import interruption
from zoo.runs.board import Board
from zoo.runs.run_data import Data, keep_data
from zoo.runs.workdir import Workdir
from zoo.terminal import progress


class TrainingRun(Hooks):
    """Trains to the configured number of epochs, resuming where the workdir's checkpoints say.

    Every worker has one; the chief's writes. A task says what an epoch's entry in metrics.jsonl is.
    """

    def __init__(
        self, config: ConfigDict, workdir: Workdir, data: Data, loop: Loop, board: Callable[[], Board]
    ):
        """Builds the run.

        Args:
          config: resolved.
          workdir: which accepts it.
          data: what is trained on.
          loop: of the task's model.
          board: makes the task's `Board`.
        """
        self.config = config
        self.workdir = workdir
        self.data = data
        self.loop = loop
        self.seconds = 0.0
        self._signal: Callable[[], int | None] = lambda: None
        self._board = board() if loop.workers.is_chief else None

    @abstractmethod
    def evaluate(self, report: EpochReport, seconds: float) -> dict[str, Any]:
        """The entry of an epoch: among other things "nll", of validation with the posterior mean.

        Args:
          report: of the epoch.
          seconds: of training so far.
        """

    @abstractmethod
    def describe(self, entry: dict[str, Any]) -> str:
        """An entry as a line of the log."""

    def train(self) -> None:
        """Trains.

        Raises:
          TrainingDiverged: the trail of its last steps is in `diverged.json`.
          Interrupted: by a signal; what has been trained is saved.
          InputError: the workdir cannot be used or written to.
        """
        is_chief = self.loop.workers.is_chief
        if is_chief and not self.workdir.has_trained:
            self.loop.checkpoints.delete(0)  # Of a start that has failed, perhaps of another configuration.
        step = self.loop.restore()
        if is_chief:
            self.workdir.truncate_metrics(step)
            keep_data(self.workdir, self.data)
            self.workdir.bind(self.config)
        earlier = self.workdir.read_metrics()
        self.seconds = earlier[-1]["seconds"] if earlier else 0.0
        if step:
            logging.info("resuming at step %d", step)
        with interruption.noticed() as self._signal:
            try:
                self.loop.run(step, self.config.train.epochs, self)
            except TrainingDiverged as error:
                if self.loop.workers.is_chief:
                    self._keep_evidence(error)
                raise
            except TrainingStopped as error:
                number = self._signal() or signal.SIGTERM  # Which another worker got.
                message = f"{error}; the same command again goes on from there"
                raise interruption.Interrupted(number, message) from None

    def _keep_evidence(self, error: TrainingDiverged) -> None:
        trail = [{"step": step, **figures} for step, figures in error.trail]
        try:
            self.workdir.write_divergence({"error": str(error), "step": error.step, "last_steps": trail})
        except InputError as failure:
            logging.warning("%s", failure)

    # What the loop calls.

    def on_step(self, step: int, figures: Figures) -> None:
        """Draws the training curves."""
        if self._board:
            self._board.step(step, figures)

    def on_epoch_end(self, report: EpochReport) -> float:
        """Evaluates, writes the entry; the validation NLL."""
        self.seconds += report.seconds
        entry = self.evaluate(report, self.seconds)
        if self._board:
            self.workdir.append_metrics(entry)
            self._board.evaluation(report.step, entry)
            logging.info("epoch %d/%d: %s", report.epoch, self.config.train.epochs, self.describe(entry))
        return entry["nll"]

    def on_step_back(self, step: int) -> None:
        """Takes back the entries since."""
        if self.loop.workers.is_chief:
            self.workdir.truncate_metrics(step)

    def steps(self, steps: range, label: str) -> Iterable[int]:
        """Shows a bar."""
        return progress.steps(steps, label) if self.loop.workers.is_chief else steps

    def should_stop(self) -> bool:
        """Whether a signal has come."""
        return self._signal() is not None


def carry_out(
    make: Callable[[Workdir], Any], config: ConfigDict, workdir: str, strategy: tf.distribute.Strategy
) -> dict[str, Any] | None:
    """The command `train` of any task: trains, then evaluates, which of several workers the chief does.

    Args:
      make: the experiment of a workdir, with its methods `train` and `evaluate`.
      config: resolved.
      workdir: the directory of the run.
      strategy: to train under.

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
            experiment = make(directory)
            logging.info("training on %d replica(s)", strategy.num_replicas_in_sync)
            experiment.train()
        return experiment.evaluate() if workers.is_chief else None


def _take(workdir: Workdir, config: ConfigDict, workers: Workers, until: ExitStack) -> None:
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


def make_loop(
    config: ConfigDict,
    workdir: Workdir,
    model: BayesianModel,
    dataset: Callable[[int], Iterable],
    steps_per_epoch: int,
    words: int,
) -> Loop:
    """The loop of a run of any task.

    Args:
      config: resolved.
      workdir: the run's.
      model: to train.
      dataset: as `Loop` takes it.
      steps_per_epoch: minibatches in one pass over the training data.
      words: of the vocabulary; an NLL that is too high is said in units of uniform guessing.
    """
    train = config.train
    return Loop(
        model,
        dataset,
        steps_per_epoch,
        workdir.checkpoints_dir,
        checkpoint_seconds=train.checkpoint_seconds,
        patience=train.patience,
        max_nll=train.max_nll * math.log(words) if train.max_nll else math.inf,
        step_backs=train.step_backs,
        step_back_factor=train.step_back_factor,
    )


def ready_to_score(workdir: Workdir, output: Path | None) -> None:
    """Sees, before hours of work, that there is a model to score and that the figures can be written.

    Args:
      workdir: of the run.
      output: the file of the figures; None where nothing is written.

    Raises:
      InputError: if not.
    """
    if Checkpoints(workdir.checkpoints_dir, {}, writes=False).best_step is None:
        raise _nothing_trained(workdir)
    if output is not None:
        check_file_writable(output)


def publish(
    workdir: Workdir, checkpoints: Checkpoints, step: int, results: Mapping[str, Any], text: Callable[[], str]
) -> None:
    """Writes the results of the best checkpoint and prints them, whether they could be written or not.

    While another process trains in the workdir, or where it has found a better one meanwhile, `results.json`
    is left to it.

    Args:
      workdir: of the run.
      checkpoints: of the run.
      step: of the checkpoint that was scored.
      results: what `results.json` is to hold.
      text: makes what is printed.

    Raises:
      InputError: they could not be written.
    """
    with printed_after(text):
        try:
            with workdir.owned():
                if checkpoints.best_step == step:
                    workdir.write_results(results)
                else:
                    logging.warning(
                        "%s is not written: training has gone on since step %d", workdir.results_path, step
                    )
        except WorkdirInUse as error:
            logging.warning("%s is not written: %s", workdir.results_path, error)


def restore_best(loop: Loop, workdir: Workdir) -> int:
    """Goes to the best checkpoint; its step.

    Raises:
      InputError: if there is none.
    """
    return restore_best_of(loop.checkpoints, workdir)


def restore_best_of(checkpoints: Checkpoints, workdir: Workdir) -> int:
    """`restore_best`, for what does not train and so has no loop."""
    step = checkpoints.restore_best()
    if step is None:
        raise _nothing_trained(workdir)
    return step


def _nothing_trained(workdir: Workdir) -> InputError:
    return InputError(f"workdir {workdir.path} holds no best checkpoint: train it for an epoch first")
