"""For `scripts/test --faults`: training runs in processes of their own, what they say and leave on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from zoo.command_line.quiet_imports import import_quietly

tf = import_quietly("tensorflow")
plain = import_quietly("tfp_bayesrnn.filesystem.paths").plain

_PROGRAM = Path(__file__).parents[2] / "absl_main.py"
EPOCHS = 3
_TINY = (
    "--mode=train",
    "--preset=demo_bbb",
    "--deterministic",
    "--config.model.units=8",
    "--config.model.embedding_units=8",
    "--config.model.layers=1",
    "--config.train.batch=50",
    "--config.train.unroll=30",
    f"--config.train.epochs={EPOCHS}",
    "--config.train.checkpoint_seconds=0",  # After every step; every second where there are several workers.
)
# No start of a run may take longer.
_LIMIT = 180.0
_LOG_LINE = re.compile(r"[IW]\d{4} .*\] ")
_WALL_CLOCK = {"seconds", "tokens_per_second", "train_seconds"}


class NotSurvived(Exception):
    """What went otherwise than it must after a fault."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """On how many devices and processes a run is."""

    name: str
    arguments: tuple[str, ...]
    workers: int = 1


class Process:
    """One worker of a run, and what it writes to stderr."""

    def __init__(self, arguments: list[str], log: Path, tf_config: dict | None):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        if tf_config:
            environment["TF_CONFIG"] = json.dumps(tf_config)
        self._log = log
        command = [sys.executable, str(_PROGRAM), *arguments]
        with open(log, "wb") as stderr:
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return not self.is_alive

    def status(self, seconds: float = _LIMIT) -> int:
        """The exit status, -n if signal n killed it.

        Raises:
          NotSurvived: it does not end in time; it is killed.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise NotSurvived(
                f"a process had not ended after {seconds:.0f} s; it said {self.said()}"
            ) from None

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def said(self) -> list[str]:
        """The lines on stderr that are not of the log."""
        return [line for line in self.log().splitlines() if line.strip() and not _LOG_LINE.match(line)]

    def the_line_said(self) -> str:
        """What it said.

        Raises:
          NotSurvived: if that is not one line.
        """
        said = self.said()
        if len(said) != 1:
            raise NotSurvived(f"{len(said)} lines on stderr, not one, the last of them {said[-1:]}")
        return said[0]


