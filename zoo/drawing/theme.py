"""Colours of drawings: on light paper as written, on dark paper their counterparts.

A drawing is written in the light colours. `themed` adds a style sheet by which a browser that is asked for
dark pages shows the dark ones, in a file and in a page; what knows no style sheets shows the light ones.
"""

from __future__ import annotations

import re

PAPER, INK, SOFT, GRID = "#ffffff", "#1b1c1e", "#5a6068", "#d5d9de"

LINES = ("#0072b2", "#c04f00", "#00805f", "#a8457f", "#8a6100", INK)
"""Colours of lines, after Okabe and Ito (2008): those who see colours differently can tell them apart.
They are dark enough for text on paper."""

BANDS = ("#d6e6f2", "#b0cfe6", "#82b1d6", "#5691c4")
"""Areas behind lines, the palest first."""

MEDIAN = "#0b3c66"
"""A line on those areas."""

DARK = {
    PAPER: "#15171a",
    INK: "#e8e8e6",
    SOFT: "#a3abb5",
    GRID: "#3a4048",
    **dict(zip(LINES[:-1], ("#56b4e9", "#f08a45", "#2fc79f", "#e39bc8", "#e0b040"), strict=True)),
    **dict(zip(BANDS, ("#1b2c3b", "#204059", "#26567c", "#2f6d9e"), strict=True)),
    MEDIAN: "#c7e3f7",
}
"""The counterpart of each colour on dark paper."""

_CLASS = "themed"


def themed(svg: str) -> str:
    """The text of an SVG with its colours' counterparts, for who prefers dark pages; paper stays light.

    Args:
      svg: the text, whose colours are those above, as attributes `fill` and `stroke`.
    """
    used = dict.fromkeys(re.findall(r'(fill|stroke)="(#\w+)"', svg))
    rules = [f'.{_CLASS} [{what}="{colour}"]{{{what}:{DARK[colour]}}}' for what, colour in used]
    rules.insert(0, f".{_CLASS}{{fill:{DARK[INK]}}}")
    style = f"<style>@media screen and (prefers-color-scheme: dark){{{''.join(rules)}}}</style>"
    head, rest = svg.split(">", 1)
    return f'{head} class="{_CLASS}" fill="{INK}">{style}{rest}'
