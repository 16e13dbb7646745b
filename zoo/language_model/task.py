"""The task of predicting a text's next word."""

from __future__ import annotations

from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.presets import PRESETS
from zoo.later import later
from zoo.task import Task


def _size(config: LanguageModelConfig) -> str:
    return config.model.size()


TASK = Task(
    name="language_model",
    label="language model",
    about="language model, word by word",
    config=LanguageModelConfig,
    presets=PRESETS,
    size=_size,
    load_data=later("zoo.language_model.model", "load_data"),
    model_for=later("zoo.language_model.model", "model_for"),
    restorable=later("zoo.language_model.model", "restorable"),
    experiment=later("zoo.language_model.experiment", "LanguageModelExperiment"),
    export=later("zoo.language_model.export", "export"),
    report_section=later("zoo.language_model.report_passage", "passage"),
    scores_text=True,
    modes={"generate": later("zoo.language_model.continue_prompts", "continue_prompts")},
)
