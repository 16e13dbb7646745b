import numpy as np
import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.corpus import load_corpus
from zoo.data.text import read_directory, split_files

TEXTS = {"train": "a b a\n\nc a\n", "valid": "b a\n", "test": "c"}


def write(folder, naming, texts=TEXTS):
    for split, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / naming.format(split)).write_bytes(content)


@pytest.mark.parametrize("naming", ["{}.txt", "ptb.{}.txt", "my_{}.txt", "wiki.{}.tokens", "a.b-{}.txt"])
def test_every_naming_is_read(tmp_path, naming):
    write(tmp_path, naming)
    (tmp_path / "README.txt").write_text("not a split")
    (tmp_path / "nottrain.txt").write_text("not a split")
    vocabulary, splits = read_directory(tmp_path)
    assert vocabulary.words == ("<eos>", "a", "b", "c")
    # One <eos> a line, the blank line too, and the last line without a newline.
    assert vocabulary.decode(splits["train"]) == "a b a <eos> <eos> c a <eos>".split()
    assert vocabulary.decode(splits["valid"]) == "b a <eos>".split()
    assert vocabulary.decode(splits["test"]) == "c <eos>".split()
    assert {stream.dtype for stream in splits.values()} == {np.dtype(np.int32)}


def test_windows_line_ends_spaces_and_byte_order_mark_are_no_words(tmp_path):
    write(tmp_path, "{}.txt", TEXTS | {"train": b"\xef\xbb\xbf a  b\ta \r\n\r\nc a\r\n"})
    vocabulary, splits = read_directory(tmp_path)
    assert vocabulary.decode(splits["train"]) == "a b a <eos> <eos> c a <eos>".split()


def test_unknown_words_become_unk_where_train_has_it(tmp_path):
    write(tmp_path, "{}.txt", {"train": "a <unk> a\n", "valid": "a zebra\n", "test": "lion\n"})
    corpus = load_corpus("text", tmp_path)
    assert corpus.vocabulary.decode(corpus.valid) == ["a", "<unk>", "<eos>"]
    assert corpus.vocabulary.decode(corpus.test) == ["<unk>", "<eos>"]
    assert (corpus.name, corpus.entropy_rate) == ("text", None)


def test_unknown_words_make_an_unk_that_train_lacks(tmp_path):
    write(tmp_path, "{}.txt", TEXTS | {"test": "a b\nc zebra a\n"})
    corpus = load_corpus("text", tmp_path)
    assert corpus.vocabulary.words == ("<eos>", "a", "b", "c", "<unk>")
    assert corpus.vocabulary.decode(corpus.test) == "a b <eos> c <unk> a <eos>".split()
    assert [corpus.share_of_unknown(split) for split in ("train", "valid", "test")] == [0.0, 0.0, 1 / 7]
    assert corpus.describe() == (
        "text: a vocabulary of 5 words; tokens: train 8, valid 3, test 7; "
        "<unk>: train 0.00%, valid 0.00%, test 14.29%"
    )


COUNTED = {"train": "The the THE cat\nthe cat <unk> sat\n", "valid": "The mat\n", "test": "cat\n"}


@pytest.mark.parametrize(
    ("options", "words", "train", "valid"),
    [
        # By count: <eos> and the 2; The, THE, sat and <unk> are 4 unknown words, so that <unk> comes first.
        ({"min_count": 2}, "<unk> <eos> cat the", "<unk> the <unk> cat", "<unk> <unk>"),
        ({"lowercase": True}, "the <eos> cat <unk> sat", "the the the cat", "the <unk>"),
        ({"lowercase": True, "min_count": 2}, "the <eos> <unk> cat", "the the the cat", "the <unk>"),
        ({"lowercase": True, "min_count": 3}, "<unk> the <eos>", "the the the <unk>", "the <unk>"),
        ({"max_words": 4}, "<unk> <eos> cat the", "<unk> the <unk> cat", "<unk> <unk>"),
        ({"max_words": 3}, "<unk> <eos> cat", "<unk> <unk> <unk> cat", "<unk> <unk>"),
        ({"max_words": 7}, "<eos> cat the <unk> THE The sat", "The the THE cat", "The <unk>"),
        ({"max_words": 4, "lowercase": True}, "the <eos> <unk> cat", "the the the cat", "the <unk>"),
    ],
)
def test_which_words_are_taken(tmp_path, options, words, train, valid):
    write(tmp_path, "{}.txt", COUNTED)
    vocabulary, splits = read_directory(tmp_path, **options)
    assert vocabulary.words == tuple(words.split())
    assert vocabulary.decode(splits["train"][:4]) == train.split()
    assert vocabulary.decode(splits["valid"]) == [*valid.split(), "<eos>"]


def test_no_word_that_occurs_so_often_is_refused(tmp_path):
    write(tmp_path, "{}.txt", COUNTED)
    with pytest.raises(InputError, match=r"data\.min_count=9 is not accepted, the most frequent .* 2 times"):
        read_directory(tmp_path, min_count=9)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_bytes_that_are_not_utf8_are_refused(tmp_path, split):
    write(tmp_path, "{}.txt", TEXTS | {split: b"a b\na caf\xe9\n"})
    with pytest.raises(InputError, match=rf"{split}\.txt, line 2: byte 0xe9 is not UTF-8"):
        read_directory(tmp_path)


@pytest.mark.parametrize("content", ["", "\n \n"])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_an_empty_file_is_refused(tmp_path, split, content):
    write(tmp_path, "{}.txt", TEXTS | {split: content})
    with pytest.raises(InputError, match=rf"{split}\.txt is empty"):
        read_directory(tmp_path)


def test_bad_directories_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere' does not exist: .*train\.txt"):
        split_files(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no corpus in"):
        split_files(tmp_path)
    write(tmp_path, "ptb.{}.txt")
    with pytest.raises(InputError, match=r"README' is not a directory"):
        (tmp_path / "README").write_text("")
        split_files(tmp_path / "README")
    (tmp_path / "ptb.valid.txt").unlink()
    with pytest.raises(InputError, match=r"lacks ptb\.valid\.txt"):
        split_files(tmp_path)


def test_several_corpora_in_one_directory_are_refused_unless_one_is_meant(tmp_path):
    write(tmp_path, "ptb.{}.txt")
    write(tmp_path, "ptb.char.{}.txt")
    with pytest.raises(InputError, match=r"several corpora \(ptb\.char\.train\.txt, ptb\.train\.txt\)"):
        split_files(tmp_path)
    assert split_files(tmp_path, prefix="ptb.")["test"].name == "ptb.test.txt"


def test_a_stray_file_beside_a_whole_corpus_does_no_harm(tmp_path):
    write(tmp_path, "wiki.{}.tokens")
    (tmp_path / "old.train.txt").write_text("a\n")
    assert split_files(tmp_path)["train"].name == "wiki.train.tokens"


def test_errors_are_one_line(tmp_path):
    with pytest.raises(InputError) as caught:
        split_files(tmp_path)
    assert "\n" not in str(caught.value)
