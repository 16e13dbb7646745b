"""Training and evaluating a language model of the zoo, from a resolved configuration."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from tfp_bayesrnn import InputError
from tfp_bayesrnn.evaluation import StreamEvaluator
from tfp_bayesrnn.loop import EpochReport, Loop
from zoo import progress
from zoo.data.corpus import load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.data.windows import evaluation_windows, train_windows
from zoo.language_model.model import build_model
from zoo.language_model.results import final_results
from zoo.language_model.summary import summary
from zoo.workdir import Workdir


class Experiment:
    """One run: its corpus, model, loop and workdir."""

    def __init__(self, config: ConfigDict, workdir: Workdir, data_dir: str | None):
        """Reads the corpus and builds the model; nothing is trained or restored yet.

        Raises:
          InputError: if the data cannot be used, or their vocabulary is not the one the run was trained with.
        """
        self.config = config
        self.workdir = workdir
        self.corpus = load_corpus(config.data.name, data_dir)
        self._keep_vocabulary(self.corpus.vocabulary)
        train = config.train
        self.windows = train_windows(self.corpus.train, train.batch, train.unroll, train.tail)
        self.model = build_model(config, len(self.corpus.vocabulary), len(self.windows))
        self.loop = Loop(
            self.model,
            lambda step: self.windows.dataset(step, repeat=True),
            len(self.windows),
            workdir.checkpoints_dir,
        )
        self.evaluator = StreamEvaluator(self.model)

    def _keep_vocabulary(self, vocabulary: Vocabulary):
        path = self.workdir.vocabulary_path
        if not path.exists():
            vocabulary.save(path)
            return
        saved = Vocabulary.load(path)
        if saved != vocabulary:
            raise InputError(
                f"the data's vocabulary ({len(vocabulary)} words) is not the one of {path} "
                f"({len(saved)} words): give the data that the run was trained on"
            )

    def train(self) -> None:
        """Trains to the configured number of epochs, resuming where the workdir's checkpoints say."""
        step = self.loop.restore()
        self.workdir.truncate_metrics(step)
        if step:
            logging.info("resuming at step %d", step)
        valid = evaluation_windows(
            self.corpus.valid, rows=self.config.evaluate.rows, unroll=self.config.evaluate.unroll
        )
        earlier = self.workdir.read_metrics()
        elapsed = earlier[-1]["seconds"] if earlier else 0.0
        board = tf.summary.create_file_writer(str(self.workdir.tensorboard_dir))

        def on_epoch_end(report: EpochReport) -> float:
            nonlocal elapsed
            elapsed += report.seconds
            score = self.evaluator.mean(valid.dataset())
            entry = self._metrics(report, score, elapsed)
            self.workdir.append_metrics(entry)
            with board.as_default(step=report.step):
                for name, value in entry.items():
                    if isinstance(value, float):
                        tf.summary.scalar(name, value)
            board.flush()
            logging.info(
                "epoch %d/%d: valid perplexity %.2f (mean), train NLL %.4f nats/token (one draw)%s, "
                "KL %.4f nats/training token, %.0f s, %.0f tokens/s",
                report.epoch,
                self.config.train.epochs,
                score.perplexity,
                entry["train_nll"],
                f" + sharpening KL {entry['train_kl_sharpening']:.4f}" if self.model.sharpening else "",
                entry["kl_per_training_token"],
                report.seconds,
                entry["tokens_per_second"],
            )
            return score.nll

        self.loop.run(step, self.config.train.epochs, on_epoch_end, progress.steps)

    def _metrics(self, report: EpochReport, score, elapsed: float) -> dict[str, Any]:
        tokens = self.windows.predictions * report.steps / len(self.windows)
        return {
            "step": report.step,
            "epoch": report.epoch,
            "seconds": elapsed,
            "split": "valid",
            "weights": "mean",
            "nll": score.nll,
            "perplexity": score.perplexity,
            "tokens": score.predictions,
            "rows": self.config.evaluate.rows,
            "loss": report.logs["loss"],
            "train_nll": report.logs["nll"],
            "train_kl_sharpening": report.logs.get("kl_sharpening", 0.0),
            "kl": report.logs["kl"],
            "kl_per_training_token": report.logs["kl"] / self.windows.predictions,
            "gradient_norm": report.logs["gradient_norm"],
            "learning_rate": float(self.model.optimizer.learning_rate),
            "tokens_per_second": tokens / report.seconds,
        }

    def evaluate(self) -> dict[str, Any]:
        """Evaluates the best checkpoint on valid and test, writes results.json and prints the table."""
        step = self.loop.checkpoints.restore_best()
        if step is None:
            raise InputError(
                f"workdir {self.workdir.path} holds no best checkpoint: train it for an epoch first"
            )
        results = final_results(
            self.config, self.evaluator, self.corpus, self.workdir.read_metrics(), step, len(self.windows)
        )
        self.workdir.write_results(results)
        print(summary(results))
        return results


def train(config: ConfigDict, workdir: str, data_dir: str | None) -> dict[str, Any]:
    """The command `train`: trains, then evaluates."""
    directory = Workdir(workdir)
    directory.claim(config)
    experiment = Experiment(config, directory, data_dir)
    experiment.train()
    return experiment.evaluate()


def evaluate(config: ConfigDict, workdir: str, data_dir: str | None) -> dict[str, Any]:
    """The command `evaluate`: evaluates what is in a workdir."""
    return Experiment(config, Workdir(workdir, create=False), data_dir).evaluate()
