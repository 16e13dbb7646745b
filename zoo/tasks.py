"""The tasks of the zoo: what their models are called, and where their experiments are."""

from __future__ import annotations

import importlib
from types import ModuleType

MODELS = {"captioning": "captioning model", "language_model": "language model"}

_EXPERIMENTS = {
    "captioning": "zoo.captioning.experiment",
    "language_model": "zoo.language_model.experiment",
}


def experiment_module(task: str) -> ModuleType:
    """The module with the task's `Experiment`, `train` and `evaluate`; it imports TensorFlow."""
    return importlib.import_module(_EXPERIMENTS[task])
