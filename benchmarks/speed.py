"""How fast training and evaluation are, against Keras, other Bayesian libraries, and what the machine can do.

    python -m benchmarks.speed                                   # all rows that need no other library
    python -m benchmarks.speed --peers=PEERS/bin/python          # those too: see requirements-peers.txt
    python -m benchmarks.speed --quick                           # whether it works: minutes, rough figures
    python -m benchmarks.speed --only=layer,medium --output=speed.json

A ratio is the time of `work` by the time of what it is against. In every repetition all contestants run one
after the other, and the ratio is taken repetition by repetition: smallest, median, largest. A goal is reached
if the median reaches it. Ours are compiled by XLA, as is the default, and Keras's layers are not, as is
Keras's default on a CPU, unless it says otherwise. Each group is printed, and added to the output file, as
soon as it is measured; the same command again measures those that are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import pathlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata

from benchmarks import memory, timing
from benchmarks.kept import Kept
from benchmarks.peers import PEERS
from benchmarks.timing import Figures, stopwatch
from zoo.command_line import quiet_imports

GROUPS = {
    "layer": "LSTM layer, 650 units",
    "medium": "training step, PTB medium",
    "small": "training step, PTB small",
    "evaluation": "evaluation of 10, PTB small",
    "memory": "resident memory",
}
# Arguments of `benchmarks.memory`, which says how much there is at the "peak" and after the "imports".
PROCESSES = {
    "training PTB medium, BBB": ["training"],
    "evaluation, 10 samples": ["evaluation", "10"],
    "evaluation, 2 samples": ["evaluation", "2"],
}
# From the widest on.
INSTRUCTION_SETS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON"}
PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy")


@dataclass(frozen=True)
class Row:
    """A row of the table: two contestants of a group, and the goal of their ratio.

    Without `against`, the row is of the figure itself, in GiB.
    """

    group: str
    work: str
    against: str | None
    goal: float | None = None
    at_least: bool = False

    def goal_text(self) -> str:
        """Such as "<= 0.60"."""
        return "" if self.goal is None else f"{'>=' if self.at_least else '<='} {self.goal:.2f}"

    def reached(self, median: float) -> bool | None:
        """Whether the goal is; None where there is none."""
        if self.goal is None:
            return None
        return median >= self.goal if self.at_least else median <= self.goal


ROWS = [
    Row("layer", "deterministic", "keras.layers.LSTM", 0.60),
    Row("layer", "deterministic", "torch.nn.LSTM", 1.00),
    Row("layer", "variational", "keras.layers.LSTM", 0.85),
    Row("layer", "variational", "Edward2", 0.60),
    Row("layer", "variational", "BLiTZ", 0.33),
    Row("layer", "variational", "bayesian-torch", 0.05),
    Row("layer", "deterministic", "keras.layers.LSTM, XLA"),
    Row("layer", "variational", "keras.layers.LSTM, XLA"),
    Row("layer", "deterministic, no XLA", "keras.layers.LSTM"),
    Row("layer", "variational, no XLA", "keras.layers.LSTM"),
    Row("medium", "deterministic", "Keras layers", 0.62),
    Row("medium", "BBB", "Keras layers", 1.00),
    Row("medium", "BBB + sharpening", "Keras layers", 1.75),
    Row("medium", "BBB + sharpening", "BBB"),
    Row("medium", "deterministic", "Keras layers, XLA"),
    Row("medium", "BBB", "Keras layers, XLA"),
    Row("medium", "deterministic, no XLA", "Keras layers"),
    Row("medium", "BBB, no XLA", "Keras layers"),
    Row("medium", "BBB + sharpening, no XLA", "Keras layers"),
    Row("small", "BBB", "Keras layers", 1.10),
    Row("medium", "matrix products alone", "deterministic", 0.90, at_least=True),
    Row("medium", "deterministic, bfloat16", "deterministic", 0.75),
    Row("medium", "BBB, bfloat16", "BBB", 0.75),
    Row("evaluation", "average over samples", "passes under the mean", 1.10),
    Row("memory", "evaluation, 10 samples, peak", "evaluation, 2 samples, peak", 1.10),
    Row("memory", "training PTB medium, BBB, peak", None, 1.50),
    Row("memory", "training PTB medium, BBB, imports", None),
]


@dataclass(frozen=True)
class Effort:
    """How long to measure: repetitions (of evaluations and processes `long_`), calls in each, windows."""

    repetitions: int = 7
    calls: int = 3
    settle: bool = True
    long_repetitions: int = 5
    windows: int = 118  # Of the test words of Penn Treebank, in 20 rows of 35.


QUICK = Effort(repetitions=2, calls=1, settle=False, long_repetitions=1, windows=8)


def measure_group(group: str, effort: Effort, peers: Mapping[str, timing.Peer]) -> Figures:
    """The figures of a group's contestants and of those peers that take part in it."""
    if group == "memory":
        return measure_memory(effort.long_repetitions)
    contestants = quiet_imports.import_quietly("benchmarks.contestants")
    if group == "evaluation":
        calls = contestants.evaluation("small", effort.windows)
        meters = {name: stopwatch(call) for name, call in calls.items()}
        return timing.measure(meters, effort.long_repetitions, warm_up=False, settle=False)
    if group == "layer":
        calls = contestants.layer(contestants.UNITS["medium"])
    elif group == "medium":
        calls = contestants.training("medium", variants=True)
    else:
        calls = contestants.training("small", methods=["BBB"])
    meters = {name: stopwatch(call) for name, call in calls.items()}
    return timing.measure({**meters, **peers}, effort.repetitions, effort.calls, settle=effort.settle)


