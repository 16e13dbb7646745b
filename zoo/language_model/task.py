"""The task of predicting a text's next word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.language_model import presets
from zoo.task import Task, later


def _size(preset: Mapping[str, Any]) -> str:
    return f"{preset['model']['layers']}x{preset['model']['units']}"


TASK = Task(
    name="language_model",
    label="language model",
    about="language model, word by word",
    presets=presets.PRESETS,
    size=_size,
    load_data=later("zoo.language_model.model", "load_data"),
    model_for=later("zoo.language_model.model", "model_for"),
    restorable=later("zoo.language_model.model", "restorable"),
    experiment=later("zoo.language_model.experiment", "LanguageModelExperiment"),
    export=later("zoo.export.language_model", "export"),
    report_section=later("zoo.report.passage", "passage"),
    scores_text=True,
    modes={"generate": later("zoo.language_model.continue_prompts", "continue_prompts")},
)
