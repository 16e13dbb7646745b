"""What the command line's modes do."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from zoo import presets
from zoo.machine import Machine

_TASKS = {
    "captioning": "zoo.captioning.experiment",
    "language_model": "zoo.language_model.experiment",
}


def run(
    mode: str,
    config: ConfigDict | None,
    workdir: str | None,
    data_dir: str | None,
    machine: Machine | None = None,
) -> None:
    """Carries out one mode; that of captions is `caption`.

    Args:
      mode: "list", "train" or "evaluate".
      config: the resolved configuration; None for "list".
      workdir: the run's directory; None for "list".
      data_dir: the data set's directory, where it needs one.
      machine: to run on; None for "list".
    """
    if mode == "list":
        print(presets.table())
        return
    # Imported here because TensorFlow takes seconds to import, and "list" does without it.
    task = importlib.import_module(_TASKS[config.task])
    {"train": task.train, "evaluate": task.evaluate}[mode](config, workdir, data_dir, machine.start())


def caption(
    config: ConfigDict, workdir: str, images: Sequence[str], output: str | None, machine: Machine
) -> None:
    """Carries out "caption": captions of photos, by the model of a workdir.

    Args:
      config: the run's configuration, resolved.
      workdir: the run's directory.
      images: the photos: paths of files and directories, patterns.
      output: the contact sheet's path; None for one in the workdir.
      machine: to run on.

    Raises:
      InputError: the model is not of this task; what `zoo.captioning.describe` raises.
    """
    if config.task != "captioning":
        errors = importlib.import_module("tfp_bayesrnn.errors")
        raise errors.InputError(
            f"--mode=caption needs the workdir of a captioning model; {workdir} is of {config.preset!r}, a "
            f"{config.task.replace('_', ' ')}"
        )
    machine.start()
    importlib.import_module("zoo.captioning.describe").describe(config, workdir, images, output)
