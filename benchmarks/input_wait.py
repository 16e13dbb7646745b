"""How much of the time of training is spent waiting for the next minibatch.

    python -m benchmarks.input_wait                      # demo_bbb, on the built-in corpus
    python -m benchmarks.input_wait --data_dir=DIR       # ptb_small_bbb too; DIR has Penn Treebank

`Loop` itself trains, on the stream of an `Experiment`. A wait is the time in `next(stream)`; a step is from
there until the loop has the figures of the update. What is done between steps, such as checkpoints, counts as
neither. As the stream is made beside the step, on the same cores, it may cost more than the wait: what a
minibatch takes where nothing else runs is shown as well. The goal is a share of less than 2 %.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple
from unittest import mock

from tfp_bayesrnn import replicas
from tfp_bayesrnn.loop.loop import EpochReport, Figures, Hooks, TrainingStopped
from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.experiment import LanguageModelExperiment
from zoo.presets import get_preset
from zoo.runs.workdir import Workdir


class Stopwatch(Hooks):
    """Stops a loop after so many steps, and holds how long each took and how long it was waited for."""

    def __init__(self, steps: int):
        self.waits: list[float] = []
        self.durations: list[float] = []
        self._steps = steps

    def timed(self, stream: Callable[..., Iterator]) -> Callable[..., Iterator]:
        """`replicas.stream`, from which a loop takes its minibatches, with its waits timed."""

        def timed_stream(*arguments) -> Iterator:
            batches = stream(*arguments)
            while True:
                start = time.perf_counter()
                batch = next(batches)
                self._arrival = time.perf_counter()
                self.waits.append(self._arrival - start)
                yield batch

        return timed_stream

    def on_step(self, step: int, figures: Figures) -> None:
        """The loop has the step's figures."""
        self.durations.append(time.perf_counter() - self._arrival)

    def on_epoch_end(self, report: EpochReport) -> float:
        """Nothing is validated."""
        return report.logs["nll"]

    def should_stop(self) -> bool:
        """After the last step that is wanted."""
        return len(self.durations) >= self._steps


class InputWait(NamedTuple):
    """Of a run."""

    share: float  # Of waiting, in all time.
    wait: float  # Seconds, the median.
    longest: float  # Seconds.
    step: float  # Seconds, the median.


def input_wait(waits: list[float], durations: list[float]) -> InputWait:
    """Of steps and the waits before them."""
    share = sum(waits) / (sum(waits) + sum(durations))
    return InputWait(share, statistics.median(waits), max(waits), statistics.median(durations))


def run(
    config: LanguageModelConfig, data_dir: str | None, steps: int, warmup: int
) -> tuple[InputWait, float]:
    """Trains for so many steps after the warm-up; also the seconds a minibatch takes without training."""
    stopwatch = Stopwatch(warmup + steps)
    with tempfile.TemporaryDirectory() as directory:
        loop = LanguageModelExperiment(config, Workdir(directory), data_dir).loop
        timed = mock.patch.object(replicas, "stream", stopwatch.timed(replicas.stream))
        with timed, contextlib.suppress(TrainingStopped):
            loop.run(0, warmup + steps, stopwatch)  # So many epochs are enough.
    return input_wait(stopwatch.waits[warmup:], stopwatch.durations[warmup:]), alone(loop.dataset(0), steps)


def alone(dataset: Iterable, count: int) -> float:
    """Seconds for each of `count` minibatches that nobody does anything with."""
    start = time.perf_counter()
    for _ in itertools.islice(dataset, count):
        pass
    return (time.perf_counter() - start) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data_dir", help="directory with Penn Treebank")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=20, help="steps before, which are not counted")
    arguments = parser.parse_args()
    runs = [("demo_bbb", None)]
    if arguments.data_dir is not None:
        runs.append(("ptb_small_bbb", arguments.data_dir))
    print("| | waiting | a wait, median | longest | a step, median | a minibatch alone |")
    print("|---" * 6 + "|")
    for preset, data_dir in runs:
        found, cost = run(get_preset(preset), data_dir, arguments.steps, arguments.warmup)
        times = (found.wait, found.longest, found.step, cost)
        cells = [preset, f"{100 * found.share:.2f} %", *(f"{1e3 * seconds:.3f} ms" for seconds in times)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
