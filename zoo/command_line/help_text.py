"""The text that `--help` prints, made from the records of the modes and the general flags."""

from __future__ import annotations

import os
import re
import textwrap

from zoo.command_line import general_flags
from zoo.configuration.fields import flatten, settings
from zoo.modes import MODES
from zoo.modes.mode import Configuration, Flag, Mode
from zoo.presets import get_preset
from zoo.registry import tasks_with

_WIDTH = 80
_FLAG_COLUMN = 26
_LABEL_COLUMN = 11
_MODE_COLUMN = 15

_ABOUT = "Trains, evaluates and uses Bayesian recurrent networks."

_CONFIG = Flag(
    name="config.FIELD",
    metavar="VALUE",
    text="any field of the preset's configuration: --preset=NAME --help shows them. A mode that uses a run "
    "accepts the fields evaluate.* and those that change no result",
)


def program_of(path: str) -> str:
    """The name to type for the program.

    Args:
      path: the first argument of the process.
    """
    name = os.path.basename(path)
    if name == "__main__.py":
        return f"python -m {os.path.basename(os.path.dirname(os.path.abspath(path)))}"
    return f"python {name}" if name.endswith(".py") else name


def help_text(program: str) -> str:
    """All modes and flags, in lines of at most 80 columns.

    Args:
      program: the name to type for the program.
    """
    modes = [_entry(f"  {mode.name}", _MODE_COLUMN, mode.about) for mode in MODES.values()]
    general = [_flag(flag) for flag in (*general_flags.FLAGS, _CONFIG)]
    blocks = [
        _ABOUT,
        f"Usage: {program} --mode=MODE [--FLAG=VALUE ...]",
        "\n".join(["Modes:", *modes]),
        "\n".join(["General flags:", *general]),
        *(_section(mode, program) for mode in MODES.values()),
    ]
    return "\n\n".join(blocks)


def fields_text(preset: str) -> str:
    """The fields of a preset's configuration, each with its value, what it is and what it accepts.

    Args:
      preset: the preset's name.

    Raises:
      InputError: there is no such preset.
    """
    config = get_preset(preset)
    values = flatten(config)
    lines = [f"{preset}: {config.description}", ""]
    for one in settings(type(config)):
        lines.append(f"--config.{one.name}={values[one.name]}")
        lines.append(_entry("", 2, f"{one.about}; accepted: {one.check.accepted}"))
    return "\n".join(lines)


def _section(mode: Mode, program: str) -> str:
    """The part on one mode."""
    heading = textwrap.fill(f"--mode={mode.name}: {mode.about}", _WIDTH, subsequent_indent="  ")
    facts = {
        "needs": _needs(mode),
        "uses": ", ".join(f"--{name}" for name in mode.general),
        "writes": mode.writes,
    }
    lines = [_entry(f"  {label}", _LABEL_COLUMN, text) for label, text in facts.items() if text]
    lines.append(_example(f"{program} --mode={mode.name} {mode.example}".rstrip()))
    lines += [_flag(flag) for flag in mode.flags]
    return "\n".join([heading, *lines])


def _example(command: str) -> str:
    """A command line, broken before flags only."""
    lines = ["  example".ljust(_LABEL_COLUMN)]
    for part in re.split(r" (?=--)", command):
        if len(lines[-1]) + len(part) + 2 > _WIDTH:
            lines[-1] += "\\"
            lines.append(" " * (_LABEL_COLUMN + 4))
        lines[-1] += f"{part} "
    return "\n".join(line.rstrip() for line in lines)


def _needs(mode: Mode) -> str:
    models = " or a ".join(task.label for task in tasks_with(mode.name)) if mode.by_task else ""
    needs = {
        Configuration.NONE: [],
        Configuration.PRESET: [
            "--workdir=DIR, a new directory or that of a run to resume",
            "--preset=NAME for a new run",
        ],
        Configuration.RUN: [f"--workdir=DIR, the directory of a run{models and f' of a {models}'}"],
        Configuration.FLAGS: ["--workdir=DIR, for the results, which may be the directory of a run"],
    }[mode.configuration]
    return "; ".join([*needs, *(flag.usage for flag in mode.flags if flag.required)]) or "nothing"


def _flag(flag: Flag) -> str:
    default = f" (default: {flag.default})" if flag.default else ""
    return _entry(f"  {flag.usage}", _FLAG_COLUMN, flag.text + default)


def _entry(name: str, column: int, text: str) -> str:
    """A name and, from a column on, what is said of it; in the next line where the name takes the place."""
    lines = textwrap.wrap(text, _WIDTH - column, break_long_words=False, break_on_hyphens=False)
    indented = [" " * column + line for line in lines]
    if len(name) + 1 < column:
        indented[0] = name.ljust(column) + lines[0]
    else:
        indented.insert(0, name)
    return "\n".join(indented)
