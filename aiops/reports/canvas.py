"""The frame all charts share: fonts, colours, title, badge, legend, axes. Pixels are device pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from aiops.core.untrusted import Untrusted

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK: Colour = (17, 24, 39)
MUTED: Colour = (107, 114, 128)
GRID: Colour = (232, 235, 240)
TRACK: Colour = (241, 243, 246)
AXIS: Colour = (190, 196, 206)
PAPER: Colour = (255, 255, 255)
BAND: Colour = (219, 234, 254)
ALARM: Colour = (220, 38, 38)
AMBER: Colour = (180, 83, 9)
OTHERS: Colour = (203, 208, 216)
PALETTE: tuple[Colour, ...] = (
    (37, 99, 235), (234, 88, 12), (5, 150, 105), (147, 51, 234),
    (219, 39, 119), (8, 145, 178), (202, 138, 4), (100, 116, 139),
)  # fmt: skip

SUPERSAMPLE = 3
"""Pillow draws lines without anti-aliasing: the plot is drawn this much larger and averaged down."""

_PLAIN = {"µ": "u", "€": "EUR ", "£": "GBP ", "…": "...", "’": "'", "−": "-", " ": " "}


@cache
def _wide_font(size: int) -> ImageFont.FreeTypeFont | None:
    """DejaVu where the system has it: it draws more scripts than the font inside Pillow."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", round(size * 0.92))
    except OSError:
        return None


@cache
def _own_font(size: int) -> Font:
    return ImageFont.load_default(size)


def font_for(text: str, size: int) -> tuple[Font, str]:
    """A font that can draw ``text``, and the text, cleaned, and replaced where no font at hand can."""
    if not text.isprintable():
        text = Untrusted(text.encode("utf-8", "replace").decode()).display()
    if text.isascii():
        return _own_font(size), text
    wide = _wide_font(size)
    if wide is not None:
        return wide, text
    plain = "".join(c if c.isascii() else _PLAIN.get(c, "?") for c in text)
    return _own_font(size), plain


def text_width(text: str, size: int) -> float:
    font, text = font_for(text, size)
    return float(font.getlength(text))


def fit(text: str, size: int, width: float) -> str:
    """``text`` cut with an ellipsis so that it is at most ``width`` pixels wide."""
    if text_width(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle] + "...", size) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "..."


def tint(colour: Colour, share: float) -> Colour:
    """``colour`` mixed with white; 1 is the colour itself."""
    r, g, b = (round(255 - (255 - c) * share) for c in colour)
    return r, g, b


@dataclass(frozen=True, slots=True)
class Key:
    """A legend entry; ``shape`` is line, box or dash."""

    name: str
    colour: Colour
    value: str = ""
    shape: str = "line"


