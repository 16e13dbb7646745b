"""What the command line's modes do."""

from __future__ import annotations

import importlib

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
    """Carries out one mode.

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
