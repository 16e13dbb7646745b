"""The final figures of a forecaster, as results.json has them and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfp_bayesrnn.model.evaluation import StreamEvaluator
from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.minibatches import Minibatches
from zoo.forecasting.paths import PathSampler
from zoo.forecasting.scores import NAMES, forecast, naive_scores, score, truth_scores
from zoo.forecasting.splits import ForecastData
from zoo.runs.figures import best_of, figures, of_samples
from zoo.terminal import progress


def split_results(
    split: str,
    data: ForecastData,
    batches: Minibatches,
    config: ForecastingConfig,
    evaluator: StreamEvaluator,
    sampler: PathSampler,
) -> dict[str, dict[str, Any]]:
    """The figures of a split under the posterior mean and, where they are asked for, under draws.

    Args:
      split: "valid" or "test".
      data: the data.
      batches: the same in minibatches.
      config: the run's configuration.
      evaluator: the evaluator of the model, whose variables are those of the checkpoint to be scored.
      sampler: draws its paths.
    """
    settings, season = config.evaluate, config.data.season
    scored = batches.evaluation(split, settings.batch)
    found: dict[str, dict[str, Any]] = {}
    for samples in dict.fromkeys((0, settings.num_samples)):
        key = f"{split}_mc" if samples else split
        about = of_samples(samples) if samples else {"weights": "mean"}
        label = progress.batches(f"{split}, {about['weights']}")
        nll = (
            evaluator.average(scored, samples, progress=label)
            if samples
            else evaluator.mean(scored, progress=label)
        )
        made = forecast(
            sampler,
            batches.windows,
            data.places[split],
            settings.paths,
            samples,
            config.seed,
            settings.batch,
            f"{split}, paths",
        )
        found[key] = {
            **figures(nll),
            **about,
            "paths": len(made.paths),
            **score(made, data.series, season),
            **truth_scores(made, data.series, season),
        }
    return found


def naive_results(data: ForecastData, config: ForecastingConfig) -> dict[str, dict[str, Any]]:
    """The figures of the seasonal naive forecast on test."""
    return {
        "seasonal_naive": naive_scores(
            data.places["test"], data.series, config.data.season, config.data.horizon
        )
    }


def summary(results: Mapping[str, Any]) -> str:
    """A table of the figures, saying which weights each is of."""
    rows = [("split", "weights", "NLL", *NAMES.values())]
    for key in ("valid", "valid_mc", "test", "test_mc"):
        found = results.get(key)
        if found is not None:
            cells = [cell(name, found.get(name)) for name in NAMES]
            rows.append((key.removesuffix("_mc"), found["weights"], f"{found['nll']:.4f}", *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{results['preset']} ({results['method']}), {best_of(results)}"]
    lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    naive = results["seasonal_naive"]["mase"]
    lines.append(
        "  CRPS, MASE and MSIS are scaled by the seasonal naive error of the past; in N %: the share of "
        f"values in the interval. MASE of the seasonal naive forecast on test: {cell('mase', naive)}"
    )
    known = results.get("test_mc") or results["test"]
    if "calibration_error" in known:
        lines.append(
            f"  by the known distribution, on test: calibration error {known['calibration_error']:.4f}, "
            f"probability of the 90 % interval {known['true_coverage_90']:.3f}, "
            f"lowest CRPS any forecast can expect {known['lowest_crps']:.4f}"
        )
    return "\n".join(lines)


def cell(name: str, value: float | None) -> str:
    """A score as text."""
    if value is None:
        return ""
    return f"{100 * value:.1f} %" if name.startswith("coverage") else f"{value:.4f}"
