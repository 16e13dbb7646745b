import contextlib
import hashlib
import io
import os
import tarfile
import time
from pathlib import Path

import pytest
from absl import logging

from tfp_bayesrnn.errors import InputError
from zoo.data import ptb
from zoo.data.corpus import load_corpus
from zoo.data.text import split_files
from zoo.data.windows import evaluation_windows, train_windows

TEXTS = {
    "train": b" the cat <unk> sat \n the dog sat \n",
    "valid": b" the cat sat \n",
    "test": b" the dog \n sat \n",
}
SHA256 = {split: hashlib.sha256(text).hexdigest() for split, text in TEXTS.items()}


def archive(path, texts=TEXTS, top="./simple-examples/", change=lambda member: member):
    """An archive laid out as Mikolov's; `change` may spoil a member of it."""
    files = {f"{top}data/ptb.{split}.txt": text for split, text in texts.items()}
    files |= {f"{top}data/ptb.char.train.txt": b"t h e", f"{top}models/README": b"a model"}
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member = change(member)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("folder", ["tfds", "lr=[0.1] \\ ~*"])
def test_the_builder_reads_the_archive(tmp_path, folder):
    url = archive(tmp_path / "simple-examples.tgz").as_uri()
    builder = ptb.PennTreebankWords(url=url, sha256=SHA256, data_dir=tmp_path / folder)
    vocabulary, splits = ptb.load_prepared(builder)
    assert vocabulary.words == ("<eos>", "sat", "the", "<unk>", "cat", "dog")
    assert vocabulary.decode(splits["train"]) == "the cat <unk> sat <eos> the dog sat <eos>".split()
    assert vocabulary.decode(splits["test"]) == "the dog <eos> sat <eos>".split()
    assert set(builder.info.splits) == {"train", "valid", "test"}
    # Prepared once: the archive is not needed again.
    (tmp_path / "simple-examples.tgz").unlink()
    again = ptb.PennTreebankWords(url=url, sha256=SHA256, data_dir=tmp_path / folder)
    assert ptb.load_prepared(again)[0] == vocabulary


def test_nothing_is_prepared_from_a_wrong_archive(tmp_path, capsys):
    texts = TEXTS | {"valid": b" the cow sat \n"}
    url = archive(tmp_path / "simple-examples.tgz", texts).as_uri()
    builder = ptb.PennTreebankWords(url=url, sha256=SHA256, data_dir=tmp_path / "tfds")
    with pytest.raises(
        InputError, match=rf"data/ptb\.valid\.txt has SHA-256 \w+, expected {SHA256['valid']}"
    ):
        ptb.load_prepared(builder)
    assert not builder.is_prepared()
    assert capsys.readouterr().out == ""


def linked(kind):
    def change(member):
        if member.name.endswith("data/ptb.valid.txt"):
            member.type, member.linkname, member.size = kind, "/etc/passwd", 0
        return member

    return change


@pytest.mark.parametrize(
    ("layout", "refused"),
    [
        ({"top": "../simple-examples/"}, True),
        ({"top": "simple-examples/../../"}, True),
        ({"top": "/tmp/"}, True),
        ({"change": linked(tarfile.SYMTYPE)}, True),
        ({"change": linked(tarfile.LNKTYPE)}, True),
        ({"top": "simple-examples/"}, False),
        ({"top": ""}, False),
    ],
)
def test_members_outside_the_archive_are_refused(tmp_path, layout, refused):
    url = archive(tmp_path / "simple-examples.tgz", **layout).as_uri()
    with (
        pytest.raises(InputError, match="refused: not a plain file") if refused else contextlib.nullcontext()
    ):
        assert ptb.fetch(url, SHA256) == TEXTS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["simple-examples.tgz"]


def test_archives_that_cannot_be_used_are_refused(tmp_path):
    path = tmp_path / "simple-examples.tgz"
    archive(path, {"train": b"a\n"})
    with pytest.raises(InputError, match=r"lacks data/ptb\.valid\.txt, data/ptb\.test\.txt"):
        ptb.fetch(path.as_uri(), SHA256)
    whole = archive(path, {split: os.urandom(20_000) for split in TEXTS}).read_bytes()
    for content in (b"<html>moved</html>", b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"not a readable \.tgz archive.*--data_dir"):
            ptb.fetch(path.as_uri(), SHA256)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/simple-examples.tgz", "file:///no/such/simple-examples.tgz"]
)
def test_a_failed_download_is_one_quick_clear_line(tmp_path, monkeypatch, url):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    start = time.monotonic()
    with pytest.raises(InputError, match=f"cannot download {url} .*--data_dir=DIR") as caught:
        ptb.load_prepared(ptb.PennTreebankWords(url=url, data_dir=tmp_path))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 10


def test_a_data_directory_may_hold_the_archive_or_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(ptb, "SHA256", SHA256)
    monkeypatch.setattr(ptb, "VOCABULARY_SIZE", 6)
    archive(tmp_path / "simple-examples.tgz")
    expected = ptb.load_ptb(tmp_path)[1]["train"].tolist()
    for place in ("a", "b/data", "c/simple-examples/data"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for split, text in TEXTS.items():
            (folder / f"ptb.{split}.txt").write_bytes(text)
            (folder / f"ptb.char.{split}.txt").write_bytes(b"t h e\n")
        assert ptb.load_ptb(tmp_path / place.split("/")[0])[1]["train"].tolist() == expected


def test_files_that_are_not_mikolovs(tmp_path, monkeypatch):
    for split, text in TEXTS.items():
        (tmp_path / f"{split}.txt").write_bytes(text)
    with pytest.raises(InputError, match="has 6 words with <eos>, dataset 'ptb' has 10000; dataset 'text'"):
        load_corpus("ptb", tmp_path)
    warnings = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: warnings.append(message % values))
    monkeypatch.setattr(ptb, "VOCABULARY_SIZE", 6)
    assert len(load_corpus("ptb", tmp_path).train) == 9
    assert len(warnings) == 3 and "not Mikolov's" in warnings[0]


@pytest.mark.data
def test_the_real_files(monkeypatch):
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("TFP_BAYESRNN_SHARED_DATA", beside)) / "ptb"
    if not folder.is_dir():
        pytest.skip(f"no Penn Treebank files in {folder}")
    monkeypatch.setattr(logging, "warning", pytest.fail)
    corpus = load_corpus("ptb", folder)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test)) == (929_589, 73_760, 82_430)
    assert len(corpus.vocabulary) == 10_000
    eos = corpus.vocabulary.id("<eos>")
    lines = [int((stream == eos).sum()) for stream in (corpus.train, corpus.valid, corpus.test)]
    assert lines == [42_068, 3_370, 3_761]
    text = split_files(folder)["test"].read_text().splitlines()[0].split()
    assert corpus.vocabulary.decode(corpus.test[: len(text) + 1]) == [*text, "<eos>"]
    assert len(train_windows(corpus.train, 20, 35)) == 1327
    assert train_windows(corpus.train, 20, 35).predictions == 20 * 1327 * 35
    assert train_windows(corpus.train, 20, 35, tail="pad").predictions == 929_588
    assert evaluation_windows(corpus.test, unroll=35).predictions == 82_429
