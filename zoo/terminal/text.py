"""Text that a terminal shows as it is meant: printable, short enough, in columns."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """The text with a question mark for what would steer a terminal, or has no place in UTF-8."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shortened(text: str, most: int = 100) -> str:
    """The text; of one of more than `most` characters the beginning and the end, with dots between them."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, its cells in columns, all to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
