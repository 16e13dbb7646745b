"""How a training step's time and a process's peak memory grow with each size of the problem, on the CPU.

    python -m benchmarks.scaling --quick                                             # is all well?
    python -m benchmarks.scaling --output=scaling.json --plot=docs/scaling.png
    python -m benchmarks.scaling --only=units --only=samples                         # some quantities
    python -m benchmarks.scaling --figures=scaling.json --plot=docs/scaling.png      # nothing measured anew

Around a base point, the network of `ptb_small_bbb` with XLA: 2 x 200 units, batch 20, unroll 35, vocabulary
10,000, random words. `samples` is another base: a pass of the average over S samples, with S = 1. `replicas`
are logical devices that share the machine's cores under `MirroredStrategy`, the global batch being the same:
they show what a replica costs, not what one gains.

Each point is a process of its own, so that its peak memory is its own. It takes repetitions by turns with the
base point's process, and ratios are of two timings that follow each other: a change in the machine's speed
meets both. A polynomial of the degree that theory expects, in z = value / base value, is fitted to the
ratios by least squares of relative errors. Its terms are shares of the base point's time: the constant one is
what does not grow, such as the draw of the weights and the KL where the batch grows.

--plot needs matplotlib (`pip install '.[plots]'`).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np
import tensorflow as tf

from benchmarks.kept import Kept
from tfp_bayesrnn import replicas
from tfp_bayesrnn.model import training
from tfp_bayesrnn.model.bayesian_model import BayesianModel
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from zoo.configuration.config import with_overrides
from zoo.data.windows import evaluation_windows
from zoo.language_model.model import build_model
from zoo.machine.machine import Machine
from zoo.presets import get_preset

WINDOWS_PER_PASS = 5  # Of the average over samples.


@dataclasses.dataclass(frozen=True)
class Point:
    """What is timed: a training step or, with `samples`, a pass of the average over as many."""

    batch: int = 20
    unroll: int = 35
    units: int = 200
    vocabulary: int = 10_000
    samples: int = 0
    replicas: int = 0  # 0: no strategy.


class Sweep(NamedTuple):
    """The values of one quantity, and the degrees in it of time and memory by theory."""

    quantity: str
    values: tuple[int, ...]
    degree: int
    memory_degree: int
    base: Point = Point()

    @property
    def base_value(self) -> int:
        """By which values are divided in a fit."""
        return getattr(self.base, self.quantity) or 1


_SWEEPS = (
    Sweep("batch", (10, 20, 40, 80), 1, 1),
    Sweep("unroll", (9, 18, 35, 70), 1, 1),
    Sweep("units", (100, 200, 400, 800), 2, 2),
    Sweep("vocabulary", (2_500, 5_000, 10_000, 20_000), 1, 1),
    Sweep("samples", (1, 2, 5, 10, 20), 1, 0, Point(samples=1)),
    Sweep("replicas", (1, 2, 4), 1, 1),
)
SWEEPS = {sweep.quantity: sweep for sweep in _SWEEPS}


# The process of a point.


def serve(work: Callable[[], Any], commands: Iterable[str], answers: TextIO) -> None:
    """Answers each line, a number of seconds, by a `Timing` of calls of `work` that last so long."""
    for line in commands:
        work()  # The caches are another process's.
        calls, start = 0, time.perf_counter()
        while not calls or time.perf_counter() - start < float(line):
            work()
            calls += 1
        seconds = (time.perf_counter() - start) / calls
        answer = {"milliseconds": 1e3 * seconds, "peak_gib": peak_gib()}
        print(json.dumps(answer), file=answers, flush=True)


def peak_gib() -> float:
    """Of this process; not `getrusage`'s, which it would inherit from the process that started it."""
    status = pathlib.Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 2**20


def work_of(point: Point) -> Callable[[], Any]:
    """What the process of a point repeats."""
    tf.config.set_visible_devices([], "GPU")
    strategy = Machine("mirrored" if point.replicas else "default", cpu_devices=point.replicas).start()
    sizes = {"model.units": point.units, "model.embedding_units": point.units}
    sizes |= {"train.batch": point.batch, "train.unroll": point.unroll}
    config = with_overrides(get_preset("ptb_small_bbb"), sizes)
    with strategy.scope():
        model = build_model(config, point.vocabulary, windows_per_epoch=1_000)
    return average(point, model) if point.samples else step(point, model)


