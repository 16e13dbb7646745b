"""What the command line's modes do."""

from __future__ import annotations

import importlib
from typing import Any

from ml_collections import ConfigDict

from zoo import presets
from zoo.machine.machine import Machine
from zoo.registry import task_of, tasks_with
from zoo.task import Task


def run(
    mode: str,
    config: ConfigDict | None,
    workdir: str | None,
    data_dir: str | None,
    machine: Machine | None = None,
    **given: Any,
) -> None:
    """Carries out one mode.

    Args:
      mode: one of `zoo.command_line.mode_flags.MODES`.
      config: the resolved configuration; None for "list" and "uncertainty".
      workdir: the run's directory; None for "list".
      data_dir: the data set's directory, where it needs one.
      machine: to run on; None for "list".
      **given: the mode's own flags (`zoo.command_line.mode_flags`) that were given.

    Raises:
      InputError: the mode is of another task than the workdir's; what the mode raises.
    """
    if mode == "list":
        print(presets.table())
        return
    task = None if config is None else task_of(config)
    if task is not None:
        _check_task(mode, task, config, workdir)
    strategy = machine.start()
    # Imported here because TensorFlow takes seconds to import, and "list" does without it.
    load = importlib.import_module
    if mode in ("train", "evaluate"):
        function = getattr(load("zoo.runs.commands"), f"{mode}_run")
        function(task.experiment, config, workdir, data_dir, strategy)
    elif mode == "caption":
        task.modes[mode](config, workdir, **given)
    elif mode == "generate":
        task.modes[mode](config, workdir, given.pop("prompt", None), **given)
    elif mode == "uncertainty":
        load("zoo.uncertainty.comparison").compare_models(workdir, data_dir=data_dir, **given)
    elif mode == "prune":
        load("zoo.pruning.cost").measure_pruning(config, workdir, data_dir, strategy, given.get("prune"))
    elif mode == "export":
        load("zoo.export.run_export").export_run(config, workdir, **given)
    elif mode == "report":
        load("zoo.report.workdir_report").write_report(config, workdir, data_dir, **given)


def _check_task(mode: str, task: Task, config: ConfigDict, workdir: str | None) -> None:
    able = tasks_with(mode)
    if able and task not in able:
        errors = importlib.import_module("tfp_bayesrnn.errors")
        raise errors.InputError(
            f"--mode={mode} needs the workdir of a {' or a '.join(one.label for one in able)}; {workdir} is "
            f"of {config.preset!r}, a {task.label}"
        )
