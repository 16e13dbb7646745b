"""Contact sheets: photos in rows, each with lines of text below it."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.filesystem.files import write_whole

Colour = tuple[int, int, int]

INK: Colour = (32, 33, 36)
GREY: Colour = (110, 114, 120)

_PAPER: Colour = (255, 255, 255)
_BEHIND_PHOTO: Colour = (241, 243, 244)
_UNSURE: Colour = (232, 89, 12)

# Pillow's font has ASCII only.
_PLAIN = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014", "''\"\"--")


@dataclass(frozen=True)
class Line:
    """A line of text below a photo; it goes on in further rows where it is too long for one.

    Args:
      words: the words of the line.
      shades: the colour behind each word, RGB 0 to 255, None for nothing. Words on a dark shade are white.
      colour: the colour of the words, RGB 0 to 255.

    Raises:
      ValueError: there are shades, but not one for each word.
    """

    words: Sequence[str]
    shades: Sequence[Colour | None] | None = None
    colour: Colour = INK

    def __post_init__(self) -> None:
        if self.shades is not None and len(self.shades) != len(self.words):
            raise ValueError(
                "shades should be as many as words. "
                f"Received: {len(self.shades)} shades for {len(self.words)} words"
            )


@dataclass(frozen=True, eq=False)
class Card:
    """A photo and what is said of it.

    Args:
      photo: uint8 [height, width, 3], RGB.
      lines: the text below it.

    Raises:
      ValueError: the photo is no such array, or it is empty.
    """

    photo: np.ndarray
    lines: Sequence[Line]

    def __post_init__(self) -> None:
        photo = self.photo
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
            raise ValueError(
                "photo should be uint8 of shape [height, width, 3], not empty. "
                f"Received: dtype={photo.dtype}, shape={photo.shape}"
            )


def uncertainty_shade(uncertainty: float, highest: float) -> Colour:
    """A shade for a word: white at 0, orange at `highest` and above; white for NaN.

    Raises:
      ValueError: highest is not positive.
    """
    if not highest > 0:
        raise ValueError(f"highest should be positive. Received: highest={highest}")
    share = min(max(uncertainty / highest, 0.0), 1.0) if uncertainty == uncertainty else 0.0
    red, green, blue = (
        round(paper + share * (unsure - paper)) for paper, unsure in zip(_PAPER, _UNSURE, strict=True)
    )
    return red, green, blue


def contact_sheet(
    cards: Sequence[Card],
    columns: int = 4,
    *,
    title: str = "",
    photo_size: int = 256,
    text_size: int = 15,
) -> Image.Image:
    """An RGB image with the cards in reading order, on white.

    Photos keep their proportions, in squares of one size, so captions start on one height in a row; all rows
    are as high as the card with most text needs. The font has the Latin alphabet: accents are left out, and
    other characters show as boxes.

    Args:
      cards: the cards to show, one or more.
      columns: cards beside each other; fewer where there are fewer cards.
      title: a headline for the sheet; none where it is empty.
      photo_size: width and height of a photo's square, and the width of the text, in pixels.
      text_size: the size of the font, in pixels.

    Raises:
      ValueError: there is no card, or a number is not positive.
    """
    if not cards:
        raise ValueError(f"a contact sheet needs at least one card. Received: cards={cards}")
    for name, number in (("columns", columns), ("photo_size", photo_size), ("text_size", text_size)):
        if number < 1:
            raise ValueError(f"{name} should be at least 1. Received: {name}={number}")
    columns = min(columns, len(cards))
    gap = max(photo_size // 14, 1)
    text = _Text(text_size, photo_size)
    blocks = [text.rows(card.lines) for card in cards]
    card_height = photo_size + gap // 2 + max(text.height(rows) for rows in blocks)
    sheet_rows = -(-len(cards) // columns)
    width = gap + columns * (photo_size + gap)
    headline = _Text(round(text_size * 1.4), width - 2 * gap)
    title_rows = headline.rows([Line(title.split())]) if title.split() else []
    top = gap + (headline.height(title_rows) + gap if title_rows else 0)
    sheet = Image.new("RGB", (width, top + sheet_rows * (card_height + gap)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    headline.draw(draw, (gap, gap), title_rows)
    for index, (card, rows) in enumerate(zip(cards, blocks, strict=True)):
        row, column = divmod(index, columns)
        left = gap + column * (photo_size + gap)
        upper = top + row * (card_height + gap)
        draw.rectangle((left, upper, left + photo_size - 1, upper + photo_size - 1), _BEHIND_PHOTO)
        photo = _fitted(card.photo, photo_size)
        place = left + (photo_size - photo.width) // 2, upper + (photo_size - photo.height) // 2
        sheet.paste(photo, place)
        text.draw(draw, (left, upper + photo_size + gap // 2), rows)
    return sheet


def write(path: str | os.PathLike[str], sheet: Image.Image) -> None:
    """Writes a sheet as PNG; the file is, whatever happens, the old one or the new one whole.

    Raises:
      InputError: it cannot be written: a full disk, no such folder, no permission.
    """
    content = io.BytesIO()
    sheet.save(content, "PNG", optimize=True)
    write_whole(Path(path), content.getvalue())


@dataclass(frozen=True)
class _Piece:
    """A word, or the part of a long word that fits a row, placed in it."""

    text: str
    left: float
    right: float
    shade: Colour | None
    colour: Colour


class _Text:
    """Sets lines of one size in rows of one width."""

    def __init__(self, size: int, width: int):
        self._font = ImageFont.load_default(size)
        self._width = width
        self._blank = 1.25 * self._font.getlength(" ")  # room for two shades and white between them
        self._row_height = round(size * 1.4)
        self._line_gap = round(size * 0.4)

    def rows(self, lines: Sequence[Line]) -> list[list[list[_Piece]]]:
        """The rows of each line, each a list of its pieces."""
        return [self._wrapped(line) for line in lines]

    def height(self, lines: list[list[list[_Piece]]]) -> int:
        """The height that these lines take, in pixels."""
        return sum(len(rows) * self._row_height + self._line_gap for rows in lines)

    def draw(
        self, draw: ImageDraw.ImageDraw, corner: tuple[int, int], lines: list[list[list[_Piece]]]
    ) -> None:
        """Draws the lines, their upper left corner at `corner`."""
        left, upper = corner
        for rows in lines:
            for row in rows:
                middle = upper + self._row_height / 2
                for piece in row:
                    colour = piece.colour
                    if piece.shade is not None:
                        self._shade(draw, piece, left, upper)
                        if _dark(piece.shade):
                            colour = _PAPER
                    draw.text((left + piece.left, middle), piece.text, colour, self._font, anchor="lm")
                upper += self._row_height
            upper += self._line_gap

    def _shade(self, draw: ImageDraw.ImageDraw, piece: _Piece, left: int, upper: int) -> None:
        margin = 0.4 * self._blank
        draw.rounded_rectangle(
            (
                left + max(piece.left - margin, 0),
                upper + 1,
                left + min(piece.right + margin, self._width) - 1,
                upper + self._row_height - 2,
            ),
            radius=self._row_height / 5,
            fill=piece.shade,
        )

    def _wrapped(self, line: Line) -> list[list[_Piece]]:
        rows: list[list[_Piece]] = [[]]
        end = -self._blank
        for word, shade in zip(line.words, line.shades or [None] * len(line.words), strict=True):
            for part in self._parts(_printable(word)):
                length = self._font.getlength(part)
                left = end + self._blank
                if rows[-1] and left + length > self._width:
                    rows.append([])
                    left = 0.0
                end = left + length
                rows[-1].append(_Piece(part, left, end, shade, line.colour))
        return rows

    def _parts(self, word: str) -> list[str]:
        """The word, cut where it is wider than a row."""
        parts = [""]
        for character in word:
            if parts[-1] and self._font.getlength(parts[-1] + character) > self._width:
                parts.append("")
            parts[-1] += character
        return parts


def _printable(word: str) -> str:
    """The word as the font has it: letters without accents, nothing that ends a row or cannot be drawn."""
    letters = unicodedata.normalize("NFKD", word.translate(_PLAIN))
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for letter in letters
        if not unicodedata.combining(letter)
    )


def _dark(colour: Colour) -> bool:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128


def _fitted(photo: np.ndarray, size: int) -> Image.Image:
    """The photo in its proportions, its longer side `size` pixels."""
    image = Image.fromarray(photo)
    scale = size / max(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
