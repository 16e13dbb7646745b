"""Checksums of the files of a directory, by which damage to one is seen when it is read.

They are in `checksums.txt`, a line for everything that was ever written under a name, the path from the
directory on; each line has a checksum of its own. A file is whole if its sum is any of those. So a new sum
can be added before the file is written: whenever a process is killed, the file that is there, old or new, is
one of them. Nothing but adding is ever done to the list, so that several processes may.

Files of earlier versions, for which the list has no line, are taken as they are.
"""

from __future__ import annotations

import functools
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import check_regular
from zoo.filesystem.files import explained, is_file, is_there, read_file, write_whole

FILE = "checksums.txt"
_TORN = b" torn"  # Ends a line that was not written to its end.
_Line = tuple[str, str] | tuple[None, None]


class Checksums:
    """The checksums of the files of one directory."""

    def __init__(self, directory: Path):
        """Takes the directory whose files the list is of."""
        self.path = directory / FILE

    def write(self, path: Path, content: str | bytes) -> None:
        """Writes a file of the directory whole (`zoo.filesystem.files.write_whole`), its sum before it.

        Raises:
          InputError: it cannot be written.
        """
        content = content.encode("utf-8", "replace") if isinstance(content, str) else content
        self.add(path, content)
        write_whole(path, content)

    def add(self, path: Path, content: bytes) -> None:
        """Adds the sum of what is about to be written to a file of the directory.

        Raises:
          InputError: it cannot be written.
        """
        self._add(path, hashlib.sha256(content).hexdigest())

    def add_all(self) -> None:
        """Adds the sums of all files that are in the directory and below it.

        Raises:
          InputError: one cannot be read, or the list cannot be written.
        """
        for path in self._files():
            self._add(path, _sum_of_file(path))

    def check_all(self) -> None:
        """Checks that all files of the directory for which the list has a line are what was written.

        Raises:
          InputError: one cannot be read, or is not what was written.
        """
        lines = list(self._lines())
        for path in self._files():
            if self._knows(lines, path, functools.partial(_sum_of_file, path)) is False:
                raise damaged(path)

    def _files(self) -> list[Path]:
        with explained(self.path.parent, "look at"):
            paths = sorted(self.path.parent.rglob("*"))
        return [path for path in paths if path != self.path and is_file(path)]

    def _name(self, path: Path) -> str:
        return path.relative_to(self.path.parent).as_posix()

    def _add(self, path: Path, of_file: str) -> None:
        line = f"{of_file} {self._name(path)}".encode()
        with explained(self.path, "write"):
            check_regular(self.path)
            # A line cut short by a killed process or a full disk belongs to a file that was not written.
            begin = b"" if self._ends_well() else _TORN + b"\n"
            with open(self.path, "ab", buffering=0) as file:
                file.write(b"%b%b %08x\n" % (begin, line, zlib.crc32(line)))
                os.fsync(file.fileno())

    def read(self, path: Path) -> bytes:
        """The content of a file of the directory.

        Raises:
          InputError: it cannot be read, or is not what was written.
        """
        content = read_file(path)  # Read before the list, which another process may be adding to.
        if self.knows(path, content) is False:
            raise damaged(path)
        return content

    def knows(self, path: Path, content: bytes) -> bool | None:
        """Returns whether a content is one that a file has been given; None where the list does not say.

        Raises:
          InputError: the list cannot be read.
        """
        return self._knows(list(self._lines()), path, lambda: hashlib.sha256(content).hexdigest())

    def _knows(self, lines: Sequence[_Line], path: Path, make_sum: Callable[[], str]) -> bool | None:
        sums = {of_file for of_file, name in lines if name == self._name(path)}
        if not sums or make_sum() in sums:
            return True if sums else None
        if (None, None) in lines:
            logging.warning("%s is damaged: %s cannot be checked", self.path, path)
            return None
        return False

    def _lines(self) -> Iterator[_Line]:
        """Yields (sum, name) for each line, Nones for one that is damaged."""
        if not is_there(self.path):
            return
        *lines, last = read_file(self.path).split(b"\n")
        for line in [*lines, last + _TORN]:
            text = line.removesuffix(_TORN)
            # A line is whole even if its end is missing or has been altered.
            parsed = _parsed(text) or (_parsed(text[:-1]) if text != line else None)
            if parsed:
                yield parsed
            elif text == line:
                yield None, None

    def _ends_well(self) -> bool:
        return not is_there(self.path) or read_file(self.path)[-1:] in (b"", b"\n")


def _parsed(line: bytes) -> tuple[str, str] | None:
    said, _, checksum = line.rpartition(b" ")
    if checksum != b"%08x" % zlib.crc32(said):
        return None
    of_file, _, name = said.decode("utf-8", "replace").partition(" ")
    return of_file, name


def _sum_of_file(path: Path) -> str:
    with explained(path, "read"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: Path) -> InputError:
    """The error for a file that is not what was written."""
    return InputError(
        f"{path} is damaged or was changed by hand, says {FILE} beside it; accepted: the file as it was "
        f"written, or no {FILE}, to take it as it is"
    )
