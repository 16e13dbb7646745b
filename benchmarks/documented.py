"""The commands of README, BUILD.md and docs: whether the program accepts them, and runs of the cheap ones.

    .venv/bin/python -m benchmarks.documented          # every command's flags, by the program's own parsers
    .venv/bin/python -m benchmarks.documented --run    # besides, in a new directory, those on built-in data

The flags are checked as far as the program does before its work begins: names, values, presets, overrides,
and that the task of a run has the mode. Configurations stand in for the runs that a command names.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from zoo.command_line import library, parsing, requests
from zoo.configuration.fields import flatten
from zoo.modes import MODES
from zoo.modes.mode import Configuration, Request
from zoo.presets import get_preset, preset_names

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "BUILD.md", *sorted((ROOT / "docs").glob("*.md")))
PYTHON = ".venv/bin/python"
# A block: lines indented by four columns after an empty one, which no list is. A span: between backticks.
_BLOCK = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n)+")
_FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
# Of the runs that stand-ins are made for: what trains them where no command of the document does.
_USUAL = {"caption": "shapes_demo_bbb", "forecast": "demo_forecast_bbb"}
# So that a run is quick: field -> value, as far as the preset's task has it.
_QUICK = {"train.epochs": 1, "model.units": 8, "model.embedding_units": 8, "model.layers": 1}


class Command(NamedTuple):
    """A command of a document.

    Attributes:
      document: the file's name.
      words: the program and its arguments; of a span that has flags alone, these.
    """

    document: str
    words: list[str]

    @property
    def flags(self) -> list[str] | None:
        """The arguments of `absl_main.py`; None of another program."""
        if self.words[0].startswith("--"):
            return self.words
        return self.words[2:] if self.words[:2] == [PYTHON, "absl_main.py"] else None

    @property
    def benchmark(self) -> tuple[str, list[str]] | None:
        """The module of a benchmark and its arguments; None of another program."""
        is_one = self.words[:2] == [PYTHON, "-m"] and self.words[2].startswith("benchmarks.")
        return (self.words[2], self.words[3:]) if is_one else None

    def value(self, flag: str) -> str | None:
        """The value of a flag, the last one given."""
        start = f"--{flag}="
        return next((word[len(start) :] for word in reversed(self.words) if word.startswith(start)), None)


def commands(document: pathlib.Path) -> list[Command]:
    """The commands of a document that are the program's or a benchmark's, in their order."""
    return [
        Command(document.name, words)
        for words in map(_words, _lines(document.read_text(encoding="utf-8")))
        if words and _is_ours(words)
    ]


def _lines(text: str) -> Iterator[str]:
    """The lines of blocks, those that go on in the next joined; and the spans."""
    text = _FENCED.sub("", text)
    found = [(match.start(), match[0].replace("\\\n", " ").splitlines()) for match in _BLOCK.finditer(text)]
    rest = _BLOCK.sub(lambda match: " " * len(match[0]), text)
    found += [(match.start(), [" ".join(match[1].split())]) for match in _SPAN.finditer(rest)]
    for _, lines in sorted(found):
        yield from lines


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # No command: a quotation mark alone.
        return []
    while words and re.fullmatch(r"\w+=.*", words[0], re.DOTALL):  # The environment of the command.
        words = words[1:]
    return words[:-1] if words[-1:] == ["&"] else words


def _is_ours(words: Sequence[str]) -> bool:
    if words[0].startswith("--mode="):
        return len(words) > 1 and "..." not in " ".join(words)
    ours = words[:2] == [PYTHON, "absl_main.py"] or (
        words[:2] == [PYTHON, "-m"] and "benchmarks." in words[2]
    )
    return ours and "..." not in " ".join(words)


# Checking.


def check(command: Command, trained: dict[str, str]) -> Request | None:
    """The request that the program makes of a command before its work begins, in the current directory.

    Args:
      command: a command of `absl_main.py`.
      trained: workdir -> preset, of the runs that earlier commands of the document have trained.

    Raises:
      Exception: the program refuses it.
    """
    library.defer()
    flags = command.flags or []
    workdir, preset = command.value("workdir"), command.value("preset")
    mode = MODES[parsing.check_choice("mode", command.value("mode"), tuple(MODES))]
    if workdir is not None and preset is not None:
        trained[workdir] = preset
    if workdir is None and mode.configuration is not Configuration.NONE and len(command.words) == len(flags):
        workdir = "runs/left_out"  # A span that has the flags of interest alone.
        flags = [*flags, f"--workdir={workdir}"]
    if mode.configuration is Configuration.PRESET and preset is None:
        flags = [*flags, "--preset=demo_bbb"]
    if mode.configuration is Configuration.RUN and workdir is not None:
        _stand_in(workdir, trained.get(workdir) or _preset_of(workdir, mode.name))
    argv = ["absl_main.py", *flags]
    parsed = parsing.parse(parsing.define_flags(), argv, known_only=True)
    request = requests.resolve(mode, parsed, argv, requests.machine_of(parsed))
    requests.check_task(mode, request)
    return request


def _preset_of(workdir: str, mode: str) -> str:
    """The preset of a run by what its directory is called."""
    name = pathlib.Path(workdir).name
    return name if name in preset_names() else _USUAL.get(mode, "demo_bbb")


def _stand_in(workdir: str, preset: str) -> None:
    from zoo.configuration import config as configs

    pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
    text = configs.to_json(get_preset(preset))
    pathlib.Path(workdir, "config.json").write_text(text, encoding="utf-8")


class _Parsed(Exception):
    """Raised in place of what a benchmark does once its arguments are read."""


def check_benchmark(module: str, arguments: Sequence[str]) -> None:
    """Has a benchmark read its arguments, and no more.

    Raises:
      SystemExit: it does not accept them.
    """
    read = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *given: Any, **named: Any) -> Any:
        read(self, *given, **named)
        raise _Parsed

    before, argparse.ArgumentParser.parse_args = sys.argv, parse_args  # type: ignore[method-assign]
    sys.argv = [module, *arguments]
    try:
        importlib.import_module(module).main()
    except _Parsed:
        pass
    finally:
        sys.argv, argparse.ArgumentParser.parse_args = before, read  # type: ignore[method-assign]


# Running.


def is_cheap(command: Command, trained: dict[str, str]) -> bool:
    """Whether a command works on data that are built in and text alone, or on a run of such data."""
    if command.flags is None or command.words[0].startswith("--"):
        return False
    if any(name in " ".join(command.words) for name in ("DIR", "path/", "photo")):
        return False
    preset = command.value("preset") or trained.get(command.value("workdir") or "")
    return command.value("mode") == "list" or (preset or "").startswith("demo_")


def run(command: Command, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Runs a command of `absl_main.py` in a folder; where it trains, a small model for one epoch."""
    preset, more = command.value("preset"), []
    if command.value("mode") == "train" and preset is not None:
        fields = flatten(get_preset(preset))
        more = [f"--config.{name}={value}" for name, value in _QUICK.items() if name in fields]
    return subprocess.run(
        [sys.executable, str(ROOT / "absl_main.py"), *(command.flags or []), *more],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks all commands, runs the cheap ones where asked to; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", action="store_true", help="run what is cheap")
    options = parser.parse_args(arguments)
    failed = 0
    for document in DOCUMENTS:
        with tempfile.TemporaryDirectory() as checked, tempfile.TemporaryDirectory() as ran:
            os.chdir(checked)
            trained: dict[str, str] = {}
            for command in commands(document):
                problem = problem_of(command, trained)
                if problem is None and options.run and is_cheap(command, trained):
                    done = run(command, pathlib.Path(ran))
                    problem = done.stderr if done.returncode else None
                failed += problem is not None
                mark = "ok    " if problem is None else "FAILED"
                print(mark, command.document, shlex.join(command.words), problem or "", flush=True)
            os.chdir(ROOT)
    return failed


def problem_of(command: Command, trained: dict[str, str]) -> str | None:
    """What is wrong with a command's arguments; None: nothing. The arguments are those of `check`."""
    try:
        if command.benchmark:
            check_benchmark(*command.benchmark)
        else:
            check(command, trained)
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    sys.exit(min(main(), 1))
