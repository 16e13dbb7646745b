"""A workdir in use: who may write in it, from when on it is bound, by which data it is known again."""

import json
import os
import random
import shutil
import xml.etree.ElementTree as ElementTree

import pytest
import quick_runs

import absl_main
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.loop.loop import Loop
from zoo.filesystem import ownership
from zoo.language_model import model as module
from zoo.registry import read_config
from zoo.runs import training_run
from zoo.runs.workdir import Workdir

quick = quick_runs.quick

TINY = (
    "--preset=demo_bbb",
    "--config.data.name=text",
    "--config.model.units=4",
    "--config.model.embedding_units=4",
    "--config.model.layers=1",
    "--config.train.batch=4",
    "--config.train.unroll=6",
    "--config.train.epochs=1",
    "--config.evaluate.rows=2",
    "--config.evaluate.unroll=20",
    "--jit_compile=off",
)


def write_text(directory, seed=0, order=0, words=6):
    """Splits of random lines; another order leaves every word as frequent as it was."""
    directory.mkdir(parents=True)
    source = random.Random(seed)
    for split, count in (("train", 24), ("valid", 12), ("test", 12)):
        lines = [" ".join(source.choices("abcdefgh"[:words], k=5)) for _ in range(count)]
        random.Random(order).shuffle(lines)
        (directory / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return directory


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("data") / "text")


def run(mode, workdir, *arguments):
    named = TINY if mode == "train" else ()
    return absl_main.main(["absl_main.py", f"--mode={mode}", f"--workdir={workdir}", *named, *arguments])


def train(workdir, text, *arguments):
    return run("train", workdir, f"--data_dir={text}", *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, text, quick):
    workdir = tmp_path_factory.mktemp("trained") / "run"
    assert train(workdir, text) == 0
    return workdir


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def error(capsys):
    """The one line that is on stderr."""

    def line():
        lines = capsys.readouterr().err.splitlines()
        said = [one for one in lines if one.startswith("error: ")]
        assert len(said) == 1 and "Traceback" not in "".join(lines)
        return said[0]

    return line


def tree(directory):
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
        for path in directory.rglob("*")
        if path.name != ownership.LOCK
    }


def is_being_written(workdir):
    """Leaves what a trainer has on disk while it writes checkpoints, between any two of its renames."""
    checkpoints = workdir / "checkpoints"
    for directory in (checkpoints, checkpoints / "best"):
        (directory / ".partial-1").mkdir()
        (directory / ".partial-1" / "ckpt-9.data-00000-of-00001").write_bytes(b"half")
        (newest,) = directory.glob("ckpt-*.index")
        ready = directory / f".ready-{newest.stem}"
        ready.mkdir()
        newest.rename(ready / newest.name)


# Each mode, and the files that it may leave in the workdir; to the checksums it may add lines for them.
READERS = {
    "evaluate": ((), ()),
    "generate": (("--max_words=2",), ()),
    "prune": ((), ("pruning.json", "pruning.svg")),
    "report": (("--num_samples=1",), ("report.html",)),
    "uncertainty": (("--num_samples=0",), ("uncertainty", "uncertainty.json")),
}


class TestReadersBesideATrainer:
    @pytest.mark.slow
    @pytest.mark.parametrize("mode", READERS)
    def test_they_leave_what_is_the_trainers_as_it_is(self, copy, text, mode):
        is_being_written(copy)
        if mode == "evaluate":  # Which once wrote it where it was missing.
            (copy / "vocabulary.txt").unlink()
        before = tree(copy)
        arguments, leaves = READERS[mode]
        needs_data = () if mode == "generate" else (f"--data_dir={text}",)
        with ownership.owned(copy):
            assert run(mode, copy, *arguments, *needs_data) == 0
        after = {name: kept for name, kept in tree(copy).items() if name.split("/")[0] not in leaves}
        (_, sums), (_, more) = before.pop("checksums.txt"), after.pop("checksums.txt")
        assert after == before
        assert more.startswith(sums) and (leaves or more == sums)

    @pytest.mark.slow
    def test_figures_are_shown_and_results_left_to_the_trainer(self, copy, text, capsys, caplog):
        (copy / "results.json").unlink()
        with ownership.owned(copy):
            assert run("evaluate", copy, f"--data_dir={text}") == 0
        assert "test" in capsys.readouterr().out
        assert "results.json is not written: workdir" in caplog.text
        assert not (copy / "results.json").exists()
        assert run("evaluate", copy, f"--data_dir={text}") == 0
        assert (copy / "results.json").exists()

    def test_results_of_a_checkpoint_that_is_no_longer_the_best_are_not_written(self, copy, text, caplog):
        directory = Workdir(copy)
        step = Checkpoints(directory.checkpoints_dir, {}).best_step
        before = (copy / "results.json").read_text()
        training_run.publish(directory, Checkpoints(directory.checkpoints_dir, {}), step - 1, {}, str)
        assert "training has gone on since step" in caplog.text
        assert (copy / "results.json").read_text() == before

    @pytest.mark.slow
    def test_a_pruned_model_that_is_being_trained_is_not_replaced(self, copy, text, error):
        assert run("prune", copy, "--prune=0.5", f"--data_dir={text}") == 0
        before = tree(copy / "pruned")
        with ownership.owned(copy / "pruned"):
            assert run("prune", copy, "--prune=0.6", f"--data_dir={text}") == 2
            assert "pruned is not replaced: another process trains in it" in error()
        assert tree(copy / "pruned") == before
        assert run("prune", copy, "--prune=0.6", f"--data_dir={text}") == 0
        assert json.loads((copy / "pruned" / "pruning.json").read_text())["fraction"] == 0.6
        assert not list(copy.glob(".*"))


