"""Pictures of polygons, lines and texts, as SVG or as PNG: what is drawn is said once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from zoo.drawing.theme import INK, PAPER, themed

Point = tuple[float, float]


class Polygon(NamedTuple):
    """An area of one colour."""

    points: Sequence[Point]
    colour: str


class Line(NamedTuple):
    """Points joined in their order."""

    points: Sequence[Point]
    colour: str
    width: float = 1.0


class Dot(NamedTuple):
    """A small disc."""

    centre: Point
    colour: str
    radius: float = 2.0


class Text(NamedTuple):
    """A line of text; the anchor is "start", "middle" or "end" of it."""

    place: Point
    text: str
    anchor: str = "start"
    size: int = 12


class Picture(NamedTuple):
    """Shapes, the later above the earlier, on white; sizes are in pixels, from the top left corner."""

    width: int
    height: int
    shapes: Sequence[Polygon | Line | Dot | Text]

    def svg(self) -> str:
        """The text of an SVG file; its colours are those of `zoo.drawing.theme`."""
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
            f'<rect width="{self.width}" height="{self.height}" fill="{PAPER}"/>',
            *map(_element, self.shapes),
            "</svg>",
            "",
        ]
        return themed("\n".join(lines))

    def png(self, scale: int = 2) -> bytes:
        """The content of a PNG file, `scale` times as large: Pillow's lines have no smooth edges otherwise.

        Its font has the Latin alphabet only.
        """
        from PIL import Image, ImageDraw, ImageFont

        image = Image.new("RGB", (scale * self.width, scale * self.height), PAPER)
        draw = ImageDraw.Draw(image)
        for shape in self.shapes:
            if isinstance(shape, Text):
                anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
                font = ImageFont.load_default(scale * shape.size)
                text = shape.text.encode("ascii", "replace").decode()
                draw.text(_scaled([shape.place], scale)[0], text, INK, font, anchor=anchor)
            elif isinstance(shape, Polygon):
                draw.polygon(_scaled(shape.points, scale), fill=shape.colour)
            elif isinstance(shape, Dot):
                ((x, y),), radius = _scaled([shape.centre], scale), scale * shape.radius
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shape.colour)
            elif len(shape.points) > 1:
                width = max(1, round(scale * shape.width))
                draw.line(_scaled(shape.points, scale), fill=shape.colour, width=width, joint="curve")
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        return file.getvalue()


def _scaled(points: Sequence[Point], scale: int) -> list[Point]:
    return [(scale * x, scale * y) for x, y in points]


def _element(shape: Polygon | Line | Dot | Text) -> str:
    if isinstance(shape, Text):
        (x, y), anchor = shape.place, f'text-anchor="{shape.anchor}" font-size="{shape.size}"'
        return f'<text x="{x:.1f}" y="{y:.1f}" {anchor}>{escape(shape.text)}</text>'
    if isinstance(shape, Dot):
        x, y = shape.centre
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{shape.radius:g}" fill="{shape.colour}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
    if isinstance(shape, Polygon):
        return f'<polygon points="{path}" fill="{shape.colour}"/>'
    return f'<polyline points="{path}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"/>'
