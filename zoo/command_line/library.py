"""The library in two steps: at once what checks flags, after that TensorFlow and all the rest, in silence.

Importing any module of a package runs the package's `__init__` first, and the library's imports TensorFlow,
which takes seconds. A wrong flag is to be answered at once, and what answers it needs no more of the library
than its errors and paths. So the command line has the package there before its `__init__` has run.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from zoo.command_line.quiet_imports import import_quietly, quietly

_LIBRARY = "tfp_bayesrnn"


def defer(name: str = _LIBRARY) -> None:
    """Makes modules of a package importable while its `__init__` has not run.

    It runs with `load`, or when what only it defines is asked of the package. A package that has been
    imported stays as it is.

    Args:
      name: the package's name.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is not None:
        package = importlib.util.module_from_spec(spec)
        vars(package)["__getattr__"] = functools.partial(_attribute, package)
        sys.modules[name] = package


def load(name: str = _LIBRARY) -> None:
    """Imports a package, which may have been deferred, in silence.

    Args:
      name: the package's name.
    """
    package = import_quietly(name)
    with quietly():
        _run(package)


def _run(package: ModuleType) -> None:
    """Runs the `__init__` of a deferred package."""
    spec = package.__spec__
    if vars(package).pop("__getattr__", None) and spec is not None and spec.loader is not None:
        spec.loader.exec_module(package)


def _attribute(package: ModuleType, name: str) -> Any:
    """What a package that has not run yet does not have: a module of it, imported alone, or what it defines.

    A module of the package that asks for another one so gets it while the package stays deferred: to run the
    package then would import modules that are in the middle of their own import.
    """
    if importlib.util.find_spec(f"{package.__name__}.{name}") is not None:
        return importlib.import_module(f"{package.__name__}.{name}")
    _run(package)
    return getattr(package, name)
