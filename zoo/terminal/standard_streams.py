"""Standard output and standard error, whatever they are: an old terminal, a full disk, closed."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class OutputError(Exception):
    """Raised where text cannot be printed. Its message is one line."""


def prepare() -> None:
    """Makes `print` safe: called once, before anything is printed.

    * What a stream's encoding lacks is written as Python writes it in source, \\u2014 for a dash.
    * A stream that is closed takes everything and keeps nothing. Its number is taken, or the next file that
      is opened would get it, and what a library prints would go there.
    * Standard output that cannot be written raises `OutputError` (`BrokenPipeError` where nobody reads on);
      standard error, which has nobody to tell, drops what it cannot write.
    """
    _fill_closed()
    sys.stdout = _opened(sys.stdout, sys.__stdout__, 1, _Output)
    sys.stderr = _opened(sys.stderr, sys.__stderr__, 2, _Diagnostics)


def finish() -> None:
    """Writes out what is left to write of standard output.

    Raises:
      OutputError: it cannot be written.
      BrokenPipeError: nobody reads it.
    """
    sys.stdout.flush()


def abandon() -> None:
    """Lets go of standard output, so that what is left of it can do no harm when Python ends."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


class _Output(io.FileIO):
    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write standard output: {error.strerror or error}") from None


class _Diagnostics(io.FileIO):
    def write(self, content: Any) -> int:
        with suppress(OSError):
            return super().write(content)
        return len(content)


def _fill_closed() -> None:
    """Opens the null device in place of standard streams that are closed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _opened(stream: TextIO | None, original: TextIO | None, number: int, kind: type[io.FileIO]) -> TextIO:
    """The stream with what `prepare` says; one that somebody has put in the original's place stays."""
    if stream is not None and stream is not original:
        return stream
    encoding = "utf-8" if stream is None else stream.encoding
    buffer = io.BufferedWriter(kind(number, "w", closefd=False))
    by_lines = number == 2 or buffer.isatty()
    return io.TextIOWrapper(buffer, encoding, errors="backslashreplace", line_buffering=by_lines)
