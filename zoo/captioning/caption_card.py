"""An image with its caption and how sure the model is of it: as text, and as a card of a contact sheet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.captioning.sheet import GREY, Card, Colour, Line, uncertainty_shade
from zoo.data.captions import Caption
from zoo.drawing.scale import highest_for
from zoo.terminal import colours
from zoo.terminal.text import printable


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
          in_colour: whether the caption's words are shaded by their entropy, for a terminal. The deepest
            shade goes by these words, and a legend says where it begins.
        """
        words, shades = self.caption, []
        if in_colour and words:
            entropies = [float(entropy) for entropy in self.entropies[: len(words)]]
            highest = highest_for(entropies)
            words = tuple(colours.shaded(w, e, highest) for w, e in zip(words, entropies, strict=True))
            shades = [("shades", f"entropy, nats: {colours.legend(highest)}")]
        figures = [
            ("caption", " ".join(words) or "(no words)"),
            *shades,
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

    def as_record(self) -> dict[str, Any]:
        """All figures, in nats, as a record; what ends the caption is the last of the words."""
        unknown = [None] * len(self.predicted)
        columns = {
            "word": self.predicted,
            "log_prob": self.log_probs,
            "entropy": self.entropies,
            "mutual_information": unknown if self.mutual_information is None else self.mutual_information,
        }
        return {
            "image": self.path,
            "caption": " ".join(self.caption),
            "log_prob": self.log_prob,
            "words": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        }

    def as_card(self, highest: float) -> Card:
        """The photo; below it the caption, words shaded by their entropy, the file's name, the figures.

        Args:
          highest: the entropy of the deepest shade, nats.
        """
        figures = f"log-probability {self.log_prob:.2f}, entropy {self._per_word(self.entropies.sum()):.2f}"
        if self.mutual_information is not None:
            mean = self._per_word(self.mutual_information.sum())
            figures += f", mutual information {mean:.3f}"
        lines = (
            [Line(self.caption, self._shades(highest))]
            if self.caption
            else [Line(["(no words)"], colour=GREY)]
        )
        lines += [Line([os.path.basename(self.path)], colour=GREY), Line(figures.split(), colour=GREY)]
        return Card(self.photo, lines)

    def _shades(self, highest: float) -> list[Colour]:
        """The shade of each of the caption's words."""
        entropies = self.entropies[: len(self.caption)]
        return [uncertainty_shade(float(entropy), highest) for entropy in entropies]

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
