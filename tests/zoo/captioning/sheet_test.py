import errno
import os

import numpy as np
import pytest
from PIL import Image

from tfp_bayesrnn.errors import InputError
from zoo.captioning import sheet
from zoo.captioning.sheet import Card, Line, contact_sheet, uncertainty_shade, write

RED, GREEN, BLUE = (200, 0, 0), (0, 160, 0), (0, 0, 140)
# For photo_size 100.
GAP, TEXT = 7, 7 + 100 + 3


def photo(colour, height=20, width=20):
    return np.full((height, width, 3), colour, np.uint8)


def extent(pixels, colour):
    """First and last row, first and last column of a colour."""
    rows, columns = np.nonzero((pixels == colour).all(-1))
    return rows.min(), rows.max(), columns.min(), columns.max()


def made(*cards, **options):
    return np.asarray(contact_sheet(cards, **({"photo_size": 100, "text_size": 12} | options)))


def test_cards_stand_in_reading_order():
    colours = [RED, GREEN, BLUE]
    pixels = made(*(Card(photo(colour), [Line(["word"])]) for colour in colours), columns=2)
    places = [extent(pixels, colour) for colour in colours]
    assert places[0] == (GAP, GAP + 99, GAP, GAP + 99)
    assert places[1] == (GAP, GAP + 99, 2 * GAP + 100, 2 * GAP + 199)
    assert places[2][2:] == (GAP, GAP + 99) and places[2][0] > GAP + 100
    assert pixels.shape[1] == 3 * GAP + 200
    assert (pixels[:, :GAP] == 255).all() and (pixels[:GAP] == 255).all() and (pixels[-GAP:] == 255).all()
    # Where the fourth card would be.
    assert (pixels[places[2][0] :, GAP + 100 :] == 255).all()
    assert made(Card(photo(RED), []), columns=9).shape[1] == 2 * GAP + 100


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (40, 20, (0, 99, 25, 74)),
        (50, 500, (45, 54, 0, 99)),
        (1, 1000, (49, 49, 0, 99)),
        (300, 300, (0, 99, 0, 99)),
    ],
)
def test_photos_keep_their_proportions(height, width, expected):
    pixels = made(Card(photo(RED, height, width), []))
    assert extent(pixels[GAP:, GAP:], RED) == expected


def test_rows_are_equally_high_and_hold_all_text():
    long = [Line("a caption of a good many words that goes on for several rows".split(), colour=BLUE)]
    short = [Line(["dog"], colour=BLUE)]
    one = made(Card(photo(RED), short))
    pixels = made(Card(photo(RED), short), Card(photo(GREEN), long), Card(photo(RED), short), columns=1)
    row = (len(pixels) - GAP) // 3
    assert len(pixels) == GAP + 3 * row and row > len(one) - GAP
    assert extent(pixels, GREEN)[0] == GAP + row
    np.testing.assert_array_equal(pixels[2 * row : 2 * row + len(one) - GAP], one[: len(one) - GAP])
    np.testing.assert_array_equal(pixels[: len(one) - GAP], one[: len(one) - GAP])
    # Text is inside its card: right of the photos, and between them, there is nothing.
    assert (pixels[:, GAP + 100 :] == 255).all()
    assert extent(pixels[row:], BLUE)[1] < row


def test_text_is_drawn_in_its_colour_and_order():
    def text(*lines):
        return made(Card(photo(RED), lines), text_size=22)[TEXT:, GAP : GAP + 100]

    assert (text(Line([])) == 255).all()
    blue = text(Line(["dog"], colour=BLUE))
    assert (blue == BLUE).all(-1).any() and not (text(Line(["dog"])) == BLUE).all(-1).any()
    assert not np.array_equal(blue, text(Line(["god"], colour=BLUE)))
    two = text(Line(["dog"], colour=BLUE), Line(["dog"], colour=GREEN))
    assert extent(two, BLUE)[1] < extent(two, GREEN)[0]
    beside = text(Line(["dog", "dog"], colour=BLUE))
    assert extent(beside, BLUE)[3] > 2 * extent(blue, BLUE)[3]


