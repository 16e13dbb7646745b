"""HTML from values: whatever is not markup yet becomes text, escaped."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

# Characters that HTML or UTF-8 cannot hold, and those that turn the direction of the text around them.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_VOID = frozenset({"br", "img", "meta"})


class Markup(str):
    """Text that is HTML or SVG already, and so is not escaped again."""


def escaped(value: Any) -> Markup:
    """A value as markup: markup stays, sequences are joined, None is nothing, all else is escaped text.

    What HTML cannot show becomes a replacement character.
    """
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup()
    if isinstance(value, list | tuple):
        return Markup("".join(map(escaped, value)))
    return Markup(_as_text(value))


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
      name: the element's name.
      *children: its content, as `escaped` takes it.
      **attributes: its attributes; a final underscore is left out (`class_`), others become hyphens. None:
        there is no such attribute. True: it has no value.
    """
    parts = []
    for key, value in attributes.items():
        key = key.removesuffix("_").replace("_", "-")
        if value is True:
            parts.append(f" {key}")
        elif value is not None:
            parts.append(f' {key}="{_as_text(value)}"')
    start = f"<{name}{''.join(parts)}>"
    return Markup(start if name in _VOID else f"{start}{escaped(children)}</{name}>")


def table(
    caption: Any, head: Sequence[Any], rows: Iterable[Sequence[Any]], texts: int = 1, marked: Any = ()
) -> Markup:
    """A table in a frame of its own, which can be scrolled where the page is narrower.

    Args:
      caption: the text that says what the table shows.
      head: the heads of the columns.
      rows: the rows of cells, the first of which heads its row.
      texts: the number of columns, from the left, that hold text and not numbers.
      marked: the numbers of the rows that stand out.
    """

    def cell(place: int, value: Any) -> Markup:
        kind = None if place < texts else "number"
        return tag("td", value, class_=kind) if place else tag("th", value, scope="row")

    columns = [
        tag("th", value, scope="col", class_=None if place < texts else "number")
        for place, value in enumerate(head)
    ]
    body = [
        tag(
            "tr",
            [cell(place, value) for place, value in enumerate(row)],
            class_="marked" if number in marked else None,
        )
        for number, row in enumerate(rows)
    ]
    whole = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", columns)),
        tag("tbody", body),
        class_="figures",
    )
    return scrolled(whole, _plain(caption))


def scrolled(content: Markup, label: str) -> Markup:
    """Content that may be wider than the page, in a frame that can be scrolled, by keyboard too."""
    return tag("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def details(summary: Any, *content: Any, is_open: bool = False) -> Markup:
    """Content that is folded up behind a line."""
    return tag("details", tag("summary", summary), content, open=True if is_open else None)


def paragraph(*content: Any) -> Markup:
    """A paragraph."""
    return tag("p", content)


def missing(*content: Any, command: str | None = None) -> Markup:
    """The text that stands where the page lacks something, and the command line that makes it."""
    line = None if command is None else tag("code", command, class_="command", tabindex="0")
    return tag("div", tag("p", content), line, class_="missing-part")


def code(text: Any) -> Markup:
    """Text that is typed or named literally."""
    return tag("code", text)


def drawing(svg: str, label: str) -> Markup:
    """An SVG file's text as part of the page, with words for who does not see it.

    Args:
      svg: an SVG that the project has written itself, its texts escaped.
      label: the text that says what it shows.
    """
    named = svg.replace("<svg ", f'<svg role="img" aria-label="{_as_text(label)}" ', 1)
    return Markup(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", named))


def number(value: float | None, digits: int) -> str:
    """A number with its digits after the point; a dash for one that is not known or was not finite."""
    return f"{value:,.{digits}f}" if _is_known(value) else "\N{EN DASH}"


def significant(value: float | None, digits: int = 3) -> str:
    """A number with so many digits that count; a dash for one that is not known or was not finite."""
    return f"{value:.{digits}g}" if _is_known(value) else "\N{EN DASH}"


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _as_text(value: Any) -> str:
    """The value escaped, even if it is markup already, as an attribute's value must be."""
    return html.escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", str(value)))


def _plain(markup: Any) -> str:
    """The text of markup."""
    return html.unescape(re.sub("<[^>]*>", "", escaped(markup)))
