"""What the command line's modes do."""

from __future__ import annotations

import importlib
from typing import Any

from ml_collections import ConfigDict

from zoo import presets
from zoo.machine.machine import Machine
from zoo.tasks import MODELS, experiment_module

_OF_TASK = {"caption": "captioning", "generate": "language_model"}  # Modes of one task only.


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
    _check_task(mode, config, workdir)
    strategy = machine.start()
    # Imported here because TensorFlow takes seconds to import, and "list" does without it.
    load = importlib.import_module
    if mode in ("train", "evaluate"):
        getattr(experiment_module(config.task), mode)(config, workdir, data_dir, strategy)
    elif mode == "caption":
        load("zoo.captioning.describe").describe(config, workdir, **given)
    elif mode == "generate":
        load("zoo.language_model.continue_prompts").continue_prompts(
            config, workdir, given.pop("prompt", None), **given
        )
    elif mode == "uncertainty":
        load("zoo.uncertainty.comparison").compare_models(workdir, data_dir=data_dir, **given)
    elif mode == "prune":
        load("zoo.pruning.cost").measure_pruning(config, workdir, data_dir, strategy, given.get("prune"))
    elif mode == "export":
        load("zoo.export.run_export").export_run(config, workdir, **given)
    elif mode == "report":
        load("zoo.report.workdir_report").write_report(config, workdir, data_dir, **given)


def _check_task(mode: str, config: ConfigDict | None, workdir: str | None) -> None:
    task = _OF_TASK.get(mode)
    if task is not None and config.task != task:
        errors = importlib.import_module("tfp_bayesrnn.errors")
        raise errors.InputError(
            f"--mode={mode} needs the workdir of a {MODELS[task]}; {workdir} is of {config.preset!r}, a "
            f"{MODELS[config.task]}"
        )
