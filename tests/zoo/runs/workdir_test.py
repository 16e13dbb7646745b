"""The working directory: claiming it, and files that stay whole."""

import errno
import json
import os

import numpy as np
import pytest

from tfp_bayesrnn.errors import InputError
from zoo import presets
from zoo.configuration import config as configs
from zoo.filesystem import files
from zoo.registry import read_config
from zoo.runs import workdir
from zoo.runs.workdir import Workdir


@pytest.fixture
def config():
    return presets.get_preset("demo_bbb")


def trained(path, step=1, place="checkpoints"):
    """Leaves a file of a checkpoint."""
    (path / place).mkdir(parents=True, exist_ok=True)
    (path / place / f"ckpt-{step}.index").write_text("")


def test_layout(tmp_path, config):
    run = Workdir(tmp_path / "a" / "b")
    assert run.claim(config) is False
    assert run.claim(config) is False
    assert sorted(path.name for path in run.path.iterdir()) == ["checksums.txt", "config.json"]
    assert read_config(run) == config
    names = (run.checkpoints_dir, run.tensorboard_dir, run.export_dir, run.vocabulary_path)
    assert [path.name for path in names] == ["checkpoints", "tensorboard", "export", "vocabulary.txt"]


@pytest.mark.parametrize(
    "place",
    ["checkpoints", "checkpoints/best", "checkpoints/.ready-ckpt-1", "checkpoints/best/.ready-ckpt-1"],
)
def test_another_configuration_is_refused_by_field(tmp_path, config, place):
    run = Workdir(tmp_path)
    run.claim(config)
    trained(tmp_path, place=place)
    assert run.claim(config) is True
    other = configs.with_overrides(config, {"train.batch": 3, "prior.pi": 0.5, "train.epochs": 99})
    with pytest.raises(InputError, match="another configuration") as caught:
        run.claim(other)
    said = str(caught.value)
    assert "train.batch is 20 there and 3 here" in said
    assert "prior.pi is 0.25 there and 0.5 here" in said
    assert "epochs" not in said and "\n" not in said
    assert read_config(run) == config


def test_more_epochs_are_taken_over(tmp_path, config):
    run = Workdir(tmp_path)
    run.claim(config)
    trained(tmp_path)
    more = configs.with_overrides(config, {"train.epochs": 99})
    assert run.claim(more) is True
    assert read_config(run).train.epochs == 99


@pytest.mark.parametrize("step", [None, 0])
def test_a_start_that_left_no_checkpoint_of_a_step_binds_nobody(tmp_path, config, step):
    run = Workdir(tmp_path)
    run.claim(config)
    if step is not None:  # Which is there to step back to.
        trained(tmp_path, step)
    other = configs.with_overrides(config, {"train.batch": 3})
    assert run.accept(other) is False
    assert read_config(run) == config
    assert run.claim(other) is False
    assert read_config(run) == other


def test_a_configuration_of_something_else_is_not_replaced(tmp_path, config):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "train": {"batch": 20}}')
    with pytest.raises(InputError, match="belongs to another configuration: "):
        Workdir(tmp_path).claim(config)


@pytest.mark.parametrize("create", [True, False])
def test_one_that_was_renamed_aside_comes_back(tmp_path, config, create):
    Workdir(tmp_path / ".run.replacing-1" / "old").claim(config)
    assert read_config(Workdir(tmp_path / "run", create=create)) == config
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_checkpoints_of_nobody_knows_what_are_refused(tmp_path, config):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match=r"holds checkpoints but no config.json"):
        Workdir(tmp_path).claim(config)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\xff"])
def test_damaged_config(tmp_path, config, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config.json"):
        Workdir(tmp_path).claim(config)


def test_paths_that_cannot_be_a_workdir(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match=r"file is a file; a directory is needed"):
        Workdir(file)
    with pytest.raises(InputError, match=r"cannot create .*: Not a directory"):
        Workdir(file / "below")
    with pytest.raises(InputError, match="does not exist"):
        Workdir(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match=r"holds no config.json"):
        read_config(Workdir(tmp_path, create=False))


def test_metrics_are_a_json_object_a_line(tmp_path):
    run = Workdir(tmp_path)
    run.append_metrics({"step": 1, "loss": float("nan"), "up": float("inf"), "where": tmp_path})
    run.append_metrics({"step": np.int64(2), "loss": np.float32(0.5), "all": np.array([1.0, np.nan])})
    lines = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert lines[0] == {"step": 1, "loss": None, "up": None, "where": str(tmp_path)}
    assert lines[1] == {"step": 2, "loss": 0.5, "all": [1.0, None]}
    assert run.read_metrics() == lines


def test_tensors_are_numbers(tmp_path):
    tf = pytest.importorskip("tensorflow")
    run = Workdir(tmp_path)
    run.write_results({"a": tf.constant(1.5), "b": tf.constant(2.5, tf.bfloat16), "c": tf.constant(3)})
    assert run.read_results() == {"a": 1.5, "b": 2.5, "c": 3}


def test_what_has_no_json_form_is_refused(tmp_path):
    with pytest.raises(TypeError, match="has no JSON form"):
        Workdir(tmp_path).write_results({"a": object()})
    assert list(tmp_path.iterdir()) == []


def test_truncating_drops_later_and_torn_lines(tmp_path):
    run = Workdir(tmp_path)
    run.truncate_metrics(5)
    assert not run.metrics_path.exists()
    for step in (1, 2, 3):
        run.append_metrics({"step": step})
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 2, "lo')
    run.truncate_metrics(2)
    run.append_metrics({"step": 4})
    assert run.metrics_path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 4}\n'


