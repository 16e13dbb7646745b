"""All tasks of the zoo, a line each. This is the only module that knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.captioning.task import TASK as CAPTIONING
from zoo.language_model.task import TASK as LANGUAGE_MODEL
from zoo.task import Task

if TYPE_CHECKING:
    from ml_collections import ConfigDict

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        LANGUAGE_MODEL,
        CAPTIONING,
    )
}
"""The tasks by name, in the order in which their presets are listed."""


def task_of(config: ConfigDict | Mapping[str, Any]) -> Task:
    """The task of a configuration."""
    return TASKS[config["task"]]


def tasks_with(mode: str) -> tuple[Task, ...]:
    """The tasks that have a mode which not every task has."""
    return tuple(task for task in TASKS.values() if mode in task.modes)
