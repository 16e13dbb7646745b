"""For `scripts/test --faults`: command lines carried out in this process, and all that comes of them.

A process of its own would take seconds to import TensorFlow, for each.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

from states import files

import absl_main
from runs import NotSurvived, flat

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # Each command traces its functions anew.

# Figures and words are nowhere in these.
_NO_RESULTS = ("checksums.txt", ".lock")


class Outcome(NamedTuple):
    """What a command line gave: its exit status, its lines on both streams, what is in a folder after it."""

    status: int | str  # The traceback, where it ended in an exception.
    said: tuple[str, ...]
    printed: str
    left: dict[str, object]

    @property
    def is_refusal(self) -> bool:
        """Whether it ended with status 2 and one line that says why."""
        return self.status == 2 and len(self.said) == 1 and self.said[0].startswith("error: ")


def carry_out(folder: Path, *arguments: str) -> Outcome:
    """Carries out a command line that uses a folder."""
    out, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = absl_main.main(["absl_main.py", *arguments])
    except Exception:  # Whatever it is, a user would see its traceback.
        status = traceback.format_exc()
    if isinstance(status, int) and status > 128:  # The signal was for the suite.
        sys.exit(status)
    said = [line for line in errors.getvalue().splitlines() if line.startswith(("error", "Traceback"))]
    return Outcome(status, tuple(said), out.getvalue(), results(folder))


def survive(folder: Path, *arguments: str) -> Outcome:
    """`carry_out` of what must go through.

    Raises:
      NotSurvived: it does not.
    """
    outcome = carry_out(folder, *arguments)
    if outcome.status != 0:
        raise NotSurvived(f"status {outcome.status} of {arguments[0]}; it said {outcome.said}")
    return outcome


def results(folder: Path) -> dict[str, object]:
    """Path in a folder -> its `figures`, of all files that have any."""
    return {
        name: figures(name, content)
        for name, content in files(folder).items()
        if "tensorboard/" not in name and not name.endswith(_NO_RESULTS)
    }


def figures(name: str, content: bytes) -> object:
    """The figures of a JSON file, without those of the clock; the content of another or a damaged one."""
    if not name.endswith((".json", ".jsonl")):
        return content
    try:
        text = content.decode()
        return [flat(json.loads(part)) for part in (text.splitlines() if name.endswith("l") else [text])]
    except (ValueError, AttributeError):
        return content


def put_back(folder: Path, sound: dict[str, bytes]) -> None:
    """Makes the files in a folder what they were."""
    found = files(folder)
    for name in found.keys() - sound.keys():
        (folder / name).unlink()
    for name, content in sound.items():
        if found.get(name) != content:
            (folder / name).write_bytes(content)
