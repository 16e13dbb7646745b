"""Presets: complete configurations under a name, as plain data.

A preset is one published (or, where none is published, chosen and so described) way to train one model. Where
the numbers come from is said with them, beside each task.

Two conventions, for whoever reads a configuration:

- `train.hold_epochs` counts the epochs at the full learning rate; epoch `hold_epochs + n` runs at
  `learning_rate * decay ** n`. This is "after 6 epochs we decrease it" in Zaremba et al., and `max_epoch` of
  the TensorFlow scripts descended from their code. (The Lua scripts of Zaremba and of Gal test
  `epoch > max_epoch` after an epoch and so begin one epoch later than the texts say; the texts are followed.)
- `train.weight_decay` adds `weight_decay * weight` to a weight's gradient after clipping, as Gal's code does
  up to a factor of the learning rate (his decay does not shrink with it). With Adam the weights decay by
  `learning_rate * weight_decay` a step too, apart from what Adam makes of the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.configuration.fields import filled
from zoo.registry import TASKS
from zoo.runs.settings import RunConfig

PRESETS: Mapping[str, Mapping[str, Any]] = {
    name: preset for task in TASKS.values() for name, preset in task.presets.items()
}
"""The presets by name, as plain data: what differs from the defaults of their tasks' fields."""


def preset_names() -> tuple[str, ...]:
    """The names of all presets, in the order they are listed."""
    return tuple(PRESETS)


def get_preset(name: str) -> RunConfig:
    """The preset `name` as a whole configuration, which cannot be changed.

    `zoo.configuration.config.with_overrides` makes another of it.

    Raises:
      InputError: no preset has that name; the near matches are listed.
    """
    if name not in PRESETS:
        # Not at the top: the library imports TensorFlow, which listing presets can do without.
        from tfp_bayesrnn.errors import unknown_name

        raise unknown_name("preset", name, PRESETS)
    preset = PRESETS[name]
    return filled(TASKS[preset["task"]].config, preset)


def table() -> str:
    """All presets as a table of plain text: name, task, size, method and description."""
    rows = [("preset", "task", "size", "method", "description")]
    for name in PRESETS:
        config = get_preset(name)
        size = TASKS[config.task].size(config)
        rows.append((name, config.task, size, config.method, config.description))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[4]]).rstrip())
    return "\n".join(lines)
