"""A training run of any task: its loop, what it reports, how it ends."""

from __future__ import annotations

import math
import signal
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.checkpoints import Checkpoints
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop import EpochReport, Figures, Hooks, Loop, TrainingDiverged, TrainingStopped
from tfp_bayesrnn.workers import Workers
from zoo import config as configs
from zoo import interruption, progress
from zoo.board import Board
from zoo.data.vocabulary import Vocabulary
from zoo.workdir import Workdir


class TrainingRun(Hooks):
    """Trains to the configured number of epochs, resuming where the workdir's checkpoints say.

    Every worker has one; the chief's writes. A task says what an epoch's entry in metrics.jsonl is.
    """

    def __init__(self, config: ConfigDict, workdir: Workdir, loop: Loop, board: Callable[[], Board]):
        """Builds the run.

        Args:
          config: resolved.
          workdir: claimed for it.
          loop: of the task's model.
          board: makes the task's `Board`.
        """
        self.config = config
        self.workdir = workdir
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
        step = self.loop.restore()
        if self.loop.workers.is_chief:
            self.workdir.truncate_metrics(step)
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
    with workers.needed():
        if not workers.agree(zlib.crc32(configs.to_json(config).encode())):
            raise InputError("the workers have different configurations: give all of them the same command")
        if workers.is_chief:
            directory.claim(config)
        experiment = make(directory)
        logging.info("training on %d replica(s)", strategy.num_replicas_in_sync)
        experiment.train()
    return experiment.evaluate() if workers.is_chief else None


def keep_vocabulary(workdir: Workdir, vocabulary: Vocabulary, write: bool) -> None:
    """Sees that the data's vocabulary is the one the run was trained with; writes that of a new run.

    Raises:
      InputError: if it is not.
    """
    path = workdir.vocabulary_path
    if path.exists():
        saved = Vocabulary.load(path)
        if saved != vocabulary:
            raise InputError(
                f"the data's vocabulary ({len(vocabulary)} words) is not the one of {path} "
                f"({len(saved)} words): give the data that the run was trained on"
            )
    elif write:
        vocabulary.save(path)


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
        raise InputError(f"workdir {workdir.path} holds no best checkpoint: train it for an epoch first")
    return step
