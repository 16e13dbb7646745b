"""Data of the zoo: corpora as streams of word ids, and the windows models are trained and scored on."""

import importlib
from typing import Any

_HOMES = {
    "CORPORA": "datasets",
    "Corpus": "corpus",
    "load_corpus": "corpus",
    "Vocabulary": "vocabulary",
    "Windows": "windows",
    "evaluation_windows": "windows",
    "train_windows": "windows",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Imports what the package exports when it is asked for: names of data sets need no TensorFlow."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
