"""The project's own training loop: `BayesianModel.update` over a stream, on one replica or many.

It is for runs that are left alone: all that a resumed run needs is in its checkpoints, it goes by the
validation NLL of the posterior mean, stops when asked to, and notices when training goes wrong.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from tfp_bayesrnn import checks, replicas
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.clock import Clock
from tfp_bayesrnn.model import training
from tfp_bayesrnn.model.bayesian_model import BayesianModel
from tfp_bayesrnn.optimization import optimizers
from tfp_bayesrnn.posterior.gradual_pruning import PruningSchedule
from tfp_bayesrnn.workers import Workers

# The figures of a step, by name; losses are in nats per prediction.
Figures = dict[str, float]

# The number of steps whose figures are kept for whoever looks into a divergence.
_TRAIL = 100


class EpochReport(NamedTuple):
    """The report of an epoch."""

    epoch: int  # Counted from 1.
    step: int  # Optimizer steps so far.
    logs: Figures  # The model's metrics over the epoch.
    last: Figures  # The figures of its last step; see `BayesianModel.update`.
    steps: int  # The steps of the epoch that this process took: fewer where it resumed in the middle.
    seconds: float  # Training time of those steps.


class Hooks:
    """The methods that a loop calls, on every worker alike; override those of interest."""

    def on_epoch_end(self, report: EpochReport) -> float:
        """Called after an epoch, before its checkpoint; returns the validation NLL that the best is kept by.

        With several workers, the chief's NLL counts.
        """
        raise NotImplementedError

    def on_step(self, step: int, figures: Figures) -> None:
        """Called after a step, with the figures that `BayesianModel.update` returned."""

    def on_early_validation(self, step: int) -> None:
        """Called in the first epoch after a step whose weights are about to be kept as the best so far."""

    def on_step_back(self, step: int) -> None:
        """Called after stepping back to the checkpoint of `step`: what was reported since is void."""

    def steps(self, steps: range, label: str) -> Iterable[int]:
        """Wraps the steps of an epoch, to show how far it has come."""
        return steps

    def should_stop(self) -> bool:
        """Whether to save, and stop with `TrainingStopped`; asked after every step."""
        return False


class TrainingDiverged(InputError):
    """The loss, its gradient or a weight is no longer a finite number, or the loss has exploded."""

    def __init__(self, message: str, step: int, trail: list[tuple[int, Figures]]):
        super().__init__(message)
        self.step = step
        self.trail = trail  # The last steps, the bad one last.


class TrainingStopped(Exception):
    """Training has been stopped from outside. `step` is the one whose checkpoint is saved."""

    def __init__(self, step: int):
        super().__init__(f"training stopped at step {step}; its checkpoint is saved")
        self.step = step


class _Progress:
    """The progress of a run, besides its model."""

    def __init__(self) -> None:
        self.best_nll = tf.Variable(math.inf, trainable=False, dtype=tf.float64, name="best_nll")
        self.best_epoch = tf.Variable(0, trainable=False, dtype=tf.int64, name="best_epoch")
        self.step_backs = tf.Variable(0, trainable=False, dtype=tf.int64, name="step_backs")
        self.rate_scale = tf.Variable(1.0, trainable=False, dtype=tf.float32, name="rate_scale")
        self.variables = [self.best_nll, self.best_epoch, self.step_backs, self.rate_scale]


class Loop:
    """Trains a compiled `BayesianModel`, epoch by epoch, from where its checkpoints say it is.

    A resumed run goes on as if it had not stopped: the checkpoint holds the model's variables, the
    optimizers', the RNN state carried by every replica, the metrics so far, the best score, and what steps
    back did to the learning rate; the data, the schedule and all noise are functions of the step.

    The model says which strategy it runs under: the one in whose scope it was made and compiled. Under
    `MultiWorkerMirroredStrategy` all workers make the same calls; one of them writes.
    """

    def __init__(
        self,
        model: BayesianModel,
        dataset: Callable[[int], Iterable],
        steps_per_epoch: int,
        checkpoints_dir: Any,
        checkpoint_seconds: float = 300.0,
        patience: int = 0,
        max_nll: float = math.inf,
        step_backs: int = 0,
        step_back_factor: float = 0.5,
        pruning: PruningSchedule | None = None,
        early_validation_seconds: float = 0.0,
    ):
        """Builds the loop.

        Args:
          model: the model, compiled.
          dataset: a function from a step to an endless stream of minibatches that starts with that step's,
            each of the rows of all replicas.
          steps_per_epoch: the number of minibatches in one pass over the data.
          checkpoints_dir: the directory of the checkpoints, which all workers see.
          checkpoint_seconds: the longest time between two checkpoints; there is one after each epoch anyway.
          patience: the number of epochs without a better validation NLL after which training ends; 0 for
            never.
          max_nll: the NLL, in nats per prediction, above which a step is an explosion.
          step_backs: the number of times, in all training, that diverged training goes back to the last
            checkpoint and on with a lower learning rate. After that it ends.
          step_back_factor: the factor by which the learning rate is multiplied each time.
          pruning: drops weights after epochs; the best is then the best of those that are pruned as far.
          early_validation_seconds: the time after which, as long as no epoch has been validated, the weights
            are kept as the best ones, and again each time; 0 for never. Where that takes long, the next time
            waits for ten times as long. The first epoch's end takes their place, whatever they were worth, so
            that nothing that is computed depends on the time.

        Raises:
          InputError: if the rows of a minibatch cannot be shared out over the replicas.
        """
        self.model = model
        self.strategy = model.distribute_strategy
        self.dataset = dataset
        self.steps_per_epoch = steps_per_epoch
        self.patience = patience
        self.max_nll = max_nll
        self.max_step_backs = step_backs
        self.step_back_factor = step_back_factor
        self.pruning = pruning
        self.progress = _Progress()
        self.workers = Workers(self.strategy)
        self._clock = Clock(self.workers, checkpoint_seconds, early_validation_seconds)
        self._trail: deque[tuple[int, Figures]] = deque(maxlen=_TRAIL)
        optimizers.scale_rates(model.optimizer, self.progress.rate_scale)
        self._prepare()
        self.checkpoints = Checkpoints(
            checkpoints_dir,
            {**model.training_state(), "progress": self.progress},
            best=["model"],
            writes=self.workers.is_chief,
        )
        self._update = tf.function(
            # `replicas.stream` gives all replicas the same number of rows.
            lambda data: self.strategy.run(model.update, args=(data, True)),
            autograph=False,
        )

    def _prepare(self) -> None:
        """Makes every variable that a step uses, so that a checkpoint can be restored before the first."""
        data = replicas.first(self.strategy, next(replicas.stream(self.strategy, self.dataset, 0)))
        with self.strategy.scope():
            self.model.build_for(data)  # The network, the optimizer, the user's metrics.
            self.model.carried("train", training.unpack(data))
            if self.pruning:
                self.pruning.prepare(self.model.posterior)

    @property
    def best_nll(self) -> float:
        """The lowest validation NLL so far."""
        return float(self.progress.best_nll)

    def restore(self) -> int:
        """Restores the newest readable checkpoint; returns its step, 0 where there is none.

        Raises:
          InputError: if the workers do not find the same checkpoint.
        """
        if self.workers.is_chief:
            self.checkpoints.finish_write()
        self.workers.agree(0.0)  # The others wait for this one.
        step = self.checkpoints.restore_latest() or 0
        if not self.workers.agree(step):
            raise InputError(
                f"the workers find different checkpoints in {self.checkpoints.directory}, this one that of "
                f"step {step}: it must be a directory that all of them see"
            )
        return step

    def run(self, first_step: int, epochs: int, hooks: Hooks) -> None:
        """Trains up to `epochs` epochs in all, fewer where `patience` says so.

        With an optimizer that averages the variables (`use_ema`), the averages are what is scored after each
        epoch and kept as the best, and the model ends with them, as after `fit`; the other checkpoints hold
        what training goes on from.

        Args:
          first_step: the step that `restore` returned.
          epochs: the number of epochs, counted from the very beginning.
          hooks: the hooks to call.

        Raises:
          TrainingDiverged: if the loss, its gradient or a weight is not finite, or the loss exceeds
            `max_nll`, and no steps back are left. The last checkpoint is good; the state of the bad step is
            kept beside it, and its figures in the exception.
          TrainingStopped: if `hooks.should_stop()` said so. The step's checkpoint is saved.
          WorkerLost: if another worker has gone.
          ValueError: if `BayesianModel.fit` would refuse the targets or the inputs.
        """
        step = first_step
        with self.workers.needed(), checks.explained():
            if self.max_step_backs and step == 0:
                self.checkpoints.save(step)  # There must be one to step back to.
            while not self._is_done(step, epochs):
                try:
                    self._run_from(step, epochs, hooks)
                    break
                except TrainingDiverged as error:
                    step = self._step_back(error, hooks)
        # Sets variables to the optimizer's averages, as `fit` does at its end; checkpoints hold the others.
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)

    def _is_done(self, step: int, epochs: int) -> bool:
        epoch, best = step // self.steps_per_epoch, int(self.progress.best_epoch)
        if epoch >= epochs or not self.patience or not best or epoch - best < self.patience:
            return epoch >= epochs
        logging.info(
            "training ends: no better validation NLL in the %d epochs since epoch %d, patience is %d",
            epoch - best,
            best,
            self.patience,
        )
        return True

    def _run_from(self, step: int, epochs: int, hooks: Hooks) -> None:
        stream = replicas.stream(self.strategy, self.dataset, step)
        self._clock.start()
        while not self._is_done(step, epochs):
            step = self._run_epoch(step, stream, hooks)

    def _run_epoch(self, step: int, stream: Iterator, hooks: Hooks) -> int:
        """Trains to the end of the epoch, from its start or from wherever `step` is in it."""
        epoch = step // self.steps_per_epoch + 1
        if step == (epoch - 1) * self.steps_per_epoch:
            self.model.reset_metrics()
        steps, start = range(step + 1, epoch * self.steps_per_epoch + 1), time.monotonic()
        for step in hooks.steps(steps, f"epoch {epoch}"):
            figures = replicas.first(self.strategy, self._update(next(stream)))
            figures = {name: float(value) for name, value in figures.items()}
            self._trail.append((step, figures))
            self._check(step, figures)
            hooks.on_step(step, figures)
            if step < steps[-1]:
                due = self._clock.due(hooks.should_stop())
                if due.validation and math.isinf(self.best_nll) and not due.stop:
                    start += self._keep_early(step, hooks)
                self._save_or_stop(step, due.save, due.stop)
        seconds = time.monotonic() - start
        self._check_weights(step)
        logs = {name: float(value) for name, value in self.model.get_metrics_result().items()}
        with optimizers.averaged(self.model.optimizer):
            if self.pruning and self.pruning.tighten(self.model.posterior, epoch):
                self.progress.best_nll.assign(math.inf)
            nll = hooks.on_epoch_end(EpochReport(epoch, step, logs, figures, len(steps), seconds))
            nll = self.workers.chiefs(nll)
            if nll < self.best_nll:
                self.progress.best_nll.assign(nll)
                self.progress.best_epoch.assign(epoch)
                self.checkpoints.save_best(step)
        self._save_or_stop(step, True, self._clock.due(hooks.should_stop(), now=True).stop)
        return step

    def _keep_early(self, step: int, hooks: Hooks) -> float:
        """Keeps the weights as the best ones until the first epoch ends; returns the seconds it took."""
        start = time.monotonic()
        self._check_weights(step)
        with optimizers.averaged(self.model.optimizer):
            hooks.on_early_validation(step)
            self.checkpoints.save_best(step)
        seconds = time.monotonic() - start
        self._clock.validated(seconds)
        return seconds

    def _save_or_stop(self, step: int, save: bool, stop: bool) -> None:
        if save or stop:
            self._check_weights(step)
            self.checkpoints.save(step)
            self._clock.saved()
        if stop:
            raise TrainingStopped(step)

    def _check(self, step: int, figures: Figures) -> None:
        passed_over = ("gradient_norm",) if optimizers.passes_over_overflow(self.model.optimizer) else ()
        for name in ("loss", "free_energy", "gradient_norm"):
            if not math.isfinite(figures[name]) and name not in passed_over:
                raise self._diverged(f"{name} is not finite", step)
        if figures["nll"] > self.max_nll:
            raise self._diverged(
                f"the NLL is {figures['nll']:.3g} nats per prediction, above {self.max_nll:.3g},", step
            )

    def _check_weights(self, step: int) -> None:
        """A finite loss and gradient can still have led to weights that are not, which must not be saved."""
        for variable in self.model.trained_variables:
            if not bool(tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(variable.value)))):
                raise self._diverged(f"{variable.path} is not finite", step)

    def _diverged(self, what: str, step: int) -> TrainingDiverged:
        good = self.checkpoints.latest_step
        kept = "no checkpoint was written yet" if good is None else f"checkpoint {good} is good and kept"
        try:
            evidence = f", the diverged one is {self.checkpoints.save_diverged(step)}"
        except InputError as error:
            logging.warning("%s", error)
            evidence = ""
        return TrainingDiverged(
            f"{what} at step {step}: training has diverged; {kept}{evidence}. "
            "Accepted: a lower learning rate, a clip norm, or steps back",
            step,
            list(self._trail),
        )

    def _step_back(self, error: TrainingDiverged, hooks: Hooks) -> int:
        """Restores the last checkpoint and lowers the learning rate; returns the step."""
        step_backs, scale = int(self.progress.step_backs), float(self.progress.rate_scale)
        if step_backs >= self.max_step_backs:
            raise error
        step = self.checkpoints.restore_latest()
        if step is None:  # Somebody has removed the checkpoint.
            raise error
        # The checkpoint may be from before earlier steps back.
        step_backs, scale = step_backs + 1, scale * self.step_back_factor
        optimizers.multiply_rates(self.model.optimizer, scale / float(self.progress.rate_scale))
        self.progress.step_backs.assign(step_backs)
        self.progress.rate_scale.assign(scale)
        logging.warning("%s", error)
        logging.warning(
            "step back %d of %d: on from step %d with %g times the learning rate",
            step_backs,
            self.max_step_backs,
            step,
            scale,
        )
        hooks.on_step_back(step)
        return step
