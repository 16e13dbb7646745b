"""Continuations of prompts as text for a terminal, and as records for JSON."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.data.vocabulary import EOS
from zoo.drawing.scale import highest_for
from zoo.language_model.continuations import Continuation
from zoo.terminal import colours
from zoo.terminal.text import printable


def heading(measure: str, in_colour: bool, has_draws: bool) -> str:
    """The explanation of the figures and the shades of `as_text_block`, in a line or two."""
    lines = ["below each text: means over its words, in nats"]
    if not has_draws:
        lines[0] += "; mutual information needs several draws of the weights"
    if in_colour:
        lines.append(f"words are shaded by their {measure}, on the scale that stands above them")
    return "\n".join(lines)


def as_text_block(
    continuations: Sequence[Continuation], measure: str, in_colour: bool, has_draws: bool
) -> str:
    """A prompt, its continuations and their figures.

    Args:
      continuations: the continuations of one prompt, at least one.
      measure: the measure that words are shaded by, "entropy" or "mutual information". The deepest shade
        goes by the values in these continuations.
      in_colour: whether they are; at the end of a line stands a blank with the shade of its `<eos>`.
      has_draws: whether mutual information is known.
    """
    lines = [printable(" ".join(continuations[0].prompt))]
    margin = len(str(len(continuations))) + 4
    values = [_values(continuation, measure) for continuation in continuations]
    highest = highest_for(itertools.chain.from_iterable(values))
    if in_colour:
        lines.append(" " * margin + f"{measure}, nats: {colours.legend(highest)}")
    for number, continuation in enumerate(continuations, 1):
        text = _shaded(continuation, measure, highest) if in_colour else _plain(continuation)
        first, *others = text.removesuffix("\n").split("\n")
        lines.append(f"  {number}".ljust(margin) + first)
        lines += [" " * margin + line for line in others]
        figures = [
            f"log-probability {_mean(continuation.log_probs)}",
            f"entropy {_mean(continuation.entropies)}",
        ]
        if has_draws:
            figures.append(f"mutual information {_mean(continuation.mutual_information, 4)}")
        lines.append(" " * margin + f"({', '.join(figures)})")
    return "\n".join(lines)


def as_record(continuation: Continuation) -> dict[str, Any]:
    """All figures of a continuation, in nats, as a record."""
    names = ("word", "log_prob", "own_log_prob", "entropy", "mutual_information")
    columns = (
        continuation.words,
        continuation.log_probs,
        continuation.own_log_probs,
        continuation.entropies,
        continuation.mutual_information,
    )
    return {
        "prompt_words": continuation.prompt,
        "text": continuation.text,
        "finished": continuation.finished,
        "log_prob": continuation.log_probs.sum(),
        "words": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)],
    }


def _plain(continuation: Continuation) -> str:
    text = "\n".join(map(printable, continuation.text.split("\n")))
    return text if text.strip() else "(no words)"


def _values(continuation: Continuation, measure: str) -> np.ndarray:
    """The uncertainty of each word, nats."""
    return continuation.entropies if measure == "entropy" else continuation.mutual_information


def _shaded(continuation: Continuation, measure: str, highest: float) -> str:
    text, separator = "", ""
    for word, value in zip(continuation.words, _values(continuation, measure), strict=True):
        is_end = word == EOS
        shown = colours.shaded(" " if is_end else printable(word), float(value), highest)
        text += separator + shown + ("\n" if is_end else "")
        separator = "" if is_end else " "
    return text


def _mean(values: np.ndarray, digits: int = 3) -> str:
    return f"{values.mean():.{digits}f}" if len(values) else "-"
