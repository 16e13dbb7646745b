"""What runs survive: processes killed and asked to end, checkpoints damaged, disks filled.

`scripts/test --faults` runs it. Each fault is dealt to a real run, which then is started again with the same
command and must end as one that nothing happened to: the same variables to the last bit, the same metrics, no
step lost that a checkpoint held.
Where the run cannot go on, it must say so in one line and end with the status that means it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fault_flips
import fault_neighbours
import fault_paths
import fault_runs
import numpy as np
from fault_runs import EPOCHS, Layout, NotSurvived, Reference, Run

ONE = Layout("one replica", ("--strategy=default", "--jit_compile=off"))
XLA = Layout("one replica, XLA", ("--strategy=default", "--jit_compile=on"))
TWO = Layout("two replicas", ("--strategy=mirrored", "--cpu_devices=2", "--jit_compile=off"))
WORKERS = Layout("two workers", ("--strategy=multi_worker", "--jit_compile=off"), workers=2)
LAYOUTS = (ONE, XLA, TWO, WORKERS)

# Where in a run a signal comes, at a moment of it that is drawn.
START_UP, TRAINING, WRITING, VALIDATION, FINAL = "start-up", "training", "writing", "validation", "final"
PHASES = (START_UP, TRAINING, WRITING, VALIDATION, FINAL)

# Seconds within which a worker that has lost another must have ended.
ALONE_SECONDS = 60.0


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

    def __init__(self, directory: Path, seed: int):
        self.directory = directory
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


# Signals.


def plan(suite: Suite, layout: Layout, count: int, phases: tuple[str, ...]) -> list[tuple[str, int]]:
    """(phase, the step to wait for) for each of some signals to one run, in the order they can come in."""
    reference = suite.reference(layout)
    moments = []
    for index in range(count):
        phase = phases[index % len(phases)]
        step = int(suite.generator.integers(1, reference.steps - 1))
        if phase == VALIDATION:
            step = reference.steps_per_epoch * int(suite.generator.integers(1, EPOCHS + 1)) - 1
        if phase == FINAL:
            step = reference.steps
        moments.append((phase, step))
    return sorted(moments, key=lambda moment: moment[1])


def reach(suite: Suite, run: Run, phase: str, step: int, misses: int) -> bool:
    """Waits for a moment in a phase of a run that has just been started; False if the run ends before.

    The more moments have been missed that way, the earlier the next one comes.
    """
    reference = suite.reference(run.layout)
    delay = {
        START_UP: suite.uniform(reference.start_up, low=0.5),  # Earlier, there is no handler yet.
        TRAINING: suite.uniform(0.05),
        WRITING: 0.0,
        VALIDATION: suite.uniform(0.5),
        FINAL: suite.uniform(0.9 * reference.final),
    }[phase]
    reached = True
    if phase == FINAL:
        reached = run.wait_for(lambda: run.has_trained(reference.steps))
    elif phase != START_UP:
        first = min(max(step, run.resumable + 1), reference.steps)
        reached = run.wait_for(lambda: run.step >= first)
    if phase == WRITING:
        reached = reached and run.wait_for(run.is_writing)
    time.sleep(delay / 2**misses)
    return reached and run.chief.is_alive


def hit(suite: Suite, run: Run) -> str:
    """Where a signal found a run, by what is on disk."""
    reference = suite.reference(run.layout)
    if run.is_writing():
        return "while a checkpoint was written"
    if run.has_trained(reference.steps):
        return "in the final evaluation"
    if run.step == run.resumable:
        return "before the first checkpoint of a start"
    if run.step % reference.steps_per_epoch == reference.steps_per_epoch - 1:
        return "in an epoch's validation"
    return "between two checkpoints"


def send(suite: Suite, run: Run, phase: str, step: int, number: int) -> fault_runs.Process:
    """Starts a run and sends one of its workers a signal in a phase; that worker, ended.

    Where the run is done before the signal comes, it is started once more.
    """
    for misses in range(5):
        run.start()
        victim = run.chief if phase == FINAL else suite.choose(run.processes)
        if reach(suite, run, phase, step, misses):
            victim.signal(number)
        status = victim.status()
        # Python lets a signal that comes after all work is done end the process as it would any.
        is_done = run.has_results() or (victim is not run.chief and run.has_trained())
        if status != 0 and (number == signal.SIGKILL or status != -number or not is_done):
            return victim
        for process in run.processes:
            process.status()
    raise NotSurvived(f"no moment found for a signal in {phase}")


def deal(suite: Suite, run: Run, phase: str, step: int, number: int) -> None:
    """Starts a run, ends one of its workers by a signal in a phase, and sees what becomes of all of them."""
    victim, is_kill = send(suite, run, phase, step, number), number == signal.SIGKILL
    where = hit(suite, run) if is_kill else f"in {phase}"
    suite.hits[where] += is_kill
    suite.say(f"{run.layout.name}: {signal.Signals(number).name} {where}, step {run.step}")
    status, accepted = victim.status(), [-number if is_kill else 128 + number]
    if phase == START_UP and len(run.processes) > 1:  # Where TensorFlow holds a worker a signal just ends it.
        accepted.append(-number)
    if status not in accepted:
        raise NotSurvived(f"status {status}, not {accepted}; it said {victim.said()[-1:]}")
    if status > 0:
        victim.the_line_said()
    for other in run.processes:
        if other is not victim:
            check_left_alone(suite, run, other, phase)


def check_left_alone(suite: Suite, run: Run, worker: fault_runs.Process, phase: str) -> None:
    """A worker that has lost another says so and ends, unless it has nothing left to do.

    If they had not met yet, it waits for the other to be started again, and ends when it is asked to.
    """
    asked = phase == START_UP and not worker.ends_within(ALONE_SECONDS / 2)
    if asked:
        worker.signal(signal.SIGTERM)
    status = worker.status(ALONE_SECONDS)
    if status > 0:
        worker.the_line_said()
    elif asked and status == -signal.SIGTERM:
        return
    elif status < 0 or not run.has_trained(suite.reference(run.layout).steps):
        raise NotSurvived(f"status {status} of a worker that lost another")


def signals(suite: Suite, layout: Layout, number: int, count: int, phases: tuple[str, ...] = PHASES) -> None:
    """One run that gets many signals, and is let finish after the last of them."""
    moments, run = plan(suite, layout, count, phases), suite.new_run(layout)
    row, survived = suite.row(signal.Signals(number).name, layout), 0
    for phase, step in moments:
        survived += suite.survives(row, run, deal, suite, run, phase, step, number)
        run.ended()
    row.tried += count
    row.survived += survived if suite.survives(row, run, suite.finish, row, run) else 0


# Damage to checkpoints.


def truncate(suite: Suite, path: Path) -> None:
    os.truncate(path, int(suite.generator.integers(path.stat().st_size)))


def flip_a_byte(suite: Suite, path: Path) -> None:
    """Flips bits of a byte, another one if nothing can be read from that one, as at the end of an index."""
    sound, step = path.read_bytes(), int(path.name.split("-")[1].split(".")[0])
    while fault_runs.newest_readable(path.parent) == step:
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
    newest = fault_runs.newest_readable(run.checkpoints)
    path = suite.choose(fault_runs.files(run.checkpoints, newest))
    damage(suite, path)
    suite.say(f"{run.layout.name}: {row.fault}: {path.name}")
    suite.finish(row, run)
    said = [line for line in run.chief.log().splitlines() if "cannot read checkpoint" in line]
    for step in (newest, run.resumable):
        if len(said) != 1 or f"{run.checkpoints}/ckpt-{step}" not in f"{said[0]} ":
            raise NotSurvived(f"no warning names ckpt-{step}: {said}")


def damage_all(suite: Suite, run: Run) -> None:
    """Damages a file of every checkpoint; the run must refuse to go on."""
    for step in fault_runs.steps(run.checkpoints):
        truncate(suite, suite.choose(fault_runs.files(run.checkpoints, step)))
    suite.say(f"{run.layout.name}: all checkpoints damaged")
    run.start()
    expect_refusal(run)


def torn_first_checkpoint(suite: Suite, layout: Layout) -> None:
    """Leaves what a kill between the two renames of a first checkpoint does; the run must go on from it."""
    row, run = suite.row("first write torn", layout), interrupted(suite, layout)
    first, *later = fault_runs.steps(run.checkpoints)
    ready = run.checkpoints / f".ready-ckpt-{first}"
    ready.mkdir()
    for path in [path for step in later for path in fault_runs.files(run.checkpoints, step)]:
        path.unlink()
    index = run.checkpoints / f"ckpt-{first}.index"
    index.rename(ready / index.name)
    suite.say(f"{layout.name}: first checkpoint written but for its index")
    row.tried += 1
    row.survived += suite.survives(row, run, suite.finish, row, run)


def expect_refusal(run: Run) -> str:
    """The line in which a run says that it cannot go on, which must be all it says; its status must be 2."""
    status = run.chief.status()
    if status != 2:
        raise NotSurvived(f"status {status}, not 2; it said {run.chief.said()[-1:]}")
    return run.chief.the_line_said()


# Full disks.


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[bool]:
    """A disk of `size` bytes at a directory; whether it could be mounted, which takes root."""
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    is_mounted = bool(shutil.which("mount")) and not subprocess.run(command, capture_output=True).returncode
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", str(directory)], check=True)


def full_disks(suite: Suite, layout: Layout, sizes: list[int]) -> None:
    """Runs on disks too small for them."""
    row = suite.row("disk full", layout)
    for size in sizes:
        directory = suite.new_directory()
        run = Run(layout, directory / "disk" / "run", logs=directory)
        with small_disk(directory / "disk", size) as is_mounted:
            if not is_mounted:
                row.skipped = "skipped: needs root"
                return
            row.tried += 1
            row.survived += suite.survives(row, run, fill, suite, row, run, size)


def fill(suite: Suite, row: Row, run: Run, size: int) -> None:
    """Runs until the disk is full. What is there must be readable, and go on from a larger disk."""
    run.start()
    line = expect_refusal(run)
    suite.say(f"{run.layout.name}: disk of {size // 1024} KiB full: {line.replace(str(run.workdir), '')}")
    if fault_runs.newest_readable(run.checkpoints) != run.step:
        raise NotSurvived(f"checkpoint {run.step} cannot be read after: {line}")
    suite.finish(row, run.copy("larger"))


# All of it.


def sizes_of_disks(suite: Suite) -> list[int]:
    """One that is full before training, and some that a run fills at steps of its training."""
    needed = sum(
        path.stat().st_size for path in suite.reference(ONE).run.workdir.rglob("*") if path.is_file()
    )
    return [4096] + [int(needed * suite.uniform(part + 0.3, low=part)) for part in (0.25, 0.55, 0.85)]


def faults(suite: Suite, kills: int) -> dict[str, Callable[[], None]]:
    """Everything there is to do, by name."""
    each = -(-kills // len(LAYOUTS))
    workers = (TRAINING, WRITING, TRAINING, FINAL)

    def kill():
        for layout in (ONE, XLA, TWO):
            signals(suite, layout, signal.SIGKILL, each)
        signals(suite, WORKERS, signal.SIGKILL, each, workers)

    def terminate():
        signals(suite, ONE, signal.SIGTERM, len(PHASES))
        signals(suite, TWO, signal.SIGTERM, 3, (START_UP, TRAINING, FINAL))
        signals(suite, WORKERS, signal.SIGTERM, 2, (TRAINING, FINAL))

    def start_up_of_workers():
        for number in (signal.SIGKILL, signal.SIGTERM):
            signals(suite, WORKERS, number, 1, (START_UP,))

    def damage():
        for layout in (ONE, TWO):
            damages(suite, layout)
        torn_first_checkpoint(suite, ONE)

    def disk():
        full_disks(suite, ONE, sizes_of_disks(suite))

    def neighbours():
        fault_neighbours.neighbours(suite, ONE)

    def prune():
        fault_neighbours.prune_over_prune(suite, ONE)

    def paths():
        fault_paths.odd_paths(suite, ONE)

    def flips():
        fault_flips.flips(suite, ONE)

    return {
        "kill": kill,
        "term": terminate,
        "workers": start_up_of_workers,
        "damage": damage,
        "disk": disk,
        "neighbours": neighbours,
        "prune": prune,
        "paths": paths,
        "flips": flips,
    }


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


def main() -> int:
    """Runs the suite; 1 if anything was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many SIGKILLs, over all layouts")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the damages")
    parser.add_argument("--only", choices=list(faults(None, 1)), action="append", help="only these faults")
    arguments = parser.parse_args()
    suite = Suite(Path(tempfile.mkdtemp(prefix="faults-")), arguments.seed)
    for name, deal_all in faults(suite, arguments.kills).items():
        if not arguments.only or name in arguments.only:
            deal_all()
    suite.say("done\n")
    print(table(suite.rows))
    hits = ", ".join(f"{where}: {count}" for where, count in sorted(suite.hits.items()) if count)
    print(f"\nWhere SIGKILL hit: {hits or 'nowhere'}")
    if any(row.survived < row.tried for row in suite.rows):
        print(f"What was not survived is in {suite.directory}")
        return 1
    shutil.rmtree(suite.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
