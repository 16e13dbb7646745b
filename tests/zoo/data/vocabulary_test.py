import hashlib

import numpy as np
import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.vocabulary import Vocabulary


def test_words_are_ordered_by_count_then_alphabet():
    vocabulary = Vocabulary.from_tokens("b c a c <eos> b c".split())
    assert vocabulary.words == ("c", "b", "<eos>", "a")
    assert len(vocabulary) == 4
    assert "a" in vocabulary and "d" not in vocabulary
    assert vocabulary.id("<eos>") == 2


def test_encode_and_decode_are_inverse():
    vocabulary = Vocabulary(["x", "y", "<eos>"])
    ids = vocabulary.encode("y x x <eos>".split())
    np.testing.assert_array_equal(ids, [1, 0, 0, 2])
    assert ids.dtype == np.int32
    assert vocabulary.decode(ids) == "y x x <eos>".split()
    assert vocabulary.encode([]).dtype == np.int32


def test_unknown_words_become_unk_where_there_is_one():
    np.testing.assert_array_equal(Vocabulary(["a", "<unk>"]).encode(["zebra", "a"]), [1, 0])


def test_files_round_trip_and_hash_to_the_fingerprint(tmp_path):
    vocabulary = Vocabulary(["naïve", "日本", "<eos>", "a\u200bb"])
    path = tmp_path / "words.txt"
    vocabulary.save(path)
    vocabulary.save(path)  # over an older one
    assert Vocabulary.load(path) == vocabulary
    assert hashlib.sha256(path.read_bytes()).hexdigest() == vocabulary.fingerprint()
    assert [file.name for file in tmp_path.iterdir()] == ["words.txt"]
    assert Vocabulary(["日本", "naïve"]).fingerprint() != Vocabulary(["naïve", "日本"]).fingerprint()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "0 words"),
        (["a", "b", "a"], "'a' comes twice .* 0 and 2"),
        (["a", ""], "word 1 .* ''"),
        (["a b"], "word 0 .* 'a b'"),
        (["a\n"], "white space"),
    ],
)
def test_bad_words_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        Vocabulary(words)


def test_bad_look_ups_are_refused():
    vocabulary = Vocabulary(["a", "b"])
    with pytest.raises(InputError, match="test split: word 'zebra' is not among the 2 words"):
        vocabulary.encode(["a", "zebra"], where="test split")
    with pytest.raises(InputError, match="'zebra'"):
        vocabulary.id("zebra")
    for index in (-1, 2):
        with pytest.raises(InputError, match=f"id {index} .* 0 to 1"):
            vocabulary.decode([0, index])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\n\xff\n", "not UTF-8"), (b"a\na\n", "comes twice"), (b"", "0 words"), (b"a b\n", "white space")],
)
def test_bad_files_are_refused(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"words.txt.*{message}"):
        Vocabulary.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.txt: No such file"):
        Vocabulary.load(tmp_path / "nothing.txt")
