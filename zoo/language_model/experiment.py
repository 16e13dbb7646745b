"""Training and evaluating a language model of the zoo, from a resolved configuration."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from ml_collections import ConfigDict

from tfp_bayesrnn import replicas
from tfp_bayesrnn.loop.loop import EpochReport
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from zoo.data.windows import evaluation_windows, train_windows
from zoo.language_model.model import build_model, load_data
from zoo.language_model.results import final_results
from zoo.language_model.summary import summary
from zoo.runs.board import Board
from zoo.runs.run_data import check_data
from zoo.runs.training_run import TrainingRun, make_loop, publish, restore_best
from zoo.runs.workdir import Workdir


class Experiment:
    """One run: its corpus, model, loop and workdir."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: Workdir,
        data_dir: str | None,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Reads the corpus and builds the model; nothing is trained or restored yet.

        Args:
          config: resolved.
          workdir: the run's.
          data_dir: the data set's directory, where it needs one.
          strategy: to train under; one device if left out.

        Raises:
          InputError: if the data cannot be used, they are not the ones the run was trained with, or the batch
            cannot be shared out over the replicas.
        """
        self.config = config
        self.workdir = workdir
        strategy = strategy or tf.distribute.get_strategy()
        train = config.train
        replicas.rows_of_replica(train.batch, strategy.num_replicas_in_sync)
        self.corpus = load_data(config, data_dir)
        check_data(workdir, self.corpus)
        self.windows = train_windows(self.corpus.train, train.batch, train.unroll, train.tail)
        vocabulary_size = len(self.corpus.vocabulary)
        with strategy.scope():
            self.model = build_model(config, vocabulary_size, len(self.windows))
        self.loop = make_loop(
            config,
            workdir,
            self.model,
            lambda step: self.windows.dataset(step, repeat=True),
            len(self.windows),
            vocabulary_size,
        )
        self.evaluator = StreamEvaluator(self.model)

    def train(self) -> None:
        """Trains to the configured number of epochs, resuming where the workdir's checkpoints say."""
        _Training(self).train()

    def evaluate(self) -> dict[str, Any]:
        """Evaluates the best checkpoint on valid and test, writes results.json and prints the table."""
        step = restore_best(self.loop, self.workdir)
        results = final_results(
            self.config, self.evaluator, self.corpus, self.workdir.read_metrics(), step, len(self.windows)
        )
        publish(self.workdir, self.loop.checkpoints, step, results, lambda: summary(results))
        return results


class _Training(TrainingRun):
    """Validates with the posterior mean on rows, which is quicker than on one stream."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        windows = experiment.windows
        self._tokens_per_step = windows.predictions / len(windows)
        settings = experiment.config.evaluate
        self._valid = evaluation_windows(experiment.corpus.valid, rows=settings.rows, unroll=settings.unroll)
        super().__init__(
            experiment.config,
            experiment.workdir,
            experiment.corpus,
            experiment.loop,
            lambda: Board(
                experiment.workdir.tensorboard_dir, experiment.model, self._tokens_per_step, "tokens"
            ),
        )

    def evaluate(self, report: EpochReport, seconds: float) -> dict[str, Any]:
        """The entry of an epoch."""
        logs = report.logs
        score = self._experiment.evaluator.mean(self._valid.dataset())
        return {
            "step": report.step,
            "epoch": report.epoch,
            "seconds": seconds,
            "split": "valid",
            "weights": "mean",
            "nll": score.nll,
            "perplexity": score.perplexity,
            "tokens": score.predictions,
            "rows": self.config.evaluate.rows,
            "loss": logs["loss"],
            "train_nll": logs["nll"],
            "train_kl_sharpening": logs.get("kl_sharpening", 0.0),
            "kl": logs["kl"],
            "kl_per_training_token": logs["kl"] / self._experiment.windows.predictions,
            "gradient_norm": logs["gradient_norm"],
            "learning_rate": report.last["learning_rate"],
            "tokens_per_second": self._tokens_per_step * report.steps / report.seconds,
        }

    def describe(self, entry: dict[str, Any]) -> str:
        """An entry as a line of the log."""
        sharpening = entry["train_kl_sharpening"]
        return (
            f"valid perplexity {entry['perplexity']:.2f} (mean), "
            f"train NLL {entry['train_nll']:.4f} nats/token (one draw)"
            + (f" + sharpening KL {sharpening:.4f}" if self._experiment.model.sharpening else "")
            + f", KL {entry['kl_per_training_token']:.4f} nats/training token, "
            f"{entry['seconds']:.0f} s of training, {entry['tokens_per_second']:.0f} tokens/s"
        )
