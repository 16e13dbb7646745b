"""The mode `list`: the presets as a table."""

from __future__ import annotations

from zoo import presets
from zoo.modes.mode import Configuration, Mode, Request


def run(request: Request) -> None:
    """Prints the table."""
    print(presets.table())


MODE = Mode(
    name="list",
    about="lists the presets: task, size, method, description",
    run=run,
    configuration=Configuration.NONE,
)
