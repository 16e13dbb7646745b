"""The table of language models in README and docs, from the results of runs: no figure of it is typed.

    python -m benchmarks.results_table runs/ptb_small_*

prints Markdown, a row for each workdir in the order given, with the perplexities of every way of evaluating
that any of the runs has, those of bounds with "≤", and the lowest of several in a column in bold.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.runs.workdir import Workdir

# The ways of evaluating by the suffix of their key in results.json.
WAYS = {
    "": "",
    "_mc": "{samples} samples",
    "_ensemble": "ensemble",
    "_sharpened_bound": "bound",
    "_dynamic": "dynamic",
    "_dynamic_sharpened_bound": "bound, dynamic",
}


def table(
    results: Sequence[Mapping[str, Any]],
    digits: int = 1,
    splits: Sequence[str] = ("valid", "test"),
    ways: Sequence[str] = tuple(WAYS),
    with_training: bool = True,
) -> str:
    """The results of runs, as results.json has them, as a table in Markdown.

    Args:
      results: the results; a "note" in one stands behind its preset.
      digits: the digits of perplexities behind the point.
      splits: the splits that are shown.
      ways: the ways of evaluating that are shown, as far as any run has them, by their suffixes in `WAYS`.
      with_training: whether the best epoch and the KL are shown.
    """
    columns = [way for way in ways if any(f"test{way}" in one for one in results)]
    heads, figures = ["preset"], []
    for way in columns:
        name = WAYS[way].format(**_first(results, f"test{way}"))
        for split in splits:
            heads.append(f"{name}: {split}" if name and split == splits[0] else split)
            figures.append([_perplexity(one.get(split + way), digits) for one in results])
    heads += ["best epoch", "KL, nats per training token"] if with_training else []
    lowest = [_lowest([value for value, _ in column if value is not None]) for column in figures]
    rows = []
    for place, one in enumerate(results):
        cells = [f"`{one['preset']}`" + (f" ({one['note']})" if "note" in one else "")]
        for column, least in zip(figures, lowest, strict=True):
            value, text = column[place]
            cells.append(f"**{text}**" if value is not None and value == least else text)
        kl = one.get("kl_per_training_token")
        if with_training:
            cells += [f"{one['epochs']} of {one['epochs_trained']}", f"{kl:.2f}" if kl else ""]
        rows.append(cells)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _lowest(values: Sequence[float]) -> float | None:
    """The lowest of several values; one alone has won nothing."""
    return min(values) if len(values) > 1 else None


def _first(results: Sequence[Mapping[str, Any]], key: str) -> Mapping[str, Any]:
    return next(one[key] for one in results if key in one)


def _perplexity(found: Mapping[str, Any] | None, digits: int) -> tuple[float | None, str]:
    """A perplexity, rounded, as a number and as text; of a bound with its sign."""
    if found is None:
        return None, ""
    is_bound = "perplexity_bound" in found
    value = round(found["perplexity_bound" if is_bound else "perplexity"], digits)
    return value, f"{'≤ ' if is_bound else ''}{value:.{digits}f}"


def print_table(
    make: Callable[[Sequence[Mapping[str, Any]]], str],
    about: str | None,
    runs: str,
    arguments: Sequence[str] | None,
) -> None:
    """Prints the table that `make` makes of the results of the workdirs which the command line names.

    Args:
      make: makes it.
      about: what `--help` says.
      runs: what the workdirs must hold, for `--help`.
      arguments: the command line; None for that of the process.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workdirs", nargs="+", help=f"workdirs of finished runs of {runs}")
    options = parser.parse_args(arguments)
    results = [Workdir(path, create=False).read_results() for path in options.workdirs]
    missing = [path for path, one in zip(options.workdirs, results, strict=True) if one is None]
    if missing:
        parser.error(f"no results.json in {', '.join(missing)}: --mode=evaluate makes one")
    print(make([one for one in results if one is not None]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    print_table(table, __doc__, "language models", arguments)


if __name__ == "__main__":
    main()
