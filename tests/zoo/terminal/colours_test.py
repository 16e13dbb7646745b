"""When there are colours, and which."""

import io
import math
import re

import numpy as np
import pytest

from zoo.terminal import colours
from zoo.terminal.text import printable


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "choice, stream, environment, expected",
    [
        ("auto", Terminal(), {"TERM": "xterm-256color"}, True),
        ("auto", Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        ("auto", Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", Terminal(), {"TERM": "dumb"}, False),
        ("auto", io.StringIO(), {"TERM": "xterm"}, False),
        ("always", io.StringIO(), {"NO_COLOR": "1"}, True),
        ("never", Terminal(), {"TERM": "xterm"}, False),
    ],
)
def test_when_there_are_colours(choice, stream, environment, expected):
    assert colours.uses_colours(choice, stream, environment) == expected


def test_shades_go_from_white_at_0_to_orange_at_the_highest():
    def shade(value):
        return re.fullmatch(r"\033\[48;5;(\d+);38;5;16mword\033\[0m", colours.shaded("word", value, 2.0))[1]

    assert shade(0.0) == shade(-1.0) == shade(math.nan) == "231"
    assert shade(2.0) == shade(9.0) == shade(math.inf) == "202"
    assert len(dict.fromkeys(shade(value) for value in np.linspace(0, 2, 50))) == 10
    assert colours.legend(2.0, 3) == (
        colours.shaded(" 0 ", 0, 2) + colours.shaded(" 1 ", 1, 2) + colours.shaded(" 2 or more ", 2, 2)
    )
    assert printable("a\x1b[0m\ud800é") == "a?[0m?é"
    with pytest.raises(ValueError, match="Received: highest=0"):
        colours.shaded("word", 1.0, 0)
    with pytest.raises(ValueError, match="Received: choice='yes'"):
        colours.uses_colours("yes", io.StringIO())
