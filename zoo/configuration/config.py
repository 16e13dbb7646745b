"""A resolved configuration: its JSON form, its validity, and what may change in it on a resumed run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from tfp_bayesrnn.errors import InputError, quoted, unknown_name
from zoo.configuration import fields, methods

# Fields that do not change what a run has computed so far: a workdir may be resumed with other values of
# them. An entry ending in a dot stands for every field below it; what a task has no field for is no matter.
FREE_FIELDS = (
    "description",
    "jit_compile",
    "train.epochs",
    *(f"train.{field}" for field in methods.WATCH),
    "evaluate.",
    "encoder.cache_dir",
)

# Further ones of a pruned model that has not been trained since: the schedule of its fine-tuning.
FINE_TUNING_FIELDS = ("train.learning_rate", "train.hold_epochs", "train.decay")

# Fields that `evaluate` may override in the configuration saved by `train`.
EVALUATION_FIELDS = ("jit_compile", "evaluate.", "encoder.cache_dir")

# Task -> tables with fields that configurations saved by earlier versions lack, with what those versions did.
_ADDED = {
    "language_model": {
        "sharpening": methods.SHARPENING,
        "train": methods.WATCH,
        "evaluate": {"dynamic_learning_rate": 0.0},
    },
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
    loaded = parse_object(text, source)
    for table, added in _ADDED.get(str(loaded.get("task")), {}).items():
        if isinstance(loaded.setdefault(table, {}), dict):
            loaded[table] = {**added, **loaded[table]}
    return ConfigDict(_lists_to_tuples(loaded)).lock()


def parse_object(text: str, source: str) -> dict[str, Any]:
    """The JSON object that a text is.

    Raises:
      InputError: it is none; `source` is what the text is called.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{source} must hold a JSON object, got {type(value).__name__}")
    return value


def flatten(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Dotted field name -> value, nested tables opened up: `{"train.batch": 20, ...}`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            flat.update({f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def differences(saved: ConfigDict, new: ConfigDict, free: Sequence[str] = FREE_FIELDS) -> list[str]:
    """Dotted names of the fields in which `new` asks for another result so far than `saved` did.

    Fields in `free` are not among them. A field that only one of the two has is.
    """
    return [name for name in _changed(saved, new) if not _is_one_of(name, free)]


def describe_differences(saved: ConfigDict, new: ConfigDict, free: Sequence[str] = FREE_FIELDS) -> str:
    """`differences` with both values: "train.batch is 20 there and 32 here, ..."; empty if none."""
    old_values, new_values = flatten(saved), flatten(new)
    return ", ".join(
        f"{name} is {_show(old_values, name)} there and {_show(new_values, name)} here"
        for name in differences(saved, new, free)
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
        raise InputError(
            f"preset {quoted(preset)} does not match the run's, {known.get('preset')!r}: leave it out"
        )
    for name, value in overrides.items():
        if name not in known:
            raise unknown_field(name, known)
        if not _is_one_of(name, EVALUATION_FIELDS) and value != known[name]:
            raise InputError(
                f"{name}={quoted(value)} cannot be set when evaluating a run trained with {known[name]!r}; "
                f"accepted then: {_evaluation_fields(known)}"
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


def unknown_field(name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is none of the `known` dotted ones; a table is answered with its fields."""
    known = list(known)
    inside = [field for field in known if field.startswith(f"{name}.")]
    return unknown_name("configuration field", name, inside or known)


def validate(config: ConfigDict) -> None:
    """Checks every field of a resolved configuration, by its task (`zoo.configuration.fields`).

    Raises:
      InputError: a field is missing, unknown or out of range; it names the first, and what is accepted.
    """
    flat = flatten(config)
    _check(flat, "task", fields.TASK)
    checks = fields.CHECKS[flat["task"]]
    for name, check in checks.items():
        _check(flat, name, check)
    for name in flat:
        if name not in checks:
            raise unknown_field(name, checks)
    fields.check_together(flat)


def is_valid(config: ConfigDict) -> bool:
    """Whether `validate` raises nothing."""
    try:
        validate(config)
    except InputError:
        return False
    return True


def check_field(name: str, value: Any, check: fields.Check) -> None:
    """Raises InputError where a field, or what is one to the user, does not accept a value."""
    if not check.accepts(value):
        raise InputError(f"{name}={quoted(value)} is not accepted: it must be {check.accepted}")


def _check(flat: dict[str, Any], name: str, check: fields.Check) -> None:
    if name not in flat:
        raise InputError(f"configuration field {name} is missing; accepted: {check.accepted}")
    check_field(name, flat[name], check)


def _evaluation_fields(known: Iterable[str]) -> str:
    names = [
        f"{field}*" if field.endswith(".") else field
        for field in EVALUATION_FIELDS
        if any(_is_one_of(name, (field,)) for name in known)
    ]
    return " and ".join(names) or "none"


def _changed(saved: ConfigDict, new: ConfigDict) -> list[str]:
    old_values, new_values = flatten(saved), flatten(new)
    names = [*new_values, *(name for name in old_values if name not in new_values)]
    return [name for name in names if _value(old_values, name) != _value(new_values, name)]


def _value(flat: dict[str, Any], name: str) -> Any:
    return flat[name] if name in flat else (_ABSENT,)


def _show(flat: dict[str, Any], name: str) -> str:
    return quoted(flat[name]) if name in flat else _ABSENT


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