class Run:
    """A workdir, and the starts of one command on it, one after the other."""

    def __init__(self, layout: Layout, workdir: Path, logs: Path | None = None):
        self.layout = layout
        self.workdir = workdir
        self.steps_lost = 0  # By starts that resumed from before the newest readable checkpoint.
        self.resumable = 0  # The step to resume from, when it was last started.
        self.processes: list[Process] = []
        self._logs = logs or workdir.parent
        self._starts = 0
        self._step_before = 0
        self._started = 0.0
        self._left_over: set[str] = set()  # By writes that earlier starts did not end.

    @property
    def checkpoints(self) -> Path:
        return self.workdir / "checkpoints"

    @property
    def chief(self) -> Process:
        return self.processes[0]

    @property
    def step(self) -> int:
        """The newest checkpoint's, readable or not; 0 if there is none."""
        return max(steps(self.checkpoints), default=0)

    def start(self) -> None:
        """Starts the command, with all its workers."""
        self.resumable = max(newest_readable(self.checkpoints), ready(self.checkpoints))
        self._step_before = self.step
        self._started, self._left_over = time.time(), _partial(self.checkpoints)
        addresses = _free_addresses(self.layout.workers)
        arguments = self.arguments()
        self.processes = []
        for index in range(self.layout.workers):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            log = self._logs / f"{self.workdir.name}.{self._starts}.{index}.log"
            self.processes.append(Process(arguments, log, task if len(addresses) > 1 else None))
        self._starts += 1

    def arguments(self) -> list[str]:
        """The command's."""
        return [*_TINY, *self.layout.arguments, f"--workdir={self.workdir}"]

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Waits until the condition holds; False if the chief has ended before it."""
        end = time.monotonic() + _LIMIT
        while not condition():
            if not self.chief.is_alive:
                return False
            if time.monotonic() > end:
                raise NotSurvived(f"nothing more came of the run at step {self.step}")
            time.sleep(0.0005)
        return True

    def has_trained(self, total: int | None = None) -> bool:
        """Whether what is left is the final evaluation, of a run of `total` steps."""
        said = self.chief.log()
        return f"epoch {EPOCHS}/{EPOCHS}" in said or f"resuming at step {total}\n" in said

    def has_results(self) -> bool:
        """Whether the last start has written its results, the last thing it does."""
        results = self.workdir / "results.json"
        return results.exists() and results.stat().st_mtime > self._started

    def is_writing(self) -> bool:
        """Whether a checkpoint is being written, or was when the process ended."""
        return bool(_partial(self.checkpoints) - self._left_over)

    def forget(self) -> None:
        """Deletes all that it has done."""
        shutil.rmtree(self.workdir)
        self.steps_lost = 0

    def ended(self) -> None:
        """Counts the steps lost by a start that has ended."""
        resumed = re.search(r"resuming at step (\d+)", self.chief.log())
        if resumed:
            self.steps_lost += self.resumable - int(resumed[1])
        elif self.step not in (self._step_before, self.resumable):
            self.steps_lost += self.resumable  # It began anew.

    def finish(self) -> None:
        """Starts the command and lets it come to its end.

        Raises:
          NotSurvived: it did not.
        """
        self.start()
        statuses = [process.status() for process in self.processes]
        if any(statuses):
            raise NotSurvived(f"statuses {statuses} of a restart; it said {self.chief.said()[-1:]}")
        self.ended()

    def copy(self, name: str) -> Run:
        """A run that goes on from a copy of the workdir."""
        workdir = self._logs / name
        shutil.copytree(self.workdir, workdir)
        return Run(self.layout, workdir)

    def kill(self) -> None:
        """Kills what is left of it."""
        for process in self.processes:
            if process.is_alive:
                process.signal(9)
                process.status()

    def expect_refusal(self) -> str:
        """The line in which it says that it cannot go on, which must be all it says; its status must be 2."""
        status = self.chief.status()
        if status != 2:
            raise NotSurvived(f"status {status}, not 2; it said {self.chief.said()[-1:]}")
        return self.chief.the_line_said()


class Reference:
    """The run of a layout that nothing happened to."""

    def __init__(self, layout: Layout, directory: Path):
        self.run = Run(layout, directory / "reference")
        begun = time.monotonic()
        self.run.start()
        self.run.wait_for(lambda: self.run.step > 0)
        self.start_up = time.monotonic() - begun  # Seconds to the first checkpoint.
        self.run.wait_for(self.run.has_trained)
        trained = time.monotonic()
        statuses = [process.status() for process in self.run.processes]
        if any(statuses):
            raise NotSurvived(f"{layout.name}: statuses {statuses} of the reference run")
        self.final = time.monotonic() - trained  # Seconds of what comes after training.
        self.steps = self.run.step
        self.steps_per_epoch = self.steps // EPOCHS

    def different_values(self, run: Run) -> int:
        """How many elements of the variables in the newest and the best checkpoint differ, in any bit."""
        pairs = [(each.checkpoints, each.checkpoints / "best") for each in (self.run, run)]
        return sum(_different(_newest(ours), _newest(theirs)) for ours, theirs in zip(*pairs, strict=True))

    def different_metrics(self, run: Run) -> int:
        """How many figures in metrics.jsonl and results.json differ, apart from those of the clock."""
        ours, theirs = _figures(self.run.workdir), _figures(run.workdir)
        return sum(ours.get(name) != theirs.get(name) for name in ours.keys() | theirs.keys())


def read(prefix: Path) -> dict[str, np.ndarray] | None:
    """Every variable of a checkpoint, its checksum verified; None if it cannot be read."""
    try:
        with plain(prefix.parent) as folder:
            reader = tf.train.load_checkpoint(str(folder / prefix.name))
            return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception:  # Of many types, by what is damaged.
        return None


def newest_readable(directory: Path) -> int:
    """The step of the newest checkpoint that can be read; 0 if there is none."""
    readable = (step for step in reversed(steps(directory)) if read(directory / f"ckpt-{step}") is not None)
    return next(readable, 0)


def ready(directory: Path) -> int:
    """The step of a checkpoint that is written and was being moved to its place; 0 if there is none."""
    steps_of = (int(path.parent.name.split("-")[-1]) for path in directory.glob(".ready-*/*.index"))
    return max(steps_of, default=0)


def files(directory: Path, step: int) -> list[Path]:
    """The files of a checkpoint."""
    return sorted(directory.glob(f"ckpt-{step}.*"))


def steps(directory: Path) -> list[int]:
    """The steps of which there are checkpoints, readable or not, ascending."""
    if not directory.is_dir():
        return []
    matches = [re.fullmatch(r"ckpt-(\d+)\.index", name) for name in os.listdir(directory)]
    return sorted(int(match[1]) for match in matches if match)


def _partial(directory: Path) -> set[str]:
    names = os.listdir(directory) if directory.is_dir() else []
    return {name for name in names if name.startswith((".partial-", ".ready-"))}


def _newest(directory: Path) -> dict[str, np.ndarray]:
    return read(directory / f"ckpt-{max(steps(directory), default=0)}") or {}


def _different(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> int:
    return sum(_different_elements(ours.get(name), theirs.get(name)) for name in ours.keys() | theirs.keys())


def _different_elements(ours: np.ndarray | None, theirs: np.ndarray | None) -> int:
    if ours is None or theirs is None or (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        return max(np.size(each) for each in (ours, theirs) if each is not None)
    bytes_of = [np.frombuffer(each.tobytes(), np.uint8).reshape(each.size, -1) for each in (ours, theirs)]
    return int(np.any(bytes_of[0] != bytes_of[1], axis=-1).sum())


def _figures(workdir: Path) -> dict[str, object]:
    """Every figure, under a name of its own."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    tables = {f"line {number}": json.loads(line) for number, line in enumerate(lines)}
    return flat({**tables, "results": json.loads((workdir / "results.json").read_text())})


def flat(table: dict | list, prefix: str = "") -> dict[str, object]:
    """Name -> figure, of all objects and arrays in one, without those of the clock."""
    found: dict[str, object] = {}
    for name, value in table.items() if isinstance(table, dict) else enumerate(table):
        if isinstance(value, dict | list):
            found.update(flat(value, f"{prefix}{name}."))
        elif name not in _WALL_CLOCK:
            found[f"{prefix}{name}"] = value
    return found


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses
