"""Results that are written and printed: what cannot be written is known before the work, or printed."""

import contextlib
import errno
import os
import shutil
import subprocess

import pytest

from tfp_bayesrnn.errors import InputError
from zoo.filesystem import writable
from zoo.filesystem.writable import check_file_writable, check_openable, check_writable, printed_after


@pytest.fixture(params=["full", "read-only"])
def disk(request, tmp_path):
    """A disk that takes nothing."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", str(directory)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting takes root")
    try:
        (directory / "there").write_text("")
        if request.param == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)
        else:
            with contextlib.suppress(OSError):
                (directory / "filler").write_bytes(bytes(4096))
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("check", [check_writable, check_file_writable])
@pytest.mark.parametrize("name", ["file", "there", "above/file"])
def test_a_disk_that_takes_nothing(disk, check, name):
    before = sorted(os.listdir(disk))
    with pytest.raises(InputError, match=f"cannot write .*{name}: (No space left|Read-only)") as caught:
        check(disk / name)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(disk)) == before


@pytest.mark.parametrize("check", [check_writable, check_file_writable, check_openable])
def test_nothing_is_left_where_all_is_well(tmp_path, check):
    (tmp_path / "there").write_text("mine")
    for name in ("file", "there"):
        check(tmp_path / name)
    assert (tmp_path / "there").read_text() == "mine"
    assert os.listdir(tmp_path) == ["there"]
    check_writable(tmp_path / "not" / "yet" / "there")
    assert os.listdir(tmp_path) == ["there"]


def test_a_folder_in_a_files_place(tmp_path):
    (tmp_path / "results.json").mkdir()
    check_writable(tmp_path / "results.json")
    with pytest.raises(InputError, match=r"results.json: Is a directory"):
        check_file_writable(tmp_path / "results.json")


def test_no_permission(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(writable.tempfile, "mkstemp", denied)
    for check in (check_writable, check_openable):
        with pytest.raises(InputError, match=r"cannot write .*file: Permission denied"):
            check(tmp_path / "file")


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(writable.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match=r"cannot write .*file: it is read-only"):
        check_openable(tmp_path / "file")


def test_figures_are_printed_once_they_are_written(capsys):
    with printed_after(lambda: "figures"):
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == "figures\n"


def test_figures_that_cannot_be_written_are_printed(capsys):
    with pytest.raises(InputError, match="full"), printed_after(lambda: "figures"):
        raise InputError("full")
    assert capsys.readouterr().out == "figures\n"
