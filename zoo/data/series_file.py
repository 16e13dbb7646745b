"""Series of one's own, from one CSV file in either of two layouts.

Long, a value to a line, in any order:

    series,time,value,promotion,region       `series` may be left out where there is only one
    north,2020-01,112,0,coast
    north,2020-02,118,1,coast
    north,2020-03,,0,coast                   no value: it is missing or, after the last one, to be forecast

Further columns are covariates that are known in advance (numbers) or categories (words, the same in all lines
of a series); the configuration names those that are used. Wide, a column to a series:

    time,north,south
    2020-01,112,340

Times are dates, with or without an hour, or whole numbers; the length of a step follows from them.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfp_bayesrnn.errors import InputError, quoted
from zoo.data import calendar
from zoo.data.folder import data_folder
from zoo.data.lines import decoded
from zoo.data.series import Series, SeriesSet

FILE = "series.csv"
_LAYOUT = f"{FILE}, with the columns series, time and value, or time and a column for each series"
_OWN = ("series", "time", "value")


class _Row(NamedTuple):
    place: str  # Of its line, for errors.
    time: str
    value: float
    others: Mapping[str, str]


def read_series_file(data_dir: str | os.PathLike[str]) -> SeriesSet:
    """The series of `series.csv` in a directory.

    Raises:
      InputError: there is no such file, or it is not as the module says: the line is named.
    """
    path = data_folder(data_dir, _LAYOUT) / FILE
    if not path.is_file():
        raise InputError(f"data directory {str(data_dir)!r} holds no {FILE}: it should hold {_LAYOUT}")
    lines = _lines(path)
    _, header = next(lines, ("", []))
    if "time" not in header or len(header) < 2 or len(set(header)) < len(header) or "" in header:
        raise InputError(
            f"{path}: its first line is {quoted(','.join(header))}; accepted: {_LAYOUT}, each column once"
        )
    is_long = "value" in header
    rows = (_long if is_long else _wide)(header, lines)
    others = [name for name in header if name not in _OWN] if is_long else []
    return _series_set(rows, others, str(path))


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The cells of each line that is not empty, and its place."""
    with open(path, "rb") as file:
        for number, text in decoded(file, str(path)):
            cells = [cell.strip() for cell in next(csv.reader([text]), [])]
            if any(cells):
                yield f"{path}, line {number}", cells


def _long(header: Sequence[str], lines: Iterator[tuple[str, list[str]]]) -> dict[str, list[_Row]]:
    found: dict[str, list[_Row]] = {}
    for place, cells in lines:
        named = _named(place, header, cells)
        others = {name: text for name, text in named.items() if name not in _OWN}
        row = _Row(place, named["time"], _number(place, "value", named["value"]), others)
        found.setdefault(named.get("series", "series"), []).append(row)
    return found


def _wide(header: Sequence[str], lines: Iterator[tuple[str, list[str]]]) -> dict[str, list[_Row]]:
    names = [name for name in header if name != "time"]
    found: dict[str, list[_Row]] = {name: [] for name in names}
    for place, cells in lines:
        named = _named(place, header, cells)
        for name in names:
            found[name].append(_Row(place, named["time"], _number(place, name, named[name]), {}))
    return found


def _named(place: str, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise InputError(f"{place} has {len(cells)} columns; accepted: {len(header)}, as the first line has")
    return dict(zip(header, cells, strict=True))


def _number(place: str, column: str, text: str) -> float:
    """The number in a cell; NaN of an empty one."""
    if not text or text.lower() in ("na", "nan"):
        return np.nan
    try:
        number = float(text)
    except ValueError:
        number = np.inf
    if not np.isfinite(number):
        raise InputError(
            f"{place}: {column} is {quoted(text)}; accepted: a number, or nothing where it is missing"
        )
    return number


def _series_set(rows: Mapping[str, Sequence[_Row]], others: Sequence[str], source: str) -> SeriesSet:
    if not any(rows.values()):
        raise InputError(f"{source} holds no line but its first")
    times = {name: _times(of) for name, of in rows.items()}
    frequency = _frequency(times, source)
    covariates = [
        name for name in others if all(_is_number(row.others[name]) for of in rows.values() for row in of)
    ]
    categories = [name for name in others if name not in covariates]
    series = [_one(name, of, times[name], frequency, covariates, categories) for name, of in rows.items()]
    return SeriesSet(tuple(series), frequency, tuple(covariates), tuple(categories))


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _times(rows: Sequence[_Row]) -> np.ndarray:
    """The times of lines: int64 where they are whole numbers, not all of them years; else datetime64."""
    if all(row.time.removeprefix("-").isdecimal() for row in rows):
        numbers = np.array([int(row.time) for row in rows])
        if numbers.min() < 1000 or numbers.max() > 3000:
            return numbers
    found = []
    for row in rows:
        try:
            found.append(np.datetime64(row.time.removesuffix("Z").replace(" ", "T"), "m"))
        except ValueError:
            raise InputError(
                f"{row.place}: time is {quoted(row.time)}; accepted: a date such as 2020-01, 2020-01-31 or "
                "2020-01-31T12:00, or a whole number"
            ) from None
    return np.array(found)


def _frequency(times: Mapping[str, np.ndarray], source: str) -> str:
    are_dates = {np.issubdtype(one.dtype, np.datetime64) for one in times.values() if len(one)}
    if are_dates == {False}:
        return "steps"
    if len(are_dates) > 1:
        raise InputError(f"{source}: some times are dates and some are numbers; accepted: all of a kind")
    found = {calendar.guessed(np.unique(one)) for one in times.values() if len(np.unique(one)) > 1}
    if len(found) != 1 or None in found:
        names = ", ".join(name for name in calendar.FREQUENCIES if name != "steps")
        raise InputError(
            f"{source}: the steps between times are not the same in all series, or none of {names}"
        )
    return found.pop() or ""


def _one(
    name: str,
    rows: Sequence[_Row],
    times: np.ndarray,
    frequency: str,
    covariates: Sequence[str],
    categories: Sequence[str],
) -> Series:
    steps = times - times.min() if frequency == "steps" else calendar.places(times, frequency)
    if steps is None:
        raise InputError(f"series {name!r}: its times are not {frequency} steps from {times.min()} on")
    unique, first = np.unique(steps, return_index=True)
    if len(unique) < len(steps):
        twice = next(row for place, row in enumerate(rows) if place not in set(first.tolist()))
        raise InputError(f"{twice.place}: time {twice.time} of series {name!r} is there a second time")
    length = int(unique[-1]) + 1
    values, known = np.full(length, np.nan), np.full([length, len(covariates)], np.nan)
    for step, row in zip(steps, rows, strict=True):
        values[step] = row.value
        known[step] = [float(row.others[column]) for column in covariates]
    observed = np.flatnonzero(np.isfinite(values))
    end = int(observed[-1]) + 1 if len(observed) else 0
    kinds = tuple(_same(name, column, rows) for column in categories)
    start = None if frequency == "steps" else times.min()
    return Series(name, values[:end], start, known if covariates else np.zeros([0, 0]), kinds)


def _same(name: str, column: str, rows: Sequence[_Row]) -> str:
    for row in rows:
        if row.others[column] != rows[0].others[column]:
            raise InputError(
                f"{row.place}: {column} of series {name!r} is {quoted(row.others[column])} and was "
                f"{quoted(rows[0].others[column])}; accepted: numbers in all lines, or one word for a series"
            )
    return rows[0].others[column]
