"""A run's summaries for TensorBoard."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from tfp_bayesrnn import BayesianModel
from zoo.filesystem.files import explained

# Steps between two points of the training curves.
STEPS = 100


class Board:
    """Writes training curves every `STEPS` steps, evaluations, and how the posterior spreads.

    Args:
      directory: the directory of the event files.
      model: the model whose posterior is shown.
      predictions_per_step: the number of predictions, such as tokens, that a step trains on.
      unit: the name of a prediction, in the plural.

    Raises:
      InputError: nothing can be written to the directory. Where that turns out later, on a disk that is full,
        training goes on without more of it.
    """

    def __init__(self, directory: Path, model: BayesianModel, predictions_per_step: float, unit: str):
        with explained(directory, "write to"):
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()
        self._writer = tf.summary.create_file_writer(str(directory))
        self._model = model
        self._per_step = predictions_per_step
        self._unit = unit
        self._last: tuple[int, float] | None = None

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """A training step's own figures: loss, free energy, NLL, KL and gradient norm; and the speed."""
        if step % STEPS:
            return
        now = time.monotonic()
        with self._writing(step):
            for name, value in figures.items():
                tf.summary.scalar(f"step/{name}", value)
            if self._last is not None and self._last[0] < step:
                speed = (step - self._last[0]) * self._per_step / (now - self._last[1])
                tf.summary.scalar(f"step/{self._unit}_per_second", speed)
        self._last = step, now

    def evaluation(self, step: int, entry: Mapping[str, Any]) -> None:
        """An entry of metrics.jsonl; histograms of each weight's sigma and signal-to-noise ratio."""
        self._last = None  # The time of evaluation is not training's.
        with self._writing(step):
            for name, value in entry.items():
                if isinstance(value, float):
                    tf.summary.scalar(name, value)
            for weight in self._model.posterior.variational:
                if not weight.has_scale:
                    continue
                name = weight.path
                tf.summary.histogram(f"sigma/{name}", weight.scale())
                # In decibels, as the literature on pruning gives it.
                decibels = 20.0 * tf.math.log(weight.signal_to_noise() + 1e-20) / tf.math.log(10.0)
                tf.summary.histogram(f"signal_to_noise_db/{name}", decibels)
                tf.summary.scalar(f"sigma_mean/{name}", tf.reduce_mean(weight.scale()))
                tf.summary.scalar(f"signal_to_noise_db_median/{name}", np.median(decibels))
            self._writer.flush()

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        """Within, summaries of `tf.summary` are written, for a step; nothing from a failure on."""
        try:
            with self._writer.as_default(step=step):
                yield
        except (tf.errors.OpError, OSError) as error:
            reason = getattr(error, "message", None) or str(error)
            logging.warning("nothing more is written for TensorBoard: %s", " ".join(reason.split())[:300])
            self._writer = tf.summary.create_noop_writer()
