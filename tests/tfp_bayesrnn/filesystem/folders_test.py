"""Folders that are replaced whole, whenever the process that does it is killed."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfp_bayesrnn.filesystem import folders
from tfp_bayesrnn.filesystem.folders import recover, replacing
from tfp_bayesrnn.filesystem.locks import try_lock

# Replaces a folder, and is killed at the n-th thing it does to the file system. It has no need of TensorFlow.
_KILLED = """
import importlib.util, os, signal, sys, types
package = types.ModuleType("tfp_bayesrnn"); package.__path__ = [sys.argv[1]]
sys.modules["tfp_bayesrnn"] = package
from tfp_bayesrnn.filesystem import folders
path, left, can_exchange = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "True"
exchange = folders._renameat2() if can_exchange else None

def event(name="", arguments=()):
    global left
    if name in ("", "open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.chmod"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

def exchanged(*arguments):
    event()
    return exchange(*arguments)

folders._renameat2 = lambda: exchanged if can_exchange else None
sys.addaudithook(event)
with folders.replacing(path) as new:
    for name in ("a", "b"):
        (new / name).write_text("new")
    (new / "below").mkdir()
    (new / "below" / "c").write_text("new")
left = 0
"""


def filled(path, text, names=("a", "b", "below/c")):
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def contents(path):
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


OLD, NEW = ({name: text for name in ("a", "b", "below/c")} for text in ("old", "new"))


def cannot_exchange(monkeypatch):
    monkeypatch.setattr(folders, "_renameat2", lambda: None)


@pytest.fixture(params=[True, False], ids=["exchange", "rename"])
def can_exchange(request, monkeypatch):
    """Whether the system can exchange two names."""
    if not request.param:
        cannot_exchange(monkeypatch)
    elif folders._renameat2() is None:
        pytest.skip("no renameat2 here")
    return request.param


def test_it_is_made_and_replaced(tmp_path, can_exchange):
    path = tmp_path / "above" / "folder"
    with replacing(path) as new:
        filled(new, "old")
        assert not path.exists()
    assert contents(path) == OLD
    with replacing(path) as new:
        assert not any(new.iterdir())
        filled(new, "new")
        assert contents(path) == OLD
    assert contents(path) == NEW
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]


def test_its_mode_is_that_of_any_folder(tmp_path):
    (tmp_path / "any").mkdir()
    with replacing(tmp_path / "folder"):
        pass
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_an_error_leaves_all_as_it_was(tmp_path, can_exchange):
    path = filled(tmp_path / "folder", "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as new:
        filled(new, "new")
        raise KeyboardInterrupt
    assert contents(path) == OLD
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_rename_that_fails_leaves_all_as_it_was(tmp_path, monkeypatch):
    cannot_exchange(monkeypatch)
    path, rename = filled(tmp_path / "folder", "old"), os.rename

    def refused(one, other):
        if Path(one).name == "new":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        rename(one, other)

    monkeypatch.setattr(folders.os, "rename", refused)
    with pytest.raises(PermissionError), replacing(path) as new:
        filled(new, "new")
    assert contents(path) == OLD
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_two_that_replace_it_at_once(tmp_path, can_exchange):
    path = filled(tmp_path / "folder", "old")
    with replacing(path) as one:
        with replacing(path) as other:  # Which leaves the other's alone.
            filled(other, "other")
        filled(one, "new")
    assert contents(path) == NEW
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_one_that_comes_between_the_two_renames(tmp_path, monkeypatch):
    cannot_exchange(monkeypatch)
    path, rename = filled(tmp_path / "folder", "old"), os.rename
    came = []

    def rename_late(one, other):
        if Path(one).name == "new" and not came:
            came.append(filled(path, "other"))
        rename(one, other)

    monkeypatch.setattr(folders.os, "rename", rename_late)
    with replacing(path) as new:
        filled(new, "new")
    assert contents(path) == NEW
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_of_a_link_the_target_is_replaced(tmp_path, can_exchange):
    target, link = filled(tmp_path / "disk" / "target", "old"), tmp_path / "link"
    link.symlink_to(target)
    with replacing(link) as new:
        filled(new, "new")
    assert link.is_symlink() and contents(target) == NEW


def test_a_file_is_not_replaced(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError), replacing(tmp_path / "file"):
        pytest.fail("went on")
    assert contents(tmp_path) == {"file": "mine"}


def killed_at(path, state, can_exchange):
    """Whether a process was killed at a state of replacing a folder; else it came to its end."""
    package = str(Path(folders.__file__).parents[1])
    command = [sys.executable, "-S", "-c", _KILLED, package, str(path), str(state), str(can_exchange)]
    return subprocess.run(command).returncode == -9


def test_killed_at_every_state(tmp_path, can_exchange):
    state, found, gaps = 0, [], 0
    while True:
        state += 1
        path = filled(tmp_path / str(state) / "folder", "old")
        if not killed_at(path, state, can_exchange):
            break
        gaps += not path.exists()
        recover(path)
        found.append(contents(path))
        assert found[-1] in (OLD, NEW), f"state {state}: {json.dumps(found[-1])}"
        assert [entry.name for entry in path.parent.iterdir()] == ["folder"]
    assert contents(path) == NEW
    assert found[0] == OLD and found[-1] == NEW and len(found) > 15
    assert gaps == (0 if can_exchange else 1)


def test_what_another_process_is_making_is_not_taken_for_a_left_over(tmp_path):
    path = tmp_path / "folder"
    with replacing(path) as new:
        recover(path)
        assert new.is_dir()
        handle = os.open(new.parent, os.O_RDONLY)
        assert try_lock(handle) is False
        os.close(handle)


def test_without_locks_what_was_renamed_aside_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "try_lock", lambda file: None)
    filled(tmp_path / ".folder.replacing-1" / "old", "old")
    recover(tmp_path / "folder")
    assert contents(tmp_path / "folder") == OLD


def test_nothing_to_recover(tmp_path):
    recover(tmp_path / "folder")
    recover(tmp_path / "none" / "folder")
    assert not any(tmp_path.iterdir())
