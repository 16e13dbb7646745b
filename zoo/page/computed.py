"""Sections that need the data and the model, which may be out of reach: the page then says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from absl import logging

from tfp_bayesrnn.errors import InputError
from zoo.page.contents import Contents
from zoo.page.markup import missing
from zoo.page.page import Section
from zoo.runs.settings import Config


def computed_section(
    contents: Contents[Config],
    name: str,
    title: str,
    compute: Callable[[Contents[Config]], Any],
    shown: Callable[[Any, str], list[Any]],
) -> Section:
    """Returns a section of what is computed, or of why there is none.

    Args:
      contents: the contents of the workdir.
      name: the name of the section, and of what is computed.
      title: the section's title.
      compute: makes what is shown from the contents; it raises InputError where that cannot be had.
      shown: makes the section's content from that, and from the weights in words.
    """
    try:
        found = compute(contents)
    except InputError as error:
        logging.warning("the report has no %s: %s", name, error)
        line = missing(f"No {name}: {error}. This tries again:", command=contents.command("report"))
        return Section(name, title, [line], is_missing=True)
    return Section(name, title, shown(found, contents.weights))
