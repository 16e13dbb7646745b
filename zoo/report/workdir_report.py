"""The command `report`: a workdir as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.configuration.methods import LABELS
from zoo.filesystem.files import check_output, write_whole
from zoo.filesystem.writable import check_writable
from zoo.page.contents import Contents, understood
from zoo.page.markup import code, number, paragraph
from zoo.page.page import page
from zoo.registry import task_of
from zoo.report.overview import configuration, learning
from zoo.report.pruning import pruning
from zoo.report.results import results
from zoo.report.uncertainty import uncertainty
from zoo.runs.settings import RunConfig

FILE = "report.html"
_SUFFIXES = (".html", ".htm")


def write_report(
    config: RunConfig,
    workdir: str | os.PathLike[str],
    data_dir: str | None = None,
    output: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes the report of a run, finished or not, and prints where it is and what it lacks.

    The page needs nothing beside it: styles, drawings and pictures are inside, and nothing in it runs. What
    the workdir does not hold yet is a line in it that says which command makes it; so it is, with the reason,
    for the test text and the pictures where the data cannot be read.

    Args:
      config: the run's, resolved; `evaluate.num_samples` is the number of draws that words are judged
        by, 10 where it is 0.
      workdir: the run's directory, of which nothing but the default output is written.
      data_dir: the data set's directory, where it needs one; None for that of the run.
      output: the page's path; `report.html` in the workdir if left out.

    Returns:
      The page's path.

    Raises:
      InputError: the workdir does not exist, a file in it is damaged, or the page cannot be written.
    """
    contents = Contents.read(config, workdir, data_dir)
    path = _checked(local_path(output, "--output") if output is not None else contents.directory.path / FILE)
    # The figures come first: they are made quickly, and a damaged file is not found only after minutes.
    sections = [make(contents) for make in (configuration, learning, results, uncertainty, pruning)]
    at_work = task_of(config).report_section
    if at_work is not None:
        sections.insert(3, at_work(contents))
    name = contents.directory.path.resolve().name or str(contents.directory.path)
    write_whole(path, page(f"{name}: {config.preset}", _about(contents), sections))
    print(f"report: {path} ({path.stat().st_size / 1024:,.0f} KiB)")
    for section in sections:
        if section.is_missing:
            print(f"  without {section.title[:1].lower()}{section.title[1:]}: the page says why")
    return path


def _about(contents: Contents[RunConfig]) -> list:
    config = contents.config
    said = [f"{LABELS[config.method]}, on {config.data.name}."]
    if contents.results is not None:
        with understood(contents.directory.results_path, "evaluate"):
            figures = contents.results["test"]
            weights = "posterior mean" if contents.is_bayesian else "trained weights"
            for name in ("perplexity", "nll"):
                if name in figures:
                    said.append(f" Test {name} of the {weights}: {number(figures[name], 2)}.")
                    break
    return [paragraph(said), paragraph("Workdir: ", code(contents.directory.path))]


def _checked(path: Path) -> Path:
    """The page's path, if it can be one: better to know that before the work is done."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"--output={path} is not accepted: the report is HTML, name it so (.html)")
    check_output(path)
    check_writable(path)
    return path
