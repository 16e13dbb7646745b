"""Colours: their contrasts, and that a drawing follows what the reader prefers."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from zoo.drawing import theme
from zoo.page.style import STYLE


def luminance(colour):
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255.0 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_contrast_of_black_and_white():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WebAIM's checker.


@pytest.mark.parametrize("colour", [theme.INK, theme.SOFT, *theme.LINES])
def test_labels_and_lines_stand_out_on_light_and_on_dark(colour):
    assert contrast(colour, theme.PAPER) >= 4.5
    assert contrast(theme.DARK[colour], theme.DARK[theme.PAPER]) >= 4.5


@pytest.mark.parametrize("band", theme.BANDS)
def test_what_lies_on_a_band_stands_out(band):
    """Lines need 3 (WCAG 2.2, 1.4.11)."""
    assert contrast(theme.MEDIAN, band) >= 3.0
    assert contrast(theme.DARK[theme.MEDIAN], theme.DARK[band]) >= 3.0


def test_the_pages_text_stands_out():
    for block in re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for name in ("ink", "soft", "link", "line-0", "line-1", "line-2"):
            for paper in ("paper", "band", "mark") if name in ("ink", "soft") else ("paper",):
                assert contrast(colours[name], colours[paper]) >= 4.5, (name, paper)


def test_every_colour_of_a_drawing_has_its_counterpart():
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><rect fill="#ffffff"/><path stroke="#0072b2"/></svg>'
    root = ElementTree.fromstring(theme.themed(svg))
    style = root.find("{http://www.w3.org/2000/svg}style").text
    assert root.get("class") == "themed" and root.get("fill") == theme.INK
    assert "prefers-color-scheme: dark" in style
    assert f'.themed [fill="#ffffff"]{{fill:{theme.DARK[theme.PAPER]}}}' in style
    assert f'.themed [stroke="#0072b2"]{{stroke:{theme.DARK[theme.LINES[0]]}}}' in style
    with pytest.raises(KeyError, match="#123456"):
        theme.themed('<svg><path stroke="#123456"/></svg>')
