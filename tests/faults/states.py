"""For tests/faults/neighbours.py: a command line, with a copy of a directory at every state it goes through.

    python tests/faults/states.py DIRECTORY COPIES --mode=...

Before whatever Python does to a file in DIRECTORY it is copied to COPIES/0, COPIES/1 ...: a process that is
killed leaves one of them.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


def files(directory: Path) -> dict[str, bytes]:
    """Path in the directory -> content."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


class _Copies:
    """Where the copies go; itself the hook."""

    def __init__(self, directory: Path, copies: Path):
        self._directory, self._copies = directory, copies
        self._newest: dict[str, bytes] | None = None
        self._count, self._is_copying = 0, False

    def __call__(self, event: str, arguments: tuple) -> None:
        if self._is_copying or event not in _EVENTS or not self._changes(event, arguments):
            return
        self._is_copying = True
        found = files(self._directory)
        if found != self._newest:
            shutil.copytree(self._directory, self._copies / str(self._count))
            self._newest, self._count = found, self._count + 1
        self._is_copying = False

    def _changes(self, event: str, arguments: tuple) -> bool:
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
        # A folder that is deleted file by file names them by their last part.
        paths = [path for path in arguments if isinstance(path, str | bytes)]
        return any(
            not os.path.isabs(path) or path.startswith(f"{self._directory}{os.sep}")
            for path in map(os.fsdecode, paths)
        )


def main() -> int:
    """Runs the command line."""
    directory, copies, *arguments = sys.argv[1:]
    sys.addaudithook(_Copies(Path(directory), Path(copies)))
    import absl_main

    return absl_main.main(["absl_main.py", *arguments])


if __name__ == "__main__":
    sys.exit(main())
