"""The signature and the docstring of a constructor that hands its arguments on to others.

What an argument is, and its default, is written once, in the constructor that uses it. A constructor that
takes `*args` and `**kwargs` and hands them on shows those arguments too: to `help` and `inspect.signature`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Parameters = dict[str, inspect.Parameter]

_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def parameters(constructor: Callable) -> Parameters:
    """The parameters of a constructor by name, without `self`, `*args` and `**kwargs`."""
    found = dict(list(inspect.signature(constructor).parameters.items())[1:])
    return {name: each for name, each in found.items() if each.kind in (_POSITIONAL, _KEYWORD)}


def inherited(own: Callable, parent: Callable) -> Parameters:
    """The parameters of a constructor, and those that it hands on to its parent's constructor."""
    kinds = {each.kind for each in inspect.signature(own).parameters.values()}
    mine, others = parameters(own), parameters(parent)
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        return mine
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return {**others, **mine}
    return {**mine, **{n: each.replace(kind=_KEYWORD) for n, each in others.items() if n not in mine}}


def inserted(found: Parameters, new: Parameters, before: str) -> Parameters:
    """Returns `found` with those of `new` that it lacks, inserted before the one that is called `before`."""
    names = list(found)
    place = names.index(before) if before in found else len(names)
    order = [*names[:place], *(name for name in new if name not in found), *names[place:]]
    return {name: {**new, **found}[name] for name in order}


def show(constructor: Callable, found: Parameters, summary: str, described: Iterable[Callable]) -> None:
    """Gives a constructor parameters to show, and a docstring that describes them.

    Args:
      constructor: a function that takes `self`, those parameters and `**kwargs`.
      found: the parameters.
      summary: the docstring's first line.
      described: the constructors whose docstrings describe the parameters and `**kwargs`.
    """
    ends = [
        inspect.Parameter(n, kind)
        for n, kind in (("self", _POSITIONAL), ("kwargs", inspect.Parameter.VAR_KEYWORD))
    ]
    ordered = sorted(found.values(), key=lambda each: each.kind)  # The stable order that Python asks for.
    texts: dict[str, str] = {}
    for each in described:
        texts.update(_descriptions(each.__doc__))
    lines = [f"  {texts[name]}" for name in [*(each.name for each in ordered), "kwargs"] if name in texts]
    # For `inspect.signature` and `help`; type checkers know no function with this attribute.
    constructor.__signature__ = inspect.Signature([ends[0], *ordered, ends[1]])  # type: ignore[attr-defined]
    constructor.__doc__ = "\n".join([summary, "", "Args:", *lines])


def positional(found: Parameters) -> Parameters:
    """Returns `found`, positional too where they have a default or come before all that have one."""
    return {
        name: each.replace(kind=_KEYWORD if each.default is each.empty and index else _POSITIONAL)
        for index, (name, each) in enumerate(found.items())
    }


def by_name(constructor: Callable, args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call by their names.

    Raises:
      TypeError: if they do not fit the constructor's signature.
    """
    arguments = dict(inspect.signature(constructor).bind(None, *args, **kwargs).arguments)
    del arguments["self"]
    return {**arguments.pop("kwargs", {}), **arguments}


def _descriptions(docstring: str | None) -> dict[str, str]:
    """The entries of a docstring's "Args:" by the argument's name."""
    _, _, section = inspect.cleandoc(docstring or "").partition("\nArgs:\n")
    entries = re.split(r"^  (?=\S)", section.partition("\n\n")[0], flags=re.MULTILINE)[1:]
    return {entry.partition(":")[0].lstrip("*"): entry.rstrip() for entry in entries}
