"""Finds the photos of a data set in a directory: in folders, .tar and .zip archives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from zoo.data.photos import PhotoFiles, Photos, PhotoTar, PhotoZip, is_photo_name
from zoo.filesystem.files import explained

Place = tuple[Photos, int]
"""A collection of photos and a number in it."""

_DEPTH = 2  # data_dir/images/train2014 is as deep as the usual layouts go


def find_photos(data_dir: str | os.PathLike[str], first: Sequence[str] = ()) -> dict[str, Place]:
    """Every photo in a directory, its folders (two levels) and the archives in them, by file name.

    Where a file name occurs more than once, folders come before archives, and then what is first in
    alphabetical order.

    Args:
      data_dir: the directory.
      first: names of folders whose photos are taken before all others'.

    Returns:
      From the file name without folders to where the photo is.

    Raises:
      InputError: an archive cannot be used.
    """
    folders, archives = _walk(Path(data_dir), _DEPTH)
    folders.sort(key=lambda folder: (folder.name not in first, folder))
    found: dict[str, Place] = {}
    for folder in folders:
        with explained(folder, "look into"), os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if is_photo_name(entry.name) and entry.is_file())
        photos = PhotoFiles([folder / name for name in names])
        for index, name in enumerate(names):
            found.setdefault(name, (photos, index))
    for archive in sorted(archives):
        inside = PhotoTar(archive) if archive.suffix == ".tar" else PhotoZip(archive)
        for index in range(len(inside)):
            found.setdefault(PurePosixPath(inside.name(index)).name, (inside, index))
    return found


def _walk(folder: Path, depth: int) -> tuple[list[Path], list[Path]]:
    """The folder and those inside it, and the archives in all of them; hidden ones are left out."""
    folders, archives = [folder], []
    with explained(folder, "look into"), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__")):
                continue
            if entry.is_dir() and depth:
                inside = _walk(folder / entry.name, depth - 1)
                folders += inside[0]
                archives += inside[1]
            elif entry.name.endswith((".tar", ".zip")) and entry.is_file():
                archives.append(folder / entry.name)
    return folders, archives
