"""Line plots: where points are, and that none is dropped without a sign."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from zoo.drawing.line_plot import Panel, Series, line_plot

SVG = "{http://www.w3.org/2000/svg}"


def test_where_its_points_are():
    panel = Panel("A & B", [Series("<first>", [0.0, 0.5, 1.0], [100.0, 200.0, math.nan])], 150.0)
    text = line_plot([panel, panel], "x", "y")
    root = ElementTree.fromstring(text)
    groups = root.findall(f"{SVG}g")
    assert len(groups) == 2
    circles = groups[0].findall(f"{SVG}circle")
    # 5 % of room below and above; a logarithmic axis of 300 units.
    low, high = math.log(100 / 1.05), math.log(200 * 1.05)
    expected = [(0.0, math.log(100)), (230.0, math.log(200))]
    for circle, (x, y) in zip(circles, expected, strict=True):
        assert float(circle.get("cx")) == x
        assert float(circle.get("cy")) == pytest.approx(300 * (high - y) / (high - low), abs=0.06)
    assert {"A & B", "<first>"} <= {element.text for element in groups[0].iter(f"{SVG}text")}


def test_what_is_beyond_the_top_leaves_the_plot_and_comes_back():
    """Of 204, 554, 287 the middle one was left out once, and the line joined the others."""
    ys = [100.0, 204.0, 554.0, 287.0, 1e300, math.inf]
    panel = Panel("", [Series("a", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], ys)])
    root = ElementTree.fromstring(line_plot([panel], "x", "y", highest=4.0))
    assert len(list(root.iter(f"{SVG}circle"))) == 3
    arrows = [path for path in root.iter(f"{SVG}path") if path.find(f"{SVG}title") is not None]
    assert [arrow.find(f"{SVG}title").text for arrow in arrows] == ["554", "1e+300", "inf"]
    assert any("beyond the top" in (text.text or "") for text in root.iter(f"{SVG}text"))
    pieces = [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    # A straight line on the logarithmic axis reaches the top of 420 at this share of its way.
    up = math.log(420 / 204) / math.log(554 / 204)
    back = math.log(554 / 420) / math.log(554 / 287)
    first, second = pieces
    assert [len(piece) for piece in pieces] == [3, 3]
    assert first[-1] == pytest.approx((460 * (0.2 + 0.2 * up), 0.0), abs=0.06)
    assert second[0] == pytest.approx((460 * (0.4 + 0.2 * back), 0.0), abs=0.06)
    assert second[-1][1] == 0.0


def test_a_line_is_broken_where_nothing_is_known():
    panel = Panel("", [Series("a", [0.0, 0.2, 0.4, 0.6], [10.0, math.nan, 12.0, 11.0])])
    root = ElementTree.fromstring(line_plot([panel], "x", "y"))
    assert [len(line.get("points").split()) for line in root.iter(f"{SVG}polyline")] == [1, 2]
    assert len(list(root.iter(f"{SVG}circle"))) == 3
    assert not any("beyond" in (text.text or "") for text in root.iter(f"{SVG}text"))


def test_ticks_are_round_and_few():
    for lowest, largest in ((90.0, 100.0), (90.0, 360.0), (1.0, 1e6), (5.0, 5.0)):
        series = Series("a", [0.0, 1.0], [lowest, largest])
        root = ElementTree.fromstring(line_plot([Panel("", [series])], "x", "y"))
        ticks = [e.text for e in root.iter(f"{SVG}text") if e.get("text-anchor") == "end"]
        assert 1 <= len(ticks) <= 10
