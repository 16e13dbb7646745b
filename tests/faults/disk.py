"""Disks that are too small for a run."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from suite import Row, Suite

import runs
from runs import Layout, NotSurvived, Run


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


def full_disks(suite: Suite, layout: Layout) -> None:
    """Runs on disks too small for them."""
    row = suite.row("disk full", layout)
    for size in sizes_of_disks(suite, layout):
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
    line = run.expect_refusal()
    suite.say(f"{run.layout.name}: disk of {size // 1024} KiB full: {line.replace(str(run.workdir), '')}")
    if runs.newest_readable(run.checkpoints) != run.step:
        raise NotSurvived(f"checkpoint {run.step} cannot be read after: {line}")
    suite.finish(row, run.copy("larger"))


def sizes_of_disks(suite: Suite, layout: Layout) -> list[int]:
    """One that is full before training, and some that a run fills at steps of its training."""
    needed = sum(
        path.stat().st_size for path in suite.reference(layout).run.workdir.rglob("*") if path.is_file()
    )
    return [4096] + [int(needed * suite.uniform(part + 0.3, low=part)) for part in (0.25, 0.55, 0.85)]
