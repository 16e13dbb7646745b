"""Prebuilt Bayesian recurrent models: presets, data sets and the experiments that train them.

import zoo

zoo.preset_names()
model = zoo.from_preset("demo_bbb")     # a compiled tfp_bayesrnn.BayesianModel
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfp_bayesrnn import BayesianModel
    from zoo.presets import get_preset, preset_names
    from zoo.runs.run_data import Data

__all__ = ["from_preset", "get_preset", "preset_names"]


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


def __getattr__(name: str) -> Any:
    # Imported when they are first asked for: what a program does before it can handle signals is to be short.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("zoo.presets"), name)
