"""The task of describing images in words."""

from __future__ import annotations

from zoo.captioning.configuration import CaptioningConfig
from zoo.captioning.presets import PRESETS
from zoo.later import later
from zoo.task import Task


def _size(config: CaptioningConfig) -> str:
    return f"{config.encoder.name} {config.encoder.image_size} + {config.model.size()}"


TASK = Task(
    name="captioning",
    label="captioning model",
    about="captions of pictures",
    config=CaptioningConfig,
    presets=PRESETS,
    size=_size,
    load_data=later("zoo.captioning.model", "load_data"),
    model_for=later("zoo.captioning.model", "model_for"),
    restorable=later("zoo.captioning.model", "restorable"),
    experiment=later("zoo.captioning.experiment", "CaptioningExperiment"),
    export=later("zoo.captioning.export", "export"),
    report_section=later("zoo.captioning.report_pictures", "captions"),
    report_tables=later("zoo.captioning.report_tables", "score_tables"),
    modes={"caption": later("zoo.captioning.describe", "describe")},
)
