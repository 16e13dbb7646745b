"""The task of describing images in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.captioning import presets
from zoo.task import Task, later


def _size(preset: Mapping[str, Any]) -> str:
    model, encoder = preset["model"], preset["encoder"]
    return f"{encoder['name']} {encoder['image_size']} + {model['layers']}x{model['units']}"


TASK = Task(
    name="captioning",
    label="captioning model",
    about="captions of pictures",
    presets=presets.PRESETS,
    size=_size,
    load_data=later("zoo.captioning.model", "load_data"),
    model_for=later("zoo.captioning.model", "model_for"),
    restorable=later("zoo.captioning.model", "restorable"),
    experiment=later("zoo.captioning.experiment", "CaptioningExperiment"),
    export=later("zoo.export.captioning", "export"),
    report_section=later("zoo.report.captions", "captions"),
    modes={"caption": later("zoo.captioning.describe", "describe")},
)
