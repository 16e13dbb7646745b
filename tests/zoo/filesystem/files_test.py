"""Files read and written."""

import os

import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.checksums import Checksums
from zoo.filesystem.files import is_there, read_file, write_whole


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "a.txt", "x")
        Checksums(tmp_path).write(tmp_path / "b.json", "{}")
        Vocabulary(["a"]).save(tmp_path / "c.txt")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "far").mkdir()
    for name, there in (("a", True), ("b", False)):
        target, link = tmp_path / "far" / name, tmp_path / f"link-{name}"
        if there:
            target.write_text("old")
        link.symlink_to(target)
        write_whole(link, "new")
        assert link.is_symlink()
        assert target.read_text() == "new"
    assert len(list((tmp_path / "far").iterdir())) == 2
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(InputError, match=r"cannot write .*round: Too many levels of symbolic links"):
        write_whole(tmp_path / "round", "new")


def test_what_is_no_file_is_neither_read_nor_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    kinds = {"": "Is a directory", "pipe": "it is a named pipe", "link": "it is a device"}
    for path, kind in {tmp_path / name: kind for name, kind in kinds.items()}.items():
        with pytest.raises(InputError, match=f"cannot write {path}: {kind}"):
            write_whole(path, "x")
        with pytest.raises(InputError, match=f"cannot read {path}: {kind}"):
            read_file(path)
    with pytest.raises(InputError, match="No such file"):
        read_file(tmp_path / "none")


def test_a_pipe_that_is_open_already_is_read():
    reading, writing = os.pipe()
    os.write(writing, b"words")
    os.close(writing)
    assert read_file(f"/dev/fd/{reading}") == b"words"
    os.close(reading)


def test_a_name_as_long_as_a_name_may_be(tmp_path):
    write_whole(tmp_path / ("ü" * 127), "x")
    assert is_there(tmp_path / ("ü" * 127))
    for look in (is_there, read_file, lambda path: write_whole(path, "x")):
        with pytest.raises(InputError, match="File name too long"):
            look(tmp_path / ("ü" * 128))


def test_names_that_are_not_utf_8_in_a_text(tmp_path):
    write_whole(tmp_path / "a", "a\udcffb")
    assert read_file(tmp_path / "a") == b"a?b"
