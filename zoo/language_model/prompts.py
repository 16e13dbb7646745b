"""Prompts of a language model: from text to words, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from absl import logging

from tfp_bayesrnn.errors import InputError, quoted
from zoo.data.vocabulary import EOS, UNK, Vocabulary

_NAMED = 20  # Words that a warning names at most.

Prompt = str | Sequence[int]
"""A text, with `<eos>` where one of its lines ends and another begins; or the ids of words."""


def encode_prompt(vocabulary: Vocabulary, prompt: Prompt) -> np.ndarray:
    """The ids of a prompt's words, int32 [T], T >= 1.

    A text's words are what white space separates, as in the files that language models are trained on. A word
    outside the vocabulary is read as `<unk>`, and a warning names it. A prompt of no words is one of `<eos>`,
    behind which a sentence begins.

    Args:
      vocabulary: the model's vocabulary.
      prompt: text or ids.

    Raises:
      InputError: the vocabulary lacks a word and has no `<unk>`; an id is outside of it; there are no words,
        and the vocabulary has no `<eos>`.
    """
    if isinstance(prompt, str):
        words = f" {EOS} ".join(prompt.split("\n")).split()
        ids = vocabulary.encode(words, f"prompt {quoted(prompt)}")
        _warn_of_unknown(vocabulary, words)
    else:
        vocabulary.decode(prompt)
        ids = np.array(prompt, np.int32)
    if not len(ids):
        if EOS not in vocabulary:
            raise InputError(
                f"the prompt has no words, and the vocabulary no {EOS} to begin behind: give a word"
            )
        ids = np.array([vocabulary.id(EOS)], np.int32)
    return ids


def _warn_of_unknown(vocabulary: Vocabulary, words: Iterable[str]) -> None:
    unknown = list(dict.fromkeys(word for word in words if word not in vocabulary))
    if unknown:
        named = [
            f"{word!r} ({word.lower()!r} is in it)" if word.lower() in vocabulary else quoted(word)
            for word in unknown[:_NAMED]
        ]
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        logging.warning("not in the vocabulary, read as %s: %s%s", UNK, ", ".join(named), more)


def as_text(words: Iterable[str]) -> str:
    """Words as text: spaces between them, a line break for `<eos>`."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word == EOS:
            lines.append([])
        else:
            lines[-1].append(word)
    return "\n".join(map(" ".join, lines))
