"""From parsed flags to a mode's request, checked and resolved, and its execution."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from zoo.command_line import general_flags, library, parsing
from zoo.machine.machine import STRATEGIES, Machine
from zoo.modes import MODES
from zoo.modes.mode import Configuration, Flag, Mode, Request
from zoo.runs.settings import RunConfig

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)")
_STANDARD = "-"  # Stands for standard input or output, where a flag takes it in a path's place.


def machine_of(parsed: flags.FlagValues) -> Machine:
    """The machine that the command line asks for.

    Raises:
      flags.Error: there is no such strategy.
    """
    asked = {name: parsed[name].value for name in ("strategy", "cpu_devices", "deterministic")}
    machine = Machine(**{name: value for name, value in asked.items() if value is not None})
    parsing.check_choice("strategy", machine.strategy, STRATEGIES)
    return machine


def resolve(mode: Mode, parsed: flags.FlagValues, argv: list[str], machine: Machine) -> Request:
    """The request of a command line.

    Args:
      mode: the one that it names.
      parsed: the parsed flags, without those of --config.
      argv: the command line, the program's name first.
      machine: the one that it asks for.

    Raises:
      flags.Error: a flag is not accepted, or is missing.
      InputError: a path or the configuration is not accepted.
    """
    given = parsing.flags_of(mode, parsed)
    if mode.configuration is Configuration.NONE:
        parsing.parse(parsed, argv)
        return Request(machine=machine, flags=given)
    if parsed["workdir"].value is None:
        raise flags.Error(f"--mode={mode.name} needs --workdir=DIR, the directory of the run")
    given |= {name: parsed[name].value for name in ("workdir", "data_dir")}
    given = _with_paths(given, [*general_flags.FLAGS, *mode.flags])
    request = Request(
        machine=_one_device(mode, machine) if mode.one_device else machine,
        workdir=given.pop("workdir"),
        data_dir=given.pop("data_dir"),
        flags=given,
    )
    from zoo.configuration import config as configs

    request = _RESOLVE[mode.configuration](mode, request, parsed, argv)
    for flag in mode.flags:
        if flag.required and flag.name not in request.flags:
            raise flags.Error(f"--mode={mode.name} needs {flag.usage}: {flag.required}")
        if flag.check is not None and flag.name in request.flags:
            configs.check_field(f"--{flag.name}", request.flags[flag.name], flag.check)
    if request.config is not None:
        configs.validate(request.config)
    arguments = {flag.name: flag.argument or flag.name for flag in mode.flags}
    given = {arguments[name]: value for name, value in request.flags.items()}
    return dataclasses.replace(request, flags=given)


def carry_out(mode: Mode, request: Request) -> None:
    """Imports TensorFlow, starts the machine and runs the mode.

    Raises:
      InputError: the task of the workdir's run has no such mode; what the mode raises.
    """
    check_task(mode, request)
    if mode.configuration is not Configuration.NONE:
        library.load()
        request = dataclasses.replace(request, strategy=request.machine.start())
    mode.run(request)


def check_task(mode: Mode, request: Request) -> None:
    """Raises InputError where the task of the workdir's run does not have the mode."""
    from tfp_bayesrnn.errors import InputError
    from zoo.registry import task_of, tasks_with

    if not mode.by_task:
        return
    task, able = task_of(request.run_config), tasks_with(mode.name)
    if task not in able:
        raise InputError(
            f"--mode={mode.name} needs the workdir of a {' or a '.join(other.label for other in able)}; "
            f"{request.workdir} is of {request.run_config.preset!r}, a {task.label}"
        )


def _with_paths(given: Mapping[str, Any], all_flags: list[Flag]) -> dict[str, Any]:
    """The values of `given`, those that are paths made such."""
    from tfp_bayesrnn.filesystem.paths import local_path

    made = dict(given)
    for flag in all_flags:
        value = made.get(flag.name)
        if not flag.is_path or value in (None, _STANDARD):
            continue
        if flag.repeated:
            made[flag.name] = [str(local_path(one, f"--{flag.name}")) for one in value]
        else:
            made[flag.name] = str(local_path(value, f"--{flag.name}"))
    return made


def _one_device(mode: Mode, machine: Machine) -> Machine:
    if machine.strategy not in ("auto", "default") or machine.cpu_devices > 1:
        others = (one for one in MODES.values() if one.configuration is not Configuration.NONE)
        able = " or ".join(f"--mode={one.name}" for one in others if not one.one_device)
        raise flags.Error(
            f"--strategy={machine.strategy} with --cpu_devices={machine.cpu_devices} is for {able}: "
            f"{mode.one_device} runs on one device"
        )
    return Machine("default", 1, machine.deterministic)


def _of_preset(mode: Mode, request: Request, parsed: flags.FlagValues, argv: list[str]) -> Request:
    from zoo.configuration import config as configs
    from zoo.filesystem.files import is_file
    from zoo.presets import get_preset
    from zoo.registry import read_config
    from zoo.runs.workdir import CONFIG, Workdir

    preset = parsed["preset"].value
    if preset is not None:
        base = get_preset(preset)
    elif is_file(os.path.join(request.run_dir, CONFIG)):
        base = read_config(Workdir(request.run_dir, create=False))
    else:
        raise flags.Error(f"--mode={mode.name} needs --preset=NAME for a new run; --mode=list shows them")
    overrides = _overrides(argv, base)
    config = configs.with_overrides(base, overrides)
    return dataclasses.replace(request, config=config, overrides=overrides)


def _of_run(mode: Mode, request: Request, parsed: flags.FlagValues, argv: list[str]) -> Request:
    from zoo.configuration import config as configs
    from zoo.registry import read_config
    from zoo.runs.workdir import Workdir

    saved = read_config(Workdir(request.run_dir, create=False))
    overrides = _overrides(argv, saved)
    given = dict(request.flags)
    for flag in mode.flags:
        field = general_flags.FIELDS.get(flag.name)
        if field in overrides:
            given[flag.name] = overrides.pop(field)
    config = configs.for_evaluation(saved, parsed["preset"].value, overrides)
    return dataclasses.replace(request, config=config, overrides=overrides, flags=given)


def _of_flags(mode: Mode, request: Request, parsed: flags.FlagValues, argv: list[str]) -> Request:
    parsing.parse(parsing.define_flags(), argv)
    return request


_RESOLVE = {
    Configuration.PRESET: _of_preset,
    Configuration.RUN: _of_run,
    Configuration.FLAGS: _of_flags,
}


def _overrides(argv: list[str], base: RunConfig) -> dict[str, Any]:
    """The value of every field of `base` that the command line sets, by its dotted name."""
    from zoo.configuration import config as configs
    from zoo.configuration.fields import flatten

    fields = flatten(base)
    for argument in argv[1:]:
        named = _OVERRIDE.match(argument)
        if named and named[1] not in fields:
            raise configs.unknown_field(named[1], fields)
        if argument.split("=")[0].lstrip("-") == "config":
            raise flags.Error("--config needs a field, as in --config.train.epochs=3")
    values = parsing.define_flags()
    config_flags.DEFINE_config_dict(
        "config", ConfigDict(base.to_dict()), flag_values=values, sys_argv=argv, lock_config=True
    )
    parsing.parse(values, argv, fields=fields)
    overrides = dict(config_flags.get_override_values(values["config"]))
    for flag, field in general_flags.FIELDS.items():
        value = values[flag].value
        if value is None:
            continue
        if overrides.get(field, value) != value:
            raise flags.Error(
                f"--{flag}={value} and --config.{field}={overrides[field]} contradict each other: give one"
            )
        overrides[field] = value
    return overrides
