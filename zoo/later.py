"""Functions that are imported when they are first called: what names them needs no package that they need."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class later:
    """A function, or a class, of a module that is imported with the first call.

    Attributes:
      module: the module's dotted name.
      name: the name of the function or class.
    """

    module: str
    name: str

    def load(self) -> Any:
        """The function or class itself, imported now."""
        return getattr(importlib.import_module(self.module), self.name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Calls it."""
        return self.load()(*arguments, **named)
