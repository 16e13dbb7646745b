"""Encoded photos wherever they lie, and how to decode one.

`Photos` numbers a collection; it reads nothing before it is asked to, and several threads may read at once.
"""

from __future__ import annotations

import io
import lzma
import os
import stat
import struct
import tarfile
import threading
import weakref
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from tfp_bayesrnn.errors import InputError
from zoo.filesystem.files import read_file

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})
MAX_PIXELS = 89_478_485  # Pillow's own limit, where it starts to warn: 256 MiB as RGB

# What a damaged zip archive and its members raise. RuntimeError: encrypted; NotImplementedError, which is a
# RuntimeError: a method of compression that Python lacks.
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)

_ORIENTATION = 0x0112  # the EXIF tag
_MAX_UNPACKED_BYTES = 64 << 20
_ACCEPTED = "accepted: JPEG, PNG, GIF, BMP and WebP"


class Photos(ABC):
    """Encoded image files, numbered from 0; reading is safe from several threads."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of photos."""

    @abstractmethod
    def name(self, index: int) -> str:
        """The photo's name in messages."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The content of an image file.

        Raises:
          InputError: names the photo where it cannot be read.
        """


class PhotoFiles(Photos):
    """Files on disk.

    Args:
      paths: one for each photo.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]):
        self._paths = tuple(os.fspath(path) for path in paths)

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """The path."""
        return self._paths[index]

    def read(self, index: int) -> bytes:
        """The file's content."""
        return read_file(self._paths[index])


class PhotoBytes(Photos):
    """Photos in memory, or computed when they are asked for.

    Args:
      names: the name of each photo.
      contents: the image files, in the same order; any sequence, so its items may be made on demand.

    Raises:
      ValueError: where there are not as many names as contents.
    """

    def __init__(self, names: Sequence[str], contents: Sequence[bytes]):
        if len(names) != len(contents):
            raise ValueError(
                "every photo needs one name. "
                f"Received: len(names)={len(names)}, len(contents)={len(contents)}"
            )
        self._names = tuple(names)
        self._contents = contents

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The given name."""
        return self._names[index]

    def read(self, index: int) -> bytes:
        """The given content."""
        return self._contents[index]


class PhotoSelection(Photos):
    """Photos out of one or several other collections.

    Args:
      places: the collection that each photo is in, and its number there.
    """

    def __init__(self, places: Sequence[tuple[Photos, int]]):
        self._places = tuple(places)

    def __len__(self) -> int:
        return len(self._places)

    def name(self, index: int) -> str:
        """The name it has in its collection."""
        photos, place = self._places[index]
        return photos.name(place)

    def read(self, index: int) -> bytes:
        """Reads it from its collection."""
        photos, place = self._places[index]
        return photos.read(place)


class PhotoTar(Photos):
    """Members of an uncompressed tar archive, read where they stand; nothing is unpacked.

    Args:
      path: the archive.
      members: names of the members, in the order wanted; by default every member that has the suffix of a
        photo, in the archive's order.

    Raises:
      InputError: where the file is no uncompressed tar archive or is cut short, a member is missing, or one
        is no plain file inside the archive's own folder (a link, an absolute path, a path through `..`).
    """

    def __init__(self, path: str | os.PathLike[str], members: Sequence[str] | None = None):
        self._path = os.fspath(path)
        try:
            with tarfile.open(self._path, "r:") as tar:
                found = {member.name: member for member in tar}
        except (tarfile.TarError, *ARCHIVE_ERRORS) as error:
            raise InputError(f"{self._path} is not a readable, uncompressed .tar archive ({error})") from None
        self._members = _photo_members(found) if members is None else tuple(members)
        self._spans = []
        size = os.stat(self._path).st_size
        for name in self._members:
            member = _member(found, name, self._path)
            if not member.isreg() or member.issparse() or _leads_outside(name):
                raise _refused(self._path, name)
            if member.offset_data + member.size > size:
                raise InputError(f"{self._path} ends within member {name!r}: the archive is cut short")
            self._spans.append((member.offset_data, member.size))
        self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """The archive's path, a colon and the member's name."""
        return f"{self._path}:{self._members[index]}"

    def read(self, index: int) -> bytes:
        """The member's content."""
        offset, size = self._spans[index]
        try:
            content = os.pread(self._file, size, offset)
        except OSError as error:
            raise InputError(f"cannot read photo {self.name(index)}: {error.strerror}") from None
        if len(content) != size:
            raise InputError(f"cannot read photo {self.name(index)}: the archive was cut short")
        return content