def measure_memory(repetitions: int) -> Figures:
    """GiB of fresh processes."""
    figures = Figures()
    for _ in range(repetitions):
        for name, work in PROCESSES.items():
            for moment, value in memory.of_process(*work).items():
                figures.values.setdefault(f"{name}, {moment}", []).append(value)
    return figures


def row_record(row: Row, figures: Figures) -> dict:
    """A row with what was measured, as the JSON has it."""
    record = {**asdict(row), "unit": "GiB" if row.against is None else "ratio"}
    problem = figures.problem(row.work, row.against)
    if problem:
        return {**record, "problem": problem, "reached": None}
    values = figures.ratios(row.work, row.against)
    found = timing.spread(values)
    return {**record, **found, "values": values, "reached": row.reached(found["median"])}


def table(records: list[dict]) -> str:
    """The rows as a table in Markdown, and below it why any could not be measured."""
    lines = [("work", "against", "ratio (min - median - max)", "goal", "reached")]
    lines += [_cells(record) for record in records]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    text = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    ]
    problems = {
        f"{record['against']}: {record['problem']}": None for record in records if "problem" in record
    }
    return "\n".join([*text, *problems])


def _cells(record: dict) -> tuple[str, ...]:
    row = Row(**{name: record[name] for name in Row.__dataclass_fields__})
    if "problem" in record:
        ratio = record["problem"].split(":")[0]
    else:
        ratio = " - ".join(f"{record[key]:.2f}" for key in ("min", "median", "max"))
        ratio += " GiB" if record["unit"] == "GiB" else ""
    reached = {None: "", True: "yes", False: "no"}[record["reached"]]
    return f"{GROUPS[row.group]}: {row.work}", row.against or "", ratio, row.goal_text(), reached


def machine() -> dict:
    """What the figures were measured on."""
    found = {
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    with contextlib.suppress(OSError):
        found |= processor(pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found


def processor(cpuinfo: str) -> dict:
    """Its name, its widest vectors, and whether it multiplies bfloat16, of the text of /proc/cpuinfo."""
    lines = dict(map(str.strip, line.split(":", 1)) for line in cpuinfo.splitlines() if ":" in line)
    flags = (lines.get("flags") or lines.get("Features") or "").split()
    native = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags]
    vectors = [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]
    return {
        "processor": lines.get("model name"),
        "instruction_set": vectors[0] if vectors else None,
        "native_bfloat16": bool(native),
        "bfloat16_flags": native,
    }


def report(groups: list[str], effort: Effort, python: str | None, output: str | None = None) -> list[dict]:
    """Measures group by group, each printed and kept when it is done; returns the rows of all."""
    setup = {
        "machine": machine(),
        "versions": {package: metadata.version(package) for package in PACKAGES},
        "effort": asdict(effort),
    }
    print(f"on: {setup['machine'].get('processor')}, {setup['machine'].get('instruction_set')}", flush=True)
    kept, rows = Kept(output, setup), []
    for group in groups:
        found = kept.piece(group, functools.partial(measured, group, effort, python))
        print(table(found["rows"]), flush=True)
        rows += found["rows"]
    return rows


def measured(group: str, effort: Effort, python: str | None) -> dict:
    """A group's rows, and the figures that they are made of."""
    print(f"measuring: {GROUPS[group]} ...", flush=True)
    with contextlib.ExitStack() as stack:
        names = PEERS if group == "layer" else ()
        peers = {name: stack.enter_context(timing.Peer(python, name)) for name in names}
        figures = measure_group(group, effort, peers)
        versions = timing.versions(peers.values())
    return {
        "rows": [row_record(row, figures) for row in ROWS if row.group == group],
        "figures": figures.values,
        "problems": figures.problems,
        "peers": versions,
    }


def groups_of(text: str) -> list[str]:
    """The groups that a comma-separated text names."""
    names = text.split(",")
    unknown = set(names) - set(GROUPS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}; choose from {', '.join(GROUPS)}")
    return names


def main(arguments: list[str] | None = None):
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see whether it works")
    parser.add_argument("--peers", metavar="PYTHON", help="the Python of the other libraries' environment")
    parser.add_argument("--output", metavar="FILE", help="JSON file, to which each group is added")
    parser.add_argument(
        "--only", type=groups_of, default=list(GROUPS), metavar="GROUP,...", help=", ".join(GROUPS)
    )
    options = parser.parse_args(arguments)
    rows = report(options.only, QUICK if options.quick else Effort(), options.peers, options.output)
    if len(options.only) > 1:
        print(table(rows))


if __name__ == "__main__":
    main()
