"""The modes, and the flags that belong to some of them only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from absl import flags

from zoo.configuration import limits

OF_A_RUN = {
    "evaluate": "evaluation",
    "caption": "captioning",
    "generate": "generation",
    "uncertainty": "the benchmark",
    "prune": "pruning",
    "export": "the export",
    "report": "the report",
}
"""The modes that need a finished run and one device, with what they do."""

MODES = ("list", "train", *OF_A_RUN)

_STRING, _STRINGS = flags.DEFINE_string, flags.DEFINE_multi_string
_NUMBER, _WHOLE, _BOOL = flags.DEFINE_float, flags.DEFINE_integer, flags.DEFINE_bool


_STANDARD = "-"  # Standard output, as --output of a mode that has it.


class ModeFlag(NamedTuple):
    """A flag, and the modes it is for. What is not given is left to the mode.

    Attributes:
      name: of the flag.
      define: absl's function that defines it.
      modes: the modes it is for.
      text: of --help.
      least: the smallest number that is accepted, where it is one and there is such a limit.
      most: the largest one.
      is_path: whether its value, or each of its values, is a path. Those of --images and --compare can hold
        more than one, or more than a path: who reads them makes the paths.
    """

    name: str
    define: Callable
    modes: tuple[str, ...]
    text: str
    least: int | None = None
    most: int | None = None
    is_path: bool = False


MODE_FLAGS = (
    ModeFlag(
        "images",
        _STRINGS,
        ("caption",),
        "what to caption: files, directories of photos, patterns; with commas between them, or repeated",
    ),
    ModeFlag(
        "output",
        _STRING,
        ("caption", "generate", "export", "report"),
        "where the result goes: contact sheet (WORKDIR/captions.png), JSON lines of the texts (- for "
        "stdout), SavedModel (WORKDIR/export), page (WORKDIR/report.html)",
        is_path=True,
    ),
    ModeFlag(
        "prompt",
        _STRINGS,
        ("generate",),
        "the first words of a text; - for one on each line of stdin; may be repeated",
    ),
    ModeFlag("max_words", _WHOLE, ("generate",), "words of a continuation at most (30)", 1, limits.WORDS),
    ModeFlag(
        "continuations", _WHOLE, ("generate",), "continuations of each prompt (1)", 1, limits.CONTINUATIONS
    ),
    ModeFlag("decode", _STRING, ("generate",), "how words are chosen: sample, greedy or beam (sample)"),
    ModeFlag("temperature", _NUMBER, ("generate",), "of sampling (1)"),
    ModeFlag(
        "top_k", _WHOLE, ("generate",), "sample from the most probable words only (all)", 0, limits.WHOLE
    ),
    ModeFlag("top_p", _NUMBER, ("generate",), "sample from the words of this probability only (all)"),
    ModeFlag("beam", _WHOLE, ("generate",), "beams of --decode=beam (5)", 1, limits.BEAMS),
    ModeFlag(
        "draw_per_continuation", _BOOL, ("generate",), "each continuation has weights of its own, one draw"
    ),
    ModeFlag("allow_unk", _BOOL, ("generate",), "<unk> may be generated"),
    ModeFlag("end_at_eos", _BOOL, ("generate",), "a continuation ends with its line"),
    ModeFlag("color", _STRING, ("generate",), "uncertainty in colour: auto, always or never (auto)"),
    ModeFlag(
        "prune",
        _NUMBER,
        ("prune", "export"),
        "fraction of the weights to leave out, those of the lowest |mu| / sigma",
    ),
    ModeFlag("format", _STRING, ("export",), "what weights are stored as: float32 or float16 (float32)"),
    ModeFlag(
        "weights",
        _STRING,
        ("export",),
        "mean, or posterior for the scales too, which the signatures with samples need",
    ),
    ModeFlag(
        "compare",
        _STRINGS,
        ("uncertainty",),
        "what else to score: workdirs, Keras files, SavedModels, files of probabilities; may be repeated",
    ),
    ModeFlag("data", _STRING, ("uncertainty",), "the data set to score on (that of the first workdir)"),
    ModeFlag(
        "texts",
        _STRINGS,
        ("uncertainty",),
        "files of other text, out of distribution; repeated",
        is_path=True,
    ),
    ModeFlag(
        "rows", _WHOLE, ("uncertainty",), "rows a text is cut into; 1 reads it as one (1)", 1, limits.ROWS
    ),
    ModeFlag("unroll", _WHOLE, ("uncertainty",), "words of a window that is read at once", 1, limits.WINDOW),
    ModeFlag(
        "words", _WHOLE, ("uncertainty",), "words of each text that are taken; 0: all (0)", 0, limits.WHOLE
    ),
    ModeFlag(
        "window",
        _WHOLE,
        ("uncertainty",),
        "words whose mean uncertainty tells texts apart (35)",
        1,
        limits.COUNT,
    ),
)


def define(defined: flags.FlagValues) -> None:
    """Defines the flags, none of them given."""
    for flag in MODE_FLAGS:
        limited = {} if flag.most is None else {"lower_bound": flag.least, "upper_bound": flag.most}
        flag.define(flag.name, None, flag.text, flag_values=defined, **limited)


def make_paths(given: Mapping[str, Any], path_of: Callable[[str, str], Any]) -> dict[str, Any]:
    """The values of `given`, those that are paths made such.

    Args:
      given: flag -> value.
      path_of: from a value and what to call it, such as --output, to the path.
    """
    are_paths = {"workdir", "data_dir", *(flag.name for flag in MODE_FLAGS if flag.is_path)}
    made = dict(given)
    for name, value in given.items():
        if name not in are_paths or value in (None, _STANDARD):
            continue
        if isinstance(value, list):
            made[name] = [str(path_of(one, f"--{name}")) for one in value]
        else:
            made[name] = str(path_of(value, f"--{name}"))
    return made


def given(parsed: flags.FlagValues, mode: str) -> dict[str, Any]:
    """The mode's own flags that the command line sets: name -> value.

    Raises:
      flags.Error: a flag of another mode is set.
    """
    found = {}
    for flag in MODE_FLAGS:
        value = parsed[flag.name].value
        if value is None:
            continue
        if mode not in flag.modes:
            raise flags.Error(
                f"--{flag.name} is for {' or '.join(f'--mode={other}' for other in flag.modes)}, not for "
                f"--mode={mode}"
            )
        found[flag.name] = value
    return found
