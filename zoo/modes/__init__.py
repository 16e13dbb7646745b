"""The modes of the command line: a file with a record each, and a line here."""

from __future__ import annotations

import importlib

from zoo.modes.mode import Mode

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        importlib.import_module(module).MODE
        for module in (
            "zoo.modes.list",
            "zoo.modes.train",
            "zoo.modes.evaluate",
            "zoo.modes.caption",
            "zoo.modes.generate",
            "zoo.modes.forecast",
            "zoo.modes.uncertainty",
            "zoo.modes.prune",
            "zoo.modes.export",
            "zoo.modes.report",
        )
    )
}
"""The modes by name, in the order in which `--help` and errors list them."""
