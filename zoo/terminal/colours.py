"""Colours of a terminal: words shaded by how unsure a model is of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO

COLOUR_CHOICES = ("auto", "always", "never")

# Some of the 256 colours that terminals number, from white over yellow to orange, light enough for black ink.
_SHADES = (231, 230, 229, 228, 227, 221, 220, 214, 208, 202)
_INK = 16


def uses_colours(choice: str, stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether text for a stream is to have colours.

    Args:
      choice: "always", "never" or "auto": where the stream is a terminal that knows colours, and nobody has
        asked for none (no-color.org).
      stream: the stream that the text goes to.
      environment: the environment, whose `NO_COLOR` and `TERM` are looked at.

    Raises:
      ValueError: the choice is none of the three.
    """
    if choice not in COLOUR_CHOICES:
        raise ValueError(f"choice must be one of {', '.join(COLOUR_CHOICES)}. Received: choice={choice!r}")
    if choice != "auto":
        return choice == "always"
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def shaded(text: str, uncertainty: float, highest: float) -> str:
    """The text in black on a shade: white at 0, orange at `highest` and above, and white for NaN.

    Args:
      text: the text, of one line.
      uncertainty: the uncertainty of the text, at least 0.
      highest: the uncertainty of the deepest shade, in the same unit.

    Raises:
      ValueError: highest is not positive.
    """
    if not highest > 0:
        raise ValueError(f"highest must be positive. Received: highest={highest}")
    share = min(max(uncertainty / highest, 0.0), 1.0) if uncertainty == uncertainty else 0.0
    shade = _SHADES[round(share * (len(_SHADES) - 1))]
    return f"\033[48;5;{shade};38;5;{_INK}m{text}\033[0m"


def legend(highest: float, marks: int = 5) -> str:
    """The legend of the shades of `shaded`: some values from 0 to `highest`, each on its shade."""
    values = [highest * mark / (marks - 1) for mark in range(marks)]
    texts = [f" {value:.2g} " for value in values[:-1]] + [f" {highest:.2g} or more "]
    return "".join(shaded(text, value, highest) for text, value in zip(texts, values, strict=True))
