"""Checkpoints: what is restored, and what each kind of damage leads to."""

import errno
import os
import resource
import subprocess
import sys
import tempfile
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from odd_names import ODD_NAMES

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop import checkpoint_files
from tfp_bayesrnn.loop.checkpoints import Checkpoints


def make_run(vocabulary=7, units=5, optimizer=None):
    model = keras.Sequential(
        [
            keras.layers.Embedding(vocabulary, 4),
            keras.layers.LSTM(units, dropout=0.1),
            keras.layers.Dense(vocabulary),
        ]
    )
    model.build((None, 3))
    optimizer = optimizer or keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    return {"model": model, "optimizer": optimizer, "step": tf.Variable(0, dtype=tf.int64)}


def set_all(run, value):
    """Gives every variable of a run values that depend on `value` and on the variable."""
    for i, variable in enumerate(all_variables(run)):
        filled = np.full(tuple(variable.shape), value + i)
        variable.assign(filled.astype(tf.as_dtype(variable.dtype).as_numpy_dtype))


def all_variables(run):
    return [*run["model"].variables, *run["optimizer"].variables, run["step"]]


def values(run):
    return [variable.numpy() for variable in all_variables(run)]


def assert_same(run, expected):
    for actual, wanted in zip(values(run), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


@pytest.fixture
def run():
    return make_run()


@pytest.fixture
def saved(tmp_path, run):
    """Checkpoints of steps 10 and 20, and the values at each."""
    held = Checkpoints(tmp_path / "checkpoints", run)
    at = {}
    for step in (10, 20):
        set_all(run, step)
        held.save(step)
        at[step] = values(run)
    set_all(run, 0)
    return held, at


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    return said


def test_nothing_to_restore(tmp_path, run):
    held = Checkpoints(tmp_path / "none", run)
    assert held.restore_latest() is None
    assert held.restore_best() is None
    assert held.latest_step is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_every_variable_comes_back_in_another_process_worth_of_objects(tmp_path, optimizer):
    runs = [make_run(optimizer=keras.optimizers.Adam() if optimizer else None) for _ in range(2)]
    set_all(runs[0], 3)
    Checkpoints(tmp_path, runs[0]).save(3)
    assert Checkpoints(tmp_path, runs[1]).restore_latest() == 3
    assert_same(runs[1], values(runs[0]))
    assert any("seed" in variable.path for variable in runs[1]["model"].variables)


def test_rotation_keeps_the_newest_and_the_best(tmp_path, run):
    held = Checkpoints(tmp_path, run, max_to_keep=2)
    for step in (1, 2, 3, 4):
        set_all(run, step)
        held.save(step)
        if step in (1, 2):
            held.save_best(step)
            best = values(run)
    assert held.steps == [3, 4]
    assert held.best_step == 2
    assert held.restore_best() == 2
    assert_same(run, best)


def test_resumed_from_an_earlier_step_drops_the_later_ones(saved):
    held, _ = saved
    held.save(15)
    assert held.steps == [10, 15]


def test_saving_a_step_again_replaces_it(saved, run):
    held, _ = saved
    set_all(run, 99)
    held.save(20)
    expected = values(run)
    set_all(run, 0)
    assert held.restore_latest() == 20
    assert_same(run, expected)


def test_part_of_a_checkpoint_can_be_restored(saved):
    held, at = saved
    fresh = make_run()
    assert Checkpoints(held.directory, {"model": fresh["model"]}).restore_latest() == 20
    for variable, wanted in zip(fresh["model"].variables, at[20], strict=False):
        np.testing.assert_array_equal(variable.numpy(), wanted)


def data_file(held, step):
    return next(held.directory.glob(f"ckpt-{step}.data*"))


def truncate(fraction):
    def damage(held, step):
        path = data_file(held, step)
        os.truncate(path, int(path.stat().st_size * fraction))

    return damage


def cut_last_byte(held, step):
    path = data_file(held, step)
    os.truncate(path, path.stat().st_size - 1)


def flip_byte(suffix, fraction):
    def damage(held, step):
        path = next(held.directory.glob(f"ckpt-{step}.{suffix}*"))
        content = bytearray(path.read_bytes())
        content[int(len(content) * fraction)] ^= 0xFF
        path.write_bytes(content)

    return damage


def truncate_index(held, step):
    os.truncate(held.directory / f"ckpt-{step}.index", 40)


DAMAGES = {
    "empty data": truncate(0),
    "a tenth of the data": truncate(0.1),
    "half the data": truncate(0.5),
    "data but the last byte": cut_last_byte,
    "no data": lambda held, step: data_file(held, step).unlink(),
    "byte flipped early": flip_byte("data", 0.1),
    "byte flipped in the middle": flip_byte("data", 0.5),
    "index byte flipped early": flip_byte("index", 0.02),
    "index byte flipped in the middle": flip_byte("index", 0.5),
    "index byte flipped at the end": flip_byte("index", 0.999),
    "index cut": truncate_index,
    "index empty": lambda held, step: os.truncate(held.directory / f"ckpt-{step}.index", 0),
    "no index": lambda held, step: (held.directory / f"ckpt-{step}.index").unlink(),
}


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_newest_falls_back_to_the_one_before(saved, run, warnings, damage):
    held, at = saved
    damage(held, 20)
    assert held.restore_latest() == 10
    assert_same(run, at[10])
    (warning,) = warnings
    assert "ckpt-20" in warning and "ckpt-10" in warning and "\n" not in warning


def test_all_damaged_is_an_error_that_lists_them_and_changes_nothing(saved, run, warnings):
    held, _ = saved
    before = values(run)
    truncate(0.5)(held, 20)
    flip_byte("data", 0.5)(held, 10)
    with pytest.raises(InputError, match=r"ckpt-20.*ckpt-10") as caught:
        held.restore_latest()
    assert "\n" not in str(caught.value)
    assert_same(run, before)


def test_damaged_best_is_an_error(saved):
    held, _ = saved
    held.save_best(20)
    (held.directory / "best" / "ckpt-20.index").write_bytes(b"")
    with pytest.raises(InputError, match="best/ckpt-20"):
        held.restore_best()


def test_other_files_in_the_directory_do_no_harm(saved, run):
    held, at = saved
    (held.directory / "checkpoint").write_text('model_checkpoint_path: "ckpt-99"\n')
    (held.directory / "ckpt-30.tmp").write_text("x")
    (held.directory / ".partial-1").mkdir()
    assert held.restore_latest() == 20
    assert_same(run, at[20])


def test_another_vocabulary_names_the_variable_and_both_shapes(saved, warnings):
    held, _ = saved
    other = make_run(vocabulary=9)
    with pytest.raises(InputError, match=r"embeddings has shape \(7, 4\) there and \(9, 4\) here"):
        Checkpoints(held.directory, other).restore_latest()
    assert not warnings


def test_another_optimizer_is_another_model(saved):
    held, _ = saved
    with pytest.raises(InputError, match="of another model: it has no optimizer variable adam"):
        Checkpoints(held.directory, make_run(optimizer=keras.optimizers.Adam())).restore_latest()


def test_fewer_layers_are_another_model(saved):
    held, _ = saved
    model = keras.Sequential([keras.layers.Embedding(7, 4)])
    model.build((None, 3))
    with pytest.raises(InputError, match="of another model: it holds model/001-"):
        Checkpoints(held.directory, {"model": model}).restore_latest()


def test_another_type_is_another_model(tmp_path):
    Checkpoints(tmp_path, {"step": tf.Variable(1, dtype=tf.int64, name="step")}).save(1)
    with pytest.raises(InputError, match="int64 there and int32 here"):
        Checkpoints(tmp_path, {"step": tf.Variable(1, dtype=tf.int32, name="step")}).restore_latest()


def test_an_unbuilt_model_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="build it first"):
        Checkpoints(tmp_path, {"model": keras.Sequential([keras.layers.Dense(2)])}).save(1)


