"""A resolved configuration: its JSON form, its validity, and what may change in it on a resumed run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tfp_bayesrnn.errors import InputError, quoted, unknown_name
from zoo.configuration.checks import Check
from zoo.configuration.fields import (
    Change,
    Kind,
    Setting,
    Table,
    flatten,
    settings,
    with_values,
)

FORMAT = 1
"""The form that `to_json` writes; a `config.json` that does not say is of this one."""

_ABSENT = "absent"


def to_json(config: Table) -> str:
    """The configuration as indented JSON, tuples as lists; ends in a newline."""
    return json.dumps({**config.to_dict(), "format": FORMAT}, indent=2, allow_nan=False) + "\n"


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


def parse_saved(text: str, source: str) -> dict[str, Any]:
    """Parses what `to_json` wrote into nested dictionaries, whose fields are not checked yet.

    Raises:
      InputError: the text is not a JSON object, or one that another version wrote.
    """
    values = parse_object(text, source)
    version = values.pop("format", FORMAT)
    if version != FORMAT:
        raise InputError(
            f"{source} was written by another version of this program: its format is {quoted(version)}; "
            f"accepted: {FORMAT}"
        )
    return values


def restored(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """The configuration whose values have been saved, in this version or an earlier one.

    Args:
      kind: the class of the task's configurations.
      values: nested, as `parse_saved` returns them.

    Raises:
      InputError: a field is missing or unknown.
    """
    flat, known = flatten(values), {one.name: one for one in settings(kind)}
    for name, one in known.items():
        if name not in flat and not one.added:
            raise missing(name, one.check)
    for name in flat:
        if name not in known:
            raise unknown_field(name, known)
    return with_values(kind(), flat)


def is_part(kind: type[Table], values: Mapping[str, Any]) -> bool:
    """Returns whether saved values have all fields of a part of a configuration, each with a valid value."""
    flat = flatten(values)
    return all(one.check.accepts(flat[one.name]) if one.name in flat else one.added for one in settings(kind))


def differences(
    saved: Mapping[str, Any], new: Table, change: Change = Change.RESUMED
) -> list[tuple[str, str, str]]:
    """The fields in which `new` asks for another result so far than `saved` did, with both values in words.

    Args:
      saved: the values of a configuration, nested, perhaps of another task.
      new: a configuration.
      change: fields that may change as easily as this are left out; a field that only one of the two
        has is not.
    """
    known = {one.name: one for one in settings(type(new))}
    old_values, new_values = flatten(saved), flatten(new)
    if saved.get("task") == new_values["task"]:
        old_values = {**{name: one.default for name, one in known.items() if one.added}, **old_values}
    names = [*new_values, *(name for name in old_values if name not in new_values)]
    return [
        (name, _show(old_values, name), _show(new_values, name))
        for name in names
        if _value(old_values, name) != _value(new_values, name) and not _may_change(name, known, change)
    ]


def describe_differences(saved: Mapping[str, Any], new: Table, change: Change = Change.RESUMED) -> str:
    """`differences` as text: "train.batch is 20 there and 32 here, ..."; empty if none."""
    return ", ".join(
        f"{name} is {there} there and {here} here" for name, there, here in differences(saved, new, change)
    )


def for_evaluation(saved: Kind, preset: str | None, overrides: Mapping[str, Any]) -> Kind:
    """The saved configuration of a run with what `evaluate` may change in it changed.

    Args:
      saved: The run's configuration.
      preset: The preset named on the command line, if any: it must be the run's.
      overrides: Dotted field name -> value, only of fields of `Change.EVALUATED`.

    Raises:
      InputError: another preset, or an override of a field that the trained model depends on.
    """
    values, known = flatten(saved), {one.name: one for one in settings(type(saved))}
    if preset is not None and preset != values["preset"]:
        raise InputError(
            f"preset {quoted(preset)} does not match the run's, {values['preset']!r}: leave it out"
        )
    for name, value in overrides.items():
        if name not in known:
            raise unknown_field(name, known)
        if known[name].change > Change.EVALUATED and value != values[name]:
            raise InputError(
                f"{name}={quoted(value)} cannot be set when evaluating a run trained with {values[name]!r}; "
                f"accepted then: {_evaluation_fields(known)}"
            )
    return with_overrides(saved, overrides)


def with_overrides(config: Kind, overrides: Mapping[str, Any]) -> Kind:
    """A copy of the configuration with some fields, by dotted name, set to other values.

    Raises:
      InputError: there is no such field; the near matches are listed.
    """
    known = flatten(config)
    for name in overrides:
        if name not in known:
            raise unknown_field(name, known)
    return with_values(config, overrides)


def unknown_field(name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is none of the `known` dotted ones; a table is answered with its fields."""
    known = list(known)
    inside = [field for field in known if field.startswith(f"{name}.")]
    return unknown_name("configuration field", name, inside or known)


def missing(name: str, check: Check) -> InputError:
    """The error for a field that a saved configuration lacks."""
    return InputError(f"configuration field {name} is missing; accepted: {check.accepted}")


def validate(config: Table) -> None:
    """Checks every field of a configuration, then what belongs together (`Table.check`).

    Raises:
      InputError: a field is out of range; it names the first, and what is accepted.
    """
    values = flatten(config)
    for one in settings(type(config)):
        check_field(one.name, values[one.name], one.check)
    config.check()


def check_field(name: str, value: Any, check: Check) -> None:
    """Raises InputError where a field, or what is one to the user, does not accept a value."""
    if not check.accepts(value):
        raise InputError(f"{name}={quoted(value)} is not accepted: it must be {check.accepted}")


def _may_change(name: str, known: Mapping[str, Setting], change: Change) -> bool:
    if name in known:
        return known[name].change <= change
    # The field is another task's: it is as free to change as the whole table that it stands in.
    table = name.partition(".")[0]
    alike = [one.change for one in known.values() if one.name.startswith(f"{table}.")]
    return bool(alike) and max(alike) <= change


def _evaluation_fields(known: Mapping[str, Setting]) -> str:
    free = [name for name, one in known.items() if one.change == Change.EVALUATED]
    tables: dict[str, bool] = {}
    for name in known:
        table, _, rest = name.partition(".")
        if rest:
            tables[table] = tables.get(table, True) and name in free
    whole = [f"{table}.*" for table, is_free in tables.items() if is_free]
    single = [name for name in free if f"{name.partition('.')[0]}.*" not in whole]
    names = [*(name for name in single if "." not in name), *whole, *(name for name in single if "." in name)]
    return " and ".join(names) or "none"


def _value(flat: Mapping[str, Any], name: str) -> Any:
    value = flat.get(name, (_ABSENT,))
    return tuple(value) if isinstance(value, list) else value


def _show(flat: Mapping[str, Any], name: str) -> str:
    return quoted(_value(flat, name)) if name in flat else _ABSENT
