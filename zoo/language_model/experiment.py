"""Training and evaluating a language model of the zoo, from a resolved configuration."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.loop.loop import EpochReport
from zoo.data.corpus import Corpus
from zoo.data.windows import Windows, evaluation_windows, train_windows
from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.dynamic import rule_of
from zoo.language_model.model import build_model, load_data
from zoo.language_model.results import lowest_perplexity, split_results
from zoo.language_model.summary import summary
from zoo.runs.experiment import Experiment


class LanguageModelExperiment(Experiment[LanguageModelConfig, Corpus]):
    """A run on a corpus, which is read in windows."""

    unit = "tokens"
    kept_of_metrics = ("kl_per_training_token",)

    def read_data(self, data_dir: str | None) -> Corpus:
        """The corpus."""
        return load_data(self.config, data_dir)

    @functools.cached_property
    def windows(self) -> Windows:
        """The windows of training."""
        train = self.config.train
        return train_windows(self.data.train, train.batch, train.unroll, train.tail)

    @property
    def steps_per_epoch(self) -> int:
        """The number of windows of the training text."""
        return len(self.windows)

    @property
    def predictions_per_step(self) -> float:
        """The number of tokens in a window, of all rows together."""
        return self.windows.predictions / len(self.windows)

    def build_model(self) -> BayesianModel:
        """The compiled model."""
        return build_model(self.config, len(self.data.vocabulary), len(self.windows))

    def training_data(self, step: int) -> Iterable:
        """The windows from a step on."""
        return self.windows.dataset(step, repeat=True)

    def scored_data(self, split: str) -> Iterable:
        """The split in rows, which are read more quickly than one stream."""
        settings = self.config.evaluate
        return evaluation_windows(getattr(self.data, split), settings.rows, settings.unroll).dataset()

    @property
    def layout(self) -> str:
        """The number of rows, in words."""
        return f"{self.config.evaluate.rows} rows"

    def epoch_figures(self, report: EpochReport) -> dict[str, Any]:
        """The rows that validation read, and the KL's share of a token."""
        return {
            "rows": self.config.evaluate.rows,
            "kl_per_training_token": report.logs["kl"] / self.windows.predictions,
        }

    def describe(self, entry: dict[str, Any]) -> str:
        """An entry as a line of the log."""
        sharpening = entry["train_kl_sharpening"]
        return (
            f"valid perplexity {entry['perplexity']:.2f} (mean), "
            f"train NLL {entry['train_nll']:.4f} nats/token (one draw)"
            + (f" + sharpening KL {sharpening:.4f}" if self.model.sharpening else "")
            + f", KL {entry['kl_per_training_token']:.4f} nats/training token, "
            f"{entry['seconds']:.0f} s of training, {entry['tokens_per_second']:.0f} tokens/s"
        )

    def final_results(self) -> dict[str, Any]:
        """The perplexities of both splits, each as one stream unless configured otherwise."""
        rule = rule_of(self.config.evaluate, self.evaluator, self.data.train)
        return {
            **split_results("valid", self.data.valid, self.config, self.evaluator, rule, self.members),
            **split_results("test", self.data.test, self.config, self.evaluator, rule, self.members),
            **lowest_perplexity(self.data),
        }

    def summary(self, results: dict[str, Any]) -> str:
        """A table of the perplexities."""
        return summary(results)