def test_a_torn_line_is_left_out_with_a_warning(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(workdir.logging, "warning", lambda text, *args: said.append(text % args))
    run = Workdir(tmp_path)
    run.append_metrics({"step": 1})
    with open(run.metrics_path, "a") as file:
        file.write('{"st')
    assert run.read_metrics() == [{"step": 1}]
    assert "line 2" in said[0]


def test_results_are_replaced_whole(tmp_path):
    run = Workdir(tmp_path)
    assert run.read_results() is None
    run.write_results({"test": {"perplexity": 2.0}})
    run.write_results({"test": {"perplexity": 1.0}})
    assert run.read_results() == {"test": {"perplexity": 1.0}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checksums.txt", "results.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, call):
    run = Workdir(tmp_path)
    run.write_results({"a": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, call, full)
    with pytest.raises(InputError, match=r"cannot write .*(json|txt): No space left on device"):
        run.write_results({"a": 2})
    assert run.read_results() == {"a": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checksums.txt", "results.json"]


def test_a_full_disk_while_appending(tmp_path, monkeypatch):
    run = Workdir(tmp_path)
    run.append_metrics({"step": 1})

    class Full:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(workdir, "open", Full, raising=False)
    with pytest.raises(InputError, match=r"cannot write .*metrics.jsonl: No space left on device"):
        run.append_metrics({"step": 2})
    assert run.read_metrics() == [{"step": 1}]


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_no_permission(tmp_path, config):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        Workdir(tmp_path).claim(config)
    with pytest.raises(InputError, match="Permission denied"):
        Workdir(tmp_path / "below")


def test_no_permission_as_any_user(tmp_path, monkeypatch, config):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    run = Workdir(tmp_path)
    monkeypatch.setattr(files, "open", denied, raising=False)
    with pytest.raises(InputError, match=r"cannot write .*config.json: Permission denied"):
        run.claim(config)


def test_metrics_torn_anywhere_are_good_up_to_there(tmp_path):
    run = Workdir(tmp_path)
    for step in (1, 2, 3):
        whole = run.metrics_path.read_bytes() if step > 1 else b""
        run.append_metrics({"step": step, "nll": 1.5 * step})
        sound = run.metrics_path.read_bytes()
        for size in range(len(whole), len(sound)):
            run.metrics_path.write_bytes(sound[:size])
            assert [entry["step"] for entry in run.read_metrics()] == list(range(1, step))
        run.metrics_path.write_bytes(sound)
        assert len(run.read_metrics()) == step


@pytest.mark.parametrize("lines", [1, 3])
def test_any_flipped_byte_of_metrics_is_seen(tmp_path, lines):
    run = Workdir(tmp_path)
    for step in range(lines):
        run.append_metrics({"step": step, "nll": 1.5})
    sound = run.metrics_path.read_bytes()
    for place in range(len(sound)):
        for bits in (1, 1 << place % 8, 0xFF):
            run.metrics_path.write_bytes(sound[:place] + bytes([sound[place] ^ bits]) + sound[place + 1 :])
            for read in (run.read_metrics, lambda: run.truncate_metrics(9)):
                with pytest.raises(InputError, match=r"metrics\.jsonl is damaged"):
                    read()


def test_any_flipped_byte_of_what_is_written_whole_is_seen(tmp_path, config):
    run = Workdir(tmp_path)
    run.claim(config)
    run.write_results({"test": {"perplexity": 123.4}})
    for path, read in ((run.config_path, run.read_config), (run.results_path, run.read_results)):
        sound = path.read_bytes()
        for place in range(0, len(sound), 7):
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 8]) + sound[place + 1 :])
            with pytest.raises(InputError, match=f"{path.name} is damaged"):
                read()
        path.write_bytes(sound)
        read()


def test_metrics_of_an_earlier_version_are_gone_on_with(tmp_path):
    run = Workdir(tmp_path)
    run.metrics_path.write_text('{"step": 1}\n')
    assert run.read_metrics() == [{"step": 1}]
    run.append_metrics({"step": 2})
    assert [entry["step"] for entry in run.read_metrics()] == [1, 2]
    run.metrics_path.write_text('{"step": 7}\n{"step": 2}\n')
    with pytest.raises(InputError, match="is damaged"):
        run.read_metrics()


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "results.json", "checksums.txt"])
def test_a_pipe_in_a_files_place(tmp_path, config, name):
    run = Workdir(tmp_path)
    run.claim(config)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: it is a named pipe, not a file"):
        read_config(run)
        run.read_metrics()
        run.read_results()


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG, errno.EIO])
def test_a_folder_that_may_not_be_looked_at(tmp_path, config, monkeypatch, number):
    def denied(*_, **__):
        raise OSError(number, os.strerror(number))

    run = Workdir(tmp_path)
    monkeypatch.setattr(os, "stat", denied)
    uses = (Workdir, lambda path: Workdir(path, create=False), lambda _: run.claim(config))
    for use in (*uses, lambda _: run.read_metrics(), lambda _: run.read_results()):
        with pytest.raises(InputError, match=os.strerror(number)):
            use(tmp_path)


def test_paths_of_workdirs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workdir("~/a").path == tmp_path / "a"
    assert (tmp_path / "a").is_dir()
    for path in ("", "gs://bucket/a", "a\0"):
        with pytest.raises(InputError, match=r"^workdir=.* is not accepted"):
            Workdir(path)
