"""The whole tour on a text of one's own: after the first command, `--workdir` alone says what is meant."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import quick_runs
from command_line_runs import TINY, one_line_error

import absl_main
import zoo
from zoo.data.corpus import load_corpus

quick = quick_runs.quick

WORDS = "the dog runs far away and a cat sees it".split()
FEW = ("--config.train.batch=40", "--config.train.unroll=20", "--config.train.epochs=1")


@pytest.fixture(scope="module")
def text(quick, tmp_path_factory):
    """A folder with text as people write it: capital letters, and words that come once."""
    folder = tmp_path_factory.mktemp("text") / "mine"
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 400), ("valid", 30), ("test", 30)):
        lines = [" ".join(random.choice(WORDS, 5)).capitalize() for _ in range(count)]
        lines[-1] += f" {split}word"
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def command(*arguments):
    return absl_main.main(["absl_main.py", *arguments])


def results(workdir):
    return json.loads((workdir / "results.json").read_text())


@pytest.fixture(scope="module")
def workdir(text, tmp_path_factory):
    """A run of an epoch, whose folder of data was given relative to another folder than the tests are in."""
    path = tmp_path_factory.mktemp("runs") / "run"
    tiny = (*TINY, *FEW, "--config.data.min_count=2", "--config.data.lowercase", "--data_dir=mine")
    with contextlib.chdir(text.parent):
        assert command("--mode=train", "--preset=text_small_bbb", f"--workdir={path}", *tiny) == 0
    return path


def test_a_tour(workdir, text, capsys, caplog):
    of_run = f"--workdir={workdir}"
    assert command("--mode=train", of_run, "--config.train.batch=20") == 2
    assert "train.batch is 40 there and 20 here" in one_line_error(capsys)
    more = ("--num_samples=2", "--config.evaluate.dynamic_learning_rate=0.1")
    assert command("--mode=evaluate", of_run, *more) == 0
    found = results(workdir)
    assert found["test_mc"]["samples"] == 2 and found["test_dynamic"]["learning_rate"] == 0.1
    assert command("--mode=train", of_run) == 0  # It is at its end, so it evaluates the same weights.
    said = "text: a vocabulary of 12 words; tokens: train 2,401, valid 181, test 181; <unk>: train 0.04%"
    assert any(record.getMessage().startswith(said) for record in caplog.records)
    plain = results(workdir)
    assert plain["evaluate"]["num_samples"] == 0
    assert {name: plain[name] for name in found if name != "evaluate"} == {
        name: figures for name, figures in found.items() if name != "evaluate"
    }
    assert command("--mode=generate", of_run, "--prompt=The DOG", "--max_words=3") == 0
    assert "\nthe dog\n" in capsys.readouterr().out
    assert command("--mode=uncertainty", of_run, "--num_samples=2", "--words=40") == 0
    assert command("--mode=prune", of_run, "--prune=0.5") == 0
    pruned = f"--workdir={workdir / 'pruned'}"
    assert command("--mode=train", pruned, "--config.train.epochs=2", "--config.train.learning_rate=0.1") == 0
    assert results(workdir / "pruned")["epochs_trained"] == 2
    capsys.readouterr()
    assert command("--mode=report", of_run, "--num_samples=2") == 0
    assert "without" not in capsys.readouterr().out


def test_the_model_in_python(workdir, text):
    model, vocabulary, step = zoo.load(workdir)
    corpus = load_corpus("text", text, min_count=2, lowercase=True)
    assert vocabulary == corpus.vocabulary and step == results(workdir)["steps"]
    logits = model.predict(corpus.test[np.newaxis, :5], verbose=0)
    assert logits.shape == (1, 5, len(vocabulary)) and np.isfinite(logits).all()


@pytest.mark.slow
def test_an_export(workdir):
    assert command("--mode=export", f"--workdir={workdir}") == 0
    assert json.loads((workdir / "export" / "signatures.json").read_text())["lowercase"]


def test_a_folder_that_has_moved(workdir, text, tmp_path, capsys):
    run = shutil.copytree(workdir, tmp_path / "run")
    record = json.loads((run / "data.json").read_text())
    assert record["data_dir"] == str(text)
    (run / "data.json").write_text(json.dumps({**record, "data_dir": str(tmp_path / "gone")}))
    (run / "checksums.txt").unlink()  # By which the record was changed by hand.
    for mode in ("train", "evaluate", "prune", "uncertainty"):
        assert command(f"--mode={mode}", f"--workdir={run}") == 2
        said = one_line_error(capsys)
        assert f"data directory {tmp_path / 'gone'}, which the run in {run} was trained from" in said
        assert "--data_dir=DIR" in said
    assert command("--mode=train", f"--workdir={run}", f"--data_dir={text}") == 0
    assert json.loads((run / "data.json").read_text()) == record


def test_a_new_run_needs_a_preset(tmp_path, capsys):
    assert command("--mode=train", f"--workdir={tmp_path}") == 2
    assert "--mode=train needs --preset=NAME for a new run" in one_line_error(capsys)
