"""Figures of earlier evaluations in `results.json` that hold still."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from absl import logging

from tfp_bayesrnn.errors import InputError
from zoo.runs.workdir import Workdir

CHECKPOINT = "checkpoint_sha256"
"""The key of what the weights are known by: `Checkpoints.digest_of_best`."""

SETTINGS = "evaluate"
"""The key of the settings of the last evaluation, the table of that name of the configuration."""

Holds = Callable[[str, Mapping[str, Any], Mapping[str, Any]], bool]
"""(key, figures, the settings that they were found with) -> whether they are comparable with the new ones."""


def with_earlier(workdir: Workdir, found: Mapping[str, Any], holds: Holds) -> dict[str, Any]:
    """What an evaluation has found, and what an earlier one had of the same weights besides.

    Args:
      workdir: the run's workdir, whose `results.json` is read.
      found: the new contents of it.
      holds: says which figures are kept, among those of the same weights that are not in `found`.
    """
    try:
        earlier = workdir.read_results() or {}
    except InputError as error:  # It is about to be replaced.
        logging.warning("%s; nothing of it is kept", error)
        return dict(found)
    others = {
        name: figures
        for name, figures in earlier.items()
        if name not in found and isinstance(figures, Mapping)
    }
    settings, checkpoint = earlier.get(SETTINGS), found[CHECKPOINT]
    kept = {}
    if checkpoint is not None and earlier.get(CHECKPOINT) == checkpoint and isinstance(settings, Mapping):
        kept = {name: figures for name, figures in others.items() if holds(name, figures, settings)}
    left_out = [name for name in others if name not in kept]
    if left_out:
        logging.info(
            "%s: %s of an earlier evaluation left out: of other weights or settings",
            workdir.results_path,
            ", ".join(left_out),
        )
    return {**found, **kept}
