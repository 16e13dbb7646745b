"""The lines of a text: one reader, and one meaning of a line, for all text that is read.

Text is UTF-8. A line ends with a line feed, or with a carriage return and one; whatever else some
program takes for an end - a form feed, a vertical tab, U+0085, U+2028, U+2029, a carriage return alone - is
white space within a line. A text whose only ends are carriage returns would so become one line: it is
refused. A byte order mark at the start of a line, such as the first, is none of its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from absl import logging

from tfp_bayesrnn.errors import InputError

_MARK = "\ufeff"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # The start of a UTF-16 file; UTF-32 starts so too, or with zeros.


def decoded(lines: Iterable[bytes], name: str, warn: bool = True) -> Iterator[tuple[int, str]]:
    """The lines of a text, each with its number, from 1, and without its end.

    Args:
      lines: the lines of a binary file or stream, each up to its line feed.
      name: the text's name, for errors.
      warn: whether to warn of carriage returns within lines: in one of several passes.

    Raises:
      InputError: the text is not UTF-8, or carriage returns alone end its lines.
    """
    returns, number = 0, 0
    for number, line in enumerate(lines, 1):
        ends = line.endswith(b"\n")
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if b"\r" in line:
            if number == 1 and not ends:
                raise InputError(
                    f"{name} ends its lines with carriage returns alone; accepted: line feeds, with or "
                    "without a carriage return before them"
                )
            returns += line.count(b"\r")
        yield number, _text(line, name, number).removeprefix(_MARK)
    if returns and warn:
        logging.warning("%s: %d carriage returns that end no line are read as white space", name, returns)


def _text(line: bytes, name: str, number: int) -> str:
    place = f"{name}, line {number}"
    if (number == 1 and line.startswith(_UTF_16)) or b"\0" in line:
        raise InputError(f"{place}: this is UTF-16, UTF-32 or no text (zero bytes); accepted: UTF-8")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise InputError(f"{place}: byte 0x{byte:02x} is not UTF-8 text; accepted: UTF-8") from None