def test_a_word_has_its_own_shade():
    pixels = made(Card(photo(RED), [Line(["one", "two", "three"], [None, GREEN, (255, 200, 0)])]))[TEXT:]
    green, amber = extent(pixels, GREEN), extent(pixels, (255, 200, 0))
    assert GAP + 10 < green[2] < green[3] < amber[2]
    assert (pixels[green[0] : green[1], green[2] : green[3]] == 255).all(-1).any(), "white on dark"
    inside = pixels[amber[0] + 3 : amber[1] - 2, amber[2] + 3 : amber[3] - 2]
    assert not (inside == 255).all(-1).any() and (inside.sum(-1) < 200).any(), "dark on bright"


def test_long_words_are_cut_and_nothing_is_lost():
    pixels = made(Card(photo(RED), [Line(["W" * 30], [GREEN])]))
    assert (pixels[:, GAP + 100 :] == 255).all()
    pieces = sheet._Text(12, 100).rows([Line(["W" * 30, "a"])])[0]
    assert "".join(piece.text for row in pieces for piece in row) == "W" * 30 + "a" and len(pieces) > 2
    assert all(piece.right <= 100 for row in pieces for piece in row)
    # Narrower than a letter: one a row.
    assert [len(row) for row in sheet._Text(12, 3).rows([Line(["WWW"])])[0]] == [1, 1, 1]


def test_text_in_other_characters():
    def text(word):
        return made(Card(photo(RED), [Line([word])]))

    np.testing.assert_array_equal(text("café"), text("cafe"))
    np.testing.assert_array_equal(text("dog\u2019s"), text("dog's"))
    for word in ("\ud800", "a\nb", "\x00", "日本語", "🐕", "\u200f"):
        assert text(word).shape == text("a").shape
        assert not np.array_equal(text(word), text(""))


def test_a_title_stands_above():
    plain = made(Card(photo(RED), []), Card(photo(RED), []))
    titled = made(Card(photo(RED), []), Card(photo(RED), []), title="Photos of nothing")
    added = len(titled) - len(plain)
    assert added > 12
    np.testing.assert_array_equal(titled[added + GAP :], plain[GAP:])
    assert (titled[: added + GAP] < 100).all(-1).any()
    np.testing.assert_array_equal(made(Card(photo(RED), []), Card(photo(RED), []), title=" "), plain)


def test_shades_grow_with_uncertainty():
    assert uncertainty_shade(0.0, 2.0) == uncertainty_shade(-1e-9, 2.0) == (255, 255, 255)
    assert uncertainty_shade(float("nan"), 2.0) == (255, 255, 255)
    assert uncertainty_shade(2.0, 2.0) == uncertainty_shade(float("inf"), 2.0)
    greens = [uncertainty_shade(value, 2.0)[1] for value in np.linspace(0, 2, 9)]
    assert sorted(greens, reverse=True) == greens and len(set(greens)) == 9
    for highest in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"highest should be positive\. Received: highest="):
            uncertainty_shade(1.0, highest)


def test_cards_that_cannot_be_made():
    for array in (
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"photo should be uint8 .* Received: dtype=\w+, shape="):
            Card(array, [])
    with pytest.raises(ValueError, match="Received: 1 shades for 2 words"):
        Line(["a", "b"], [None])
    with pytest.raises(ValueError, match=r"at least one card\. Received: cards=\(\)"):
        made()
    for name in ("columns", "photo_size", "text_size"):
        with pytest.raises(ValueError, match=f"{name} should be at least 1. Received: {name}=0"):
            made(Card(photo(RED), []), **{name: 0})


def test_the_file_is_a_png_of_the_sheet(tmp_path):
    image = contact_sheet([Card(photo(RED), [Line(["dog"])])])
    path = tmp_path / "captions.png"
    for _ in range(2):
        write(path, image)
    with Image.open(path) as read:
        assert read.format == "PNG" and read.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(read), np.asarray(image))
    assert [entry.name for entry in tmp_path.iterdir()] == ["captions.png"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    image = contact_sheet([Card(photo(RED), [])])
    with pytest.raises(InputError, match=r"cannot write .*/no/captions\.png: No such file or directory"):
        write(tmp_path / "no" / "captions.png", image)
    path = tmp_path / "captions.png"
    path.write_bytes(b"the old one")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*captions\.png: No space left on device"):
        write(path, image)
    assert path.read_bytes() == b"the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["captions.png"]
