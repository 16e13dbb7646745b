"""A training run of any task: its loop, what it reports, how it ends."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from absl import logging

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import EpochReport, Figures, Hooks, Loop, TrainingDiverged, TrainingStopped
from tfp_bayesrnn.posterior.gradual_pruning import PruningSchedule
from zoo.filesystem.ownership import WorkdirInUse
from zoo.filesystem.writable import printed_after
from zoo.machine import interruption
from zoo.runs.board import Board
from zoo.runs.settings import Pruning
from zoo.runs.workdir import Workdir
from zoo.terminal import progress


class TrainingRun(Hooks):
    """Trains to the configured number of epochs, resuming where the workdir's checkpoints say.

    Every worker has one; the chief's writes.
    """

    def __init__(
        self,
        config: Any,
        workdir: Workdir,
        loop: Loop,
        keep: Callable[[], None],
        board: Callable[[], Board],
        evaluate: Callable[[EpochReport, float], dict[str, Any]],
        describe: Callable[[dict[str, Any]], str],
        validate: Callable[[], float],
    ):
        """Builds the run.

        Args:
          config: the resolved configuration.
          workdir: a workdir that accepts it.
          loop: the loop of the task's model.
          keep: writes what the workdir is to keep of the data, before its configuration.
          board: makes the task's `Board`.
          evaluate: makes the epoch's entry in `metrics.jsonl` from the report of an epoch and the seconds of
            training so far: among other things "nll", of validation with the posterior mean.
          describe: makes a line of the log from an entry.
          validate: returns the NLL of validation with the posterior mean, nats per prediction.
        """
        self.config = config
        self.workdir = workdir
        self.loop = loop
        self.seconds = 0.0
        self._compiling_since: float | None = None
        self._is_compiled = False
        self._signal: Callable[[], int | None] = lambda: None
        self._keep = keep
        self._evaluate, self._describe, self._validate = evaluate, describe, validate
        self._board = board() if loop.workers.is_chief else None

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
            self._keep()
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
                number = self._signal() or signal.SIGTERM  # SIGTERM if another worker got it.
                message = f"{error}; the same command again goes on from there"
                raise interruption.Interrupted(number, message) from None

    def _keep_evidence(self, error: TrainingDiverged) -> None:
        trail = [{"step": step, **figures} for step, figures in error.trail]
        try:
            self.workdir.write_divergence({"error": str(error), "step": error.step, "last_steps": trail})
        except InputError as failure:
            logging.warning("%s", failure)

    # The methods that the loop calls.

    def on_step(self, step: int, figures: Figures) -> None:
        """Draws the training curves."""
        if self._compiling_since is not None and not self._is_compiled:
            logging.info("compiled, with the first step, in %.1f s", time.monotonic() - self._compiling_since)
            self._is_compiled = True
        if self._board:
            self._board.step(step, figures)

    def on_epoch_end(self, report: EpochReport) -> float:
        """Evaluates, writes the entry and returns the validation NLL."""
        self.seconds += report.seconds
        entry = self._evaluate(report, self.seconds)
        if self._board:
            self.workdir.append_metrics(entry)
            self._board.evaluation(report.step, entry)
            logging.info("epoch %d/%d: %s", report.epoch, self.config.train.epochs, self._describe(entry))
        return entry["nll"]

    def on_early_validation(self, step: int) -> None:
        """Says in the log what the weights are worth so far."""
        nll = self._validate()
        if self.loop.workers.is_chief:
            logging.info(
                "step %d, in the first epoch: valid NLL %.4f (mean); these weights are the best checkpoint "
                "until the epoch ends",
                step,
                nll,
            )

    def on_step_back(self, step: int) -> None:
        """Takes back the entries since that step."""
        if self.loop.workers.is_chief:
            self.workdir.truncate_metrics(step)

    def steps(self, steps: range, label: str) -> Iterable[int]:
        """Shows how far the epoch has come, and says before the first step that it takes longer."""
        if not self.loop.workers.is_chief:
            return steps
        if self._compiling_since is None:
            logging.info("compiling the training step")
            self._compiling_since = time.monotonic()
        return progress.steps(steps, label, of=self.loop.steps_per_epoch)

    def should_stop(self) -> bool:
        """Returns whether a signal has come."""
        return self._signal() is not None


def make_loop(
    config: Any,
    workdir: Workdir,
    model: BayesianModel,
    dataset: Callable[[int], Iterable],
    steps_per_epoch: int,
    guessing_nll: float,
) -> Loop:
    """The loop of a run of any task.

    Args:
      config: the resolved configuration.
      workdir: the run's workdir.
      model: the model to train.
      dataset: the function that `Loop` takes.
      steps_per_epoch: the number of minibatches in one pass over the training data.
      guessing_nll: the NLL of guessing, nats: an NLL that is too high is configured in units of it.
    """
    train = config.train
    return Loop(
        model,
        dataset,
        steps_per_epoch,
        workdir.checkpoints_dir,
        checkpoint_seconds=train.checkpoint_seconds,
        patience=train.patience,
        max_nll=train.max_nll * guessing_nll if train.max_nll else math.inf,
        step_backs=train.step_backs,
        step_back_factor=train.step_back_factor,
        pruning=_pruning(config.pruning),
        early_validation_seconds=train.early_validation_seconds,
    )


def _pruning(given: Pruning) -> PruningSchedule | None:
    if not given.fraction:
        return None
    return PruningSchedule(given.fraction, given.first_epoch, given.last_epoch, given.by, given.scope)


def publish(
    workdir: Workdir, checkpoints: Checkpoints, step: int, results: Mapping[str, Any], text: Callable[[], str]
) -> None:
    """Writes the results of the best checkpoint and prints them, whether they could be written or not.

    While another process trains in the workdir, or where it has found a better one meanwhile, `results.json`
    is left to it.

    Args:
      workdir: the run's workdir.
      checkpoints: the run's checkpoints.
      step: the step of the checkpoint that was scored.
      results: the figures that `results.json` is to hold.
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
    """Restores the best checkpoint and returns its step.

    Raises:
      InputError: if there is none.
    """
    return restore_best_of(loop.checkpoints, workdir)


def restore_best_of(checkpoints: Checkpoints, workdir: Workdir) -> int:
    """Does what `restore_best` does, for what does not train and so has no loop."""
    step = checkpoints.restore_best()
    if step is None:
        raise nothing_trained(workdir)
    return step


def nothing_trained(workdir: Workdir) -> InputError:
    """The error for a workdir without a best checkpoint."""
    return InputError(f"workdir {workdir.path} holds no best checkpoint: train it for an epoch first")