class TestTwoTrainers:
    def test_the_second_is_refused_and_writes_nothing(self, copy, text, error):
        before = tree(copy)
        with ownership.owned(copy):
            assert train(copy, text, "--config.train.epochs=2") == 2
            assert f"error: workdir {copy} is in use: process " in error()
            assert tree(copy) == before

    def test_so_it_is_on_a_new_workdir(self, tmp_path, text, error):
        with ownership.owned(tmp_path):
            assert train(tmp_path, text) == 2
            assert "is in use" in error()
            assert [path.name for path in tmp_path.iterdir()] == [ownership.LOCK]

    def test_a_run_leaves_no_lock(self, trained):
        assert not list(trained.glob(".*"))

    def test_nor_does_one_that_fails(self, tmp_path, text):
        assert train(tmp_path, text, "--config.train.batch=1000") == 2
        assert list(tmp_path.iterdir()) == []


class TestBinding:
    @pytest.mark.slow
    def test_a_start_without_data_binds_nobody(self, tmp_path, text):
        assert train(tmp_path, tmp_path / "none") == 2
        assert train(tmp_path, text, "--config.train.batch=1000") == 2
        assert train(tmp_path, text, "--seed=5") == 0
        assert read_config(Workdir(tmp_path)).seed == 5

    @pytest.mark.slow(but=["plain"])
    @pytest.mark.parametrize("step_backs", [0, 1], ids=["plain", "with steps back"])
    def test_nor_does_one_that_fails_in_its_first_step(
        self, tmp_path, text, monkeypatch, step_backs, trained
    ):
        other = write_text(tmp_path / "other", seed=1, words=8)
        workdir = tmp_path / "run"
        with monkeypatch.context() as patched:

            def fails(*_):
                raise InputError("no memory")

            patched.setattr(Loop, "_run_from", fails)
            more = f"--config.train.step_backs={step_backs}"
            assert train(workdir, other, "--config.model.units=5", more) == 2
        assert (workdir / "checkpoints").exists() == bool(step_backs)
        assert train(workdir, text) == 0
        for name in ("config.json", "vocabulary.txt", "data.json"):
            assert (workdir / name).read_text() == (trained / name).read_text()
        lines = [Workdir(path).read_metrics() for path in (workdir, trained)]
        assert [line["nll"] for line in lines[0]] == [line["nll"] for line in lines[1]]

    def test_a_run_that_has_trained_keeps_its_configuration(self, copy, text, error):
        before = tree(copy)
        assert train(copy, text, "--config.model.units=5") == 2
        assert "belongs to another configuration: model.units is 4 there and 5 here" in error()
        assert tree(copy) == before


class TestData:
    """Two texts of the same words, equally frequent, have one vocabulary."""

    def test_another_text_is_refused(self, copy, tmp_path, error):
        other, before = write_text(tmp_path / "other", order=1), tree(copy)
        for mode in ("train", "evaluate", "prune"):
            assert run(mode, copy, f"--data_dir={other}") == 2
            assert "the text of train and valid and test is not the one that the run in" in error()
        assert tree(copy) == before

    @pytest.mark.parametrize("split", ["train", "valid", "test"])
    def test_of_any_split(self, copy, text, tmp_path, error, split):
        shutil.copytree(text, tmp_path / "text")
        lines = (text / f"{split}.txt").read_text().splitlines()
        (tmp_path / "text" / f"{split}.txt").write_text("\n".join([*lines[1:], lines[0]]) + "\n")
        assert run("evaluate", copy, f"--data_dir={tmp_path / 'text'}") == 2
        assert f"the text of {split} is not" in error()

    @pytest.mark.slow
    def test_the_same_text_elsewhere_is_accepted(self, copy, text, tmp_path):
        moved = tmp_path / "elsewhere" / "under-another-name"
        shutil.copytree(text, moved)
        for split in ("train", "valid", "test"):
            (moved / f"{split}.txt").rename(moved / f"my.{split}.txt")
        assert run("evaluate", copy, f"--data_dir={moved}") == 0
        assert train(copy, moved, "--config.train.epochs=2") == 0

    @pytest.mark.slow
    def test_a_pruned_model_knows_it_too(self, copy, text, tmp_path, error):
        assert run("prune", copy, "--prune=0.5", f"--data_dir={text}") == 0
        other = write_text(tmp_path / "other", order=1)
        assert run("evaluate", copy / "pruned", f"--data_dir={other}") == 2
        assert "the text of train and valid and test" in error()

    @pytest.mark.slow
    def test_a_run_of_an_earlier_version_is_given_fingerprints_when_it_goes_on(self, copy, text, trained):
        (copy / "data.json").unlink()
        assert run("evaluate", copy, f"--data_dir={text}") == 0
        assert not (copy / "data.json").exists()
        assert train(copy, text, "--config.train.epochs=2") == 0
        assert (copy / "data.json").read_text() == (trained / "data.json").read_text()


