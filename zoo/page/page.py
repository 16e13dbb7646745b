"""The page: sections under a title, with all that it needs inside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from zoo.page.markup import Markup, escaped, tag
from zoo.page.style import STYLE

# With this policy the browser refuses whatever in the page would run, or ask a network for something.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Section(NamedTuple):
    """A part of the page."""

    name: str  # The name of its anchor: letters and hyphens.
    title: str
    content: Sequence[Any]  # Content that `markup.escaped` takes.
    is_missing: bool = False  # Whether the workdir lacks what would stand here, as the content then says.


def page(title: str, about: Sequence[Any], sections: Sequence[Section]) -> str:
    """The whole page as HTML.

    Args:
      title: the page's title.
      about: the content below it.
      sections: the parts, in their order.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    links = [
        tag(
            "li",
            tag(
                "a", section.title, href=f"#{section.name}", class_="missing" if section.is_missing else None
            ),
        )
        for section in sections
    ]
    parts = [
        tag(
            "section",
            tag("h2", section.title, id=f"{section.name}-title"),
            section.content,
            id=section.name,
            aria_labelledby=f"{section.name}-title",
        )
        for section in sections
    ]
    body = tag(
        "body",
        tag("header", tag("h1", title), about),
        tag("nav", tag("ul", links), aria_label="Contents"),
        tag("main", parts),
    )
    return f"<!DOCTYPE html>\n{escaped(tag('html', head, body, lang='en'))}\n"