class Canvas:
    """A picture with a title block and legend; ``plot`` is (left, top, right, bottom) of what remains.

    Args:
        y_labels: labels of the value axis, to know how much room they need.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        title: str,
        subtitle: str,
        keys: Sequence[Key],
        y_labels: Sequence[str],
        simulated: bool,
        left: int = 0,
    ) -> None:
        self.image = Image.new("RGB", (width, height), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.width, self.height = width, height
        margin = 28
        room = float(width - 2 * margin)
        top = 22
        if simulated:
            room -= self._badge("SIMULATED", width - margin, top)
        if title:
            self.text((margin, top), fit(title, 24, room), 24, INK, weight=0.4)
            top += 34
        if subtitle:
            self.text((margin, top), fit(subtitle, 15, width - 2 * margin), 15, MUTED)
            top += 26
        top = self._legend(keys, margin, top + 4, width - margin)
        axis = max((text_width(t, 15) for t in y_labels), default=0)
        self.plot = (left or round(margin + axis + 12), top + 12, width - margin, height - 46)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: Colour,
        anchor: str = "la",
        weight: float = 0.0,
    ) -> None:
        font, text = font_for(text, size)
        self.pen.text(at, text, fill=colour, font=font, anchor=anchor, stroke_width=weight)

    def _badge(self, text: str, right: float, top: float) -> float:
        wide = text_width(text, 13) + 20
        self.pen.rounded_rectangle((right - wide, top, right, top + 24), 12, fill=(255, 247, 237), outline=AMBER)
        self.text((right - wide / 2, top + 12), text, 13, AMBER, "mm", 0.2)
        return wide + 16

    def _legend(self, keys: Sequence[Key], left: float, top: float, right: float) -> int:
        x, row = left, 0
        for key in keys:
            name = fit(key.name, 15, 300)
            wide = 26 + text_width(name, 15) + (8 + text_width(key.value, 15) if key.value else 0) + 22
            if x + wide > right + 22 and x > left:
                x, row = left, row + 1
            y = top + row * 24 + 10
            self._swatch(x, y, key)
            self.text((x + 26, y), name, 15, INK, "lm")
            if key.value:
                self.text((x + 34 + text_width(name, 15), y), key.value, 15, MUTED, "lm")
            x += wide
        return round(top + (row + 1) * 24) if keys else round(top)

    def _swatch(self, x: float, y: float, key: Key) -> None:
        if key.shape == "box":
            self.pen.rounded_rectangle((x, y - 7, x + 16, y + 7), 3, fill=key.colour)
        elif key.shape == "dash":
            for start in (0, 7, 14):
                self.pen.rectangle((x + start, y - 1, x + start + 4, y + 1), fill=key.colour)
        else:
            self.pen.rounded_rectangle((x, y - 2, x + 18, y + 2), 2, fill=key.colour)

    def png(self) -> bytes:
        out = io.BytesIO()
        self.image.save(out, "PNG", compress_level=4)
        return out.getvalue()


class Plot:
    """The supersampled plot area; coordinates are those of the canvas."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        left, top, right, bottom = canvas.plot
        self.origin = (left, top)
        self.size = (right - left, bottom - top)
        self.image = Image.new("RGB", (self.size[0] * SUPERSAMPLE, self.size[1] * SUPERSAMPLE), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.origin[0]) * SUPERSAMPLE, (y - self.origin[1]) * SUPERSAMPLE

    def path(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        """A line through the points; one point alone is a dot."""
        if len(points) == 1:
            self.dot(points[0], colour, width * 1.2)
            return
        self.pen.line([self._at(x, y) for x, y in points], fill=colour, width=round(width * SUPERSAMPLE), joint="curve")

    def dot(self, point: tuple[float, float], colour: Colour, radius: float) -> None:
        self.pen.circle(self._at(*point), radius * SUPERSAMPLE, fill=colour)

    def area(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        if len(points) > 2:
            self.pen.polygon([self._at(x, y) for x, y in points], fill=colour)

    def bar(self, box: tuple[float, float, float, float], colour: Colour, radius: float = 0) -> None:
        (x0, y0), (x1, y1) = self._at(box[0], box[1]), self._at(box[2], box[3])
        if y1 - y0 < 1 or x1 - x0 < 1:
            return
        round_by = min(radius * SUPERSAMPLE, (x1 - x0) / 2, (y1 - y0) / 2)
        self.pen.rounded_rectangle((x0, y0, x1, y1), round_by, fill=colour)

    def dashes(
        self, start: tuple[float, float], end: tuple[float, float], colour: Colour, width: float = 1.5, dash: float = 7
    ) -> None:
        """A dashed horizontal or vertical line."""
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        for i in range(0, int(length), int(dash * 1.7)):
            a, b = i / length, min((i + dash) / length, 1.0)
            between = [(start[0] + (end[0] - start[0]) * s, start[1] + (end[1] - start[1]) * s) for s in (a, b)]
            self.path(between, colour, width)

    def close(self) -> None:
        """Average down onto the canvas."""
        self.canvas.image.paste(self.image.reduce(SUPERSAMPLE), self.origin)
