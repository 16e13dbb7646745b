"""What all faults share: the references that runs are measured by, and the table of what came of them."""

from __future__ import annotations

import collections
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from runs import Layout, NotSurvived, Reference, Run


@dataclasses.dataclass
class Row:
    """A row of the table: one kind of fault in one layout."""

    fault: str
    layout: str
    tried: int = 0
    survived: int = 0
    steps_lost: int = 0
    values: int | None = None  # Different ones; None where nothing is there to compare.
    metrics: int | None = None
    skipped: str = ""

    def cells(self) -> list[str]:
        numbers = [self.tried, self.survived, self.steps_lost, self.values, self.metrics]
        shown = ["-" if number is None else str(number) for number in numbers]
        return [self.fault, self.layout, *(["-"] * 5 if self.skipped else shown), self.skipped]


class Suite:
    """All faults, the references they are measured by, and the table of what came of them."""

    def __init__(self, directory: Path, seed: int, kills: int):
        self.directory = directory
        self.kills = kills
        self.generator = np.random.default_rng(seed)
        self.rows: list[Row] = []
        self.hits: collections.Counter[str] = collections.Counter()
        self._references: dict[str, Reference] = {}
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begun:4.0f} s  {text}", flush=True)

    def reference(self, layout: Layout) -> Reference:
        """The layout's, made when first asked for."""
        if layout.name not in self._references:
            self.say(f"{layout.name}: reference")
            self._references[layout.name] = Reference(layout, self.new_directory())
        return self._references[layout.name]

    def new_directory(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.directory))

    def new_run(self, layout: Layout) -> Run:
        return Run(layout, self.new_directory() / "run")

    def uniform(self, high: float, low: float = 0.0) -> float:
        return float(self.generator.uniform(low, high))

    def choose(self, items):
        return items[self.generator.integers(len(items))]

    def row(self, fault: str, layout: Layout) -> Row:
        """The table's row for a kind of fault in a layout."""
        for row in self.rows:
            if (row.fault, row.layout) == (fault, layout.name):
                return row
        self.rows.append(Row(fault, layout.name))
        return self.rows[-1]

    def survives(self, row: Row, run: Run, action: Callable[..., None], *arguments) -> bool:
        """Whether an action on a run goes through; no process of the run is left after it."""
        try:
            action(*arguments)
            return True
        except NotSurvived as error:
            self.say(f"{row.layout}: {row.fault}: NOT SURVIVED: {error}; {run.workdir}")
            return False
        finally:
            run.kill()

    def finish(self, row: Row, run: Run) -> None:
        """Lets a run come to its end, and measures it by its reference."""
        run.finish()
        reference = self.reference(run.layout)
        values, metrics = reference.different_values(run), reference.different_metrics(run)
        row.steps_lost += run.steps_lost
        row.values, row.metrics = (row.values or 0) + values, (row.metrics or 0) + metrics
        if values or metrics or run.steps_lost:
            raise NotSurvived(f"{values} values and {metrics} metrics differ, {run.steps_lost} steps lost")


def table(rows: list[Row]) -> str:
    """The rows, under a head and above their sums."""
    head = ["fault", "layout", "tried", "survived", "steps lost", "values differ", "metrics differ", ""]
    total = Row("total", "")
    for row in rows:
        for name in ("tried", "survived", "steps_lost", "values", "metrics"):
            setattr(total, name, (getattr(total, name) or 0) + (getattr(row, name) or 0))
    cells = [head, *(row.cells() for row in rows), total.cells()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        named = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*named, *numbers]).rstrip())
    return "\n".join(lines)
