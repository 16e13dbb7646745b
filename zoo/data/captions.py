"""Photos with captions: words out of text, ids out of words."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfp_bayesrnn.errors import InputError
from zoo.data.photos import Photos
from zoo.data.vocabulary import Vocabulary

SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
"""The first words of every caption vocabulary; no caption has them."""
PAD, START, END, UNK = range(4)

Caption = tuple[str, ...]
"""The words of a caption, lower case, without special words."""

_CLITICS = r"'(?:s|m|d|re|ve|ll)"
_ABBREVIATIONS = "mr|mrs|ms|dr|st|rd|ave|blvd|jr|sr|vs|etc|mt|ft"
_JOINERS = "\u200c\u200d"  # They join letters, or keep them apart, within a word.


def _marks() -> str:
    """The marks that belong to the character before, and the joiners, as a class of a regular expression."""
    found = [*range(0x300, 0x1EA00), *range(0xE0100, 0xE01F0)]  # All that Unicode has are in there.
    return "".join(chr(code) for code in found if unicodedata.category(chr(code)).startswith("M")) + _JOINERS


_MARK = f"[{_marks()}]"
_LETTERS = rf"[^\W_](?:[^\W_]|{_MARK})*"
_TOKEN = re.compile(
    rf"""
      (?P<dotted> (?<!\w)(?:{_ABBREVIATIONS})\. | (?<!\w)(?:[^\W\d_]\.){{2,}} )
    | (?P<clitic> n't(?!\w) | {_CLITICS}(?!\w) )
    | (?P<negated> [^\W_]+(?=n't(?!\w)) )
    | (?P<number> \d+(?:[.,:/]\d+)+(?:{_LETTERS})?(?:-{_LETTERS})* )
    | (?P<word> (?:(?<!\w)[odl]')? {_LETTERS} (?:[-/]{_LETTERS})* )
    | (?P<dropped> [\s.,:;?!'"`()\[\]{{}}\\/_-] )
    | (?P<symbol> . {_MARK}* )
    """,
    re.VERBOSE | re.DOTALL,
)
_SPLIT_WORDS = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
}
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a\u2032\u00b4\u02bc\uff07", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u301d\u301e\u301f\uff02", '"'),
        **dict.fromkeys("\u300c\u300d\u300e\u300f", '"'),  # The corner brackets of Chinese and Japanese.
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        **dict.fromkeys("\u2014\u2015\u2026", " "),
        **dict.fromkeys("\u00ad\ufeff", None),
    }
)


@dataclass(frozen=True, eq=False)
class CaptionSplit:
    """Photos and what people say of them.

    Attributes:
      names: the name of each image, [N].
      references: the captions of each image, [N] of one or more.
      images: the N photos, in the same order.
    """

    names: tuple[str, ...]
    references: tuple[tuple[Caption, ...], ...]
    images: Photos

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of the captions, in the order of their images; of no photo, nor of a name."""
        digest = hashlib.sha256()
        for captions in self.references:
            digest.update("".join(f"{' '.join(caption)}\n" for caption in captions).encode())
            digest.update(b"\n")
        return digest.hexdigest()


class EncodedCaptions(NamedTuple):
    """Captions as arrays; N images, K captions an image, T = longest caption + 1.

    Attributes:
      inputs: `<start>` w1 .. wn, then `<pad>`, int32 [N, K, T].
      targets: w1 .. wn `<end>`, then `<pad>`, int32 [N, K, T].
      weights: 1 where there is a target, 0 on padding, float32 [N, K, T].
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


def tokenise(text: str) -> Caption:
    """The words of a caption, close to what the reference COCO evaluation makes of it.

    That evaluation runs Stanford's Penn Treebank tokeniser and drops punctuation. Here:

    - Everything becomes lower case; typographic quotes and dashes of any language are plain ones, and a
      letter with its accent is one character where Unicode has one (NFC).
    - `. , : ; ? ! - ' " ` ( ) [ ] { } \\ / _` between words are dropped. (The evaluation leaves brackets as
      `-lrb-` and the like.) Any other symbol, such as `&` or `#`, is a word of its own.
    - Marks stay with their letters: vowel signs, accents, and what joins letters or keeps them apart.
    - Clitics are words of their own: "man's" -> "man 's", "don't" -> "do n't", "they're" -> "they 're"
      (also 'm, 'd, 've, 'll), and "cannot", "gonna", "gotta", "wanna", "gimme", "lemme" are two words,
      "can not". Of "dogs'" the apostrophe is dropped; "o'clock" stays whole.
    - Hyphens and slashes within words stay ("close-up", "black/white"), and so do points, commas, colons
      and slashes between digits ("2.5", "5:55", "1,000").
    - Points are kept in initials ("u.s.") and after the abbreviations mr, mrs, ms, dr, st, rd, ave, blvd,
      jr, sr, vs, etc, mt, ft; a caption's last sentence may end with them.

    No word holds white space, and none is a special word.
    """
    words: list[str] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFC", text).translate(_PLAIN).lower()):
        if match.lastgroup != "dropped":
            words += _SPLIT_WORDS.get(match[0], (match[0],))
    return tuple(words)


def caption_vocabulary(captions: Iterable[Caption], min_count: int = 1) -> Vocabulary:
    """The special words, then the words of `captions`, most frequent first, ties in alphabetical order.

    Args:
      captions: the training captions.
      min_count: the number of times that a word has to occur to be in.

    Raises:
      InputError: where `min_count` is below 1, or no word occurs so often.
    """
    check_min_count(min_count)
    counts = Counter(word for caption in captions for word in caption)
    words = sorted(
        (word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word)
    )
    if not words:
        most = max(counts.values(), default=0)
        raise InputError(
            f"no word occurs {min_count} times in the training captions: min_count accepts 1 to {most}"
            if most
            else "the training captions have no word"
        )
    return Vocabulary([*SPECIAL_WORDS, *words])


def encode_captions(
    references: Sequence[Sequence[Caption]],
    vocabulary: Vocabulary,
    max_words: int,
    captions_per_image: int | None = None,
) -> EncodedCaptions:
    """Encodes captions as the arrays a network is trained on, [N, K, T] with T = `max_words` + 1.

    A caption of more than `max_words` words is cut after so many, and then has no `<end>` among its targets:
    the cut is no place to stop. An image with fewer than K captions gets rows of nothing but `<pad>`.

    Args:
      references: the captions of each of the N images.
      vocabulary: a caption vocabulary; words outside it become `<unk>`.
      max_words: the largest number of words in a caption.
      captions_per_image: their number, K; an image with more gives the first K. By default K is the largest
        number of captions an image has.

    Raises:
      ValueError: where `max_words` or `captions_per_image` is below 1, or the vocabulary does not begin with
        the special words.
    """
    if max_words < 1:
        raise ValueError(f"max_words must be at least 1. Received: max_words={max_words}")
    if captions_per_image is not None and captions_per_image < 1:
        raise ValueError(
            f"captions_per_image must be at least 1. Received: captions_per_image={captions_per_image}"
        )
    if vocabulary.words[: len(SPECIAL_WORDS)] != SPECIAL_WORDS:
        raise ValueError(
            f"a caption vocabulary begins with {' '.join(SPECIAL_WORDS)}. Received: vocabulary={vocabulary}"
        )
    rows = captions_per_image or max(map(len, references), default=0)
    inputs = np.full([len(references), rows, max_words + 1], PAD, np.int32)
    targets = np.full_like(inputs, PAD)
    for image, captions in enumerate(references):
        for row, caption in enumerate(captions[:rows]):
            ids = vocabulary.encode(caption[:max_words])
            inputs[image, row, 0] = START
            inputs[image, row, 1 : len(ids) + 1] = ids
            targets[image, row, : len(ids)] = ids
            if len(caption) <= max_words:
                targets[image, row, len(ids)] = END
    return EncodedCaptions(inputs, targets, (targets != PAD).astype(np.float32))


def check_min_count(min_count: int) -> None:
    """Raises InputError where it is below 1."""
    if min_count < 1:
        raise InputError(f"min_count {min_count} is out of range: accepted 1 or more")
