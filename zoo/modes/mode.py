"""A mode of the command line as one record, which says all that the command line has to know of it.

A mode is a file of this folder with a record named `MODE`, and a line in `zoo.modes`. Its flags, its part of
`--help` and the checks of what it needs are made from the record. The file imports no TensorFlow at its top:
`--help` and `--mode=list` read every record and are to be instant.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.configuration.checks import Check
from zoo.machine.machine import Machine

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.runs.settings import RunConfig

_METAVARS = {str: "TEXT", int: "N", float: "X", bool: ""}


class Configuration(enum.Enum):
    """The source of a mode's configuration, which decides the flags that it needs.

    Attributes:
      NONE: the mode has none, and no workdir.
      PRESET: from `--preset`, for a workdir that may be new; without it, from the run in the workdir.
      RUN: from the workdir, which must be a run's.
      FLAGS: the mode has none; its workdir need not be a run's.
    """

    NONE = enum.auto()
    PRESET = enum.auto()
    RUN = enum.auto()
    FLAGS = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag of the command line. What is not given is left to what the mode runs.

    Attributes:
      name: the flag's name, without dashes.
      text: the text of `--help` about it.
      kind: the type of its value: str, int, float or bool.
      metavar: the name of its value in `--help`; by default it goes by the kind.
      default: what holds where the flag is not given, as `--help` shows it; empty where the text says so.
      repeated: whether it may be given several times; its value is then a list.
      least: the smallest number that is accepted; only together with `most`.
      most: the largest number that is accepted.
      names: the values that are accepted, where they are few: name on the command line -> value. A bare flag
        is the name "true" and `--noflag` the name "false".
      is_path: whether the value, or each value, is a path. A flag whose values can be patterns, or can hold
        several paths, is not one: the mode makes the paths.
      argument: its name among the arguments of the mode's function, where that is another.
      required: what its value has to be, as an error says it, where the mode needs it; else empty.
      check: the values that the mode accepts, where `least` and `most` or `names` do not say it.
    """

    name: str
    text: str
    kind: type = str
    metavar: str | None = None
    default: str = ""
    repeated: bool = False
    least: int | None = None
    most: int | None = None
    names: Mapping[str, str] | None = None
    is_path: bool = False
    argument: str = ""
    required: str = ""
    check: Check | None = None

    @property
    def usage(self) -> str:
        """The flag as it is written, such as "--beam=N"."""
        metavar = _METAVARS[self.kind] if self.metavar is None else self.metavar
        return f"--{self.name}={metavar}" if metavar else f"--{self.name}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command line, checked and resolved.

    Attributes:
      machine: the machine to run on.
      config: the resolved configuration; None for a mode without one.
      workdir: the path of the workdir; None for a mode without one.
      data_dir: the directory of the data set; None where it is not given, which means that of the run.
      flags: the mode's own flags that are given: argument -> value.
      overrides: the fields of the configuration that the command line sets: dotted name -> value.
      strategy: the machine, started; None for a mode without a workdir.
    """

    machine: Machine
    config: RunConfig | None = None
    workdir: str | None = None
    data_dir: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    strategy: tf.distribute.Strategy | None = None

    @property
    def run_config(self) -> RunConfig:
        """The configuration, of a mode that has one."""
        if self.config is None:
            raise ValueError("The mode has no configuration. Received: config=None")
        return self.config

    @property
    def run_dir(self) -> str:
        """The path of the workdir, of a mode that has one."""
        if self.workdir is None:
            raise ValueError("The mode has no workdir. Received: workdir=None")
        return self.workdir


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A mode of the command line.

    Attributes:
      name: the value of `--mode`.
      about: the purpose, in one sentence without a capital and a full stop.
      run: carries out a request. It may raise InputError or absl's `flags.Error` for input that is refused.
      configuration: the source of the configuration.
      writes: the files it writes, and where, for `--help`; empty where it only prints.
      example: flags that make a complete command line, for `--help`.
      flags: the mode's own flags. Modes may share a name: such flags differ in nothing but what is said. One
        with the name of a general flag that sets a field of the configuration is an argument of the mode
        instead.
      general: further general flags that mean something to the mode, for `--help`; besides those it needs.
      one_device: what runs on one device, in a word or two, such as "evaluation"; empty for a mode that may
        run on several.
      by_task: whether only some tasks have the mode: those whose record has it in `modes`.
    """

    name: str
    about: str
    run: Callable[[Request], None]
    configuration: Configuration = Configuration.RUN
    writes: str = ""
    example: str = ""
    flags: tuple[Flag, ...] = ()
    general: tuple[str, ...] = ()
    one_device: str = ""
    by_task: bool = False
