"""For `scripts/test --faults`: processes that use one workdir at once, or one after the other was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from states import files

import runs
from runs import Layout, NotSurvived, Process, Run
from tfp_bayesrnn.filesystem import folders

_STATES = Path(__file__).with_name("states.py")
_LIMIT = 300.0

# What is read of a workdir, and how; none of it writes there.
READERS = {
    "evaluate": ("--config.evaluate.final_rows=20",),
    "generate": ("--max_words=3",),
}


def neighbours(suite, layout: Layout) -> None:
    """Stops a run amid the write of a checkpoint; others use its workdir; then it must end as if alone.

    A row for those that read, and one for a second training, which must be refused.
    """
    run = suite.new_run(layout)
    rows = suite.row("a reader beside it", layout), suite.row("a second training", layout)
    rows[0].tried += len(READERS)
    rows[1].tried += 1
    for row, action in zip(rows, (_read, _train_too), strict=True):
        survived = _survived(suite, row, run, action)
        row.survived += survived * row.tried
    if not suite.survives(rows[0], run, _finish, suite, rows[0], run):
        rows[0].survived = rows[1].survived = 0


def _survived(suite, row, run: Run, action) -> bool:
    try:
        with _stopped_amid_a_write(run):
            before = files(run.workdir)
            action(suite, run)
            if files(run.workdir) != before:
                raise NotSurvived("the workdir has changed")
    except NotSurvived as error:
        suite.say(f"{row.layout}: {row.fault}: NOT SURVIVED: {error}; {run.workdir}")
        return False
    return True


@contextlib.contextmanager
def _stopped_amid_a_write(run: Run):
    """Stops the run, started if it is not, after an epoch; within, its checkpoints are just being moved.

    That takes it two renames, too short a time to stop it in: what they leave between them is made by hand.
    """
    if not run.processes:
        run.start()
    if not run.wait_for(lambda: runs.steps(run.checkpoints / "best")):
        raise NotSurvived(f"the run has ended; it said {run.chief.said()[-1:]}")
    run.chief.signal(signal.SIGSTOP)
    time.sleep(0.1)  # Until it stands still.
    moved = []
    try:
        for directory in (run.checkpoints, run.checkpoints / "best"):
            step = max(runs.steps(directory))
            ready, index = directory / f".ready-ckpt-{step}", directory / f"ckpt-{step}.index"
            if not ready.exists():
                ready.mkdir()
                moved.append((index.rename(ready / index.name), index))
        yield
    finally:
        for ready, index in moved:
            ready.rename(index)
            ready.parent.rmdir()
        run.chief.signal(signal.SIGCONT)


def _read(suite, run: Run) -> None:
    for mode, arguments in READERS.items():
        log = run.workdir.with_name(f"{mode}.log")
        process = Process([f"--mode={mode}", f"--workdir={run.workdir}", *arguments], log, None)
        status = process.status()
        suite.say(f"{run.layout.name}: {mode} amid the write of checkpoint {run.step}: status {status}")
        if status or process.said():
            raise NotSurvived(f"status {status} of {mode}; it said {process.said()[-1:]}")


def _train_too(suite, run: Run) -> None:
    second = Process(run.arguments(), run.workdir.with_name("second.log"), None)
    status = second.status()
    line = second.the_line_said() if status else ""
    suite.say(f"{run.layout.name}: a second training: status {status}: {line.replace(str(run.workdir), '')}")
    if status != 2 or "is in use" not in line:
        raise NotSurvived(f"status {status} of a second training; it said {line}")


def _finish(suite, row, run: Run) -> None:
    status = run.chief.status()
    if status:
        raise NotSurvived(f"status {status}; it said {run.chief.said()[-1:]}")
    run.ended()
    suite.finish(row, run)


def prune_over_prune(suite, layout: Layout) -> None:
    """Prunes a run twice; killed whenever, the second leaves the first's pruned workdir or its own."""
    row, run = suite.row("prune over prune killed", layout), suite.reference(layout).run
    directory = suite.new_directory()
    workdir, copies = directory / "run", directory / "states"
    shutil.copytree(run.workdir, workdir)
    copies.mkdir()
    _prune(workdir, directory / "first", 0.5)
    first = files(workdir / "pruned")
    _prune(workdir, copies, 0.7)
    second = files(workdir / "pruned")
    found = sorted(copies.iterdir(), key=lambda path: int(path.name))
    kinds = []
    for copy in found:
        row.tried += 1
        folders.recover(copy / "pruned")
        left = files(copy / "pruned")
        left.pop(".lock", None)
        kinds.append("first" if left == first else "second" if left == second else "neither")
        row.survived += kinds[-1] != "neither"
    suite.say(f"{layout.name}: pruned again, {len(found)} states: {', '.join(dict.fromkeys(kinds))}")
    if set(kinds) != {"first", "second"}:
        row.survived = 0


def _prune(workdir: Path, copies: Path, fraction: float) -> None:
    command = [sys.executable, str(_STATES), str(workdir), str(copies)]
    command += ["--mode=prune", f"--workdir={workdir}", f"--prune={fraction}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    with open(copies.with_suffix(".log"), "wb") as log:
        status = subprocess.run(command, stdout=log, stderr=log, env=environment, timeout=_LIMIT).returncode
    if status:
        raise NotSurvived(f"status {status} of pruning: {copies.with_suffix('.log')}")
