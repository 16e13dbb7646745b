"""For `scripts/test --faults`: a run in a folder whose name could be taken for more than a name."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path

from commands import Outcome, survive

from runs import Layout, NotSurvived, Run

NAME = "lr=[0.1] \\ ~ü*"

# What a run is put to after training; exports may not have such a name, and lie beside it.
MODES = {
    "evaluate": ("--config.evaluate.final_rows=20",),
    "generate": ("--max_words=5", "--output={beside}/words.jsonl"),
    "prune": ("--prune=0.5",),
    "export": ("--output={beside}/export",),
    "uncertainty": ("--words=100", "--num_samples=2", "--compare={beside}/export", "--compare={run}/pruned"),
    "report": (),
}


@functools.cache
def plain(suite, layout: Layout) -> tuple[Path, dict[str, Outcome]]:
    """A copy of the reference run, in a folder of its own, put to every mode; mode -> what came of it."""
    run = suite.new_directory() / "plain-run"
    shutil.copytree(suite.reference(layout).run.workdir, run)
    return run, _put_to_all(run)


def _put_to_all(run: Path) -> dict[str, Outcome]:
    return {mode: survive(run.parent, *command(mode, run)) for mode in MODES}


def command(mode: str, run: Path) -> list[str]:
    """The command line of a mode for a run."""
    more = [argument.format(run=run, beside=run.parent) for argument in MODES[mode]]
    return [f"--mode={mode}", f"--workdir={run}", *more]


def odd_paths(suite, layout: Layout) -> None:
    """Kills a run in a folder with an odd name, resumes it, puts it to every mode: as with a plain name."""
    row = suite.row("odd path", layout)
    run = Run(layout, suite.new_directory() / NAME, logs=suite.new_directory())
    row.tried += 1
    row.survived += suite.survives(row, run, _live, suite, row, run)


def _live(suite, row, run: Run) -> None:
    run.start()
    run.wait_for(lambda: run.step >= suite.reference(run.layout).steps // 2)
    run.kill()
    suite.finish(row, run)
    (expected_in, expected), found = plain(suite, run.layout), _put_to_all(run.workdir)
    for mode in MODES:
        ours, theirs = _without_paths(found[mode], run.workdir), _without_paths(expected[mode], expected_in)
        differing = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
        suite.say(f"{run.layout.name}: {mode} in {NAME}: {len(theirs)} results, {len(differing)} differ")
        if differing:
            raise NotSurvived(f"{mode} gives others: {sorted(differing)}")


def _without_paths(outcome: Outcome, run: Path) -> dict[str, object]:
    """What came of a mode, the run's name taken out of it."""
    found: dict[str, object] = {}
    for name, content in outcome.left.items():
        if name.endswith((".html", ".svg", ".pb")):  # Which quote the name, or number a process's layers.
            content = "there"
        found[_renamed(name, run)] = content
    found = {name: _renamed(content, run) for name, content in found.items()}
    # The columns of tables are as wide as the name.
    return {**found, "printed": re.sub(r"[ -]+", " ", _renamed(outcome.printed, run))}


def _renamed(value: object, run: Path) -> object:
    if isinstance(value, dict):
        return {name: _renamed(inner, run) for name, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, run) for inner in value]
    if not isinstance(value, str):
        return value
    for name in (str(run), str(run.parent), run.name):
        value = value.replace(name, "NAME").replace(json.dumps(name, ensure_ascii=False)[1:-1], "NAME")
    return value