def step(point: Point, model: BayesianModel) -> Callable[[], Any]:
    """One training step, as `Loop` takes it."""
    tokens = random_words(point.vocabulary, point.batch * (point.unroll + 1))
    tokens = tokens.reshape(point.batch, point.unroll + 1)
    inputs = {"inputs": tf.constant(tokens[:, :-1]), "is_first": tf.zeros([point.batch], tf.bool)}
    minibatch = inputs, tf.constant(tokens[:, 1:]), tf.ones([point.batch, point.unroll])
    strategy = model.distribute_strategy
    data = next(replicas.stream(strategy, lambda step: [minibatch], 0))
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
        model.carried("train", training.unpack(replicas.first(strategy, data)))
    update = tf.function(lambda data: strategy.run(model.update, args=(data,)), autograph=False)
    return lambda: replicas.first(strategy, update(data))["loss"].numpy()


def average(point: Point, model: BayesianModel) -> Callable[[], Any]:
    """One pass of the average over samples."""
    tokens = random_words(point.vocabulary, WINDOWS_PER_PASS * point.batch * point.unroll + 1)
    dataset = evaluation_windows(tokens, point.batch, point.unroll).dataset()
    evaluator = StreamEvaluator(model)
    return lambda: evaluator.average(dataset, point.samples)


def random_words(vocabulary: int, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocabulary, count).astype(np.int32)


# The process that asks.


class Timing(NamedTuple):
    """An answer of a point's process."""

    milliseconds: float
    peak_gib: float


class Child:
    """A point's process, warm once it is made; it ends with the context."""

    def __init__(self, command: Sequence[str]):
        self._errors = tempfile.TemporaryFile("w+")  # TensorFlow greets there.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.time(0.0)

    def time(self, seconds: float) -> Timing:
        """The time of a call, and the peak memory so far.

        Raises:
          RuntimeError: if the process has ended, with what it wrote to stderr.
        """
        with contextlib.suppress(BrokenPipeError):  # There is no answer, then.
            print(seconds, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            status = self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"{self._process.args} ended with status {status}: {self._errors.read()}")
        return Timing(**json.loads(answer))

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception):
        self._process.communicate()  # The end of its commands is the end of it.
        self._errors.close()


def child_of(point: Point) -> Child:
    arguments = json.dumps(dataclasses.asdict(point))
    return Child([sys.executable, "-m", "benchmarks.scaling", "--child", arguments])


def measure_sweep(
    sweep: Sweep, repetitions: int, seconds: float, start: Callable[[Point], Child] = child_of
) -> list[dict[str, Any]]:
    """A row for each value."""
    rows = []
    with start(sweep.base) as base:
        alone = [base.time(seconds) for _ in range(repetitions)]
        for value in sweep.values:
            point = dataclasses.replace(sweep.base, **{sweep.quantity: value})
            if point == sweep.base:
                pairs = [(timing, timing) for timing in alone]
            else:
                with start(point) as child:
                    pairs = [(base.time(seconds), child.time(seconds)) for _ in range(repetitions)]
            rows.append({"value": value, **row_of(pairs)})
            print(f"  {sweep.quantity} {value}: x{rows[-1]['ratio']:.2f}", file=sys.stderr, flush=True)
    return rows


