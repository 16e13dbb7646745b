"""Files read and written: whole or not at all, and what cannot be done said in one line."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import check_regular

# Names of what other programs have open already, so that to open them again waits for nobody.
_STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")


@contextmanager
def explained(path: str | os.PathLike[str], action: str) -> Iterator[None]:
    """Turns an `OSError` within into an `InputError`: what could not be done to `path`, and why."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot {action} {os.fspath(path)}: {error.strerror or error}") from error


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The content of a file.

    Raises:
      InputError: there is none, it cannot be read, or it is no file: a folder, a named pipe.
    """
    with explained(path, "read"):
        if not os.fspath(path).startswith(_STREAMS):
            os.stat(path)
            check_regular(path)
        return Path(path).read_bytes()


def is_there(path: str | os.PathLike[str]) -> bool:
    """Returns whether there is anything at a path.

    Raises:
      InputError: it cannot be looked at, for want of a permission, say.
    """
    with explained(path, "look at"):
        return Path(path).exists()


def is_file(path: str | os.PathLike[str]) -> bool:
    """Returns whether there is a file at a path; see `is_there`."""
    with explained(path, "look at"):
        return Path(path).is_file()


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Returns whether there is a folder at a path; see `is_there`."""
    with explained(path, "look at"):
        return Path(path).is_dir()


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that, whatever happens, it is either the old one or the whole new one.

    A symbolic link stays, and what it leads to is written. New files have the mode that the umask leaves.

    Args:
      path: the path of the file.
      content: the file's content; text becomes UTF-8.

    Raises:
      InputError: it cannot be written: a full disk, no permission, something other than a file in its place.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "replace")  # Names of files may hold what is not UTF-8.
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Within, a file is written under the name given, which then takes the place of the one at `path`.

    Where the block raises nothing is left of it; else see `write_whole`.

    Raises:
      InputError: it cannot be written.
    """
    with explained(path, "write"):
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        check_regular(target)
        temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}")
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def json_text(value: Mapping[str, Any]) -> str:
    """Indented JSON of a value that `to_jsonable` takes."""
    return json.dumps(to_jsonable(value), indent=2, allow_nan=False) + "\n"


def to_jsonable(value: Any) -> Any:
    """The value in JSON's types: NumPy's and tensors' numbers as Python's, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(name): to_jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(inner) for inner in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, float):
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        if array.dtype.kind not in "biufV":  # V: bfloat16 and its like
            raise TypeError(f"{type(value).__name__} {value!r} has no JSON form")
        return to_jsonable((array.astype(np.float32) if array.dtype.kind == "V" else array).tolist())
    return value if math.isfinite(value) else None


def check_output(path: Path) -> None:
    """Checks, before the work is done, that a file can be written where --output says.

    Raises:
      InputError: it is a directory, or in none that exists.
    """
    with explained(path, "write"):
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"--output={path} is not accepted: it must be a file in a directory that exists")
