"""The one exception that means "what you gave us cannot be used, and here is why"."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

_QUOTED = 100  # The most characters that a message quotes of something from outside.
_LISTED = 1000  # Characters of accepted names that an error lists.

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = _QUOTED
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 20


class InputError(ValueError):
    """Bad input from outside: a file, a flag, a checkpoint, a configuration.

    Its message is one line that names the offending value and says what is accepted; the command line
    prints it and exits with status 2.
    """


def quoted(value: Any) -> str:
    """Returns the value as Python writes it, for a message; of a long one, the beginning and the end."""
    return _SHORT.repr(value)


def unknown_name(kind: str, name: str, accepted: Iterable[str], meant: Sequence[str] = ()) -> InputError:
    """Returns an `InputError` for a name that is not one of `accepted`, near matches first.

    Of many accepted names it lists the first, and says how many there are.

    Args:
      kind: what has the name, such as "preset".
      name: the name.
      accepted: the names that there are.
      meant: what it may stand for, where that is known better than by names that look alike.
    """
    accepted = sorted(accepted)
    near = meant or difflib.get_close_matches(name[:_QUOTED], accepted, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listed, length = [], 0
    for one in accepted:
        length += len(one) + 2
        if length > _LISTED:
            break
        listed.append(one)
    more = len(accepted) - len(listed)
    rest = f" and {more} more" if more else ""
    return InputError(f"unknown {kind} {quoted(name)}: {hint}Accepted: {', '.join(listed)}{rest}")
