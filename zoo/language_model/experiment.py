"""Training and evaluating a language model of the zoo, from a resolved configuration."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.loop.loop import EpochReport
from zoo.data.corpus import Corpus
from zoo.data.vocabulary import UNK
from zoo.data.windows import Windows, evaluation_windows, train_windows
from zoo.filesystem.files import is_folder
from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.dynamic import rule_of
from zoo.language_model.model import build_model, load_data
from zoo.language_model.results import lowest_perplexity, split_results
from zoo.language_model.summary import summary
from zoo.runs.experiment import Experiment
from zoo.runs.workdir import Workdir


class LanguageModelExperiment(Experiment[LanguageModelConfig, Corpus]):
    """A run on a corpus, which is read in windows."""

    unit = "tokens"
    kept_of_metrics = ("kl_per_training_token",)

    def read_data(self, data_dir: str | None) -> Corpus:
        """The corpus, whose sizes the log says."""
        corpus = load_data(self.config, data_dir)
        logging.info("%s", corpus.describe())
        if UNK in corpus.vocabulary and not corpus.share_of_unknown("train"):
            logging.warning(
                "%s stands for words of valid and test that train lacks, but never occurs in train: nothing "
                "is learnt of it; --config.data.min_count=2 makes it stand for rare words of train too",
                UNK,
            )
        return corpus

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
        found: dict[str, Any] = {}
        for split in ("valid", "test"):
            tokens = getattr(self.data, split)
            found |= split_results(split, tokens, self.config, self.evaluator, rule, self.members)
            if self.members:
                found[f"{split}_ensemble"]["member_checkpoints"] = _digests(self.members)
        return {**found, **lowest_perplexity(self.data)}

    def settings_of(self, name: str) -> tuple[str, ...]:
        """The rows and the words of a window; which rule of dynamic evaluation it was, its figures say."""
        by_window = name.endswith(("_dynamic", "_sharpened_bound"))
        return ("rows", "unroll") if by_window else ("final_rows", "final_unroll")

    def holds(self, name: str, figures: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
        """Those of an ensemble hold as long as its other members have the same weights, too."""
        members = figures.get("member_checkpoints", {})
        return super().holds(name, figures, settings) and members == _digests(members)

    def summary(self, results: dict[str, Any]) -> str:
        """A table of the perplexities."""
        return summary(results)


def _digests(members: Iterable[str]) -> dict[str, str | None]:
    """What the best checkpoint of each workdir is known by; None where there is none."""
    return {path: Workdir(path, create=False).best_digest if is_folder(path) else None for path in members}