class PhotoZip(Photos):
    """Members of a zip archive; nothing is unpacked to disk.

    Args:
      path: the archive.
      members: the names that `PhotoTar` takes.

    Raises:
      InputError: the cases of `PhotoTar`, and a member of more than 64 MiB.
    """

    def __init__(self, path: str | os.PathLike[str], members: Sequence[str] | None = None):
        self._path = os.fspath(path)
        try:
            self._archive = zipfile.ZipFile(self._path)
        except ARCHIVE_ERRORS as error:
            raise InputError(f"{self._path} is not a readable .zip archive ({error})") from None
        weakref.finalize(self, self._archive.close)
        found = {member.filename: member for member in self._archive.infolist()}
        self._members = _photo_members(found) if members is None else tuple(members)
        for name in self._members:
            member = _member(found, name, self._path)
            mode = member.external_attr >> 16  # 0 where the archive was not made on Unix
            if member.is_dir() or (stat.S_IFMT(mode) not in (0, stat.S_IFREG)) or _leads_outside(name):
                raise _refused(self._path, name)
            if member.file_size > _MAX_UNPACKED_BYTES:
                raise InputError(
                    f"{self._path}: member {name!r} is refused: {member.file_size} bytes, "
                    f"accepted at most {_MAX_UNPACKED_BYTES}"
                )
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """The archive's path, a colon and the member's name."""
        return f"{self._path}:{self._members[index]}"

    def read(self, index: int) -> bytes:
        """The member's content, unpacked."""
        try:
            with self._lock:
                return self._archive.read(self._members[index])
        except ARCHIVE_ERRORS as error:
            raise InputError(f"cannot read photo {self.name(index)}: {error}") from None


def is_photo_name(name: str) -> bool:
    """Returns whether a file's name has a photo's suffix; a hidden file, such as macOS adds, has not."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def decode(content: bytes, name: str) -> np.ndarray:
    """The pixels of an image file, uint8 [height, width, 3], red, green and blue.

    Grey, palette, CMYK and 16-bit images become 8-bit RGB, transparent ones are laid over white, the first
    frame stands for an animation, and the EXIF orientation is applied.

    Args:
      content: the file's content: JPEG, PNG, GIF, BMP or WebP.
      name: the name of the file in errors.

    Raises:
      InputError: where it is no such image, is cut short or damaged, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{width} x {height} pixels")
            pixels = _rgb(image)
            return np.ascontiguousarray(_turned(pixels, _orientation(image)))
    except Image.DecompressionBombError as error:
        raise InputError(f"photo {name} is refused: {error}; accepted at most {MAX_PIXELS} pixels") from None
    except UnidentifiedImageError:
        raise InputError(f"{name} is no readable image; {_ACCEPTED}") from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        reason = str(error) or type(error).__name__
        raise InputError(f"{name} is no readable image ({reason}); {_ACCEPTED}") from None


def check_readable(photos: Photos, where: str) -> None:
    """Checks that there is a photo among them that can be read and decoded.

    Args:
      photos: one or more photos.
      where: what they are, for the error.

    Raises:
      InputError: there is none; it says what is wrong with the first.
    """
    first: InputError | None = None
    for index in range(len(photos)):
        try:
            decode(photos.read(index), photos.name(index))
        except InputError as error:
            first = first or error
        else:
            return
    raise InputError(f"none of the {len(photos)} photos of {where} can be read: {first}")


def _rgb(image: Image.Image) -> np.ndarray:
    """The pixels, not yet turned."""
    image.load()
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16-bit grey, which Pillow's conversion clips
        grey = np.asarray(image).astype(np.int64)
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            grey[grey == transparent] = 65_535
        grey = ((grey * 255 + 32_767) // 65_535).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        over = Image.new("RGBA", image.size, "white")
        over.alpha_composite(with_alpha)
        return np.asarray(over.convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where the image has none that can be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data raise nearly anything, and the picture is whole without them
        return 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The upright picture of one that was stored in an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _photo_members(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in found if is_photo_name(name))


Member = TypeVar("Member")


def _member(found: Mapping[str, Member], name: str, path: str) -> Member:
    try:
        return found[name]
    except KeyError:
        raise InputError(f"{path} has no member {name!r}") from None


def _leads_outside(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")


def _refused(path: str, name: str) -> InputError:
    return InputError(f"{path}: member {name!r} is refused: not a plain file inside it")
