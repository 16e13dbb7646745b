"""Prompts as ids of words, and words as text."""

import numpy as np
import pytest
from word_models import (
    VOCABULARY,
)

from tfp_bayesrnn.errors import InputError
from zoo.data.vocabulary import Vocabulary
from zoo.language_model.prompts import as_text, encode_prompt


@pytest.mark.parametrize(
    "prompt, words",
    [
        ("the cat  sat", "the cat sat"),
        ("", "<eos>"),
        ("  ", "<eos>"),
        ("the cat\nsat\n", "the cat <eos> sat <eos>"),
        ([3, 4], "cat sat"),
        (np.array([3], np.int32), "cat"),
        ([], "<eos>"),
    ],
)
def test_prompts_are_read_as_words(prompt, words):
    ids = encode_prompt(VOCABULARY, prompt)
    assert ids.dtype == np.int32
    assert VOCABULARY.decode(ids) == words.split()


def test_unknown_words_are_read_as_unk_and_named(caplog):
    assert encode_prompt(VOCABULARY, "The dog sat dog").tolist() == [1, 1, 4, 1]
    assert "not in the vocabulary, read as <unk>: 'The' ('the' is in it), 'dog'" in caplog.text
    caplog.clear()
    encode_prompt(VOCABULARY, "the <unk> sat")
    assert not caplog.text


def test_prompts_that_cannot_be_read_are_refused():
    small = Vocabulary(["a", "b"])
    with pytest.raises(InputError, match="prompt 'a c': word 'c' is not among the 2 words"):
        encode_prompt(small, "a c")
    with pytest.raises(InputError, match="no words, and the vocabulary no <eos>"):
        encode_prompt(small, "")
    with pytest.raises(InputError, match="id 2 is outside the vocabulary: accepted 0 to 1"):
        encode_prompt(small, [0, 2])


def test_eos_is_a_line_break_in_text():
    assert as_text(["the", "cat", "<eos>", "sat"]) == "the cat\nsat"
    assert as_text(["the", "<eos>"]) == "the\n"
    assert as_text([]) == ""
