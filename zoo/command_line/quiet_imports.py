"""Importing TensorFlow without what its C++ parts write to stderr."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# Set before TensorFlow is imported, which happens only where it is needed: listing presets is instant.
_CHATTY = "TF_CPP_MIN_LOG_LEVEL" in os.environ
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def import_quietly(name: str) -> ModuleType:
    """Imports a module that imports TensorFlow, whose C++ parts write to stderr whatever the log level."""
    if _CHATTY:
        return importlib.import_module(name)
    with _stderr_kept_for_errors():
        return importlib.import_module(name)


@contextmanager
def _stderr_kept_for_errors() -> Iterator[None]:
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
