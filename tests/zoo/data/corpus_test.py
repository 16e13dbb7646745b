import numpy as np
import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.corpus import load_corpus


def test_builtin():
    corpus = load_corpus("builtin")
    assert corpus.name == "builtin"
    assert corpus.vocabulary.words[corpus.train[-1]] == "<eos>"
    assert corpus.train.dtype == corpus.valid.dtype == corpus.test.dtype == np.int32
    assert corpus.train.max() < len(corpus.vocabulary)
    assert corpus.entropy_rate > 0


def test_wikitext2_reads_its_own_names(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"wiki.{split}.tokens").write_text(" \n = Title = \n \n a <unk> . \n")
        (tmp_path / f"{split}.txt").write_text("something else\n")
    corpus = load_corpus("wikitext2", str(tmp_path))
    words = "<eos> = Title = <eos> <eos> a <unk> . <eos>".split()
    assert corpus.vocabulary.decode(corpus.train) == words
    assert corpus.name == "wikitext2"


@pytest.mark.parametrize(
    ("name", "data_dir", "message"),
    [
        ("ptbb", None, "unknown dataset 'ptbb': did you mean ptb"),
        ("text", None, "'text' needs a data directory: pass --data_dir"),
        ("wikitext2", None, r"wiki\.train\.tokens"),
        ("builtin", "/tmp", "reads no data directory; got '/tmp'"),
        ("text", "/no/such/place", "'/no/such/place' does not exist"),
        ("ptb", "/no/such/place", "'/no/such/place' does not exist"),
    ],
)
def test_bad_requests_are_refused(name, data_dir, message):
    with pytest.raises(InputError, match=message):
        load_corpus(name, data_dir)
