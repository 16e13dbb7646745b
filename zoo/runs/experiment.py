"""A run of any task: what all of them do alike, and what a task gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import tensorflow as tf
from absl import logging

from tfp_bayesrnn import BayesianModel, replicas
from tfp_bayesrnn.loop.loop import EpochReport
from tfp_bayesrnn.model.evaluation import StreamEvaluator, StreamScore
from tfp_bayesrnn.posterior import pruning
from zoo.runs.board import Board
from zoo.runs.earlier_results import CHECKPOINT, SETTINGS, with_earlier
from zoo.runs.figures import figures, word_figures
from zoo.runs.run_data import Data, check_data, data_dir_of, keep_data
from zoo.runs.settings import Config
from zoo.runs.training_run import TrainingRun, make_loop, publish, restore_best
from zoo.runs.workdir import Workdir

SomeData = TypeVar("SomeData", bound=Data)


class Experiment(ABC, Generic[Config, SomeData]):
    """One run: its data, model, loop and workdir. A task derives its own and gives what is abstract here.

    Attributes:
      config: the resolved configuration.
      workdir: the run's workdir.
      data_dir: the directory that the data come from; None where they need none.
      data: the data that is trained on and scored.
      model: the task's model, its weights those to go on from.
      loop: the loop that trains it.
      evaluator: the evaluator that scores it.
      members: the evaluators of other models that form an ensemble with it, by their workdirs.
    """

    unit = "predictions"
    """What training counts, in the plural: `predictions_per_step` are of it."""

    def __init__(
        self,
        config: Config,
        workdir: Workdir,
        data_dir: str | None,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Reads the data and builds the model; nothing is trained yet.

        Args:
          config: the resolved configuration.
          workdir: the run's workdir.
          data_dir: the data set's directory, where it needs one; None for that of the run so far.
          strategy: the strategy to train under; one device if left out.

        Raises:
          InputError: if the data cannot be used, they are not the ones the run was trained with, or the batch
            cannot be shared out over the replicas; or for what a task has to say against it.
        """
        self.config = config
        self.workdir = workdir
        strategy = strategy or tf.distribute.get_strategy()
        replicas.rows_of_replica(config.train.batch, strategy.num_replicas_in_sync)
        logging.info("reading the data: %s", config.data.name)
        self.data_dir = data_dir_of(workdir, config.data.name, data_dir)
        self.data = self.read_data(self.data_dir)
        check_data(workdir, self.data)
        with strategy.scope():
            self.model = self.build_model()
        self.take_earlier_weights()
        self.loop = make_loop(
            config, workdir, self.model, self.training_data, self.steps_per_epoch, self.guessing_nll
        )
        self.evaluator = StreamEvaluator(self.model)
        self.members: dict[str, StreamEvaluator] = {}

    # The members that a task gives.

    @abstractmethod
    def read_data(self, data_dir: str | None) -> SomeData:
        """The configured data."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """The number of minibatches in one pass over the training data; it depends on the data alone."""

    @property
    @abstractmethod
    def predictions_per_step(self) -> float:
        """The average number of predictions, in `unit`, of a minibatch."""

    @abstractmethod
    def build_model(self) -> BayesianModel:
        """The compiled model (`zoo.runs.assembly`); called in the strategy's scope."""

    def take_earlier_weights(self) -> None:
        """Restores weights before anything is computed, for a task that needs them so early."""

    def kept(self) -> Mapping[str, str]:
        """The texts of files, by name, that the workdir is to keep so that the model can be made again."""
        return {}

    @abstractmethod
    def training_data(self, step: int) -> Iterable:
        """The minibatches of training from a step on, without end."""

    @abstractmethod
    def scored_data(self, split: str) -> Iterable:
        """The minibatches of "valid" or "test" as training validates on them."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """The form in which `scored_data` reads a split, in a word or two."""

    @property
    def guessing_nll(self) -> float:
        """The NLL of guessing, nats; infinite where nobody can say."""
        words = self.data.vocabulary
        return math.inf if words is None else math.log(len(words))

    @abstractmethod
    def epoch_figures(self, report: EpochReport) -> dict[str, Any]:
        """The figures of an epoch's entry in `metrics.jsonl` besides those that `epoch_entry` knows."""

    @abstractmethod
    def describe(self, entry: dict[str, Any]) -> str:
        """An entry of `metrics.jsonl` as a line of the log."""

    @abstractmethod
    def final_results(self) -> dict[str, Any]:
        """The scores of valid and test, by their keys in `results.json`, of the model as it is now."""

    @abstractmethod
    def summary(self, results: dict[str, Any]) -> str:
        """The contents of `results.json` as text for a terminal."""

    # What is the same for every task.

    def train(self) -> None:
        """Trains to the configured number of epochs, resuming where the workdir's checkpoints say."""
        TrainingRun(
            self.config,
            self.workdir,
            self.loop,
            self._keep,
            lambda: Board(self.workdir.tensorboard_dir, self.model, self.predictions_per_step, self.unit),
            self.epoch_entry,
            self.describe,
            lambda: self.evaluator.mean(self.scored_data("valid")).nll,
        ).train()

    def _keep(self) -> None:
        keep_data(self.workdir, self.data, self.config.data.name, self.data_dir, self.kept())

    def figures(self, score: StreamScore) -> dict[str, Any]:
        """The figures of a score that are written down."""
        return (figures if self.data.vocabulary is None else word_figures)(score)

    def epoch_entry(self, report: EpochReport, seconds: float) -> dict[str, Any]:
        """The entry of an epoch in `metrics.jsonl`; `seconds` are those of training so far."""
        logs = report.logs
        score = self.evaluator.mean(self.scored_data("valid"))
        return {
            "step": report.step,
            "epoch": report.epoch,
            "seconds": seconds,
            "split": "valid",
            "weights": "mean",
            **self.figures(score),
            "loss": logs["loss"],
            "free_energy": logs["free_energy"],
            "train_nll": logs["nll"],
            "train_kl_sharpening": logs.get("kl_sharpening", 0.0),
            "kl": logs["kl"],
            "gradient_norm": logs["gradient_norm"],
            "learning_rate": report.last["learning_rate"],
            **self.epoch_figures(report),
            **self._pruned(),
            f"{self.unit}_per_second": self.predictions_per_step * report.steps / report.seconds,
        }

    def _pruned(self) -> dict[str, float]:
        """The share of the weights that is dropped, where training drops some."""
        if not self.config.pruning.fraction:
            return {}
        return {"pruned": pruning.remaining(pruning.masks_of(self.model.posterior)).dropped}

    def restore_best(self) -> int:
        """Restores the best checkpoint and returns its step.

        Raises:
          InputError: if there is none.
        """
        return restore_best(self.loop, self.workdir)

    def evaluate(self) -> dict[str, Any]:
        """Evaluates the best checkpoint on valid and test, writes results.json and prints the table.

        What an earlier evaluation has found of the same weights is kept where this one does not look for it.
        """
        step = self.restore_best()
        results = with_earlier(self.workdir, {**self.about(step), **self.final_results()}, self.holds)
        publish(self.workdir, self.loop.checkpoints, step, results, lambda: self.summary(results))
        return results

    def holds(self, name: str, figures: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
        """Whether earlier figures of the same weights are comparable with those of this evaluation.

        Args:
          name: their key in `results.json`.
          figures: the figures.
          settings: the table `evaluate` of the configuration that they were found with.
        """
        now = self.config.evaluate.to_dict()
        return all(settings.get(field) == now[field] for field in self.settings_of(name))

    def settings_of(self, name: str) -> tuple[str, ...]:
        """The fields of the table `evaluate` that the figures of a key depend on without saying so."""
        return tuple(field for field in self.config.evaluate.to_dict() if field != "num_samples")

    def about(self, step: int) -> dict[str, Any]:
        """The part of `results.json` about the checkpoint of a step, which comes before the scores."""
        config, model, entries = self.config, self.model, self.workdir.read_metrics()
        own = next((entry for entry in entries if entry["step"] == step), {})
        return {
            "task": config.task,
            "preset": config.preset,
            "method": config.method,
            "data": config.data.name,
            "seed": config.seed,
            "steps": step,
            CHECKPOINT: self.workdir.best_digest,
            SETTINGS: self.config.evaluate.to_dict(),
            "epochs": own.get("epoch", step // self.steps_per_epoch),
            "epochs_trained": entries[-1]["epoch"] if entries else None,
            "train_seconds": entries[-1]["seconds"] if entries else None,
            "parameters": {
                "weights": sum(math.prod(weight.shape) for weight in model.posterior.weights),
                "trainable": sum(math.prod(variable.shape) for variable in model.trained_variables),
            },
            **{name: own.get(name) for name in self.kept_of_metrics},
            **self._pruned(),
        }

    kept_of_metrics: tuple[str, ...] = ()
    """What `results.json` takes over of the checkpoint's own entry in `metrics.jsonl`."""
