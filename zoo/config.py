"""A resolved configuration: its JSON form, its validity, and what may change in it on a resumed run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from tfp_bayesrnn.errors import InputError, unknown_name
from zoo import presets

# Fields that do not change what a run has computed so far: a workdir may be resumed with other values of
# them. An entry ending in a dot stands for every field below it.
FREE_FIELDS = (
    "description",
    "jit_compile",
    "train.epochs",
    *(f"train.{field}" for field in presets.WATCH),
    "evaluate.",
)

# Fields that `evaluate` may override in the configuration saved by `train`.
EVALUATION_FIELDS = ("jit_compile", "evaluate.")

GRANULARITIES = ("row", "weight", "tensor")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
JIT_COMPILE = ("auto", "on", "off")
TAILS = ("drop", "pad")

# Tables with fields that configurations saved by earlier versions lack, with what those versions did.
_ADDED = {
    "sharpening": presets.SHARPENING,
    "train": presets.WATCH,
    "evaluate": {"dynamic_learning_rate": 0.0},
}

_ABSENT = "absent"


def to_json(config: Mapping[str, Any] | ConfigDict) -> str:
    """The configuration as indented JSON, tuples as lists; ends in a newline."""
    return json.dumps(_to_plain(config), indent=2, allow_nan=False) + "\n"


def from_json(text: str, source: str = "the configuration") -> ConfigDict:
    """The configuration that `to_json` wrote, in this version or an earlier one, locked.

    Args:
      text: JSON text.
      source: What to call the text in an error, such as a file's path.

    Raises:
      InputError: the text is not a JSON object.
    """
    try:
        loaded = json.loads(text)
    except ValueError as error:
        raise InputError(f"{source} is not valid JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise InputError(f"{source} must hold a JSON object, got {type(loaded).__name__}")
    for table, fields in _ADDED.items():
        if isinstance(loaded.setdefault(table, {}), dict):
            loaded[table] = {**fields, **loaded[table]}
    return ConfigDict(_lists_to_tuples(loaded)).lock()


def flatten(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Dotted field name -> value, nested tables opened up: `{"train.batch": 20, ...}`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat.update({f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def differences(saved: ConfigDict, new: ConfigDict) -> list[str]:
    """Dotted names of the fields in which `new` asks for another result so far than `saved` did.

    Fields in `FREE_FIELDS` are not among them. A field that only one of the two has is.
    """
    return [name for name in _changed(saved, new) if not _is_one_of(name, FREE_FIELDS)]


def describe_differences(saved: ConfigDict, new: ConfigDict) -> str:
    """`differences` with both values: "train.batch is 20 there and 32 here, ..."; empty if none."""
    old_values, new_values = flatten(saved), flatten(new)
    return ", ".join(
        f"{name} is {_show(old_values, name)} there and {_show(new_values, name)} here"
        for name in differences(saved, new)
    )


def for_evaluation(saved: ConfigDict, preset: str | None, overrides: Mapping[str, Any]) -> ConfigDict:
    """The saved configuration of a run with what `evaluate` may change in it changed.

    Args:
      saved: The run's configuration.
      preset: The preset named on the command line, if any: it must be the run's.
      overrides: Dotted field name -> value, only of `EVALUATION_FIELDS`.

    Raises:
      InputError: another preset, or an override of a field that the trained model depends on.
    """
    known = flatten(saved)
    if preset is not None and preset != known.get("preset"):
        raise InputError(f"preset {preset!r} does not match the run's, {known.get('preset')!r}: leave it out")
    for name, value in overrides.items():
        if name not in known:
            raise unknown_field(name, known)
        if not _is_one_of(name, EVALUATION_FIELDS) and value != known[name]:
            raise InputError(
                f"{name}={value!r} cannot be set when evaluating a run trained with {known[name]!r}; "
                "accepted then: jit_compile and evaluate.*"
            )
    return with_overrides(saved, overrides)


def with_overrides(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A locked copy of the configuration with some fields, by dotted name, set to other values.

    Raises:
      InputError: there is no such field; the near matches are listed.
    """
    known = flatten(config)
    for name in overrides:
        if name not in known:
            raise unknown_field(name, known)
    changed = ConfigDict(config.to_dict())
    changed.update_from_flattened_dict(dict(overrides))
    return changed.lock()


def unknown_field(name: str, fields: Iterable[str]) -> InputError:
    """The error for a name that is not one of the dotted `fields`; a table is answered with its fields."""
    fields = list(fields)
    inside = [field for field in fields if field.startswith(f"{name}.")]
    return unknown_name("configuration field", name, inside or fields)


def validate(config: ConfigDict) -> None:
    """Checks every field of a resolved configuration.

    Raises:
      InputError: a field is missing, unknown or out of range; it names the first, and what is accepted.
    """
    flat = flatten(config)
    for name, (accepts, accepted) in _CHECKS.items():
        if name not in flat:
            raise InputError(f"configuration field {name} is missing; accepted: {accepted}")
        if not accepts(flat[name]):
            raise InputError(f"{name}={flat[name]!r} is not accepted: it must be {accepted}")
    for name in flat:
        if name not in _CHECKS:
            raise unknown_field(name, _CHECKS)
    if flat["method"] != "bbb_sharpened":
        for field, default in presets.SHARPENING.items():
            name = f"sharpening.{field}"
            if flat[name] != default:
                raise InputError(
                    f"{name}={flat[name]!r} has no effect with method={flat['method']!r}; accepted then: "
                    f"{default!r}, or a preset that ends in bbb_sharpened"
                )
    if flat["model.tied"] and flat["model.embedding_units"] != flat["model.units"]:
        raise InputError(
            f"model.tied=True needs model.embedding_units={flat['model.embedding_units']} to equal "
            f"model.units={flat['model.units']}"
        )


