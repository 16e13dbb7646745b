"""Training and evaluating a captioning model of the zoo, from a resolved configuration."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from tfp_bayesrnn import InputError, replicas
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import EpochReport
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from zoo.captioning.batches import CaptionBatches, minibatches
from zoo.captioning.caption_search import check_beam
from zoo.captioning.features import features_of
from zoo.captioning.model import build_model, load_data
from zoo.captioning.results import final_results, summary
from zoo.configuration import config as configs
from zoo.data.caption_sets import CaptionData
from zoo.data.captions import CaptionSplit
from zoo.runs.board import Board
from zoo.runs.run_data import check_data
from zoo.runs.training_run import TrainingRun, make_loop, publish, restore_best
from zoo.runs.workdir import Workdir


class Experiment:
    """One run: its data, model, loop and workdir."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: Workdir,
        data_dir: str | None,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Reads the captions and builds the model; nothing is trained or restored yet.

        Args:
          config: resolved.
          workdir: the run's.
          data_dir: the data set's directory, where it needs one.
          strategy: to train under; one device if left out.

        Raises:
          InputError: if the data cannot be used, they are not the ones the run was trained with, the run to
            start from holds no best weights that fit, there are fewer captions than beams,
            or the batch cannot be shared out over the replicas.
        """
        self.config = config
        self.workdir = workdir
        strategy = strategy or tf.distribute.get_strategy()
        train = config.train
        replicas.rows_of_replica(train.batch, strategy.num_replicas_in_sync)
        self.data: CaptionData = load_data(config, data_dir)
        check_beam(config.evaluate.beam, self.data.vocabulary, config.evaluate.max_words)
        check_data(workdir, self.data)
        steps = minibatches(len(self.data.train.names), train.batch)
        with strategy.scope():
            self.model = build_model(
                self._without_needless_files(), len(self.data.vocabulary), steps * train.batch, steps
            )
        self._take_earlier_weights()
        self.batches = self.batches_of(self.data.train, train.batch, config.data.captions_per_image)
        self.loop = make_loop(
            config,
            workdir,
            self.model,
            lambda step: self.batches.training(
                step, config.seed, shift=config.data.shift, flip=config.data.flip
            ),
            len(self.batches),
            len(self.data.vocabulary),
        )
        self.evaluator = StreamEvaluator(self.model)

    def batches_of(self, split: CaptionSplit, batch: int, captions: int | None = None) -> CaptionBatches:
        """A split in minibatches, of features where those of an image never change.

        A split other than that of training may have fewer images than a minibatch.

        Raises:
          InputError: if that of training has.
        """
        settings, data, features = self.config.encoder, self.config.data, None
        is_training = split is self.data.train
        if not settings.trainable and not (is_training and (data.shift or data.flip)):
            encoder, size = self.model.network.encoder, settings.image_size
            features = functools.partial(features_of, encoder, split.images, size, settings.cache_dir)
        return CaptionBatches(
            split,
            self.data.vocabulary,
            batch if is_training else min(batch, len(split.names)),
            settings.image_size,
            data.max_words,
            captions,
            features,
        )

    def train(self) -> None:
        """Trains to the configured number of epochs, resuming where the workdir's checkpoints say."""
        _Training(self).train()

    def _without_needless_files(self) -> ConfigDict:
        """The configuration without the encoder's weights file, where all weights are in a checkpoint."""
        if self.workdir.has_trained or self.config.train.start_from:
            return configs.with_overrides(self.config, {"encoder.weights": ""})
        return self.config

    def _take_earlier_weights(self) -> None:
        """Restores those of this run, or else of the one to start from.

        It comes before anything is computed: features of photos are those of the encoder as it is then.
        """
        if not self.workdir.has_trained:
            if self.config.train.start_from:
                self._start_from(Workdir(self.config.train.start_from, create=False))
            return
        checkpoints = Checkpoints(self.workdir.checkpoints_dir, {"model": self.model}, writes=False)
        try:
            step = checkpoints.restore_latest()
        except InputError:  # What follows says so, if it needs that one.
            step = None
        if step is None:
            checkpoints.restore_best()

    def _start_from(self, other: Workdir) -> None:
        checkpoints = Checkpoints(other.checkpoints_dir, {"model": self.model}, writes=False)
        step = checkpoints.restore_best()
        if step is None:
            raise InputError(
                f"train.start_from={str(other.path)!r} holds no best weights of such a model: accepted is "
                "the workdir of a run of the same network"
            )
        logging.info("starting from the weights of %s at step %d", other.path, step)

    def restore_best(self) -> int:
        """Goes to the best checkpoint; its step.

        Raises:
          InputError: if there is none.
        """
        return restore_best(self.loop, self.workdir)

    def evaluate(self) -> dict[str, Any]:
        """Evaluates the best checkpoint on valid and test, writes results.json and prints the table."""
        step = self.restore_best()
        results = final_results(self, step)
        publish(self.workdir, self.loop.checkpoints, step, results, lambda: summary(results))
        return results


class _Training(TrainingRun):
    """Validates with the posterior mean, on the words of all captions."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._captions_per_step = experiment.batches.captions / len(experiment.batches)
        self._valid = experiment.batches_of(experiment.data.valid, experiment.config.evaluate.batch)
        super().__init__(
            experiment.config,
            experiment.workdir,
            experiment.data,
            experiment.loop,
            lambda: Board(
                experiment.workdir.tensorboard_dir, experiment.model, self._captions_per_step, "captions"
            ),
        )

    def evaluate(self, report: EpochReport, seconds: float) -> dict[str, Any]:
        """The entry of an epoch."""
        logs, batches = report.logs, self._experiment.batches
        score = self._experiment.evaluator.mean(self._valid.evaluation())
        unreadable = len(batches.unreadable)
        if unreadable:
            logging.warning("%d of the photos met so far cannot be read and are left out", unreadable)
        return {
            "step": report.step,
            "epoch": report.epoch,
            "seconds": seconds,
            "split": "valid",
            "weights": "mean",
            "nll": score.nll,
            "perplexity": score.perplexity,
            "tokens": score.predictions,
            "loss": logs["loss"],
            "train_nll": logs["nll"],
            "train_kl_sharpening": logs.get("kl_sharpening", 0.0),
            "kl": logs["kl"],
            "kl_per_training_caption": logs["kl"] / batches.captions,
            "kl_per_training_token": logs["kl"] / batches.predictions,
            "gradient_norm": logs["gradient_norm"],
            "learning_rate": report.last["learning_rate"],
            "captions_per_second": self._captions_per_step * report.steps / report.seconds,
            "unreadable_photos": unreadable,
        }

    def describe(self, entry: dict[str, Any]) -> str:
        """An entry as a line of the log."""
        sharpening = entry["train_kl_sharpening"]
        return (
            f"valid perplexity {entry['perplexity']:.2f} (mean), "
            f"train NLL {entry['train_nll']:.4f} nats/word (one draw)"
            + (f" + sharpening KL {sharpening:.4f}" if self._experiment.model.sharpening else "")
            + f", KL {entry['kl_per_training_caption']:.3f} nats/training caption, "
            f"{entry['seconds']:.0f} s of training, {entry['captions_per_second']:.0f} captions/s"
        )
