"""A long measurement in a JSON file, piece by piece: what has been measured is there if the rest is not."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

from zoo.filesystem.files import write_whole

T = TypeVar("T")


class Kept:
    """Pieces of a measurement by name, written as soon as each is there.

    The same command again takes those from the file and measures what is missing. The file is

        {"setup": what all pieces have in common, "pieces": {name: figures}, and what `finish` adds}
    """

    def __init__(self, path: str | None, setup: dict[str, Any]):
        """Takes the file, or None for none, and what a piece depends on: settings, machine, versions.

        Raises:
          SystemExit: if the file has pieces of another setup, or is none of these files.
        """
        self.path = None if path is None else pathlib.Path(path)
        self.found: dict[str, Any] = {"setup": json.loads(json.dumps(setup)), "pieces": {}}
        if self.path is None or not self.path.exists():
            return
        try:
            earlier = json.loads(self.path.read_text(encoding="utf-8"))
            pieces, theirs, ours = dict(earlier["pieces"]), dict(earlier["setup"]), self.found["setup"]
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise SystemExit(f"{self.path} is no file of this benchmark: {error}") from None
        if theirs != ours:
            other = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
            raise SystemExit(
                f"{self.path} has figures of another setup ({', '.join(other)} differ): choose another file"
            )
        self.found["pieces"] = pieces

    def piece(self, name: str, measure: Callable[[], T]) -> T:
        """Returns the piece of that name as JSON has it, measured now if it is not there."""
        pieces = self.found["pieces"]
        if name in pieces:
            print(f"{name}: measured before, from {self.path}", flush=True)
        else:
            pieces[name] = json.loads(json.dumps(measure()))
            self._write()
        return pieces[name]

    def finish(self, **figures: Any) -> None:
        """Adds figures that are computed from the pieces."""
        self.found |= figures
        self._write()

    def _write(self) -> None:
        if self.path is not None:
            write_whole(self.path, json.dumps(self.found, indent=2) + "\n")
