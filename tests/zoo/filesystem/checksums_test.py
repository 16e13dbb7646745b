"""Checksums of a directory's files."""

import os

import pytest

from tfp_bayesrnn.errors import InputError
from zoo.filesystem import checksums as module
from zoo.filesystem.checksums import FILE, Checksums


@pytest.fixture
def sums(tmp_path):
    found = Checksums(tmp_path)
    found.write(tmp_path / "a.json", '{"x": 1}\n')
    found.write(tmp_path / "b.txt", b"one\ntwo\n")
    found.write(tmp_path / "a.json", '{"x": 2}\n')
    return found


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]


def test_what_was_written_is_read(sums, tmp_path):
    assert sums.read(tmp_path / "a.json") == b'{"x": 2}\n'
    assert sums.read(tmp_path / "b.txt") == b"one\ntwo\n"


def test_any_flipped_byte_of_a_file_is_seen(sums, tmp_path):
    for name in ("a.json", "b.txt"):
        path = tmp_path / name
        sound = path.read_bytes()
        for place in range(len(sound)):
            path.write_bytes(flipped(sound, place))
            with pytest.raises(InputError, match=f"{name} is damaged or was changed by hand"):
                sums.read(path)
        path.write_bytes(sound)
        sums.read(path)


def test_any_flipped_byte_of_the_list_is_harmless(sums, tmp_path):
    sound = (tmp_path / FILE).read_bytes()
    for place in range(len(sound)):
        (tmp_path / FILE).write_bytes(flipped(sound, place))
        assert sums.read(tmp_path / "a.json") == b'{"x": 2}\n'
        assert sums.read(tmp_path / "b.txt") == b"one\ntwo\n"
        sums.write(tmp_path / "c", "new")
        assert sums.read(tmp_path / "c") == b"new"


def test_the_file_before_is_as_good(sums, tmp_path):
    """As a process leaves it that is killed between the sum and the file."""
    (tmp_path / "a.json").write_text('{"x": 1}\n')
    sums.read(tmp_path / "a.json")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_good(sums, tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(InputError, match="No space left on device"):
            sums.write(tmp_path / "a.json", '{"x": 3}\n')
    assert sums.read(tmp_path / "a.json") == b'{"x": 2}\n'


def test_a_torn_line_of_the_list_swallows_none_after_it(sums, tmp_path):
    whole = (tmp_path / FILE).read_bytes()
    for size in range(len(whole)):
        (tmp_path / FILE).write_bytes(whole[:size])
        sums.write(tmp_path / "c", f"size {size}")
        assert sums.read(tmp_path / "c") == f"size {size}".encode()
        (tmp_path / "c").write_text("9")
        with pytest.raises(InputError, match="c is damaged"):  # For all that the list has a line less.
            sums.read(tmp_path / "c")


def test_files_without_a_sum_are_taken_as_they_are(sums, tmp_path):
    (tmp_path / "old").write_text("of an earlier version")
    assert sums.read(tmp_path / "old") == b"of an earlier version"
    (tmp_path / FILE).unlink()
    (tmp_path / "a.json").write_text("changed by hand")
    assert sums.read(tmp_path / "a.json") == b"changed by hand"
    assert not (tmp_path / FILE).exists()


def test_a_file_written_while_it_is_read_is_good(sums, tmp_path, monkeypatch):
    """The file is read first: whatever it was then, the list has it by now."""
    read = module.read_file

    def read_and_write(path):
        content = read(path)
        if path.name == "a.json":
            Checksums(tmp_path).write(path, "newer")
        return content

    monkeypatch.setattr(module, "read_file", read_and_write)
    assert sums.read(tmp_path / "a.json") == b'{"x": 2}\n'


def test_all_files_of_a_directory(tmp_path):
    for name in ("model", "a/model", "a/b/model"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"this is {name}")
    sums = Checksums(tmp_path)
    sums.add_all()
    sums.check_all()
    (tmp_path / "a" / "later").write_text("of somebody else")
    sums.check_all()
    for path in sorted(tmp_path.rglob("model")):
        sound = path.read_bytes()
        for place in range(len(sound)):
            path.write_bytes(flipped(sound, place))
            with pytest.raises(InputError, match=f"^{path} is damaged"):
                sums.check_all()
        path.write_bytes(sound)
    (tmp_path / "a" / "model").write_bytes((tmp_path / "model").read_bytes())  # Whole, but another file.
    with pytest.raises(InputError, match="a/model is damaged"):
        sums.check_all()
    (tmp_path / FILE).unlink()
    sums.check_all()


def test_a_list_that_is_no_file(sums, tmp_path):
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    for use in (lambda: sums.read(tmp_path / "a.json"), lambda: sums.write(tmp_path / "a.json", "x")):
        with pytest.raises(InputError, match="it is a named pipe"):
            use()
