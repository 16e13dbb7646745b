"""Configurations as frozen dataclasses: a field carries its default, its check, its meaning, its changes.

    @dataclass(frozen=True, kw_only=True)
    class Training(Table):
        epochs: int = setting(10, checks.whole(1, 100), "passes over the data", change=Change.RESUMED)

    @dataclass(frozen=True, kw_only=True)
    class Config(Table):
        train: Training = table(Training)

A field is added where the code that reads it is, by one line; the command line, `config.json`, presets and
errors follow. One that is new has `added=True`: configurations that were saved before have its default.
TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from zoo.configuration.checks import Check


class Change(enum.IntEnum):
    """When a run accepts another value of a field than the one it began with; each includes those before.

    What is computed with a field, the trained weights say, cannot change; what only says how long or how
    well watched training is can.
    """

    EVALUATED = 0
    """At any time: nothing that is trained depends on it."""

    RESUMED = 1
    """When training is resumed: it does not change what has been computed so far."""

    FINE_TUNED = 2
    """When training of a pruned model begins, which has a schedule of its own."""

    NEVER = 3


class Setting(NamedTuple):
    """A field of a configuration, by its dotted name.

    Attributes:
      name: such as "train.epochs".
      default: the value in presets that do not give one.
      check: the check of its values.
      about: the field's meaning, in words.
      change: when it may be another than it was.
      added: whether configurations that were saved without it have the default.
    """

    name: str
    default: Any
    check: Check
    about: str
    change: Change
    added: bool


def setting(
    default: Any, check: Check, about: str, change: Change = Change.NEVER, added: bool = False
) -> Any:
    """A field of a `Table`; the arguments are the attributes of `Setting`."""
    return dataclasses.field(
        default=default, metadata={"check": check, "about": about, "change": change, "added": added}
    )


def table(kind: type[Table], change: Change = Change.NEVER, **defaults: Any) -> Any:
    """A field of a `Table` that is a table itself.

    Args:
      kind: the table's class.
      change: when any of its fields may be another, whatever they say themselves.
      **defaults: other defaults of its fields than their own.
    """
    return dataclasses.field(
        default_factory=lambda: kind(**defaults), metadata={"table": kind, "change": change}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A configuration, or a part of it under a name."""

    def to_dict(self) -> dict[str, Any]:
        """The values as nested dictionaries."""
        return {
            name: value.to_dict() if isinstance(value, Table) else value
            for name, value in ((one.name, getattr(self, one.name)) for one in dataclasses.fields(self))
        }

    def check(self) -> None:
        """Checks that fields go together, each of which has been accepted alone.

        Raises:
          InputError: they do not; it names the first pair, and what is accepted.
        """
        for one in dataclasses.fields(self):
            if isinstance(getattr(self, one.name), Table):
                getattr(self, one.name).check()


Kind = TypeVar("Kind", bound=Table)


def settings(kind: type[Table], prefix: str = "", change: Change = Change.NEVER) -> Iterator[Setting]:
    """All fields of a configuration's class, those of its tables too, in the order in which they stand."""
    defaults = kind()
    for one in dataclasses.fields(kind):
        name, least = f"{prefix}{one.name}", min(change, one.metadata["change"])
        if "table" in one.metadata:
            for inner in settings(type(getattr(defaults, one.name)), f"{name}.", least):
                nested = getattr(defaults, one.name)
                yield inner._replace(default=_get(nested, inner.name.removeprefix(f"{name}.")))
        else:
            meta = one.metadata
            yield Setting(
                name, getattr(defaults, one.name), meta["check"], meta["about"], least, meta["added"]
            )


def flatten(config: Mapping[str, Any] | Table) -> dict[str, Any]:
    """Dotted field name -> value, nested tables opened up: `{"train.batch": 20, ...}`."""
    flat: dict[str, Any] = {}
    for name, value in (config.to_dict() if isinstance(config, Table) else config).items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def with_values(config: Kind, values: Mapping[str, Any]) -> Kind:
    """A copy with some fields, by dotted name, set to other values; whole numbers become a number's type.

    Raises:
      KeyError: there is no such field.
    """
    nested: dict[str, dict[str, Any]] = {}
    changed: dict[str, Any] = {}
    known = {one.name for one in dataclasses.fields(config)}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if first not in known or bool(rest) != isinstance(getattr(config, first), Table):
            raise KeyError(name)
        if rest:
            nested.setdefault(first, {})[rest] = value
        else:
            changed[first] = _typed(value, getattr(config, first))
    for first, inner in nested.items():
        changed[first] = with_values(getattr(config, first), inner)
    return dataclasses.replace(config, **changed)


def filled(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """A configuration of some values, as nested mappings, and the defaults of all others: a preset."""
    return with_values(kind(), flatten(values))


def _typed(value: Any, default: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1023 else value
    return value


def _get(values: Table, name: str) -> Any:
    for part in name.split("."):
        values = getattr(values, part)
    return values
