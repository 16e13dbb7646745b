"""The command line: flags to one resolved configuration and one call of `zoo.commands.run`."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from zoo import interruption, mode_flags
from zoo.machine import STRATEGIES, Machine
from zoo.quiet import import_quietly

# What a mode does, where it needs a finished run and one device.
_OF_A_RUN = {
    "evaluate": "evaluation",
    "caption": "captioning",
    "generate": "generation",
    "uncertainty": "the benchmark",
    "prune": "pruning",
    "export": "the export",
    "report": "the report",
}
MODES = ("list", "train", *_OF_A_RUN)
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


class _ChoiceParser(flags.ArgumentParser):
    """One of some values, some of them under further names; a bare --flag is "true", --noflag is "false"."""

    def __init__(self, values: dict[str, str]):
        super().__init__()
        self._values = values
        self.syntactic_help = ", ".join(dict.fromkeys(values.values()))

    def parse(self, argument: Any) -> str:
        value = self._values.get(str(argument).lower())
        if value is None:
            raise ValueError(f"accepted: {self.syntactic_help}")
        return value


_JIT_COMPILE = _ChoiceParser({"on": "on", "true": "on", "off": "off", "false": "off", "auto": "auto"})
_MIXED_PRECISION = _ChoiceParser(
    {
        "bfloat16": "bfloat16",
        "true": "bfloat16",
        "float16": "float16",
        "float32": "float32",
        "false": "float32",
    }
)


def define_flags() -> flags.FlagValues:
    """The flags, save those of --config, as an object of their own."""
    defined = flags.FlagValues()
    defined.set_gnu_getopt(True)
    flags.DEFINE_string("mode", None, f"what to do: {', '.join(MODES)}", flag_values=defined)
    flags.DEFINE_string("preset", None, "which configuration; see --mode=list", flag_values=defined)
    flags.DEFINE_string("workdir", None, "directory of the run and its results", flag_values=defined)
    flags.DEFINE_string("data_dir", None, "directory of the data set's files", flag_values=defined)
    flags.DEFINE_integer("seed", None, "seed of the run (config.seed)", flag_values=defined)
    flags.DEFINE_integer(
        "num_samples",
        None,
        "samples of the model average (config.evaluate.num_samples)",
        flag_values=defined,
    )
    _define_choice(
        "mixed_precision",
        _MIXED_PRECISION,
        "compute in bfloat16 (the bare flag) or float16; posterior, KL and losses stay float32 "
        "(config.compute_dtype)",
        defined,
    )
    _define_choice(
        "jit_compile", _JIT_COMPILE, "compile with XLA: on, off or auto (config.jit_compile)", defined
    )
    flags.DEFINE_string(
        "strategy",
        "auto",
        f"how to train: {', '.join(STRATEGIES)}; auto goes by TF_CONFIG and the GPUs",
        flag_values=defined,
    )
    flags.DEFINE_integer(
        "cpu_devices", 1, "logical devices to split the CPU into, for mirrored", 1, flag_values=defined
    )
    flags.DEFINE_bool(
        "deterministic", False, "the same numbers in every run, to the last bit", flag_values=defined
    )
    mode_flags.define(defined)
    flags.DEFINE_bool("help", False, "show this", flag_values=defined, short_name="h")
    return defined


def _define_choice(name: str, parser: _ChoiceParser, text: str, defined: flags.FlagValues) -> None:
    flag = flags.Flag(parser, flags.ArgumentSerializer(), name, None, text, boolean=True)
    flags.DEFINE_flag(flag, defined)


def main(argv: Sequence[str], about: str) -> int:
    """Runs one command line; its exit status: 0, 2 for bad input, 128 + n when signal n ended it.

    Args:
      argv: the command line, the program's name first.
      about: what `--help` says before it lists the flags.
    """
    try:
        with interruption.ending_at_once():
            _run(list(argv), about)
    except interruption.Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.number
    except BrokenPipeError:  # Whoever read our output, such as `head`, has had enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except flags.Error as error:
        return _refuse(error)
    except ValueError as error:
        if not isinstance(error, import_quietly("tfp_bayesrnn.errors").InputError):
            raise
        return _refuse(error)
    return 0


def _refuse(error: Exception) -> int:
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return 2


def _run(argv: list[str], about: str) -> None:
    # First without the --config flags, to find the configuration that they then are defined by.
    known = _parse(define_flags(), argv, known_only=True)
    if known["help"].value:
        print(_help(known, about))
        return
    _accept_only("mode", known["mode"].value, MODES)
    _accept_only("strategy", known["strategy"].value, STRATEGIES)
    machine = Machine(known["strategy"].value, known["cpu_devices"].value, known["deterministic"].value)
    mode, preset, workdir = known["mode"].value, known["preset"].value, known["workdir"].value
    given = mode_flags.given(known, mode)
    _use_plain_logging()
    if mode == "list":
        _parse(known, argv)
        importlib.import_module("zoo.commands").run(mode, None, None, None)
        return

    configs = import_quietly("zoo.config")
    if workdir is None:
        raise flags.Error(f"--mode={mode} needs --workdir=DIR, the directory of the run")
    if mode in _OF_A_RUN:
        if machine.strategy not in ("auto", "default") or machine.cpu_devices > 1:
            asked = f"--strategy={machine.strategy} with --cpu_devices={machine.cpu_devices}"
            raise flags.Error(f"{asked} is for --mode=train: {_OF_A_RUN[mode]} runs on one device")
        machine = Machine("default", 1, machine.deterministic)
    if mode == "uncertainty":  # Its workdir need not be a run's: what is compared says for itself what it is.
        _parse(define_flags(), argv)
        config = None
        given |= {"samples": known["num_samples"].value, "seed": known["seed"].value}
    elif mode in _OF_A_RUN:
        saved = importlib.import_module("zoo.workdir").Workdir(workdir, create=False).read_config()
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
    commands = import_quietly("zoo.commands")
    commands.run(mode, config, workdir, known["data_dir"].value, machine, **given)


def _overrides(argv: list[str], base: ConfigDict) -> dict[str, Any]:
    """Dotted field name -> value for every field of `base` that the command line sets."""
    configs = importlib.import_module("zoo.config")
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
    if values["seed"].value is not None:
        overrides["seed"] = values["seed"].value
    if values["num_samples"].value is not None:
        overrides["evaluate.num_samples"] = values["num_samples"].value
    if values["mixed_precision"].value is not None:
        overrides["compute_dtype"] = values["mixed_precision"].value
    if values["jit_compile"].value is not None:
        overrides["jit_compile"] = values["jit_compile"].value
    return overrides


def _parse(
    values: flags.FlagValues,
    argv: list[str],
    known_only: bool = False,
    fields: dict[str, Any] | None = None,
) -> flags.FlagValues:
    try:
        rest = values(argv, known_only=known_only)
    except flags.UnrecognizedFlagError as error:
        raise flags.Error(_unknown_flag(error.flagname, values)) from None
    except flags.IllegalFlagValueError as error:
        raise flags.Error(_wrong_value(str(error), fields or {})) from None
    if len(rest) > 1 and not known_only:
        raise flags.Error(f"unexpected argument {rest[1]!r}; accepted: --flag=value, see --help")
    return values


def _unknown_flag(name: str, values: flags.FlagValues) -> str:
    ours = [f"--{flag}" for flag in _ours(values) if not flag.startswith("config")]
    return _unknown("flag", f"--{name}", [*ours, "--config.FIELD"])


def _wrong_value(text: str, fields: dict[str, Any]) -> str:
    named = re.match(r"flag --config\.(\S+?)=(.*?): ", text, flags=re.DOTALL)
    if named is None or named[1] not in fields:
        return re.sub(r": invalid literal for int.*", " is not accepted: it must be a whole number", text)
    kind = type(fields[named[1]])
    kinds = {int: "a whole number", float: "a number", bool: "true or false", tuple: "numbers in parentheses"}
    return f"--config.{named[1]}={named[2]} is not accepted: it must be {kinds.get(kind, kind.__name__)}"


def _accept_only(flag: str, value: str | None, accepted: Sequence[str]) -> None:
    if value in accepted:
        return
    if value is None:
        raise flags.Error(f"--{flag} is needed: one of {', '.join(accepted)}; see --help")
    raise flags.Error(_unknown(flag, value, accepted))


def _unknown(kind: str, name: str, accepted: Sequence[str]) -> str:
    # `tfp_bayesrnn.errors.unknown_name` in words of its own: that import takes seconds, a typo's answer none.
    near = difflib.get_close_matches(name, accepted, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {kind} {name!r}:{hint} Accepted: {', '.join(accepted)}"


def _ours(values: flags.FlagValues) -> list[str]:
    return sorted(name for name in values if name not in ("flagfile", "undefok", "h"))


def _help(values: flags.FlagValues, about: str) -> str:
    # Without the line that absl adds for a flag that may be repeated.
    texts = {name: values[name].help.splitlines()[0].rstrip(";") for name in _ours(values)}
    lines = [f"  --{name:<16} {text}" for name, text in texts.items()]
    return "\n".join([about.strip(), "", "Flags:", *lines])


def _use_plain_logging() -> None:
    flags.FLAGS.mark_as_parsed()  # absl's own flags, --verbosity and its like, keep their defaults.
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_is_worth_saying)


def _is_worth_saying(record: Any) -> bool:
    """Whether a log record is of this project, or at least a warning of somebody else's."""
    return record.levelname != "INFO" or not {"zoo", "tfp_bayesrnn"}.isdisjoint(record.pathname.split(os.sep))