def _changed(saved: ConfigDict, new: ConfigDict) -> list[str]:
    old_values, new_values = flatten(saved), flatten(new)
    names = [*new_values, *(name for name in old_values if name not in new_values)]
    return [name for name in names if _value(old_values, name) != _value(new_values, name)]


def _value(flat: dict[str, Any], name: str) -> Any:
    return flat[name] if name in flat else (_ABSENT,)


def _show(flat: dict[str, Any], name: str) -> str:
    return repr(flat[name]) if name in flat else _ABSENT


def _is_one_of(name: str, fields: tuple[str, ...]) -> bool:
    return any(name == field or (field.endswith(".") and name.startswith(field)) for field in fields)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping | ConfigDict):
        return {name: _to_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(inner) for inner in value]
    return value


def _lists_to_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _lists_to_tuples(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return tuple(_lists_to_tuples(inner) for inner in value)
    return value


_Check = tuple[Callable[[Any], bool], str]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_scale_range(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(_is_number(v) for v in value):
        return False
    return 0 < value[0] <= value[1]


def _choice(*accepted: str) -> _Check:
    return (lambda value: value in accepted), f"one of {', '.join(accepted)}"


_TEXT: _Check = (lambda value: isinstance(value, str)), "a text"
_NUMBER: _Check = _is_number, "a finite number"
_FLAG: _Check = (lambda value: isinstance(value, bool)), "true or false"
_COUNT: _Check = (lambda value: _is_integer(value) and value >= 1), "a whole number of at least 1"
_COUNT_OR_ZERO: _Check = (lambda value: _is_integer(value) and value >= 0), "a whole number of at least 0"
_SEED: _Check = (
    (lambda value: _is_integer(value) and 0 <= value < 2**32),
    "a whole number of at least 0 and below 2**32",
)
_RATE: _Check = (lambda value: _is_number(value) and 0 <= value < 1), "a number in [0, 1)"
_FRACTION: _Check = (lambda value: _is_number(value) and 0 < value < 1), "a number strictly between 0 and 1"
_DECAY: _Check = (lambda value: _is_number(value) and 0 < value <= 1), "a number above 0 and at most 1"
_POSITIVE: _Check = (lambda value: _is_number(value) and value > 0), "a number above 0"
_NOT_NEGATIVE: _Check = (lambda value: _is_number(value) and value >= 0), "a number of at least 0"
_SCALE_RANGE: _Check = _is_scale_range, "two numbers (low, high) with 0 < low <= high"

_CHECKS: dict[str, _Check] = {
    "task": _choice("language_model"),
    "preset": _TEXT,
    "description": _TEXT,
    "method": _choice(*presets.METHODS),
    "data.name": _choice(*presets.DATA_NAMES),
    "model.embedding_units": _COUNT,
    "model.units": _COUNT,
    "model.layers": _COUNT,
    "model.tied": _FLAG,
    "model.init_range": _POSITIVE,
    "model.dropout": _RATE,
    "model.word_dropout": _RATE,
    "model.input_dropout": _RATE,
    "model.recurrent_dropout": _RATE,
    "model.output_dropout": _RATE,
    "prior.pi": _FRACTION,
    "prior.log_sigma1": _NUMBER,
    "prior.log_sigma2": _NUMBER,
    "prior.granularity": _choice(*GRANULARITIES),
    "posterior.recurrent_scale_range": _SCALE_RANGE,
    "posterior.other_scale_range": _SCALE_RANGE,
    "sharpening.sigma0": _NOT_NEGATIVE,
    "sharpening.learning_rate": _NOT_NEGATIVE,
    "sharpening.second_order": _FLAG,
    "train.batch": _COUNT,
    "train.unroll": _COUNT,
    "train.epochs": _COUNT,
    "train.learning_rate": _POSITIVE,
    "train.hold_epochs": _COUNT_OR_ZERO,
    "train.decay": _DECAY,
    "train.clip_norm": _POSITIVE,
    "train.kl_weight": _NOT_NEGATIVE,
    "train.kl_warmup_epochs": _NOT_NEGATIVE,
    "train.weight_decay": _NOT_NEGATIVE,
    "train.tail": _choice(*TAILS),
    "train.patience": _COUNT_OR_ZERO,
    "train.max_nll": _NOT_NEGATIVE,
    "train.step_backs": _COUNT_OR_ZERO,
    "train.step_back_factor": _FRACTION,
    "train.checkpoint_seconds": _NOT_NEGATIVE,
    "evaluate.rows": _COUNT,
    "evaluate.unroll": _COUNT,
    "evaluate.final_rows": _COUNT,
    "evaluate.final_unroll": _COUNT,
    "evaluate.num_samples": _COUNT_OR_ZERO,
    "evaluate.dynamic_learning_rate": _NOT_NEGATIVE,
    "seed": _SEED,
    "compute_dtype": _choice(*COMPUTE_DTYPES),
    "jit_compile": _choice(*JIT_COMPILE),
}
