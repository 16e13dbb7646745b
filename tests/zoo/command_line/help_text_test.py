"""What `--help` says: everything, in 80 columns."""

import inspect
import re
import time

import pytest
from requests_made import main

from zoo.captioning.describe import describe
from zoo.command_line import general_flags
from zoo.command_line.help_text import fields_text, help_text, program_of
from zoo.command_line.parsing import define_flags
from zoo.configuration.fields import flatten
from zoo.export.run_export import export_run
from zoo.language_model.continue_prompts import continue_prompts
from zoo.modes import MODES
from zoo.presets import get_preset
from zoo.report.workdir_report import write_report
from zoo.uncertainty.comparison import compare_models


def test_it_is_complete_and_narrow(capsys):
    begun = time.process_time()
    assert main("--help") == 0
    assert time.process_time() - begun < 0.5
    out = capsys.readouterr().out
    for mode in MODES.values():
        section = out.split(f"\n--mode={mode.name}: ")[1].split("\n\n")[0]
        words = " ".join(section.split())
        assert words.startswith(mode.about)
        for text in (
            mode.writes,
            *(flag.text for flag in mode.flags),
            *(flag.default for flag in mode.flags),
        ):
            assert text in words
        assert {f"--{flag.name}" for flag in mode.flags} <= set(re.findall(r"--\w+", section))
    assert "runs/demo \\\n" in out
    known = {name for name in define_flags() if name not in ("flagfile", "undefok", "h")}
    assert known | {"config"} == set(re.findall(r"^  --(\w+)", out, flags=re.MULTILINE))
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "repeat this option" not in out


def test_what_modes_need():
    text = " ".join(help_text("tfp-bayesrnn").split())
    assert "needs --workdir=DIR, a new directory or that of a run to resume; --preset=NAME for a" in text
    assert "of a language model" in text and "of a captioning model; --images=PATH" in text
    assert "example tfp-bayesrnn --mode=train --preset=demo_bbb" in text


def test_the_fields_of_a_preset():
    text = fields_text("ptb_small_bbb")
    assert "--config.train.batch=20\n  rows of a minibatch" in text
    assert "accepted: one of drop, pad" in text
    assert {
        line.split("=")[0].removeprefix("--config.") for line in text.splitlines() if line[:2] == "--"
    } == (set(flatten(get_preset("ptb_small_bbb"))))


@pytest.mark.parametrize(
    ("path", "program"),
    [
        ("absl_main.py", "python absl_main.py"),
        ("/x/bin/tfp-bayesrnn", "tfp-bayesrnn"),
        ("/x/zoo/__main__.py", "python -m zoo"),
    ],
)
def test_the_program_is_called_as_it_was(path, program):
    assert program_of(path) == program


@pytest.mark.parametrize(
    ("mode", "function", "unlike"),
    [
        ("caption", describe, {"images", "output"}),
        ("generate", continue_prompts, {"prompt", "seed", "temperature", "top_k", "top_p", "beam", "output"}),
        (
            "uncertainty",
            compare_models,
            {"data", "texts", "compare", "ensemble", "unroll", "prompts", "judge"},
        ),
        ("export", export_run, {"output", "weights", "prune"}),
        ("report", write_report, {"output"}),
    ],
)
def test_defaults_are_those_of_what_is_run(mode, function, unlike):
    """Save those that depend on something."""
    parameters = inspect.signature(function).parameters
    for flag in MODES[mode].flags:
        if flag.name in unlike:
            continue
        default = parameters[flag.argument or flag.name].default
        assert flag.default == ("" if default is False else str(default)), flag.name


def test_general_flags_that_modes_name_exist():
    names = {flag.name for flag in general_flags.FLAGS}
    for mode in MODES.values():
        assert set(mode.general) <= names
