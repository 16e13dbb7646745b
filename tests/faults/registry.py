"""All kinds of faults, by the name that `--only` takes, each with the layouts that it is dealt to."""

from __future__ import annotations

import signal
from collections.abc import Callable

import damage
import disk
import flips
import neighbours
import paths
from signals import FINAL, PHASES, START_UP, TRAINING, WRITING, signals
from suite import Suite

from runs import Layout

ONE = Layout("one replica", ("--strategy=default", "--jit_compile=off"))
XLA = Layout("one replica, XLA", ("--strategy=default", "--jit_compile=on"))
TWO = Layout("two replicas", ("--strategy=mirrored", "--cpu_devices=2", "--jit_compile=off"))
WORKERS = Layout("two workers", ("--strategy=multi_worker", "--jit_compile=off"), workers=2)
LAYOUTS = (ONE, XLA, TWO, WORKERS)


def kill(suite: Suite) -> None:
    """SIGKILL at every phase."""
    each = -(-suite.kills // len(LAYOUTS))
    for layout in (ONE, XLA, TWO):
        signals(suite, layout, signal.SIGKILL, each)
    signals(suite, WORKERS, signal.SIGKILL, each, (TRAINING, WRITING, TRAINING, FINAL))


def terminate(suite: Suite) -> None:
    """SIGTERM at every phase."""
    signals(suite, ONE, signal.SIGTERM, len(PHASES))
    signals(suite, TWO, signal.SIGTERM, 3, (START_UP, TRAINING, FINAL))
    signals(suite, WORKERS, signal.SIGTERM, 2, (TRAINING, FINAL))


def start_up_of_workers(suite: Suite) -> None:
    """Both, while workers wait for one another."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        signals(suite, WORKERS, number, 1, (START_UP,))


def damaged_checkpoints(suite: Suite) -> None:
    """Every damage to checkpoints, and a first one that was torn."""
    for layout in (ONE, TWO):
        damage.damages(suite, layout)
    damage.torn_first_checkpoint(suite, ONE)


FAULTS: dict[str, Callable[[Suite], None]] = {
    "kill": kill,
    "term": terminate,
    "workers": start_up_of_workers,
    "damage": damaged_checkpoints,
    "disk": lambda suite: disk.full_disks(suite, ONE),
    "neighbours": lambda suite: neighbours.neighbours(suite, ONE),
    "prune": lambda suite: neighbours.prune_over_prune(suite, ONE),
    "paths": lambda suite: paths.odd_paths(suite, ONE),
    "flips": lambda suite: flips.flips(suite, ONE),
}
