"""The command `prune`: perplexity against the fraction of weights dropped, and a pruned workdir.

Where predictions are not words, the same figure is called what it is, the exponential of the NLL.

It goes by the posterior mean of a run's best checkpoint, on the rows that training validates on:

* a curve of the whole network for every ranking: signal to noise, and magnitude as the baseline;
* a curve where every weight (a kernel, a bias, an embedding) loses the same fraction of its own elements;
* for every weight, what dropping a fraction of it alone costs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_bayesrnn import Posterior, VariationalWeight
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.posterior import pruning
from tfp_bayesrnn.posterior.pruning import Masks
from zoo.drawing.line_plot import Panel, Series, line_plot
from zoo.filesystem.files import write_whole
from zoo.filesystem.writable import printed_after
from zoo.registry import task_of
from zoo.runs.commands import ready_to_score
from zoo.runs.experiment import Experiment
from zoo.runs.pruned_workdir import check_replaceable, write_pruned
from zoo.runs.settings import RunConfig
from zoo.runs.workdir import Workdir
from zoo.terminal import progress
from zoo.terminal.text import aligned

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
ALONE = (0.5, 0.8, 0.95)
SPLITS = ("valid", "test")

_NAMES = {"signal_to_noise": "signal to noise", "magnitude": "magnitude"}


def measure_pruning(
    config: RunConfig,
    workdir: str,
    data_dir: str | None,
    strategy: tf.distribute.Strategy | None = None,
    fraction: float | None = None,
    fractions: Sequence[float] = FRACTIONS,
    alone: Sequence[float] = ALONE,
) -> dict[str, Any]:
    """Measures what pruning costs; with a fraction, makes the pruned workdir, WORKDIR/pruned.

    Writes `pruning.json` and `pruning.svg`, and prints a table. The ranking is by signal to noise; of a
    method without distributions, by magnitude. The test split is scored for that ranking of all weights.

    Args:
      config: the resolved configuration.
      workdir: the directory of a finished run, pruned or not.
      data_dir: the data set's directory, where it needs one; None for that of the run.
      strategy: the strategy to run under; one device if left out.
      fraction: the share of all weights that the pruned workdir lacks; it is measured too.
      fractions: the shares of all weights that are measured.
      alone: the shares of each weight alone that are measured.

    Returns:
      What `pruning.json` holds.

    Raises:
      InputError: a fraction is not strictly between 0 and 1, the workdir has no best checkpoint, or a pruned
        workdir there has been trained since.
    """
    if fraction is not None and not 0.0 < fraction < 1.0:
        raise InputError(f"--prune={fraction} is not accepted: it must be a number strictly between 0 and 1")
    directory = Workdir(workdir, create=False)
    ready_to_score(directory, directory.pruning_path)
    if fraction is not None:
        check_replaceable(directory.pruned_dir)
    experiment = task_of(config).experiment(config, directory, data_dir, strategy)
    step = experiment.restore_best()
    by = "signal_to_noise" if experiment.model.posterior.is_variational else "magnitude"
    has_words = any("perplexity" in entry for entry in directory.read_metrics())
    fractions = sorted({*fractions, *([] if fraction is None else [fraction])})
    results = {
        "task": config.task,
        "preset": config.preset,
        "method": config.method,
        "data": config.data.name,
        "step": step,
        "by": by,
        "measure": "perplexity" if has_words else "exp(NLL)",
        **_measure(experiment, by, fractions, alone),
    }
    with printed_after(lambda: table(results)):
        directory.write_json(directory.pruning_path, results)
        write_whole(directory.pruning_plot_path, plot(results))
        if fraction is not None:
            results["pruned"] = write_pruned(experiment, step, by, fraction)
            directory.write_json(directory.pruning_path, results)
    return results


# Measuring.


def _measure(
    experiment: Experiment, by: str, fractions: Sequence[float], alone: Sequence[float]
) -> dict[str, Any]:
    posterior = experiment.model.posterior
    names = _names(posterior)
    weights = [
        {"name": name, "elements": math.prod(weight.shape), "shape": weight.shape}
        for weight, name in names.items()
    ]
    rankings = [by] if by == "magnitude" else [by, "magnitude"]
    plans: list[tuple[str, str, VariationalWeight | None, Sequence[float]]]
    plans = [(one, "network", None, fractions) for one in rankings]
    plans.append((by, "weight", None, fractions))
    plans += [(by, "weight", weight, alone) for weight in posterior.weights]
    score = _Scores(experiment)
    total = sum(len(plan[-1]) for plan in plans) + len(fractions) + len(SPLITS)
    with progress.counter(total, "pruning", "evaluation") as bar:
        score.after_each = bar.update
        whole = pruning.masks(posterior, 0.0, "magnitude")
        unpruned = {split: score(split, whole) for split in SPLITS}
        curves = []
        for one, scope, weight, of_plan in plans:
            splits = SPLITS if (one, scope) == (by, "network") else SPLITS[:1]
            points = [{"fraction": 0.0, "dropped": 0, **{split: unpruned[split] for split in splits}}]
            for dropped in of_plan:
                masks = pruning.masks(posterior, dropped, one, scope)
                if weight is not None:
                    masks = {weight: masks[weight]}
                perplexities = {split: score(split, masks) for split in splits}
                points.append(_point(dropped, masks, perplexities, names))
            curves.append(
                {
                    "by": one,
                    "scope": scope,
                    "weight": None if weight is None else names[weight],
                    "points": points,
                }
            )
    name_of = {weight.path: name for weight, name in names.items()}
    return {
        "layout": experiment.layout,
        "elements": sum(weight["elements"] for weight in weights),
        "weights": weights,
        "unpruned": unpruned,
        "curves": curves,
        "signal_to_noise_db": [
            {**one._asdict(), "name": name_of.get(one.name, one.name)}
            for one in pruning.signal_to_noise(posterior)
        ],
    }


def _names(posterior: Posterior) -> dict[VariationalWeight, str]:
    """The weights' paths within the network, such as "lstm_0/cell/kernel", the same in every process."""
    paths = [weight.path for weight in posterior.weights]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return {
        weight: path.removeprefix(common).strip("/")
        for weight, path in zip(posterior.weights, paths, strict=True)
    }


