"""Every command of README, BUILD.md and docs is accepted; the cheap ones run."""

import shlex

import pytest

from benchmarks import documented
from benchmarks.documented import Command

ALL = [(path, command) for path in documented.DOCUMENTS for command in documented.commands(path)]
BENCHMARKS = {
    shlex.join(command.words): command.benchmark
    for _, command in ALL
    if command.benchmark and not (command.value("plot") or "learning_curves" in command.benchmark[0])
}


@pytest.mark.parametrize("path", documented.DOCUMENTS, ids=lambda path: path.name)
def test_the_program_accepts_every_command(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained = {}
    found = [command for command in documented.commands(path) if not command.benchmark]
    problems = {shlex.join(one.words): documented.problem_of(one, trained) for one in found}
    assert {line: problem for line, problem in problems.items() if problem} == {}


@pytest.mark.slow(every=4)
@pytest.mark.parametrize("command", BENCHMARKS.values(), ids=BENCHMARKS)
def test_benchmarks_accept_their_arguments(command):
    documented.check_benchmark(*command)


def test_commands_are_found_where_they_stand(tmp_path):
    document = tmp_path / "document.md"
    document.write_text(
        "Text, and\n\n"
        "    .venv/bin/python absl_main.py --mode=train --preset=demo_bbb \\\n"
        "        --workdir=w   # said of it\n"
        "    other words\n\n"
        "Then `.venv/bin/python -m benchmarks.speed\n--only=layer`, `--mode=list`, "
        "`--mode=prune --prune=0.8`.\n\n"
        "```python\n\n    .venv/bin/python absl_main.py --mode=nothing\n\n```\n"
    )
    found = documented.commands(document)
    assert [" ".join(command.words[2:]) for command in found[:2]] == [
        "--mode=train --preset=demo_bbb --workdir=w",
        "benchmarks.speed --only=layer",
    ]
    assert found[1].benchmark == ("benchmarks.speed", ["--only=layer"])
    assert [command.words for command in found[2:]] == [["--mode=prune", "--prune=0.8"]]
    assert len(ALL) > 50


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--mode=train --preset=demo_bbb --workdir=w --epochs=3", "did you mean --config.train.epochs"),
        ("--mode=train --preset=demo_bb --workdir=w", "did you mean demo_bbb"),
        ("--mode=caption --workdir=runs/demo_bbb --images=x", "needs the workdir of a captioning model"),
        ("--mode=prune --prune=2", "--prune=2.0 is not accepted"),
    ],
)
def test_a_wrong_command_is_found(flags, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in documented.problem_of(Command("a.md", flags.split()), {})


def test_wrong_arguments_of_a_benchmark_are_found(capsys):
    command = Command("a.md", [documented.PYTHON, "-m", "benchmarks.results_table", "--nothing"])
    assert documented.problem_of(command, {}).startswith("SystemExit")
    assert "required: workdirs" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("path", documented.DOCUMENTS, ids=lambda path: path.name)
def test_cheap_commands_run(path, tmp_path, monkeypatch):
    """With small models, for one epoch."""
    (tmp_path / "checked").mkdir()
    monkeypatch.chdir(tmp_path / "checked")
    trained = {}
    for command in documented.commands(path):
        assert command.benchmark or documented.problem_of(command, trained) is None
        if documented.is_cheap(command, trained):
            done = documented.run(command, tmp_path)
            assert done.returncode == 0, (command, done.stderr)
