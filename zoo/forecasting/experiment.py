"""Training and evaluating a forecaster of the zoo, from a resolved configuration."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.loop.loop import EpochReport
from tfp_bayesrnn.model.evaluation import StreamScore
from zoo.forecasting import results
from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.minibatches import Minibatches
from zoo.forecasting.model import build_model, load_data, minibatches
from zoo.forecasting.paths import PathSampler
from zoo.forecasting.splits import ForecastData
from zoo.runs.experiment import Experiment
from zoo.runs.figures import figures


class ForecastingExperiment(Experiment[ForecastingConfig, ForecastData]):
    """A run on series."""

    unit = "values"
    layout = "one forecast of each series"
    kept_of_metrics = ("kl_per_training_value",)

    def read_data(self, data_dir: str | None) -> ForecastData:
        """The series and their splits."""
        return load_data(self.config, data_dir)

    @functools.cached_property
    def batches(self) -> Minibatches:
        """The windows of training in minibatches."""
        return minibatches(self.config, self.data)

    @property
    def steps_per_epoch(self) -> int:
        """The number of minibatches that predict every value once on average."""
        return len(self.batches)

    @property
    def predictions_per_step(self) -> float:
        """The average number of values that a minibatch predicts."""
        return self.batches.batch * self.batches.predictions_per_row

    def build_model(self) -> BayesianModel:
        """The compiled model."""
        return build_model(self.config, len(self.data.vocabulary), self.batches.rows, len(self.batches))

    def training_data(self, step: int) -> Iterable:
        """The minibatches from a step on."""
        return self.batches.training(step, self.config.seed)

    def scored_data(self, split: str) -> Iterable:
        """The values of the forecasts, each given those before it."""
        return self.batches.evaluation(split, self.config.evaluate.batch)

    @property
    def guessing_nll(self) -> float:
        """Infinite: nobody knows what guessing a value costs."""
        return math.inf

    def figures(self, score: StreamScore) -> dict[str, Any]:
        """The figures of values: the vocabulary is that of categories."""
        return figures(score)

    def epoch_figures(self, report: EpochReport) -> dict[str, Any]:
        """The KL's share of a value."""
        values = self.batches.rows * self.batches.predictions_per_row
        return {"kl_per_training_value": report.logs["kl"] / values}

    def describe(self, entry: dict[str, Any]) -> str:
        """An entry as a line of the log."""
        sharpening = entry["train_kl_sharpening"]
        return (
            f"valid NLL {entry['nll']:.4f} nats/value (mean), train NLL {entry['train_nll']:.4f} (one draw)"
            + (f" + sharpening KL {sharpening:.4f}" if self.model.sharpening else "")
            + f", KL {entry['kl_per_training_value']:.4f} nats/training value, "
            f"{entry['seconds']:.0f} s of training, {entry['values_per_second']:.0f} values/s"
        )

    def final_results(self) -> dict[str, Any]:
        """The scores of both splits, and those of the seasonal naive forecast."""
        sampler = PathSampler(self.model, self.batches.windows.layout)
        found: dict[str, Any] = {}
        for split in ("valid", "test"):
            found |= results.split_results(
                split, self.data, self.batches, self.config, self.evaluator, sampler
            )
        return {**found, **results.naive_results(self.data, self.config)}

    def summary(self, results_found: dict[str, Any]) -> str:
        """A table of the scores."""
        return results.summary(results_found)
