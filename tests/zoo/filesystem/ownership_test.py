"""Who writes in a workdir: one process at a time, until it ends, however it ends."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem import locks
from zoo.filesystem import ownership
from zoo.filesystem.ownership import LOCK, WorkdirInUse, is_in_use, owned
from zoo.runs.workdir import Workdir

# Another process, without TensorFlow: it locks a file for as long as it lives.
_HOLDS = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write("process 7 on elsewhere"); file.flush()
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(ownership, "_PATIENCE_SECONDS", 0.1)


@pytest.fixture
def other(tmp_path):
    """Another process that owns the workdir."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _HOLDS, str(tmp_path / LOCK)], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def names(directory):
    return [path.name for path in directory.iterdir()]


def test_it_leaves_nothing(tmp_path):
    with owned(tmp_path):
        assert is_in_use(tmp_path)
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not is_in_use(tmp_path)
    assert names(tmp_path) == []


def test_a_second_is_refused_in_a_line(tmp_path, other):
    assert is_in_use(tmp_path)
    said = "is in use: process 7 on elsewhere trains in it; wait for it to end, or give another --workdir$"
    with pytest.raises(WorkdirInUse, match=said) as caught, owned(tmp_path):
        pytest.fail("went on")
    assert isinstance(caught.value, InputError) and "\n" not in str(caught.value)
    assert names(tmp_path) == [LOCK]


def test_so_is_one_in_the_same_process(tmp_path):
    with owned(tmp_path):
        with pytest.raises(WorkdirInUse), owned(tmp_path):
            pytest.fail("went on")
        assert names(tmp_path) == [LOCK]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_was_killed_refuses_nobody(tmp_path, other, number):
    other.send_signal(number)
    other.wait()
    assert names(tmp_path) == [LOCK]
    assert not is_in_use(tmp_path)
    with owned(tmp_path):
        assert is_in_use(tmp_path)
    assert names(tmp_path) == []


def test_whoever_only_looks_keeps_nobody_out(tmp_path, monkeypatch):
    """A start that meets the moment in which another looks tries again."""
    monkeypatch.setattr(ownership, "_PATIENCE_SECONDS", 5.0)
    with open(tmp_path / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.3, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with owned(tmp_path):
            pass


def test_looking_writes_nothing(tmp_path):
    assert not is_in_use(tmp_path)
    assert names(tmp_path) == []
    assert not is_in_use(tmp_path / "none")


def test_a_file_that_its_owner_has_unlinked_protects_nothing(tmp_path, monkeypatch):
    """The start that had opened it before tries again with the new one."""
    lock, opened = ownership.try_lock, []

    def lock_late(handle):
        opened.append(handle)
        if len(opened) == 1:
            (tmp_path / LOCK).unlink()
            (tmp_path / LOCK).write_text("of the next owner")
        return lock(handle)

    monkeypatch.setattr(ownership, "try_lock", lock_late)
    with owned(tmp_path):
        assert len(opened) == 2
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()}")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    said = []
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    monkeypatch.setattr(ownership.logging, "warning", lambda text, *args: said.append(text % args))
    for _ in range(2):
        with owned(tmp_path):
            assert not is_in_use(tmp_path)
    assert "without locks" in said[0]
    assert names(tmp_path) == []


def test_where_nothing_can_be_written(tmp_path, monkeypatch):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(InputError, match=r"cannot write .*\.lock: Is a directory"), owned(tmp_path):
        pytest.fail("went on")
    assert not is_in_use(tmp_path)


def test_a_workdir_that_is_moved_meanwhile(tmp_path):
    (tmp_path / "run").mkdir()
    with owned(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "moved")
        assert is_in_use(tmp_path / "moved")
    assert not is_in_use(tmp_path / "moved")


def test_a_workdir_knows_whether_it_is_its_own(tmp_path):
    run, same = Workdir(tmp_path), Workdir(tmp_path)
    with run.owned(), run.owned():
        assert (run.is_in_use, same.is_in_use) == (False, True)
        with pytest.raises(WorkdirInUse), same.owned():
            pytest.fail("went on")
    assert (run.is_in_use, same.is_in_use) == (False, False)
    with same.owned():
        assert run.is_in_use
