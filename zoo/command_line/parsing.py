"""The flags as absl knows them, save those of --config, and what is said of wrong ones."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from zoo.command_line import general_flags
from zoo.configuration.fields import settings
from zoo.modes import MODES
from zoo.modes.mode import Configuration, Flag, Mode
from zoo.registry import TASKS
from zoo.terminal.text import shortened

_DEFINE: dict[type, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
}
_ALIKE = 0.85  # How much a name resembles one that it is taken for, as `difflib` measures it.
_DEFINE_BOOL, _DEFINE_REPEATED = flags.DEFINE_bool, flags.DEFINE_multi_string


class _NamesParser(flags.ArgumentParser):
    """One of some values, some of them under further names; a bare --flag is "true", --noflag is "false"."""

    def __init__(self, values: Mapping[str, str]):
        super().__init__()
        self._values = values
        self.syntactic_help = ", ".join(dict.fromkeys(values.values()))

    def parse(self, argument: Any) -> str:
        value = self._values.get(str(argument).lower())
        if value is None:
            raise ValueError(f"accepted: {self.syntactic_help}")
        return value


def define_flags() -> flags.FlagValues:
    """The flags, save those of --config, none of them given, as an object of their own."""
    defined = flags.FlagValues()
    defined.set_gnu_getopt(True)
    for flag in _distinct([*general_flags.FLAGS, *(flag for mode in MODES.values() for flag in mode.flags)]):
        _define(flag, defined)
    return defined


def _distinct(all_flags: Iterable[Flag]) -> list[Flag]:
    """One flag of each name.

    Raises:
      ValueError: two of one name differ in more than in what is said of them.
    """
    found: dict[str, Flag] = {}
    for flag in all_flags:
        other = found.setdefault(flag.name, flag)
        if _value_of(other) != _value_of(flag):
            raise ValueError(f"Flags of one name must take the same values. Received: {other} and {flag}")
    return list(found.values())


def _value_of(flag: Flag) -> tuple:
    return flag.kind, flag.repeated, flag.least, flag.most, flag.names, flag.is_path


def _define(flag: Flag, defined: flags.FlagValues) -> None:
    if flag.names is not None:
        parser = _NamesParser(flag.names)
        made = flags.Flag(parser, flags.ArgumentSerializer(), flag.name, None, flag.text, boolean=True)
        flags.DEFINE_flag(made, defined)
    elif flag.kind is bool:
        short = "h" if flag.name == "help" else None
        _DEFINE_BOOL(flag.name, None, flag.text, flag_values=defined, short_name=short)
    elif flag.repeated:
        _DEFINE_REPEATED(flag.name, None, flag.text, flag_values=defined)
    else:
        limited = {} if flag.most is None else {"lower_bound": flag.least, "upper_bound": flag.most}
        _DEFINE[flag.kind](flag.name, None, flag.text, flag_values=defined, **limited)


def parse(
    values: flags.FlagValues,
    argv: list[str],
    known_only: bool = False,
    fields: Mapping[str, Any] | None = None,
) -> flags.FlagValues:
    """Reads a command line.

    Args:
      values: the flags; they receive what is given.
      argv: the command line, the program's name first.
      known_only: whether flags of the configuration, and what is no flag, are left alone.
      fields: the configuration's, where --config flags are defined: dotted name -> value.

    Returns:
      `values`.

    Raises:
      flags.Error: a flag or a value that is not accepted, or something that is no flag; one line.
    """
    try:
        rest = values(argv, known_only=known_only)
    except flags.UnrecognizedFlagError as error:
        raise flags.Error(_unknown_flag(error.flagname, values)) from None
    except RecursionError:  # absl looks for similar names recursively, letter by letter.
        longest = max(argv, key=lambda argument: argument.startswith("-") * len(argument.split("=")[0]))
        raise flags.Error(_unknown_flag(longest.split("=")[0].lstrip("-"), values)) from None
    except flags.IllegalFlagValueError as error:
        raise flags.Error(_wrong_value(str(error), fields or {}, values)) from None
    if known_only:
        _check_known(rest[1:], values)
    elif len(rest) > 1:
        raise flags.Error(
            f"unexpected argument {shortened(repr(rest[1]))}; accepted: --flag=value, see --help"
        )
    return values


def _check_known(rest: Sequence[str], values: flags.FlagValues) -> None:
    """Raises flags.Error where a flag is among what has been left alone that is not of the configuration."""
    for argument in itertools.takewhile(lambda one: one != "--", rest):
        name = argument.split("=")[0].lstrip("-")
        if argument.startswith("-") and name and not re.match(r"(no)?config(\.|$)", name):
            raise flags.Error(_unknown_flag(name, values))


def flags_of(mode: Mode, parsed: flags.FlagValues) -> dict[str, Any]:
    """The mode's own flags that the command line sets: name -> value.

    Raises:
      flags.Error: a flag of another mode is set.
    """
    shared = {flag.name for flag in general_flags.FLAGS} | {flag.name for flag in mode.flags}
    others: dict[str, list[str]] = {}
    for other in MODES.values():
        for flag in other.flags:
            others.setdefault(flag.name, []).append(f"--mode={other.name}")
    for name, modes in others.items():
        if name not in shared and parsed[name].value is not None:
            takes = mode.configuration in (Configuration.PRESET, Configuration.RUN)
            meant = (
                f": did you mean {' or '.join(found)}?" if takes and (found := _fields_named(name)) else ""
            )
            raise flags.Error(f"--{name} is for {' or '.join(modes)}, not for --mode={mode.name}{meant}")
    return {flag.name: parsed[flag.name].value for flag in mode.flags if parsed[flag.name].value is not None}


def check_choice(flag: str, value: str | None, accepted: Sequence[str]) -> str:
    """The value of a flag that is needed; raises flags.Error where it is not one of some values."""
    if value is not None and value in accepted:
        return value
    if value is None:
        raise flags.Error(f"--{flag} is needed: one of {', '.join(accepted)}; see --help")
    raise flags.Error(_unknown(flag, value, accepted))


def _unknown_flag(name: str, values: flags.FlagValues) -> str:
    """The message about a flag that does not exist."""
    names = sorted(name for name in values if name not in ("flagfile", "undefok", "h"))
    ours = [f"--{flag}" for flag in names if not flag.startswith("config")]
    is_near = difflib.get_close_matches(shortened(name), names, n=1, cutoff=_ALIKE)
    meant = [] if is_near else _fields_named(name)
    return _unknown("flag", f"--{name}", [*ours, "--config.FIELD"], meant)


def _fields_named(name: str) -> list[str]:
    """The flags of fields that end in a name, or nearly so, as --config.train.epochs ends in epochs."""
    known = dict.fromkeys(one.name for task in TASKS.values() for one in settings(task.config))
    ends = {field: field.rpartition(".")[2] for field in known}
    near = difflib.get_close_matches(shortened(name), set(ends.values()), n=1, cutoff=_ALIKE)
    return [f"--config.{field}" for field, end in ends.items() if end in near]


def _wrong_value(text: str, fields: Mapping[str, Any], values: flags.FlagValues) -> str:
    """The message about a value that a flag does not accept: what absl says, in our words.

    Args:
      text: absl's message.
      fields: the configuration's, where --config flags are defined: dotted name -> value.
      values: the flags.
    """
    named = re.match(r"flag --(\S+?)=(.*?): (.*)", text, flags=re.DOTALL)
    if named is None:
        return text
    name, value, reason = named[1], shortened(named[2]), named[3]
    field = name.removeprefix("config.")
    if name != field and field in fields:
        kind = type(fields[field])
        kinds = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            tuple: "numbers in parentheses",
        }
        return f"--{name}={value} is not accepted: it must be {kinds.get(kind, kind.__name__)}"
    parser = values[name].parser if name in values else None
    if isinstance(parser, flags.IntegerParser):
        return f"--{name}={value} is not accepted: it must be {_whole_number(parser)}"
    if isinstance(parser, flags.FloatParser):
        return f"--{name}={value} is not accepted: it must be a number"
    if isinstance(parser, flags.BooleanParser):
        return f"--{name}={value} is not accepted: it must be true or false"
    return f"--{name}={value}: {reason}"


def _whole_number(parser: flags.IntegerParser) -> str:
    if parser.lower_bound is None:
        return "a whole number"
    return f"a whole number of at least {parser.lower_bound} and at most {parser.upper_bound}"


def _unknown(kind: str, name: str, accepted: Sequence[str], meant: Sequence[str] = ()) -> str:
    """The message about a name that is none of those accepted; the arguments are those of `unknown_name`."""
    from tfp_bayesrnn.errors import unknown_name  # Not at the top: the library is deferred by then.

    return str(unknown_name(kind, name, accepted, meant))
