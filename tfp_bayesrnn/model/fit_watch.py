"""What `fit` notices of its data and its objective: a wrong number of rows, a KL that drowns the data."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.model.training_rows import Epoch, TrainingRows, epoch_of
from tfp_bayesrnn.optimization import optimizers

_INNER = (__name__.partition(".")[0], "keras", "tensorflow", "contextlib")

DWARFS = 10.0
"""The KL of a row is remarked upon above this multiple of the likelihood's nats."""


class FitWatch(keras.callbacks.Callback):
    """Counts the rows of `fit`, and warns, once of each, of what its epochs show to be wrong."""

    def __init__(self, rows: TrainingRows, epochs: int = 1):
        """Takes the number of rows of the model, and how many epochs `fit` was asked for."""
        super().__init__()
        self._rows = rows
        self._epochs = epochs
        self.steps: int | None = None  # Until its end, those of earlier calls too; None: unknown.
        self.epoch: Epoch | None = None  # None until `fit` reads its data.
        self._has_checked_rows = self._has_warned_of_kl = False
        self._first_step = 0
        self._largest_nll = 0.0

    def look_at(self, iterator: Any) -> None:
        """Counts the rows of `fit`, of whose iterator Keras tells first, before anything is traced."""
        if self.epoch is not None:  # The iterator is that of the validation.
            return
        counts = self._rows.given is None
        self.epoch = epoch_of(iterator, counts)
        if self.epoch.steps:
            self.steps = self._steps_taken() + self._epochs * self.epoch.steps
        if self.epoch.rows and counts:
            self._rows.count(self.epoch.rows)
        elif self.epoch.rows:
            self._check_rows(self.epoch.rows, self.epoch.slack)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Notes the step that the epoch begins with."""
        self._first_step = self._steps_taken()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Checks what the epoch has shown. It is called before the callbacks of the user."""
        rows = round(self._sum(self.model.loss_tracker.count))
        if self.epoch is None or self.model.stop_training or not rows:  # The epoch has not come to its end.
            return
        steps = self._steps_taken() - self._first_step
        if self.epoch.rows is None and not (self.epoch.is_part and rows < (self._rows.given or 0.0)):
            self._check_rows(rows, rows / max(steps, 1))
        elif self.epoch.slack > 1 and not self.epoch.is_part:
            self._rows.count(rows)
        if not self._has_warned_of_kl and self.model.posterior.is_variational:
            self._check_kl(epoch, rows)

    def _sum(self, variable: keras.Variable) -> float:
        """The value of a metric's variable, to which each replica adds what is of all replicas together."""
        return float(tf.convert_to_tensor(variable)) / self.model.distribute_strategy.num_replicas_in_sync

    def _steps_taken(self) -> int:
        optimizer = self.model.optimizer
        return 0 if optimizer is None else int(tf.convert_to_tensor(optimizers.steps_taken(optimizer)))

    def _check_rows(self, rows: int, slack: float) -> None:
        given = self._rows.given
        if given is None or self._has_checked_rows:
            return
        self._has_checked_rows = True
        if abs(rows - given) >= max(slack, 1.0):
            _warn(
                f"An epoch of this fit has {rows} rows, so that it counts the KL {rows / given:.3g} times. "
                "training_rows is the number of rows that are trained on, without those of validation, and "
                "batch * windows for a stream. Without it fit counts the rows of arrays and of datasets "
                f"whose cardinality is known. Received: training_rows={given:g}"
            )

    def _check_kl(self, epoch: int, rows: int) -> None:
        number = self._rows.number or 1.0
        nll = self._sum(self.model.nll_tracker.total) / rows
        # Not that of this epoch alone: the NLL of what has been learned is small.
        self._largest_nll = max(self._largest_nll, abs(nll))
        kl = float(self.model.step_kl_weight()) * float(self.model.kl_tracker.result()) / number
        if kl > DWARFS * self._largest_nll:
            self._has_warned_of_kl = True
            _warn(
                f"In epoch {epoch + 1} the KL is {kl:.3g} nats of a row's loss and the likelihood {nll:.3g}: "
                "such weights are drawn to their prior and learn little from the data. What helps: fewer "
                "weights with a distribution (posterior=PointMass() for an embedding, say), more rows, a "
                "higher kl_warmup_steps, or a kl_weight below 1, which is that of a tempered posterior. "
                f"Received: training_rows={number:g}, kl_weight={float(self.model.kl_weight):g}"
            )


@contextlib.contextmanager
def watching(model: Any, arguments: dict[str, Any]) -> Iterator[None]:
    """Within this context `fit` is watched by `model.fit_watch`.

    Args:
      model: the `BayesianModel` that is about to be fitted.
      arguments: the arguments of `fit`, to whose callbacks the watch is added, before the others.
    """
    model.fit_watch = watch = FitWatch(model.counted_rows, arguments.get("epochs", 1))
    watch.set_model(model)
    given = arguments.get("callbacks")
    if isinstance(given, keras.callbacks.CallbackList):
        callbacks = given.callbacks
    else:
        callbacks = arguments["callbacks"] = keras.tree.flatten([] if given is None else given)
    callbacks.insert(0, watch)
    try:
        yield
    finally:
        callbacks.remove(watch)
        model.fit_watch = None


def _warn(message: str) -> None:
    """Warns at the line that has called `fit`: neither Keras nor this library is to be mended."""
    level = 1
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
