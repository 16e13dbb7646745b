"""Fan charts as SVG and PNG."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
from PIL import Image

from zoo.drawing import theme
from zoo.drawing.fan_chart import Fan, fan_charts

SVG = "{http://www.w3.org/2000/svg}"
HISTORY = np.array([1.0, 2.0, np.nan, 3.0, np.nan, 2.0, 4.0])


def a_fan(steps=3, **more):
    median = np.linspace(3.0, 5.0, steps)
    bands = [(level, median - width, median + width) for level, width in ((0.5, 0.5), (0.9, 1.5))]
    return Fan("a < b & c", HISTORY, median, bands, **more)


def parsed(picture):
    return ElementTree.fromstring(picture.svg())


def points(element):
    return [tuple(map(float, point.split(","))) for point in element.get("points").split()]


def test_bands_and_lines_are_where_the_numbers_say():
    root = parsed(fan_charts([a_fan()]))
    bands = [points(one) for one in root.iter(f"{SVG}polygon")][:2]
    # The wider band comes first, below the narrower one; both go up the upper ends and back.
    assert all(len(band) == 6 for band in bands)
    spans = [max(y for _, y in band) - min(y for _, y in band) for band in bands]
    heights = [band[5][1] - band[0][1] for band in bands]
    assert spans[0] > spans[1]
    np.testing.assert_allclose(heights[0] / heights[1], 3.0, atol=0.02)
    median = next(points(one) for one in root.iter(f"{SVG}polyline") if one.get("stroke") == theme.MEDIAN)
    np.testing.assert_allclose([y for _, y in median[:1]], [(bands[0][0][1] + bands[0][5][1]) / 2], atol=0.1)


def test_missing_values_are_gaps():
    root = parsed(fan_charts([a_fan()]))
    lines = [points(one) for one in root.iter(f"{SVG}polyline") if one.get("stroke") == theme.INK]
    assert sorted(len(line) for line in lines if len(line) != 5) == [2, 2, 2]  # Two pieces, and the legend's.
    dots = list(root.iter(f"{SVG}circle"))
    assert len(dots) == 1  # The value alone between two that are missing.


def test_texts_are_escaped_and_labels_shown():
    root = parsed(fan_charts([a_fan(came=np.array([3.0, 4.0, np.nan]), labels=("x1", "x8", "x10"))]))
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert {"a < b & c", "x1", "x8", "x10", "90 %", "what came"} <= set(texts)


def test_no_value_leaves_the_picture():
    picture = fan_charts([a_fan(), a_fan(steps=1), a_fan(came=np.array([50.0, -20.0, 3.0]))], columns=2)
    for one in parsed(picture).iter():
        if one.get("points"):
            assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in points(one))


def test_series_that_are_constant_or_tiny_can_be_drawn():
    for value in (0.0, 5.0, 1e-12, 1e12):
        flat = np.full(2, value)
        fan_charts([Fan("flat", flat, flat, [(0.5, flat, flat)])]).svg()


def test_the_png_is_the_same_picture():
    picture = fan_charts([a_fan(), a_fan()], columns=2)
    image = Image.open(io.BytesIO(picture.png()))
    assert image.size == (2 * picture.width, 2 * picture.height)
    assert {(0xD6, 0xE6, 0xF2), (0xB0, 0xCF, 0xE6), (255, 255, 255)} <= {
        colour for _, colour in image.getcolors(100_000)
    }
