"""Words on a shade that says how unsure the model is of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.page.markup import Markup, significant, tag

_MARKS = 5


class Measure(NamedTuple):
    """The measure that words are shaded by: a quantity in nats, and where its deepest shade begins."""

    name: str
    highest: float


def shaded(text: Any, value: float, highest: float, title: str | None = None) -> Markup:
    """A word on its shade: none at 0, the deepest at `highest` and above; pale where it is not a number.

    Args:
      text: the word.
      value: the model's uncertainty, at least 0.
      highest: the value of the deepest shade, in the same unit.
      title: the text shown where a pointer rests on the word.

    Raises:
      ValueError: highest is not positive.
    """
    if not highest > 0:
        raise ValueError(f"highest should be positive. Received: highest={highest}")
    if math.isnan(value):
        return tag("span", text, class_="word unknown", title=title)
    share = min(max(value / highest, 0.0), 1.0)
    return tag("span", text, class_="word", style=f"--u:{share:.3f}", title=title)


def legend(measure: Measure) -> Markup:
    """The legend of what the shades stand for."""
    values = [measure.highest * mark / (_MARKS - 1) for mark in range(_MARKS)]
    labels = [f"{value:.3g}" for value in values[:-1]] + [f"{measure.highest:.3g} or more"]
    swatches = [shaded(label, value, measure.highest) for label, value in zip(labels, values, strict=True)]
    return tag(
        "div", f"{measure.name.capitalize()}, nats:", [[" ", swatch] for swatch in swatches], class_="legend"
    )


def described(word: str, log_prob: float, entropy: float, mutual_information: float | None) -> str:
    """The figures of a word, nats, as a line of text."""
    said = f"{word}: entropy {significant(entropy)} nats"
    if mutual_information is not None:
        said += f", of it mutual information {significant(mutual_information)}"
    return f"{said}; log-probability {significant(log_prob)}"


def average(values: Sequence[float]) -> float:
    """The mean of the values; NaN of none."""
    return float(np.mean(values)) if len(values) else math.nan
