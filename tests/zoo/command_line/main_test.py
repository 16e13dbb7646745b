"""From a command line to an exit status: errors, signals, streams, what is imported."""

import importlib
import json
import os
import signal
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
from requests_made import TRAIN, main, use

import absl_main
import zoo
from tfp_bayesrnn.errors import InputError
from zoo.command_line import console
from zoo.command_line import main as command_line
from zoo.configuration import config as configs

ROOT = Path(absl_main.__file__).parent


def raising(error):
    def run(*_, **__):
        raise error

    return run


def test_input_errors_of_a_command(monkeypatch, capsys):
    use(monkeypatch, raising(InputError("no file\nx.txt")))
    assert main(*TRAIN) == 2
    assert capsys.readouterr().err == "error: no file x.txt\n"


def test_mistakes_of_ours_keep_their_traceback(monkeypatch):
    use(monkeypatch, raising(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        main(*TRAIN)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_with_a_line_and_its_status(monkeypatch, capsys, number):
    reached = []

    def run(*_, **__):
        os.kill(os.getpid(), number)
        reached.append("the end")

    before = signal.getsignal(number)
    use(monkeypatch, run)
    try:
        assert main(*TRAIN) == 128 + number
    except KeyboardInterrupt:  # Which would end pytest too.
        pytest.fail("the signal has not been handled")
    assert capsys.readouterr().err == f"interrupted by {number.name}\n"
    assert not reached
    assert signal.getsignal(number) is before


def test_output_that_nobody_reads_on():
    listing = subprocess.run(
        f"{sys.executable} absl_main.py --help | true", shell=True, cwd=ROOT, capture_output=True, timeout=100
    )
    assert listing.stderr == b""


def test_only_our_own_progress_is_logged():
    said = types.SimpleNamespace(levelname="INFO", pathname="/x/site-packages/tensorflow/python/a.py")
    assert not command_line._is_worth_saying(said)
    said.levelname = "WARNING"
    assert command_line._is_worth_saying(said)
    assert command_line._is_worth_saying(types.SimpleNamespace(levelname="INFO", pathname="/x/zoo/a/b.py"))


def in_a_process(script, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={**{k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}, **environment},
    )


STAND_IN = """
import dataclasses, json, sys
import absl_main
from zoo.machine.machine import Machine
from zoo.modes import MODES
def run(request):
    print(json.dumps(request.config.to_dict()["train"]))
Machine.start = lambda machine: None
MODES["train"] = dataclasses.replace(MODES["train"], run=run)
"""


@pytest.mark.parametrize(("flag", "said"), [("--mode=list", "ptb_large_bbb"), ("--help", "--mode=caption")])
def test_what_needs_no_tensorflow_does_not_import_it(flag, said):
    done = in_a_process(
        f'import sys, absl_main\nstatus = absl_main.main(["m", "{flag}"])\n'
        + 'print(status, "tensorflow" in sys.modules)'
    )
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr
    assert said in done.stdout
    assert done.stderr == ""


def test_wrong_flags_are_answered_before_tensorflow_is_imported(tmp_path):
    """Nothing that does not import it takes long, so this says more than a time on whatever machine."""
    (tmp_path / "run").mkdir()
    config = configs.to_json(zoo.get_preset("demo_bbb"))
    (tmp_path / "run" / "config.json").write_text(config, encoding="utf-8")
    train, run = [*TRAIN, f"--data_dir={tmp_path}"], f"--workdir={tmp_path / 'run'}"
    commands = {
        "did you mean --config.train.epochs": [*train, "--epochs=3"],
        "did you mean demo_bbb": ["--mode=train", "--workdir=w", "--preset=demo_bb"],
        "did you mean train.epochs": [*train, "--config.train.epoch=3"],
        "train.epochs=0 is not": [*train, "--config.train.epochs=0"],
        "has no effect with method": [*train, "--config.method=dropout", "--config.posterior.k=3"],
        "needs --workdir": ["--mode=evaluate"],
        "does not exist": ["--mode=evaluate", f"--workdir={tmp_path / 'none'}"],
        "train.batch=3 cannot be set": ["--mode=evaluate", run, "--config.train.batch=3"],
        "--prune=2.0 is not": ["--mode=export", run, "--prune=2"],
        "--format='x' is not": ["--mode=export", run, "--format=x"],
        "--weights='x' is not": ["--mode=export", run, "--weights=x"],
        "--decode='x' is not": ["--mode=generate", run, "--decode=x"],
        "--temperature=0.0 is not": ["--mode=generate", run, "--temperature=0"],
        "--top_p=2.0 is not": ["--mode=generate", run, "--top_p=2"],
        "--color='x' is not": ["--mode=generate", run, "--color=x"],
        "needs the workdir of a captioning model": ["--mode=caption", run, "--images=x.png"],
        "--seed=-1 is not": ["--mode=uncertainty", run, "--seed=-1"],
    }
    script = "import sys, absl_main\nfor command in {}:\n"
    script += '    print(absl_main.main(["m", *command]), "tensorflow" in sys.modules)'
    done = in_a_process(script.format(list(commands.values())))
    assert done.stdout.splitlines() == ["2 False"] * len(commands), done.stderr
    for said, line in zip(commands, done.stderr.splitlines(), strict=True):
        assert said in line


@pytest.mark.slow
@pytest.mark.parametrize("level", [None, "3"])
def test_tensorflow_is_imported_in_silence(level):
    done = in_a_process(
        STAND_IN
        + 'status = absl_main.main(["m", "--mode=train", "--preset=demo_bbb", "--workdir=w"])\n'
        + 'assert "BayesianModel" in vars(sys.modules["tfp_bayesrnn"])\n'
        + 'import tensorflow, os; os.write(2, b"heard"); sys.exit(status)',
        **({} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}),
    )
    assert (done.returncode, done.stderr) == (0, "heard")
    assert json.loads(done.stdout)["batch"] == 20


@pytest.mark.parametrize("program", [["absl_main.py"], ["-m", "zoo"]])
def test_exit_status_of_the_programs(program):
    done = subprocess.run(
        [sys.executable, *program, "--mode=nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.startswith("error: unknown mode 'nothing'")


def test_the_installed_command_is_the_same_program():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, function = scripts["tfp-bayesrnn"].split(":")
    assert getattr(importlib.import_module(module), function) is console.run
