"""The one exception that means "what you gave us cannot be used, and here is why"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from outside: a file, a flag, a checkpoint, a configuration.

    Its message is one line that names the offending value and says what is accepted; the command line
    prints it and exits with status 2.
    """


def unknown_name(kind: str, name: str, accepted: Iterable[str]) -> InputError:
    """An `InputError` for a name that is not one of `accepted`, near matches first."""
    accepted = sorted(accepted)
    near = difflib.get_close_matches(name, accepted, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return InputError(f"unknown {kind} {name!r}: {hint}Accepted: {', '.join(accepted)}")
