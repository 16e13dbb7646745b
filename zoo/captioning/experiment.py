"""Training and evaluating a captioning model of the zoo, from a resolved configuration."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from absl import logging

from tfp_bayesrnn import BayesianModel, InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import EpochReport
from zoo.captioning.batches import CaptionBatches, minibatches
from zoo.captioning.caption_search import check_beam
from zoo.captioning.configuration import CaptioningConfig, is_hub, is_saved
from zoo.captioning.features import features_of
from zoo.captioning.found_encoders import ENCODER_FILE, architecture_of, kept_architecture
from zoo.captioning.model import build_model, load_data
from zoo.captioning.results import caption_results, summary
from zoo.configuration import config as configs
from zoo.data.caption_sets import CaptionData
from zoo.data.captions import CaptionSplit
from zoo.data.photos import check_readable
from zoo.runs.experiment import Experiment
from zoo.runs.workdir import Workdir


class CaptioningExperiment(Experiment[CaptioningConfig, CaptionData]):
    """A run on images with captions."""

    unit = "captions"
    kept_of_metrics = ("kl_per_training_caption", "kl_per_training_token")

    def read_data(self, data_dir: str | None) -> CaptionData:
        """The images with their captions.

        Raises:
          InputError: if they cannot be used, no photo of a split can be read, or there are fewer captions
            than beams.
        """
        data = load_data(self.config, data_dir)
        for name in ("train", "valid", "test"):
            check_readable(getattr(data, name).images, f"the split {name!r} of {self.config.data.name!r}")
        check_beam(self.config.evaluate.beam, data.vocabulary, self.config.evaluate.max_words)
        return data

    @property
    def steps_per_epoch(self) -> int:
        """The number of minibatches of images in an epoch."""
        return minibatches(len(self.data.train.names), self.config.train.batch)

    @property
    def predictions_per_step(self) -> float:
        """The number of captions in a minibatch."""
        return self.batches.captions / len(self.batches)

    def build_model(self) -> BayesianModel:
        """The compiled model."""
        steps = self.steps_per_epoch
        return build_model(
            self._without_needless_files(),
            len(self.data.vocabulary),
            steps * self.config.train.batch,
            steps,
            self._earlier_architecture(),
        )

    @functools.cached_property
    def batches(self) -> CaptionBatches:
        """The training minibatches; features are of the encoder as it is when they are first asked for."""
        config = self.config
        return self.batches_of(self.data.train, config.train.batch, config.data.captions_per_image)

    @functools.cached_property
    def _scored(self) -> dict[str, CaptionBatches]:
        return {}

    def training_data(self, step: int) -> Iterable:
        """The minibatches from a step on."""
        data = self.config.data
        return self.batches.training(step, self.config.seed, shift=data.shift, flip=data.flip)

    def scored_data(self, split: str) -> Iterable:
        """The words of all captions."""
        if split not in self._scored:
            self._scored[split] = self.batches_of(getattr(self.data, split), self.config.evaluate.batch)
        return self._scored[split].evaluation()

    layout = "captions"

    def batches_of(self, split: CaptionSplit, batch: int, captions: int | None = None) -> CaptionBatches:
        """A split in minibatches, which hold features where those of an image never change.

        A split other than that of training may have fewer images than a minibatch.

        Raises:
          InputError: if that of training has.
        """
        settings, data, features = self.config.encoder, self.config.data, None
        is_training = split is self.data.train
        if not settings.trainable and not (is_training and (data.shift or data.flip)):
            features = functools.partial(
                features_of,
                self.model.network.encoder,
                split.images,
                settings.image_size,
                settings.cache_dir,
                settings.interpolation,
            )
        return CaptionBatches(
            split,
            self.data.vocabulary,
            batch if is_training else min(batch, len(split.names)),
            settings.image_size,
            data.max_words,
            captions,
            features,
            settings.interpolation,
        )

    def _without_needless_files(self) -> CaptioningConfig:
        """The configuration without the encoder's weights file, where all weights are in a checkpoint."""
        if self.workdir.has_trained or self.config.train.start_from:
            return configs.with_overrides(self.config, {"encoder.weights": ""})
        return self.config

    def _earlier_architecture(self) -> str | None:
        """The encoder's architecture that the run keeps, or the one it starts from; None if neither does."""
        start_from = self.config.train.start_from
        if not self._is_encoder_found:
            return None
        if self.workdir.has_trained:
            return kept_architecture(self.workdir)
        return kept_architecture(Workdir(start_from, create=False)) if start_from else None

    @property
    def _is_encoder_found(self) -> bool:
        """Whether the encoder is none that this project or Keras can make by its name."""
        name = self.config.encoder.name
        return is_saved(name) or is_hub(name)

    def kept(self) -> dict[str, str]:
        """The encoder's architecture, where its name is not enough to make it again."""
        if not self._is_encoder_found:
            return {}
        return {ENCODER_FILE: architecture_of(self.model.network.encoder)}

    def take_earlier_weights(self) -> None:
        """Restores the weights of this run, or else of the one to start from.

        It comes before anything is computed: features of photos are those of the encoder as it is then.
        """
        if not self.workdir.has_trained:
            if self.config.train.start_from:
                self._start_from(Workdir(self.config.train.start_from, create=False))
            return
        checkpoints = Checkpoints(self.workdir.checkpoints_dir, {"model": self.model}, writes=False)
        try:
            step = checkpoints.restore_latest()
        except InputError:  # What follows raises it again if it needs that file.
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

    def epoch_figures(self, report: EpochReport) -> dict[str, Any]:
        """The figures of the KL's shares, and of the photos that are missing."""
        unreadable = len(self.batches.unreadable)
        if unreadable:
            logging.warning("%d of the photos met so far cannot be read and are left out", unreadable)
        return {
            "kl_per_training_caption": report.logs["kl"] / self.batches.captions,
            "kl_per_training_token": report.logs["kl"] / self.batches.predictions,
            "unreadable_photos": unreadable,
        }

    def describe(self, entry: dict[str, Any]) -> str:
        """An entry as a line of the log."""
        sharpening = entry["train_kl_sharpening"]
        return (
            f"valid perplexity {entry['perplexity']:.2f} (mean), "
            f"train NLL {entry['train_nll']:.4f} nats/word (one draw)"
            + (f" + sharpening KL {sharpening:.4f}" if self.model.sharpening else "")
            + f", KL {entry['kl_per_training_caption']:.3f} nats/training caption, "
            f"{entry['seconds']:.0f} s of training, {entry['captions_per_second']:.0f} captions/s"
        )

    def final_results(self) -> dict[str, Any]:
        """The perplexities of both splits, and the scores of the captions of test."""
        found: dict[str, Any] = {"kl_weight": self.config.train.kl_weight}
        for name in ("valid", "test"):
            split = getattr(self.data, name)
            batches = self.batches_of(split, self.config.evaluate.batch)
            found |= caption_results(name, split, batches, self.config, self.evaluator, self.data.vocabulary)
        return found

    def summary(self, results: dict[str, Any]) -> str:
        """A table of the figures."""
        return summary(results)