def row_of(pairs: Sequence[tuple[Timing, Timing]]) -> dict[str, Any]:
    """The figures of a point from its timings, each after one of the base point."""
    ratios = [point.milliseconds / base.milliseconds for base, point in pairs]
    base, point = pairs[-1]
    return {
        "milliseconds": statistics.median(point.milliseconds for _, point in pairs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "peak_gib": point.peak_gib,
        "memory_ratio": point.peak_gib / base.peak_gib,
    }


# Theory.


class Fit(NamedTuple):
    """A polynomial in z = value / base value, fitted to ratios to the base point."""

    coefficients: list[float]  # Of z^0, z^1, ...
    r2: float | None  # Of a constant there is none.
    deviation: float  # The largest, relative to the ratio measured.

    def at(self, z):
        """The ratio there."""
        return np.polynomial.polynomial.polyval(z, self.coefficients)

    def __str__(self) -> str:
        powers = ["", " z", " z²"]
        terms = [f"{value:+.3f}{power}" for value, power in zip(self.coefficients, powers, strict=False)]
        law = " ".join(terms).replace("+", "+ ").replace("-", "− ").removeprefix("+ ")
        r2 = "" if self.r2 is None else f"{self.r2:.4f}"
        return f"{law} | {r2} | {100 * self.deviation:.1f} %"


def fit(z: Sequence[float], ratios: Sequence[float], degree: int) -> Fit:
    """Least squares of relative errors: those of timings are."""
    ratios = np.asarray(ratios)
    coefficients = np.polynomial.polynomial.polyfit(z, ratios, degree, w=1.0 / ratios)
    errors = ratios - np.polynomial.polynomial.polyval(np.asarray(z), coefficients)
    r2 = 1.0 - float(np.sum(errors**2) / np.sum((ratios - ratios.mean()) ** 2)) if degree else None
    return Fit([float(value) for value in coefficients], r2, float(np.max(np.abs(errors) / ratios)))


def fits(sweep: Sweep, rows: Sequence[dict[str, Any]]) -> tuple[Fit, Fit]:
    """Of time and of memory."""
    z = [row["value"] / sweep.base_value for row in rows]
    return (
        fit(z, [row["ratio"] for row in rows], sweep.degree),
        fit(z, [row["memory_ratio"] for row in rows], sweep.memory_degree),
    )


def exponent(rows: Sequence[dict[str, Any]]) -> float:
    """Of time, between the two largest values: 1 where it is proportional to the value."""
    low, high = rows[-2:]
    return float(np.log(high["ratio"] / low["ratio"]) / np.log(high["value"] / low["value"]))


# What is shown.


def tables(figures: dict[str, Any]) -> str:
    """All points, then all fits, in Markdown."""
    points = ["| | value | ms | time (min to max) | by fit | GiB | memory | by fit |", "|---" * 8 + "|"]
    laws = [
        "| | time, z = value / base value | R² | deviation | exponent | memory | R² | deviation |",
        "|---" * 8 + "|",
    ]
    for quantity, rows in figures["sweeps"].items():
        of_time, of_memory = fits(SWEEPS[quantity], rows)
        for row in rows:
            z = row["value"] / SWEEPS[quantity].base_value
            points.append(
                f"| {quantity} | {row['value']:,} | {row['milliseconds']:.1f} "
                f"| {row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f}) "
                f"| {of_time.at(z):.2f} | {row['peak_gib']:.2f} | {row['memory_ratio']:.2f} "
                f"| {of_memory.at(z):.2f} |"
            )
        laws.append(f"| {quantity} | {of_time} | {exponent(rows):.2f} | {of_memory} |")
    base = Point()
    note = (
        f"Base point: a step of 2 x {base.units} units, batch {base.batch}, unroll {base.unroll}, vocabulary "
        f"{base.vocabulary:,}; of samples, a pass over {WINDOWS_PER_PASS} such windows. Replicas are logical "
        f"devices that share the same {figures['cores']} cores ({figures['machine']}) and the same batch."
    )
    return "\n".join([*points, "", *laws, "", note])


def draw(figures: dict[str, Any], path: str) -> None:
    """A panel for each quantity: time and memory relative to the base point, and their fits."""
    import matplotlib  # Not at the top: to measure does not need it.

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sweeps = figures["sweeps"]
    shape = (2, 3) if len(sweeps) > 3 else (1, len(sweeps))
    figure, panels = plt.subplots(*shape, figsize=(3 * shape[1], 2.8 * shape[0]), layout="constrained")
    for axes, (quantity, rows) in zip(np.ravel(panels), sweeps.items(), strict=False):
        sweep = SWEEPS[quantity]
        values = [row["value"] for row in rows]
        line = np.linspace(values[0], values[-1], 100)
        for color, key, label, law in zip(
            ("C0", "C1"), ("ratio", "memory_ratio"), ("time", "memory"), fits(sweep, rows), strict=True
        ):
            axes.plot(values, [row[key] for row in rows], ".", color=color, label=label)
            axes.plot(line, law.at(line / sweep.base_value), color=color, linewidth=1)
        axes.set(xlabel=quantity, xlim=(0, None), ylim=(0, None))
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
    np.ravel(panels)[0].set_ylabel("relative to the base point")
    np.ravel(panels)[0].legend()
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def measure(
    quantities: Iterable[str], repetitions: int, seconds: float, output: str | None = None
) -> dict[str, Any]:
    setup = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "repetitions": repetitions,
        "seconds": seconds,
    }
    kept = Kept(output, setup)
    sweeps = {
        name: kept.piece(name, functools.partial(measure_sweep, SWEEPS[name], repetitions, seconds))
        for name in quantities
    }
    return {**setup, "sweeps": sweeps}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 repetitions of 0.3 s, not 5 of 2 s")
    parser.add_argument("--only", action="append", choices=SWEEPS)
    parser.add_argument("--figures", help="file that --output wrote, to show again; nothing is measured")
    parser.add_argument("--output", help="file that each sweep is added to; the same command again goes on")
    parser.add_argument("--plot", help="file to draw the plot to")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        serve(work_of(Point(**json.loads(arguments.child))), sys.stdin, sys.stdout)
        return
    if arguments.figures:
        found = json.loads(pathlib.Path(arguments.figures).read_text())
        figures = {**found["setup"], "sweeps": found["pieces"]}
    else:
        effort = (3, 0.3) if arguments.quick else (5, 2.0)
        figures = measure(arguments.only or SWEEPS, *effort, arguments.output)
    print(tables(figures))
    if arguments.plot:
        draw(figures, arguments.plot)


if __name__ == "__main__":
    main()
