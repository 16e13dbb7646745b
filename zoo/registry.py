"""All tasks of the zoo, a line each. This is the only module that knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.captioning.task import TASK as CAPTIONING
from zoo.configuration.checks import choice
from zoo.forecasting.task import TASK as FORECASTING
from zoo.language_model.task import TASK as LANGUAGE_MODEL
from zoo.runs.settings import RunConfig
from zoo.task import Task

if TYPE_CHECKING:
    from zoo.runs.workdir import Workdir

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        LANGUAGE_MODEL,
        CAPTIONING,
        FORECASTING,
    )
}
"""The tasks by name, in the order in which their presets are listed."""


def task_of(config: RunConfig) -> Task:
    """The task of a configuration."""
    return TASKS[config.task]


def tasks_with(mode: str) -> tuple[Task, ...]:
    """The tasks that have a mode which not every task has."""
    return tuple(task for task in TASKS.values() if mode in task.modes)


def from_json(text: str, source: str = "the configuration") -> RunConfig:
    """The configuration that `zoo.configuration.config.to_json` wrote, in this version or an earlier one.

    Args:
      text: JSON text.
      source: the text's name in an error, such as a file's path.

    Raises:
      InputError: the text is none, another version wrote it, or a field is missing or unknown.
    """
    from zoo.configuration import config as configs

    values, tasks = configs.parse_saved(text, source), choice(*TASKS)
    if "task" not in values:
        raise configs.missing("task", tasks)
    configs.check_field("task", values["task"], tasks)
    return configs.restored(TASKS[values["task"]].config, values)


def read_config(workdir: Workdir) -> RunConfig:
    """The configuration of the run in a workdir.

    Raises:
      InputError: there is none, or it cannot be read or understood.
    """
    return from_json(workdir.read_config(), str(workdir.config_path))
