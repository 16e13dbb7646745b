"""Command lines whose modes only say what has reached them."""

import dataclasses
import functools

import absl_main
from zoo.machine.machine import Machine
from zoo.modes import MODES

TRAIN = ("--mode=train", "--preset=demo_bbb", "--workdir=w")


def main(*arguments):
    return absl_main.main(["absl_main.py", *arguments])


def use(monkeypatch, run):
    """Has every mode run a function of its name and the request, on a machine that is not started."""
    monkeypatch.setattr(Machine, "start", lambda machine: None)
    for name, mode in MODES.items():
        monkeypatch.setitem(MODES, name, dataclasses.replace(mode, run=functools.partial(run, name)))
