"""Interleaved measurements, of this process and of others, and ratios of them.

A `Meter` takes a number of calls and returns a figure: the seconds of one call, or whatever else is measured.
"""

from __future__ import annotations

import json
import os
import pathlib
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Meter = Callable[[int], float]

PEERS_PROGRAM = pathlib.Path(__file__).with_name("peers.py")


class PeerError(Exception):
    """A peer that cannot be timed: it is not installed, or it failed."""


@dataclass
class Figures:
    """What contestants measured: a figure for each repetition, or why there is none."""

    values: dict[str, list[float]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def ratios(self, work: str, against: str | None) -> list[float]:
        """Repetition by repetition, ascending; the figures themselves where there is nothing to divide by."""
        values = self.values[work]
        if against is not None:
            values = [value / base for value, base in zip(values, self.values[against], strict=True)]
        return sorted(values)

    def problem(self, work: str, against: str | None) -> str | None:
        """Why there is no ratio of these two; None where there is one."""
        return self.problems.get(work) or self.problems.get(against)


def stopwatch(call: Callable[[], object]) -> Meter:
    """Measures the seconds of one call."""

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls

    return seconds


def measure(
    meters: Mapping[str, Meter], repetitions: int, calls: int = 1, warm_up: bool = True, settle: bool = True
) -> Figures:
    """Lets the contestants run one after the other, again and again.

    So a change of the machine's speed meets all of them, and little of it reaches a ratio.

    Args:
      meters: one for each contestant.
      repetitions: how many figures to take of each.
      calls: in each repetition, of which a figure is the mean.
      warm_up: whether a call of each that is not counted comes first: it compiles.
      settle: whether one comes first in every repetition too: the contestant before has emptied the caches.
    """
    figures = Figures(values={name: [] for name in meters})
    for repetition in range(-int(warm_up), repetitions):
        for name, meter in meters.items():
            if name in figures.problems:
                continue
            try:
                if repetition < 0 or settle:
                    meter(1)
                if repetition >= 0:
                    figures.values[name].append(meter(calls))
            except PeerError as error:
                figures.problems[name] = str(error)
                del figures.values[name]
    return figures


def spread(values: list[float]) -> dict[str, float]:
    """Of ascending values."""
    return {"min": values[0], "median": statistics.median(values), "max": values[-1]}


class Peer:
    """A process of another environment's Python that times one of `benchmarks.peers`. It is a `Meter`."""

    def __init__(self, python: str | None, name: str, program: os.PathLike = PEERS_PROGRAM, patience=600.0):
        """Builds the peer; its process is started by the first command.

        Args:
          python: the Python; None where there is none, and so no peer.
          name: of the peer, as the program knows it.
          program: what the Python runs.
          patience: seconds to wait for an answer.
        """
        self.name = name
        self._command = [python, "-I", os.fspath(program)]
        self._patience = patience
        self._process: subprocess.Popen | None = None

    def __call__(self, calls: int) -> float:
        """Seconds of one call."""
        found = self.ask(f"time {self.name} {calls}")
        if "missing" in found:
            raise PeerError(f"not installed: {found['missing']}")
        if "seconds" not in found:
            raise PeerError(f"failed: {found.get('error', found)}")
        return found["seconds"]

    def ask(self, command: str) -> dict:
        """The process's answer.

        Raises:
          PeerError: if there is none, or it is not understood.
        """
        if self._command[0] is None:
            raise PeerError("not installed: no --peers=PYTHON given")
        try:
            if self._process is None:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            print(command, file=self._process.stdin, flush=True)
            if not select.select([self._process.stdout], [], [], self._patience)[0]:
                self.close()
                raise PeerError(f"failed: no answer within {self._patience:g} s")
            return json.loads(self._process.stdout.readline())
        except FileNotFoundError as error:
            raise PeerError(f"not installed: no Python at {error.filename}") from error
        except (OSError, ValueError) as error:
            raise PeerError(f"failed: its process ended ({type(error).__name__})") from error

    def close(self):
        """Ends the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception):
        self.close()


def versions(peers: Iterable[Peer]) -> dict[str, str]:
    """Of the libraries in the peers' environment, as the first that answers has them."""
    for peer in peers:
        try:
            return peer.ask("versions")
        except PeerError:
            continue
    return {}
