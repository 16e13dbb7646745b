"""The project's own training loop: `BayesianModel.train_step` over a stream, with checkpoints and resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from tfp_bayesrnn import training
from tfp_bayesrnn.checkpoints import Checkpoints
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.model import BayesianModel


class EpochReport(NamedTuple):
    """What an epoch was."""

    epoch: int  # Counted from 1.
    step: int  # Optimizer steps so far.
    logs: dict[str, float]  # `train_step`'s metrics over the epoch.
    steps: int  # How many of the epoch's steps this process took: fewer where it resumed in the middle.
    seconds: float  # Training time of those steps.


class TrainingDiverged(InputError):
    """The loss, its gradient or a weight is no longer a finite number."""


class _Metrics:
    """A model's metrics as a checkpoint holds them: they are not among `model.variables`."""

    def __init__(self, model: BayesianModel):
        self.variables = model.metrics_variables


class Loop:
    """Trains a compiled `BayesianModel`, epoch by epoch, from where its checkpoints say it is.

    A resumed run goes on as if it had not stopped: the checkpoint holds the model's variables, the
    optimizer's, the carried RNN state, the metrics so far and the best score, and the data and all noise are
    functions of the step.
    """

    def __init__(
        self,
        model: BayesianModel,
        dataset: Callable[[int], Iterable],
        steps_per_epoch: int,
        checkpoints_dir: Any,
        checkpoint_seconds: float = 300.0,
    ):
        """Builds the loop.

        Args:
          model: compiled.
          dataset: from a step to an endless stream of minibatches that starts with that step's.
          steps_per_epoch: how many minibatches are one pass over the data.
          checkpoints_dir: where checkpoints are.
          checkpoint_seconds: the longest time between two checkpoints; there is one after each epoch anyway.
        """
        self.model = model
        self.dataset = dataset
        self.steps_per_epoch = steps_per_epoch
        self.checkpoint_seconds = checkpoint_seconds
        self.best_nll = tf.Variable(math.inf, trainable=False, dtype=tf.float64, name="best_nll")
        self._prepare(next(iter(dataset(0))))
        own = {} if model._carried_train is None else {"state": model._carried_train}
        if model.sharpening:
            own["sharpening_optimizer"] = model.sharpening.optimizer
        self.checkpoints = Checkpoints(
            checkpoints_dir,
            {
                "model": model,
                "optimizer": model.optimizer,
                "metrics": _Metrics(model),
                "best_nll": self.best_nll,
                **own,
            },
        )
        self._train_step = tf.function(model.train_step)

    def _prepare(self, data):
        """Makes every variable that a step uses, so that a checkpoint can be restored before the first."""
        self.model._symbolic_build(data_batch=data)  # The network, the optimizer, the user's metrics.
        self.model.carried("train", training.unpack(data))

    def restore(self) -> int:
        """Goes to the newest readable checkpoint; the step, 0 where there is none."""
        return self.checkpoints.restore_latest() or 0

    def run(
        self,
        first_step: int,
        epochs: int,
        on_epoch_end: Callable[[EpochReport], float],
        progress: Callable[[range, str], Iterable[int]] = lambda steps, _: steps,
    ) -> None:
        """Trains up to `epochs` epochs in all.

        Args:
          first_step: as `restore` gave it.
          epochs: counted from the very beginning.
          on_epoch_end: called after each epoch, before its checkpoint; returns the validation NLL, by which
            the best checkpoint is kept.
          progress: wraps the steps of an epoch, to show how far it has come.

        Raises:
          TrainingDiverged: when the loss, its gradient or a weight is not finite. Nothing is saved then: the
            last checkpoint is good.
        """
        if first_step >= epochs * self.steps_per_epoch:
            return
        stream = iter(self.dataset(first_step))
        step, saved = first_step, time.monotonic()
        for epoch in range(first_step // self.steps_per_epoch, epochs):
            if step == epoch * self.steps_per_epoch:
                self.model.reset_metrics()
            start = time.monotonic()
            logs = {}
            steps = range(step + 1, (epoch + 1) * self.steps_per_epoch + 1)
            for step in progress(steps, f"epoch {epoch + 1}"):
                logs = self._train_step(next(stream))
                self._check_finite(logs, step)
                if time.monotonic() - saved > self.checkpoint_seconds and step % self.steps_per_epoch:
                    self._check_weights(step)
                    self.checkpoints.save(step)
                    saved = time.monotonic()
            seconds = time.monotonic() - start
            self._check_weights(step)
            logs = {name: float(value) for name, value in logs.items()}
            nll = on_epoch_end(EpochReport(epoch + 1, step, logs, len(steps), seconds))
            if nll < float(self.best_nll):
                self.best_nll.assign(nll)
                self.checkpoints.save_best(step)
            self.checkpoints.save(step)
            saved = time.monotonic()

    def _check_finite(self, logs, step: int):
        for name in ("loss", "gradient_norm"):
            # These are means over the epoch so far: one bad step makes them bad for good.
            if not math.isfinite(float(logs[name])):
                raise self._diverged(name, step)

    def _check_weights(self, step: int):
        """A finite loss and gradient can still have led to weights that are not, which must not be saved."""
        for variable in self.model.trained_variables:
            if not bool(tf.reduce_all(tf.math.is_finite(variable.value))):
                raise self._diverged(variable.path, step)

    def _diverged(self, name: str, step: int) -> TrainingDiverged:
        good = self.checkpoints.latest_step
        kept = "no checkpoint was written yet" if good is None else f"checkpoint {good} is good and kept"
        return TrainingDiverged(
            f"{name} is not finite at step {step}: training has diverged; {kept}. "
            "Accepted: a lower learning rate, or a clip norm"
        )
