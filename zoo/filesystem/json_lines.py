"""Records as lines of JSON, each written at once: whenever a program ends, whole lines are there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zoo.filesystem.files import explained, to_jsonable

STANDARD = "-"
"""Stands for standard input, or output, in the place of a file."""


@contextmanager
def json_lines(output: str | os.PathLike[str] | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Opens a file anew, and gives a function that writes a record to it.

    Args:
      output: the file's path; `STANDARD`: standard output; None: nothing is written.

    Raises:
      InputError: the file cannot be written.
    """
    if output is None:
        yield lambda record: None
        return
    if output == STANDARD:
        yield lambda record: print(_line(record), end="", flush=True)
        return
    with explained(output, "write"):
        file = open(output, "w", encoding="utf-8")

    def put(record: Mapping[str, Any]) -> None:
        with explained(output, "write"):
            file.write(_line(record))
            file.flush()

    try:
        yield put
    finally:
        with explained(output, "write"):  # What could not be written is tried once more.
            file.close()


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(to_jsonable(record), allow_nan=False) + "\n"
