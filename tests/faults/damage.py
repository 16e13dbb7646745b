"""Damage to the checkpoints of a run that was interrupted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from suite import Row, Suite

import runs
from runs import Layout, NotSurvived, Run


def truncate(suite: Suite, path: Path) -> None:
    os.truncate(path, int(suite.generator.integers(path.stat().st_size)))


def flip_a_byte(suite: Suite, path: Path) -> None:
    """Flips bits of a byte, another one if nothing can be read from that one, as at the end of an index."""
    sound, step = path.read_bytes(), int(path.name.split("-")[1].split(".")[0])
    while runs.newest_readable(path.parent) == step:
        damaged = bytearray(sound)
        damaged[suite.generator.integers(len(sound))] ^= int(suite.generator.integers(1, 256))
        path.write_bytes(damaged)


def delete(suite: Suite, path: Path) -> None:
    path.unlink()


DAMAGES = {"file truncated": truncate, "byte flipped": flip_a_byte, "file deleted": delete}


def interrupted(suite: Suite, layout: Layout) -> Run:
    """A run that was killed in training, with two checkpoints."""
    step, run = int(suite.generator.integers(2, suite.reference(layout).steps // 2)), suite.new_run(layout)
    run.start()
    run.wait_for(lambda: run.step >= step)
    run.kill()
    return run


def damages(suite: Suite, layout: Layout) -> None:
    """Damages the newest checkpoint of an interrupted run in each of the ways, then all checkpoints."""
    original = interrupted(suite, layout)
    for name, damage in DAMAGES.items():
        row, run = suite.row(name, layout), original.copy(name.replace(" ", "-"))
        row.tried += 1
        row.survived += suite.survives(row, run, damage_newest, suite, row, run, damage)
    row, run = suite.row("all checkpoints damaged", layout), original.copy("all-damaged")
    row.tried += 1
    row.survived += suite.survives(row, run, damage_all, suite, run)


def damage_newest(suite: Suite, row: Row, run: Run, damage: Callable[[Suite, Path], None]) -> None:
    """Damages a file of the newest checkpoint; the run must name it, name the one before, and go on there."""
    newest = runs.newest_readable(run.checkpoints)
    path = suite.choose(runs.files(run.checkpoints, newest))
    damage(suite, path)
    suite.say(f"{run.layout.name}: {row.fault}: {path.name}")
    suite.finish(row, run)
    said = [line for line in run.chief.log().splitlines() if "cannot read checkpoint" in line]
    for step in (newest, run.resumable):
        if len(said) != 1 or f"{run.checkpoints}/ckpt-{step}" not in f"{said[0]} ":
            raise NotSurvived(f"no warning names ckpt-{step}: {said}")


def damage_all(suite: Suite, run: Run) -> None:
    """Damages a file of every checkpoint; the run must refuse to go on."""
    for step in runs.steps(run.checkpoints):
        truncate(suite, suite.choose(runs.files(run.checkpoints, step)))
    suite.say(f"{run.layout.name}: all checkpoints damaged")
    run.start()
    run.expect_refusal()


def torn_first_checkpoint(suite: Suite, layout: Layout) -> None:
    """Leaves what a kill between the two renames of a first checkpoint does; the run must go on from it."""
    row, run = suite.row("first write torn", layout), interrupted(suite, layout)
    first, *later = runs.steps(run.checkpoints)
    ready = run.checkpoints / f".ready-ckpt-{first}"
    ready.mkdir()
    for path in [path for step in later for path in runs.files(run.checkpoints, step)]:
        path.unlink()
    index = run.checkpoints / f"ckpt-{first}.index"
    index.rename(ready / index.name)
    suite.say(f"{layout.name}: first checkpoint written but for its index")
    row.tried += 1
    row.survived += suite.survives(row, run, suite.finish, row, run)
