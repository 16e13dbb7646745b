"""What a line of a text is: the same in data sets, in other texts, in lists of photos, on standard input."""

import io

import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.lines import decoded
from zoo.data.text import encode_splits
from zoo.data.vocabulary import EOS, UNK, Vocabulary
from zoo.uncertainty.streams import read_text

# Content, its lines as words.
TEXTS = {
    "line feeds": (b"a b\nc\n", ["a b", "c"]),
    "no last line feed": (b"a b\nc", ["a b", "c"]),
    "blank lines": (b"\na\n\n", ["", "a", ""]),
    "of Windows": (b"a b\r\nc\r\n", ["a b", "c"]),
    "mixed ends": (b"a b\r\nc\nd", ["a b", "c", "d"]),
    "U+2028": ("a\u2028b\nc\n".encode(), ["a b", "c"]),
    "U+2029": ("a\u2029b\nc\n".encode(), ["a b", "c"]),
    "U+0085": ("a\x85b\nc\n".encode(), ["a b", "c"]),
    "a form feed": (b"a\x0cb\nc\n", ["a b", "c"]),
    "a vertical tab": (b"a\x0bb\nc\n", ["a b", "c"]),
    "separators of ASCII": (b"a\x1cb\x1dc\x1ed\nc\n", ["a b c d", "c"]),
    "a carriage return within": (b"a\rb\nc\n", ["a b", "c"]),
    "a mark": (b"\xef\xbb\xbfa b\nc\n", ["a b", "c"]),
    "two files in one": (b"a b\n\xef\xbb\xbfc\n", ["a b", "c"]),
    "other letters": ("é\u200b\n".encode(), ["é\u200b"]),
}
REFUSED = {
    "carriage returns alone": (
        b"a b\rc\r",
        "ends its lines with carriage returns alone; accepted: line feeds",
    ),
    "one of them": (b"a b\rc", "ends its lines with carriage returns alone"),
    "UTF-16": ("a b\nc\n".encode("utf-16"), "line 1: this is UTF-16, UTF-32 or no text"),
    "UTF-16 without a mark": ("a b\nc\n".encode("utf-16-le"), "line 1: this is UTF-16, UTF-32 or no text"),
    "UTF-16, high bytes first": ("a b\nc\n".encode("utf-16-be"), "line 1: this is UTF-16"),
    "UTF-32": ("a b\nc\n".encode("utf-32"), "line 1: this is UTF-16, UTF-32 or no text"),
    "Latin-1": ("a\ncafé\n".encode("latin-1"), "line 2: byte 0xe9 is not UTF-8 text; accepted: UTF-8"),
    "a zero byte": (b"a\nb\0\n", "line 2: this is UTF-16, UTF-32 or no text"),
}


def by(words):
    return [word for line in words for word in [*line.split(), EOS]]


@pytest.mark.parametrize(("content", "lines"), TEXTS.values(), ids=TEXTS)
def test_lines_are_the_same_everywhere(tmp_path, content, lines):
    found = list(decoded(io.BytesIO(content), "t"))
    assert [number for number, _ in found] == list(range(1, len(lines) + 1))
    assert [line.split() for _, line in found] == [line.split() for line in lines]

    vocabulary, streams = encode_splits(
        dict.fromkeys(("train", "valid", "test"), ("t", lambda: io.BytesIO(content)))
    )
    assert vocabulary.decode(streams["test"]) == by(lines)

    (tmp_path / "t.txt").write_bytes(content)
    words = Vocabulary([*dict.fromkeys(by(lines)), UNK])
    assert words.decode(read_text(tmp_path / "t.txt", words).tokens) == by(lines)


@pytest.mark.parametrize(("content", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_such_text_is_refused(tmp_path, content, said):
    (tmp_path / "t.txt").write_bytes(content)
    splits = dict.fromkeys(("train", "valid", "test"), ("t.txt", lambda: io.BytesIO(content)))
    for read in (
        lambda: list(decoded(io.BytesIO(content), "t.txt")),
        lambda: encode_splits(splits),
        lambda: read_text(tmp_path / "t.txt", Vocabulary(["a", "b", "c", UNK])),
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert f"t.txt{' ' if said.startswith('ends') else ', '}{said}" in str(caught.value)


def test_carriage_returns_within_lines_are_told_once(caplog):
    splits = dict.fromkeys(("train", "valid", "test"), ("t.txt", lambda: io.BytesIO(b"a\rb\nc\rd\n")))
    encode_splits(splits)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["t.txt: 2 carriage returns that end no line are read as white space"] * 3