def test_a_variable_given_twice_is_a_mistake_of_the_caller(tmp_path, run):
    with pytest.raises(ValueError, match="of both model and again"):
        Checkpoints(tmp_path, {**run, "again": run["model"].layers[0]}).save(1)


def test_max_to_keep_is_checked(tmp_path):
    with pytest.raises(ValueError, match="max_to_keep=0"):
        Checkpoints(tmp_path, {}, max_to_keep=0)


@pytest.mark.parametrize("fails_in", ["move_into_place", "flush_to_disk"])
def test_full_disk_keeps_earlier_checkpoints(saved, run, monkeypatch, fails_in):
    held, at = saved

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint_files, fails_in, full)
        with pytest.raises(InputError, match=r"ckpt-30: No space left on device"):
            held.save(30)
    assert held.steps == [10, 20]
    assert sorted(path.name[:7] for path in held.directory.iterdir()) == ["ckpt-10"] * 2 + ["ckpt-20"] * 2
    assert held.restore_latest() == 20
    assert_same(run, at[20])


@pytest.mark.slow
def test_a_write_that_fails_inside_tensorflow(tmp_path):
    """A real short write: the process may not write files above a limit the checkpoint exceeds."""
    script = """
        import resource, sys
        import tensorflow as tf
        from tfp_bayesrnn.loop.checkpoints import Checkpoints
        from tfp_bayesrnn.errors import InputError
        weights = tf.Variable(tf.ones([1000, 1000]))
        held = Checkpoints(sys.argv[1], {"weights": weights})
        held.save(1)
        weights.assign(2 * weights)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        try:
            held.save(2)
        except InputError as error:
            print("refused:", error)
        print("steps:", held.steps)
        weights.assign(0 * weights)
        print("restored:", held.restore_latest(), float(weights[3, 3]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "held")],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert "refused: cannot write checkpoint" in done.stdout, done.stderr
    assert "steps: [1]\nrestored: 1 1.0" in done.stdout
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_file_in_the_directorys_place(tmp_path, run):
    (tmp_path / "file").write_text("")
    held = Checkpoints(tmp_path / "file", run)
    with pytest.raises(InputError, match=r"cannot look for checkpoints in .*file: Not a directory"):
        held.restore_latest()
    with pytest.raises(InputError, match=r"cannot look for checkpoints in .*file: Not a directory"):
        held.save(1)


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("name", ODD_NAMES)
def test_folders_with_names_that_tensorflow_takes_for_patterns(tmp_path, run, name):
    held = Checkpoints(tmp_path / name / "checkpoints", run)
    for step in (1, 2):
        set_all(run, step)
        held.save(step)
    held.save_best(2)
    expected = values(run)
    for restore in (held.restore_latest, held.restore_best):
        set_all(run, 9)
        assert restore() == 2
        assert_same(run, expected)


def test_a_folder_with_such_a_name_where_temporary_ones_have_it_too(tmp_path, run, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "[tmp]"))
    (tmp_path / "[tmp]").mkdir()
    Checkpoints(tmp_path / "a", run)
    with pytest.raises(InputError, match="another TMPDIR"):
        Checkpoints(tmp_path / "a[0]", run)


def test_a_pipe_in_a_files_place_is_damage(saved):
    held, _ = saved
    index = held.directory / "ckpt-20.index"
    index.unlink()
    os.mkfifo(index)
    assert held.restore_latest() == 10


def test_the_file_format_is_tensorflows(saved):
    held, at = saved
    path = tf.train.load_checkpoint(str(held.directory / "ckpt-20"))
    np.testing.assert_array_equal(path.get_tensor("model/000-sequential-embedding-embeddings"), at[20][0])


def test_under_a_mirrored_strategy(tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        mirrored = make_run()
    set_all(mirrored, 5)
    expected = values(mirrored)
    held = Checkpoints(tmp_path, mirrored)
    held.save(5)
    set_all(mirrored, 0)
    assert held.restore_latest() == 5
    assert_same(mirrored, expected)
    plain = make_run()
    assert Checkpoints(tmp_path, plain).restore_latest() == 5
    assert_same(plain, expected)
