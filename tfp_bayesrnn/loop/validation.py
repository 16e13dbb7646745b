"""Validation of the predictive distribution during `fit`, for early stopping and the like."""

from __future__ import annotations

from typing import Any

import keras


class PredictiveValidation(keras.callbacks.Callback):
    """Evaluates the average over draws of the weights after an epoch, and adds its figures to the logs.

        model.fit(x, y, callbacks=[
            PredictiveValidation(x_val, y_val, num_samples=20),
            keras.callbacks.EarlyStopping("val_predictive_nll", patience=5, mode="min"),
        ])

    `validation_data` of `fit` is evaluated under the posterior mean, which says nothing of how well the
    uncertainty is calibrated. The figures are those of `model.evaluate(x, y, num_samples=...)`, named
    `val_predictive_nll` and so on. Callbacks that watch them come after this one in the list.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        num_samples: int = 20,
        seed: int = 0,
        batch_size: int | None = None,
        every: int = 1,
    ):
        """Takes the data, as `evaluate` does.

        Args:
          x: the inputs, or a data set.
          y: the targets; None where `x` is a data set.
          sample_weight: the weights; None where `x` is a data set.
          num_samples: the number of draws.
          seed: the seed of the draws: the same ones in every epoch.
          batch_size: the number of rows in a minibatch.
          every: after how many epochs it is done; the last figures stay in the logs until then.

        Raises:
          ValueError: if `every` is less than 1.
        """
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1. Received: every={every}")
        self._data = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size}
        self._draws, self._every = {"num_samples": num_samples, "seed": seed}, every
        self._figures: dict[str, float] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates, and adds the figures to the logs."""
        if epoch % self._every == 0:
            found = self.model.evaluate(**self._data, **self._draws, return_dict=True)
            self._figures = {f"val_predictive_{name}": value for name, value in found.items()}
        if logs is not None:
            logs.update(self._figures)
