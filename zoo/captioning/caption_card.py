"""An image with its caption and how sure the model is of it: as text, and as a card of a contact sheet."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from zoo.captioning.sheet import GREY, Card, Colour, Line, uncertainty_shade
from zoo.data.captions import Caption
from zoo.terminal import colours
from zoo.terminal.text import printable

HIGHEST_ENTROPY = 3.0
"""Nats, from which a word's shade is the darkest: as unsure as between 20 words of equal probability."""


@dataclass(frozen=True, eq=False)
class CaptionedImage:
    """One image and what the model says of it.

    Args:
      path: the path of the image file.
      photo: uint8 [height, width, 3], RGB.
      caption: the words of the caption.
      log_prob: the log-probability of the whole caption, nats.
      predicted: the predictions in their order, [L]: the words of the caption, and what ended it.
      log_probs: the log-probability of each of these, nats, [L].
      entropies: the entropy of each prediction, nats, [L].
      mutual_information: that of prediction and weights, for each prediction, nats, [L]; None: not known.
    """

    path: str
    photo: np.ndarray
    caption: Caption
    log_prob: float
    predicted: tuple[str, ...]
    log_probs: np.ndarray
    entropies: np.ndarray
    mutual_information: np.ndarray | None

    def as_text(self, in_colour: bool = False) -> str:
        """The caption, its figures and a table of its words' figures, in lines of plain text.

        Args:
          in_colour: whether the caption's words are shaded by their entropy, for a terminal.
        """
        words = self.caption
        if in_colour:
            entropies = map(float, self.entropies[: len(words)])
            words = tuple(
                colours.shaded(w, e, HIGHEST_ENTROPY) for w, e in zip(words, entropies, strict=True)
            )
        figures = [
            ("caption", " ".join(words) or "(no words)"),
            ("log-probability", f"{self.log_prob:.3f} nats, {self._per_word(self.log_prob):.3f} per word"),
            ("entropy", f"{self._per_word(self.entropies.sum()):.3f} nats per word"),
        ]
        columns = [
            ("word", *self.predicted),
            ("log-probability", *(f"{value:.3f}" for value in self.log_probs)),
            ("entropy", *(f"{value:.3f}" for value in self.entropies)),
        ]
        if self.mutual_information is not None:
            mean = self._per_word(self.mutual_information.sum())
            figures.append(("mutual information", f"{mean:.4f} nats per word"))
            columns.append(("mutual information", *(f"{value:.4f}" for value in self.mutual_information)))
        lines = [f"  {name:<18}  {value}" for name, value in figures]
        return "\n".join([printable(self.path), *lines, *_table(columns)])

    def as_card(self) -> Card:
        """The photo; below it the caption, words shaded by their entropy, the file's name, the figures."""
        figures = f"log-probability {self.log_prob:.2f}, entropy {self._per_word(self.entropies.sum()):.2f}"
        if self.mutual_information is not None:
            mean = self._per_word(self.mutual_information.sum())
            figures += f", mutual information {mean:.3f}"
        lines = [Line(self.caption, self._shades())] if self.caption else [Line(["(no words)"], colour=GREY)]
        lines += [Line([os.path.basename(self.path)], colour=GREY), Line(figures.split(), colour=GREY)]
        return Card(self.photo, lines)

    def _shades(self) -> list[Colour]:
        """The shade of each of the caption's words."""
        entropies = self.entropies[: len(self.caption)]
        return [uncertainty_shade(float(entropy), HIGHEST_ENTROPY) for entropy in entropies]

    def _per_word(self, total: float) -> float:
        return total / max(len(self.predicted), 1)


def _table(columns: list[tuple[str, ...]]) -> list[str]:
    """Lines of the columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in columns]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in zip(*columns, strict=True)
    ]
