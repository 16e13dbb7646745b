"""Callbacks for `fit`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
from absl import logging

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.filesystem.paths import local_path
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.optimization import optimizers
from tfp_bayesrnn.posterior import pruning
from tfp_bayesrnn.posterior.gradual_pruning import PruningSchedule


class GradualPruning(keras.callbacks.Callback):
    """Drops weights of a `BayesianModel` after each epoch of `fit`, more and more of them.

        model.fit(x, y, epochs=20, callbacks=[GradualPruning(0.8, first_epoch=3, last_epoch=12)])

    The log `pruned` is the share of all weights that is dropped. Give it before callbacks that save the
    model. Masks are saved with the model, so that training goes on from where it was.
    """

    def __init__(
        self,
        fraction: float,
        first_epoch: int,
        last_epoch: int,
        by: str = "signal_to_noise",
        scope: str = "network",
    ):
        """Builds the callback; the arguments are the attributes of `PruningSchedule`, which checks them."""
        super().__init__()
        self.schedule = PruningSchedule(fraction, first_epoch, last_epoch, by, scope)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Makes the masks; raises `ValueError` where weights cannot be pruned or ranked."""
        self.schedule.prepare(self.model.posterior)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Tightens the masks."""
        self.schedule.tighten(self.model.posterior, epoch + 1)
        if logs is not None:
            logs["pruned"] = pruning.remaining(pruning.masks_of(self.model.posterior)).dropped


class ExactResume(keras.callbacks.Callback):
    """Saves the training of a `BayesianModel` after every epoch, and has `fit` go on from there.

        model.fit(dataset, epochs=40, callbacks=[ExactResume("checkpoints")])

    The same program, started again after whatever has ended it, does the epochs that are missing, and ends
    with the weights that it would have ended with. The checkpoint holds the variables of the model and of the
    optimizers, and the RNN state; it is written whole or not at all, and a damaged one is passed over for the
    one before.

    What it cannot hold is the order of the data: an epoch must bring the same minibatches in every process,
    as a `tf.data.Dataset` that does not shuffle does, or one shuffled with a seed and
    `reshuffle_each_iteration=False`; with arrays, pass `shuffle=False`. Callbacks that keep a state of their
    own, such as early stopping, start afresh.

    `tfp_bayesrnn.loop.Loop` also resumes in the middle of an epoch.
    """

    def __init__(self, directory: str | os.PathLike[str], max_to_keep: int = 2):
        """Builds the callback.

        Args:
          directory: the directory of the checkpoints; created when there is one.
          max_to_keep: the number of checkpoints to keep.

        Raises:
          InputError: if the directory is not a path of this machine (`filesystem.paths.local_path`).
        """
        super().__init__()
        self.directory = local_path(directory, "directory")
        self.max_to_keep = max_to_keep

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restores the newest checkpoint.

        Raises:
          ValueError: if the model is not built.
          InputError: if there are checkpoints and none can be read, or they are of another model.
        """
        if not self.model.built:
            raise ValueError(
                "ExactResume needs a model that is built before fit, so that there is something to restore "
                "into: call model.build(input_shape), or the model on a minibatch. "
                f"Received: model={self.model.name!r}"
            )
        optimizers.build(self.model.optimizer, self.model.trainable_variables)
        epochs = self._checkpoints().restore_latest()
        if epochs:
            logging.info("%d epochs are done; going on from there", epochs)
            keras_internals.set_initial_epoch(self.model, epochs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Saves a checkpoint.

        Raises:
          InputError: if the checkpoint cannot be written; earlier ones are kept.
        """
        self._checkpoints().save(epoch + 1)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Lets a further call of `fit` start from its own first epoch."""
        keras_internals.set_initial_epoch(self.model, None)

    def _checkpoints(self) -> Checkpoints:
        state = self.model.training_state()
        del state["metrics"]  # The metrics start afresh with every epoch.
        return Checkpoints(self.directory, state, self.max_to_keep)
