"""Learning-rate schedules of the published recipes."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class HoldThenDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A rate held for some epochs, then multiplied by `decay` at the start of each further epoch."""

    def __init__(self, learning_rate: float, steps_per_epoch: int, hold_epochs: int, decay: float):
        self.learning_rate = learning_rate
        self.steps_per_epoch = steps_per_epoch
        self.hold_epochs = hold_epochs
        self.decay = decay

    def __call__(self, step: Any) -> tf.Tensor:
        """The rate at optimizer step `step`, counted from 0."""
        epoch = tf.cast(tf.cast(step, tf.int64) // self.steps_per_epoch, tf.float32)
        return self.learning_rate * self.decay ** tf.maximum(epoch - (self.hold_epochs - 1.0), 0.0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "steps_per_epoch": self.steps_per_epoch,
            "hold_epochs": self.hold_epochs,
            "decay": self.decay,
        }


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class HoldThenLinear(keras.optimizers.schedules.LearningRateSchedule):
    """A rate held for some steps, then falling in a straight line to 0 at the end of training."""

    def __init__(self, learning_rate: float, hold_steps: int, total_steps: int):
        """Builds the schedule; raises `ValueError` unless 0 <= `hold_steps` < `total_steps`."""
        if not 0 <= hold_steps < total_steps:
            raise ValueError(
                "A rate is held for at least 0 steps, and for fewer than there are. "
                f"Received: hold_steps={hold_steps}, total_steps={total_steps}"
            )
        self.learning_rate = learning_rate
        self.hold_steps = hold_steps
        self.total_steps = total_steps

    def __call__(self, step: Any) -> tf.Tensor:
        """The rate at optimizer step `step`, counted from 0; that of `total_steps` and after is 0."""
        left = (self.total_steps - tf.cast(step, tf.float32)) / (self.total_steps - self.hold_steps)
        return self.learning_rate * tf.clip_by_value(left, 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "hold_steps": self.hold_steps,
            "total_steps": self.total_steps,
        }


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule's rate, times a factor that can be changed while training runs."""

    def __init__(
        self, schedule: keras.optimizers.schedules.LearningRateSchedule, scale: float | tf.Variable = 1.0
    ):
        self.schedule = schedule
        self.scale = scale

    def __call__(self, step: Any) -> tf.Tensor:
        """The rate at optimizer step `step`, counted from 0."""
        return self.schedule(step) * self.scale

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "scale": float(self.scale),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Scaled:
        """The schedule whose `get_config` gave `config`."""
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})
