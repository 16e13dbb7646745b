"""Tables of README and docs that are made, of records of runs and of the code: no cell of them is typed.

    .venv/bin/python -m benchmarks.made_tables                                # those that are not as made
    .venv/bin/python -m benchmarks.made_tables --write                        # writes all into the documents
    .venv/bin/python -m benchmarks.made_tables --record=demo runs/demo_*      # new figures, then writes
    .venv/bin/python -m benchmarks.made_tables --record=demo --add runs/more  # beside those of other runs

A made table stands between the lines <!-- made: NAME --> and <!-- end -->. The figures of runs are in
docs/records, a file for each set of runs: what their results.json says of perplexity or of forecasts, the
command, and the commit that they were made at, --commit=COMMIT where it is not the one checked out.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import forecast_table, results_table
from benchmarks.documented import DOCUMENTS, ROOT
from zoo.command_line import general_flags
from zoo.modes import MODES
from zoo.runs.workdir import Workdir

RECORDS = ROOT / "docs" / "records"
_MADE = re.compile(r"(<!-- made: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_KEPT = ("preset", "data", "seed", "steps", "epochs", "epochs_trained", "kl_per_training_token")
# What is kept of a way of evaluating: of text, and of series.
_OF_TEXT = ("perplexity", "perplexity_bound", "samples")
_OF_SERIES = tuple(key for key, *_ in forecast_table.FIGURES)


def of_runs(record: str, table: Callable[..., str] = results_table.table, **options: Any) -> str:
    """The table of a record's runs, and what it was made of and when.

    Args:
      record: the record's name.
      table: what makes it of the runs.
      **options: further arguments of that.
    """
    found = read_record(record)
    return (
        f"\n{table(found['runs'], **options)}\n\n"
        f"Figures of commit {_commits(found)}, in `docs/records/{record}.json`.\n\n"
    )


def _commits(found: Mapping[str, Any]) -> str:
    return " and ".join(f"`{one}`" for one in dict.fromkeys(run["commit"] for run in found["runs"]))


def flags_of_modes() -> str:
    """The flags of each mode, those of its own first."""
    rows = []
    for mode in MODES.values():
        own = [flag.name for flag in mode.flags]
        shared = [name for name in mode.general if name not in own]
        rows.append(f"| `{mode.name}` | {_listed(own)} | {_listed(shared)} |")
    always = [flag.name for flag in general_flags.FLAGS if flag.name in ("mode", "workdir", "preset", "help")]
    head = f"| mode | its own flags | general flags that it uses, besides {_listed(always)} |"
    return "\n".join(["", head, "| --- | --- | --- |", *rows, "", ""])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`--{name}`" for name in names)


TABLES: Mapping[str, Callable[[], str]] = {
    "ptb_small": lambda: of_runs("ptb_small"),
    "ptb_small_test": lambda: of_runs("ptb_small", splits=["test"], with_training=False),
    "demo": lambda: of_runs("demo", digits=2, with_training=False),
    "tourism": lambda: of_runs("tourism", forecast_table.table),
    "flags": flags_of_modes,
}
"""What makes each table, by its name in the documents."""


def read_record(name: str) -> dict[str, Any]:
    """What docs/records holds of a set of runs: "command" and "runs", each with its "commit"."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def made(text: str) -> str:
    """A document's text with all its made tables made again.

    Raises:
      KeyError: nothing makes a table of that name.
    """
    return _MADE.sub(lambda match: match[1] + TABLES[match[2]]() + match[4], text)


def names_in(text: str) -> list[str]:
    """The names of the made tables of a text."""
    return [match[2] for match in _MADE.finditer(text)]


def differing() -> Iterator[tuple[pathlib.Path, str]]:
    """The documents whose tables are not as made, and the text that they should have."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if made(text) != text:
            yield path, made(text)


def record(name: str, workdirs: Sequence[str], commit: str | None = None, add: bool = False) -> None:
    """Takes the results of runs as the record of a name, of a commit or of the one that is checked out.

    With `add` the record keeps those that it has of runs with other presets or seeds.

    Raises:
      SystemExit: a run has no results, or what is checked out has changes that no commit has.
    """
    if commit is None and _git("status", "--porcelain", "--untracked-files=no"):
        raise SystemExit("commit what has changed first: figures are marked with the commit they are of")
    commit = _git("rev-parse", "--short", commit or "HEAD")
    runs, command = [], ""
    for path in workdirs:
        workdir = Workdir(path, create=False)
        results = workdir.read_results()
        if results is None:
            raise SystemExit(f"{path} has no results.json: --mode=evaluate makes one")
        runs.append(
            {
                "commit": commit,
                **{key: results[key] for key in _KEPT if key in results},
                **{key: kept for key, value in results.items() if (kept := _figures(value))},
            }
        )
        command = f"--mode=train --preset={results['preset']} --workdir={path}"
    if add:
        given = {(run["preset"], run.get("seed")) for run in runs}
        earlier = read_record(name)["runs"]
        runs = [run for run in earlier if (run["preset"], run.get("seed")) not in given] + runs
    found = {"command": command, "runs": runs}
    (RECORDS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _figures(value: Any) -> dict[str, Any]:
    """What a record keeps of the figures of a way of evaluating; nothing of anything else."""
    if not isinstance(value, Mapping):
        return {}
    if {"perplexity", "perplexity_bound"} & value.keys():
        return {key: value[key] for key in _OF_TEXT if key in value}
    if set(_OF_SERIES) <= value.keys():
        return {key: value[key] for key in (*_OF_SERIES, "samples") if key in value}
    return {}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks, writes or records; the exit status: 1 where a table is not as made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables into the documents")
    parser.add_argument("--record", metavar="NAME", help="take the results of workdirs as this record")
    parser.add_argument("--add", action="store_true", help="of --record: keep the figures of other runs")
    parser.add_argument("--commit", help="of --record: the commit that the runs were made at")
    parser.add_argument("workdirs", nargs="*", help="of --record: finished runs")
    options = parser.parse_args(arguments)
    if options.record:
        record(options.record, options.workdirs, options.commit, options.add)
    status = 0
    for path, text in differing():
        if options.write or options.record:
            path.write_text(text, encoding="utf-8")
        else:
            status = 1
        print(f"{path.relative_to(ROOT)}: {'not as made' if status else 'written'}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