class _Scores:
    """Perplexity of the posterior mean under masks, on the rows or minibatches that training validates on."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._mean = experiment.model.posterior.mean()
        self.after_each: Callable[[], Any] = lambda: None

    def __call__(self, split: str, masks: Masks) -> float:
        draw, data = pruning.masked_draw(self._mean, masks), self._experiment.scored_data(split)
        nats = -self._experiment.evaluator.log_probabilities(data, draw)
        self.after_each()
        return math.exp(min(float(np.mean(nats)), 700.0))


def _point(
    fraction: float,
    masks: Masks,
    perplexities: dict[str, float],
    names: Mapping[VariationalWeight, str],
) -> dict[str, Any]:
    left = pruning.remaining(masks)
    point: dict[str, Any] = {"fraction": fraction, "dropped": left.weights - left.kept, **perplexities}
    if len(masks) > 1:
        point["dropped_of_weights"] = {names[one]: 1.0 - float(keep.mean()) for one, keep in masks.items()}
    return point


# Showing.


def table(results: Mapping[str, Any]) -> str:
    """The results of `measure_pruning` as a table of plain text."""
    by, curves = results["by"], results["curves"]
    curve = {(one["by"], one["scope"]): one["points"] for one in curves if one["weight"] is None}
    main = curve[by, "network"]
    columns = [(f"valid, {_NAMES[by]}", main, "valid"), ("test", main, "test")]
    columns.append(("same fraction of each weight", curve[by, "weight"], "valid"))
    if by != "magnitude":
        columns.insert(2, ("valid, magnitude", curve["magnitude", "network"], "valid"))
    rows = [("dropped", "weights left", *(heading for heading, _, _ in columns))]
    for place, point in enumerate(main):
        cells = (f"{points[place][split]:.2f}" for _, points, split in columns)
        rows.append((f"{point['fraction']:.4g}", f"{results['elements'] - point['dropped']:,}", *cells))
    lines = [
        f"{results['preset']} ({results['method']}), step {results['step']}: {results['measure']} of the "
        f"posterior mean ({results['layout']}) by the fraction of {results['elements']:,} weights dropped",
        *aligned(rows),
    ]
    alone = [one for one in curves if one["weight"] is not None]
    if alone:
        headings = (f"{point['fraction']:.4g} of it" for point in alone[0]["points"][1:])
        rows = [("one weight alone, valid", "weights", *headings)]
        for one, weight in zip(alone, results["weights"], strict=True):
            cells = (f"{point['valid']:.2f}" for point in one["points"][1:])
            rows.append((one["weight"], f"{weight['elements']:,}", *cells))
        lines += aligned(rows)
    if "pruned" in results:
        made = results["pruned"]
        lines.append(
            f"  {made['workdir']}: {made['kept']:,} of {made['elements']:,} weights, "
            f"{made['sparse_float32_bytes']:,} of {made['dense_float32_bytes']:,} bytes in float32 with a "
            f"bit for each weight, valid {results['measure']} {made['valid']:.2f}"
        )
    return "\n".join(lines)


def plot(results: Mapping[str, Any]) -> str:
    """The results of `measure_pruning` as the text of an SVG, up to four times the lowest."""
    panels = []
    for title, is_alone in (("Whole network", False), ("One weight alone", True)):
        series = []
        for one in results["curves"]:
            if (one["weight"] is not None) != is_alone:
                continue
            label = one["weight"] or f"by {_NAMES[one['by']]}"
            if not is_alone and one["scope"] == "weight":
                label += ", of each weight the same"
            points = one["points"]
            series.append(Series(label, [p["fraction"] for p in points], [p["valid"] for p in points]))
        if series:
            panels.append(Panel(title, series, results["unpruned"]["valid"]))
    label = f"validation {results['measure']}"
    return line_plot(panels, "fraction of weights dropped", label, highest=4.0)
