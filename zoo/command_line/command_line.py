"""The command line: flags to one resolved configuration and one call of `zoo.command_line.commands.run`."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from zoo.command_line import command_flags, mode_flags
from zoo.command_line.command_flags import define_flags
from zoo.command_line.mode_flags import MODES, OF_A_RUN
from zoo.command_line.quiet import import_quietly
from zoo.machine import interruption
from zoo.machine.machine import STRATEGIES, Machine
from zoo.terminal import standard_streams, terminal

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)")
# Flags that set a field of the configuration, as --config.FIELD does.
_FIELDS = {
    "seed": "seed",
    "num_samples": "evaluate.num_samples",
    "mixed_precision": "compute_dtype",
    "jit_compile": "jit_compile",
}
_LONGEST = 2000  # Characters of a message, which may quote what is of any length.


def main(argv: Sequence[str], about: str) -> int:
    """Runs one command line; its exit status: 0, 2 for bad input, 128 + n when signal n ended it.

    Args:
      argv: the command line, the program's name first.
      about: what `--help` says before it lists the flags.
    """
    standard_streams.prepare()
    status = 0
    try:
        status = _status_of(list(argv), about)
        standard_streams.finish()
    except BrokenPipeError:  # Whoever read our output, such as `head`, has had enough of it.
        standard_streams.abandon()
    except standard_streams.OutputError as error:
        standard_streams.abandon()
        status = status or _refuse(error)
    return status


def _status_of(argv: list[str], about: str) -> int:
    try:
        with interruption.ending_at_once():
            _run(argv, about)
    except interruption.Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.number
    except (BrokenPipeError, standard_streams.OutputError):
        raise
    except Exception as error:
        problem = _problem(error)
        if problem is None:
            raise
        return _refuse(problem)
    return 0


def _problem(error: Exception) -> str | None:
    """What to tell the user of an error; None where it is a mistake of ours."""
    if isinstance(error, flags.Error):
        return str(error)
    if isinstance(error, ValueError):
        return str(error) if isinstance(error, import_quietly("tfp_bayesrnn.errors").InputError) else None
    if isinstance(error, OSError) and error.filename:  # Of a path that nothing else has explained.
        return f"cannot use {error.filename}: {error.strerror}"
    tensorflow = sys.modules.get("tensorflow")
    exhausted = (MemoryError, *([tensorflow.errors.ResourceExhaustedError] if tensorflow else []))
    if isinstance(error, exhausted):
        reason = (str(error).strip().splitlines() or ["no more is there"])[0]
        return f"there is not enough memory ({reason}); accepted: smaller sizes, such as the batch's"
    return None


def _refuse(problem: object) -> int:
    print("error:", terminal.shortened(" ".join(str(problem).split()), _LONGEST), file=sys.stderr)
    return 2


def _run(argv: list[str], about: str) -> None:
    # First without the --config flags, to find the configuration that they then are defined by.
    known = _parse(define_flags(), argv, known_only=True)
    if known["help"].value:
        print(command_flags.help_text(known, about))
        return
    _accept_only("mode", known["mode"].value, MODES)
    _accept_only("strategy", known["strategy"].value, STRATEGIES)
    machine = Machine(known["strategy"].value, known["cpu_devices"].value, known["deterministic"].value)
    mode, preset = known["mode"].value, known["preset"].value
    given = mode_flags.given(known, mode)
    _use_plain_logging()
    if mode == "list":
        _parse(known, argv)
        importlib.import_module("zoo.command_line.commands").run(mode, None, None, None)
        return

    configs = import_quietly("zoo.configuration.config")
    if known["workdir"].value is None:
        raise flags.Error(f"--mode={mode} needs --workdir=DIR, the directory of the run")
    given |= {name: known[name].value for name in ("workdir", "data_dir")}
    given = mode_flags.make_paths(given, import_quietly("tfp_bayesrnn.filesystem.paths").local_path)
    workdir, data_dir = given.pop("workdir"), given.pop("data_dir")
    if mode in OF_A_RUN:
        if machine.strategy not in ("auto", "default") or machine.cpu_devices > 1:
            asked = f"--strategy={machine.strategy} with --cpu_devices={machine.cpu_devices}"
            raise flags.Error(f"{asked} is for --mode=train: {OF_A_RUN[mode]} runs on one device")
        machine = Machine("default", 1, machine.deterministic)
    if mode == "uncertainty":  # Its workdir need not be a run's: what is compared says for itself what it is.
        _parse(define_flags(), argv)
        config = None
        given |= _of_uncertainty(configs, known)
    elif mode in OF_A_RUN:
        saved = importlib.import_module("zoo.runs.workdir").Workdir(workdir, create=False).read_config()
        overrides = _overrides(argv, saved)
        if mode == "generate":  # The seed is of what is generated, not of the training.
            given["seed"] = overrides.pop("seed", None)
            if given.get("draw_per_continuation") and overrides.get("evaluate.num_samples"):
                raise flags.Error(
                    "--draw_per_continuation makes one draw for each of --continuations: leave out "
                    "--num_samples"
                )
        config = configs.for_evaluation(saved, preset, overrides)
    else:
        if preset is None:
            raise flags.Error(f"--mode={mode} needs --preset=NAME; --mode=list shows them")
        base = importlib.import_module("zoo.presets").get_preset(preset)
        config = configs.with_overrides(base, _overrides(argv, base))
    if mode == "caption" and "images" not in given:
        raise flags.Error("--mode=caption needs --images=PATH: a file, a directory, a pattern")
    if config is not None:
        configs.validate(config)
    given = {name: value for name, value in given.items() if value is not None}
    commands = import_quietly("zoo.command_line.commands")
    commands.run(mode, config, workdir, data_dir, machine, **given)


def _overrides(argv: list[str], base: ConfigDict) -> dict[str, Any]:
    """Dotted field name -> value for every field of `base` that the command line sets."""
    configs = importlib.import_module("zoo.configuration.config")
    fields = configs.flatten(base)
    for argument in argv[1:]:
        named = _OVERRIDE.match(argument)
        if named and named[1] not in fields:
            raise configs.unknown_field(named[1], fields)
        if argument.split("=")[0].lstrip("-") == "config":
            raise flags.Error("--config needs a field, as in --config.train.epochs=3")
    values = define_flags()
    config_flags.DEFINE_config_dict(
        "config", ConfigDict(base.to_dict()), flag_values=values, sys_argv=argv, lock_config=True
    )
    _parse(values, argv, fields=fields)
    overrides = dict(config_flags.get_override_values(values["config"]))
    for flag, field in _FIELDS.items():
        value = values[flag].value
        if value is None:
            continue
        if overrides.get(field, value) != value:
            raise flags.Error(
                f"--{flag}={value} and --config.{field}={overrides[field]} contradict each other: give one"
            )
        overrides[field] = value
    return overrides


def _of_uncertainty(configs: ModuleType, known: flags.FlagValues) -> dict[str, Any]:
    """What other modes have in their configuration."""
    fields = importlib.import_module("zoo.configuration.fields")
    for flag, check in (("num_samples", fields.SAMPLES), ("seed", fields.SEED)):
        if known[flag].value is not None:
            configs.check_field(f"--{flag}", known[flag].value, check)
    return {"samples": known["num_samples"].value, "seed": known["seed"].value}


def _parse(
    values: flags.FlagValues,
    argv: list[str],
    known_only: bool = False,
    fields: dict[str, Any] | None = None,
) -> flags.FlagValues:
    try:
        rest = values(argv, known_only=known_only)
    except flags.UnrecognizedFlagError as error:
        raise flags.Error(command_flags.unknown_flag(error.flagname, values)) from None
    except RecursionError:  # absl looks for names like it, letter by letter.
        longest = max(argv, key=lambda argument: argument.startswith("-") * len(argument.split("=")[0]))
        raise flags.Error(command_flags.unknown_flag(longest.split("=")[0].lstrip("-"), values)) from None
    except flags.IllegalFlagValueError as error:
        raise flags.Error(command_flags.wrong_value(str(error), fields or {}, values)) from None
    if len(rest) > 1 and not known_only:
        raise flags.Error(
            f"unexpected argument {terminal.shortened(repr(rest[1]))}; accepted: --flag=value, see --help"
        )
    return values


def _accept_only(flag: str, value: str | None, accepted: Sequence[str]) -> None:
    if value in accepted:
        return
    if value is None:
        raise flags.Error(f"--{flag} is needed: one of {', '.join(accepted)}; see --help")
    raise flags.Error(command_flags.unknown(flag, value, accepted))


def _use_plain_logging() -> None:
    flags.FLAGS.mark_as_parsed()  # absl's own flags, --verbosity and its like, keep their defaults.
    logging.use_absl_handler()
    handler = logging.get_absl_handler().python_handler
    if handler.stream in (None, sys.__stderr__):  # As it was before `standard_streams.prepare`.
        handler.setStream(sys.stderr)
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_is_worth_saying)


def _is_worth_saying(record: Any) -> bool:
    """Whether a log record is of this project, or at least a warning of somebody else's."""
    return record.levelname != "INFO" or not {"zoo", "tfp_bayesrnn"}.isdisjoint(record.pathname.split(os.sep))
