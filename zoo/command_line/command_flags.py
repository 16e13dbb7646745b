"""The flags of the command line, save those of --config, and what is said of wrong ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from zoo.command_line import mode_flags
from zoo.configuration import limits
from zoo.machine.machine import STRATEGIES
from zoo.terminal import terminal


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
    flags.DEFINE_string("mode", None, f"what to do: {', '.join(mode_flags.MODES)}", flag_values=defined)
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
        "cpu_devices",
        1,
        "logical devices to split the CPU into, for mirrored",
        lower_bound=1,
        upper_bound=limits.CPU_DEVICES,
        flag_values=defined,
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


def unknown_flag(name: str, values: flags.FlagValues) -> str:
    """What to say of a flag that there is not."""
    ours = [f"--{flag}" for flag in _ours(values) if not flag.startswith("config")]
    return unknown("flag", f"--{name}", [*ours, "--config.FIELD"])


def wrong_value(text: str, fields: Mapping[str, Any], values: flags.FlagValues) -> str:
    """What absl says of a value that a flag does not accept, in our words.

    Args:
      text: absl's.
      fields: of the configuration, where --config flags are defined: dotted name -> value.
      values: the flags.
    """
    named = re.match(r"flag --(\S+?)=(.*?): (.*)", text, flags=re.DOTALL)
    if named is None:
        return text
    name, value, reason = named[1], terminal.shortened(named[2]), named[3]
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


def unknown(kind: str, name: str, accepted: Sequence[str]) -> str:
    """What to say of a name that is none of those accepted, near matches first."""
    # `tfp_bayesrnn.errors.unknown_name` in words of its own: that import takes seconds, a typo's answer none.
    name = terminal.shortened(name)
    near = difflib.get_close_matches(name, accepted, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {kind} {name!r}:{hint} Accepted: {', '.join(accepted)}"


def _ours(values: flags.FlagValues) -> list[str]:
    return sorted(name for name in values if name not in ("flagfile", "undefok", "h"))


def help_text(values: flags.FlagValues, about: str) -> str:
    """What --help prints."""
    # Without the line that absl adds for a flag that may be repeated.
    texts = {name: values[name].help.splitlines()[0].rstrip(";") for name in _ours(values)}
    lines = [f"  --{name:<16} {text}" for name, text in texts.items()]
    return "\n".join([about.strip(), "", "Flags:", *lines])
