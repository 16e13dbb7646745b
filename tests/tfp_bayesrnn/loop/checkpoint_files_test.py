"""Restoring beside the process that writes: nothing is changed, what is being replaced is not damaged."""

import errno
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop import checkpoint_files
from tfp_bayesrnn.loop.checkpoints import Checkpoints


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *arguments: said.append(text % arguments))
    return said


class Run:
    """Checkpoints of one variable, whose value is ten times the step."""

    def __init__(self, directory, **options):
        self.value = tf.Variable(0.0)
        self.checkpoints = Checkpoints(directory, {"value": self.value}, **options)

    def save(self, step, best=False):
        self.value.assign(10.0 * step)
        (self.checkpoints.save_best if best else self.checkpoints.save)(step)

    def restored(self, best=False):
        """The value and the step; the value is wrong where nothing is restored."""
        self.value.assign(-1.0)
        step = (self.checkpoints.restore_best if best else self.checkpoints.restore_latest)()
        return step, float(self.value)


def tree(directory):
    return {str(path.relative_to(directory)): path.stat().st_mtime_ns for path in directory.rglob("*")}


def waiting(directory, step, files):
    """Moves files of a checkpoint back to where they wait, as they do before their last rename."""
    ready = directory / f".ready-ckpt-{step}"
    ready.mkdir()
    for path in directory.glob(f"ckpt-{step}.*"):
        if any(path.name.startswith(f"ckpt-{step}.{kind}") for kind in files):
            path.rename(ready / path.name)


WAITING = pytest.mark.parametrize("files", [("data", "index"), ("index",), ("data",), ()], ids=str)
PLACE = pytest.mark.parametrize("best", [False, True], ids=["latest", "best"])


@WAITING
@PLACE
@pytest.mark.parametrize("writes", [True, False])
def test_what_waits_to_be_moved_is_read_and_stays_where_it_is(tmp_path, files, best, writes, warnings):
    run = Run(tmp_path)
    run.save(1, best)
    run.save(2, best)
    waiting(tmp_path / "best" if best else tmp_path, 2, files)
    (tmp_path / ".partial-1").mkdir()
    before = tree(tmp_path)
    reader = Run(tmp_path, writes=writes)
    assert reader.restored(best) == (2, 20.0)
    assert (reader.checkpoints.best_step if best else reader.checkpoints.latest_step) == 2
    assert tree(tmp_path) == before
    assert not warnings


def test_a_checkpoint_written_again_is_the_one_that_waits(tmp_path):
    """As after a step back: the step's old index is still there when its new data are moved."""
    run = Run(tmp_path)
    run.save(1)
    (tmp_path / "old").mkdir()
    for path in tmp_path.glob("ckpt-1.*"):
        shutil.copy(path, tmp_path / "old")
    run.value.assign(77.0)
    run.checkpoints.save(1)
    waiting(tmp_path, 1, ["index"])
    shutil.copy(tmp_path / "old" / "ckpt-1.index", tmp_path)
    assert Run(tmp_path).restored() == (1, 77.0)


@WAITING
def test_the_next_to_save_finishes_it(tmp_path, files):
    run = Run(tmp_path)
    run.save(1)
    waiting(tmp_path, 1, files)
    Run(tmp_path).save(2)
    assert not list(tmp_path.glob(".*"))
    assert run.checkpoints.steps == [1, 2]
    waiting(tmp_path, 2, files)
    Checkpoints(tmp_path, {}).finish_write()
    assert not list(tmp_path.glob(".*"))
    assert run.restored() == (2, 20.0)


def test_finishing_that_fails(tmp_path, monkeypatch):
    Run(tmp_path).save(1)
    waiting(tmp_path, 1, ["index"])

    def denied(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(checkpoint_files.os, "replace", denied)
    with pytest.raises(InputError, match=r"cannot move checkpoint .*ckpt-1 to its place: Permission denied"):
        Checkpoints(tmp_path, {}).finish_write()


@PLACE
def test_one_that_is_replaced_while_it_is_read(tmp_path, monkeypatch, best, warnings):
    """The reader finds a checkpoint, the writer deletes it: the reader takes the new one."""
    writer, reader = (Run(tmp_path, max_to_keep=1) for _ in range(2))
    writer.save(1, best)
    read, steps = checkpoint_files._read_whole, iter(range(2, 6))

    def read_late(path):
        step = next(steps, None)
        if step is not None:
            writer.save(step, best)
        return read(path)

    monkeypatch.setattr(checkpoint_files, "_read_whole", read_late)
    assert reader.restored(best) == (5, 50.0)
    assert not warnings


def test_one_that_is_damaged_is_not_read_again_and_again(tmp_path, monkeypatch, warnings):
    run, read = Run(tmp_path), []
    run.save(1)
    run.save(2)
    (tmp_path / "ckpt-2.index").write_bytes(b"")
    whole = checkpoint_files._read_whole
    monkeypatch.setattr(checkpoint_files, "_read_whole", lambda path: read.append(path) or whole(path))
    assert run.restored() == (1, 10.0)
    assert len(read) == 2 and len(warnings) == 1


def test_deleting_one(tmp_path):
    run = Run(tmp_path)
    run.save(0)
    run.save(0, best=True)
    run.save(1)
    run.checkpoints.delete(0)
    run.checkpoints.delete(5)
    assert (run.checkpoints.steps, run.checkpoints.best_step) == ([1], 0)
    waiting(tmp_path, 1, ["index"])
    run.checkpoints.delete(1)
    assert run.restored() == (None, -1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    np.testing.assert_equal(run.restored(best=True), (0, 0.0))