class TestWriting:
    """What cannot be written is known before the work, or what was found is printed."""

    @pytest.mark.parametrize(
        ("mode", "file"),
        [
            ("evaluate", "results.json"),
            ("prune", "pruning.json"),
            ("report", "report.html"),
            ("uncertainty", "uncertainty.json"),
            ("train", "results.json"),
        ],
    )
    def test_it_is_known_before_the_work(self, copy, text, error, monkeypatch, mode, file):
        def works(*_, **__):
            raise AssertionError("the work has begun")

        monkeypatch.setattr("zoo.language_model.experiment.LanguageModelExperiment.__init__", works)
        for name in ("zoo.language_model.report_passage.passage", "zoo.uncertainty.comparison.open_source"):
            monkeypatch.setattr(name, works)
        # Last, or what is imported here for the first time would keep it.
        monkeypatch.setattr("zoo.runs.restored.restored", works)
        (copy / file).unlink(missing_ok=True)
        (copy / file).mkdir()
        assert run(mode, copy, f"--data_dir={text}") == 2
        assert file in error()

    @pytest.mark.slow(but=["evaluate-zoo.runs.workdir.Workdir.write_results-perplexity"])
    @pytest.mark.parametrize(
        ("mode", "function", "shown"),
        [
            ("evaluate", "zoo.runs.workdir.Workdir.write_results", "perplexity"),
            ("prune", "zoo.runs.workdir.Workdir.write_json", "weights dropped"),
            ("prune", "zoo.pruning.cost.write_pruned", "weights dropped"),
            ("uncertainty", "zoo.runs.workdir.Workdir.write_json", "mean"),
        ],
    )
    def test_what_was_found_is_printed_all_the_same(
        self, copy, text, monkeypatch, capsys, mode, function, shown
    ):
        def full(*_, **__):
            raise InputError("cannot write it: No space left on device")

        monkeypatch.setattr(function, full)
        more = {"prune": ("--prune=0.5",), "uncertainty": ("--num_samples=0",)}.get(mode, ())
        assert run(mode, copy, f"--data_dir={text}", *more) == 2
        said = capsys.readouterr()
        assert shown in said.out
        assert said.err.splitlines()[-1] == "error: cannot write it: No space left on device"

    @pytest.mark.slow
    def test_figures_of_pruning_are_written_before_the_pruned_model_is_made(self, copy, text, monkeypatch):
        def fails(*_, **__):
            raise InputError("no")

        monkeypatch.setattr("zoo.pruning.cost.write_pruned", fails)
        assert run("prune", copy, f"--data_dir={text}", "--prune=0.5") == 2
        assert "pruned" not in json.loads((copy / "pruning.json").read_text())
        ElementTree.parse(copy / "pruning.svg")

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
    def test_a_continuation_that_cannot_be_written_is_printed(self, copy, capsys):
        assert run("generate", copy, "--max_words=2", "--output=/dev/full", "--prompt=a b") == 2
        said = capsys.readouterr()
        assert "a b" in said.out
        assert said.err.splitlines()[-1] == "error: cannot write /dev/full: No space left on device"

    def test_an_output_where_nothing_can_be_written(self, copy, tmp_path, error):
        for mode, name in (("generate", "a"), ("report", "a.html")):
            assert run(mode, copy, f"--output={tmp_path / 'none' / name}") == 2
            assert "must be a file in a directory that exists" in error()


def test_nothing_is_read_of_a_run_without_a_best_checkpoint(copy, text, monkeypatch, error):
    shutil.rmtree(copy / "checkpoints" / "best")
    monkeypatch.setattr(module, "load_corpus", lambda *_: pytest.fail("the data were read"))
    for mode in ("evaluate", "prune"):
        assert run(mode, copy, f"--data_dir={text}") == 2
        assert "holds no best checkpoint: train it for an epoch first" in error()
