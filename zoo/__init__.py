"""Prebuilt Bayesian recurrent models: presets, data sets and the experiments that train them.

import zoo

zoo.preset_names()
model = zoo.from_preset("demo_bbb")     # a compiled tfp_bayesrnn.BayesianModel
model = zoo.load("runs/demo").model     # that of a run, as --mode=train has left it
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfp_bayesrnn import BayesianModel
    from zoo.presets import get_preset, preset_names
    from zoo.runs.restored import Restored
    from zoo.runs.run_data import Data

__all__ = ["from_preset", "get_preset", "load", "preset_names"]


def from_preset(
    name: str, overrides: Mapping[str, Any] | None = None, corpus: Data | None = None
) -> BayesianModel:
    """The model of a preset, untrained and compiled: the one that `--preset=name` trains.

    Args:
      name: the preset's name; `preset_names()` lists them.
      overrides: configuration field -> value, such as {"train.learning_rate": 0.5}; on the command line,
        `--config.FIELD=VALUE`.
      corpus: what to train on, whose sizes the model depends on, such as
        `zoo.data.load_corpus("text", DIR)`. May be left out where the sizes are known, as they are for what
        is built in and for Penn Treebank.

    Raises:
      InputError: a preset or field is unknown, a value is not accepted, or a corpus is needed.
    """
    from zoo.configuration import config as configs
    from zoo.presets import get_preset
    from zoo.registry import task_of

    config = configs.with_overrides(get_preset(name), dict(overrides or {}))
    configs.validate(config)
    return task_of(config).model_for(config, corpus)


def load(workdir: str | os.PathLike[str]) -> Restored[Any]:
    """The trained model of a run: that of the best checkpoint in its workdir, for prediction.

    The data it was trained on are not needed, so it cannot be trained on: `--mode=train` does that.

    Args:
      workdir: the run's directory, of any task.

    Returns:
      `model`, a compiled `BayesianModel`; `vocabulary`, the words that its ids stand for, or None of a task
      without words; `step`, that of the checkpoint. It can be taken apart like a tuple.

    Raises:
      InputError: there is no run, or none that has been trained, or one of its files is damaged.
    """
    from zoo.registry import read_config, task_of
    from zoo.runs.restored import restored
    from zoo.runs.workdir import Workdir

    directory = Workdir(workdir, create=False)
    config = read_config(directory)
    task = task_of(config)
    return restored(task.restorable, config, directory, task.has_vocabulary)


def __getattr__(name: str) -> Any:
    # Imported when they are first asked for: what a program does before it can handle signals is to be short.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("zoo.presets"), name)
