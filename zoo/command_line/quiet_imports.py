"""Importing TensorFlow without what its C++ parts write to stderr."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Whether somebody has asked for what TensorFlow says of itself.
_CHATTY = os.environ.get(_LEVEL, "3").strip() in ("0", "1", "2")
# Set before TensorFlow is imported, which happens only where it is needed: listing presets is instant.
os.environ.setdefault(_LEVEL, "3")


def import_quietly(name: str) -> ModuleType:
    """Imports a module that imports TensorFlow, whose C++ parts write to stderr whatever the log level."""
    with quietly():
        return importlib.import_module(name)


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps from stderr what is written to it, by C++ too, unless there is an error or it is asked for."""
    if _CHATTY:
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except Exception:
            kept.seek(0)
            os.write(original, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
