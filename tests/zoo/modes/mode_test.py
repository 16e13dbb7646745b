"""What a mode gets for its record and its line."""

import pytest
from requests_made import main

from zoo import presets
from zoo.machine.machine import Machine
from zoo.modes import MODES
from zoo.modes.mode import Flag, Mode, Request
from zoo.runs.workdir import Workdir


@pytest.fixture
def requests(monkeypatch):
    """What reaches a mode that this test adds."""
    received = []
    mode = Mode(
        name="count",
        about="counts what a run has",
        run=received.append,
        flags=(
            Flag(name="what", text="what is counted", metavar="THING", required="words or weights"),
            Flag(name="at_most", kind=int, text="where counting ends", default="9", least=1, most=99),
            Flag(name="beside", text="other runs", repeated=True, is_path=True, argument="others"),
            Flag(name="output", text="a file of numbers", is_path=True),
        ),
        one_device="counting",
    )
    monkeypatch.setitem(MODES, mode.name, mode)
    monkeypatch.setattr(Machine, "start", lambda machine: "a strategy")
    return received


def test_it_is_run_with_its_flags(requests, tmp_path):
    Workdir(tmp_path).claim(presets.get_preset("demo_bbb"))
    arguments = ("--mode=count", f"--workdir={tmp_path}", "--what=words", "--num_samples=3")
    assert main(*arguments, "--beside=./a//b", "--beside=c", "--at_most=7") == 0
    (request,) = requests
    assert request.flags == {"what": "words", "at_most": 7, "others": ["a/b", "c"]}
    assert (request.workdir, request.strategy) == (str(tmp_path), "a strategy")
    assert request.config.evaluate.num_samples == 3
    assert request.overrides == {"evaluate.num_samples": 3}


def test_it_is_in_the_help(requests, capsys):
    assert main("--help") == 0
    section = capsys.readouterr().out.split("\n--mode=count: ")[1]
    for text in ("counts what a run has", "--what=THING", "--at_most=N", "where counting ends (default: 9)"):
        assert text in section


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode=coun"], "did you mean count"),
        (["--mode=count", "--what=words"], "--mode=count needs --workdir=DIR"),
        (["--mode=count", "--workdir=w"], "--mode=count needs --what=THING: words or weights"),
        (
            ["--mode=count", "--workdir=w", "--what=x", "--at_most=0"],
            "a whole number of at least 1 and at most",
        ),
        (["--mode=count", "--workdir=w", "--what=x", "--output="], "--output='' is not accepted"),
        (["--mode=count", "--workdir=w", "--decode=x"], "is for --mode=generate, not for --mode=count"),
        (["--mode=report", "--workdir=w", "--what=x"], "--what is for --mode=count, not for --mode=report"),
        (["--mode=count", "--workdir=w", "--cpu_devices=2"], "counting runs on one device"),
    ],
)
def test_what_it_needs_is_checked(requests, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    Workdir("w").claim(presets.get_preset("demo_bbb"))
    assert main(*arguments) == 2
    assert said in capsys.readouterr().err
    assert not requests


def test_flags_of_one_name_take_the_same_values(requests, monkeypatch):
    other = Mode(name="other", about="", run=print, flags=(Flag(name="at_most", kind=float, text=""),))
    monkeypatch.setitem(MODES, "other", other)
    with pytest.raises(ValueError, match="Flags of one name must take the same values"):
        main("--mode=list")


@pytest.mark.parametrize(("part", "missing"), [("run_config", "config"), ("run_dir", "workdir")])
def test_a_request_without_a_run_says_so_to_a_mode_that_needs_one(part, missing):
    with pytest.raises(ValueError, match=f"Received: {missing}=None"):
        getattr(Request(machine=Machine()), part)
