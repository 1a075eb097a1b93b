"""Line plots as pictures: pure functions from columns of numbers to a PIL image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image, ImageDraw, ImageFont

_SCALE = 3  # pixels are drawn so many times too large, then averaged
_FONT, _TITLE_FONT = 13, 16
_INK, _GREY, _GRID = "#222222", "#666666", "#e4e4e4"
COLOURS = ("#2f6fb5", "#d9622b", "#3a9150", "#a13d8f", "#8a6d1f", "#3b9aa8", "#b83a3a", "#5b5b5b")


@dataclass(frozen=True)
class Curve:
    """Points of one line; where x or y is not finite there is none, and the line joins its neighbours.

    markers: a dot on every point, for curves of few points.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    markers: bool = False

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f"curve {self.label!r} has {len(self.x)} x and {len(self.y)} y; give as many of both"
            )

    @cached_property
    def points(self) -> list[tuple[float, float]]:
        """The points that exist."""
        pairs = zip(self.x, self.y, strict=True)
        return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


@dataclass(frozen=True)
class Plot:
    """One pair of axes. log_y: a logarithmic y axis, whose numbers must be above 0."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_y: bool = False

    def __post_init__(self) -> None:
        low = min((y for curve in self.curves for _, y in curve.points), default=1.0)
        if self.log_y and low <= 0:
            raise ValueError(
                f"plot {self.title!r} has the number {low} on a logarithmic axis; leave log_y out"
            )


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """About count round numbers (1, 2 or 5 times a power of ten apart) that lie in [low, high]."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """A tick's number with the digits that tell it from its neighbours, thousands as k, millions as M."""
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if step >= unit / 10 and abs(value) >= unit:
            return tick_label(value / unit, step / unit) + suffix
    if 0 < step < 1e-4:
        return f"{value:.1e}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value + 0.0:.{decimals}f}"


def draw_plot(plot: Plot, *, width: int = 640, height: int = 360) -> Image.Image:
    """The plot as an RGB picture, its lines smooth."""
    canvas = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
    _Painter(canvas, plot, width, height).paint()
    return canvas.resize((width, height), Image.Resampling.BOX)


def draw_sheet(plots: Sequence[Plot], *, width: int = 560, height: int = 320) -> Image.Image:
    """Several plots beside and below each other, two in a row. Raises ValueError for none."""
    if not plots:
        raise ValueError("there is no plot to draw; give at least one")
    across = min(2, len(plots))
    sheet = Image.new("RGB", (across * width, -(-len(plots) // across) * height), "white")
    for index, plot in enumerate(plots):
        corner = (index % across * width, index // across * height)
        sheet.paste(draw_plot(plot, width=width, height=height), corner)
    return sheet


def plots_of_columns(table: Mapping[str, Sequence[float]], *, x: str) -> list[Plot]:
    """One plot per quantity over column x; columns named kind/quantity share a plot, a curve for each kind."""
    groups: dict[str, list[Curve]] = {}
    for name, values in table.items():
        kind, _, quantity = name.rpartition("/")
        curve = Curve(kind or quantity, table[x], values)
        if kind and curve.points:
            groups.setdefault(quantity, []).append(curve)
    return [Plot(quantity, x, "", tuple(curves)) for quantity, curves in groups.items()]


@dataclass(frozen=True)
class _Axis:
    """A range of numbers and the pixels that it fills."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """Numbers and what is written beside them."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            decades = [10.0**power for power in range(first, last + 1)]
            if len(decades) > 1:
                return [(value, f"{value:g}") for value in decades]
        values = ticks(self.low, self.high, count=count)
        step = values[1] - values[0] if len(values) > 1 else self.high - self.low
        return [(value, tick_label(value, step)) for value in values]


def _span(values: Sequence[float], *, log: bool, margin: float) -> tuple[float, float]:
    """Range of an axis around numbers, never empty."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if log:
        return (low / 1.2, high * 1.2)
    room = (high - low) * margin or abs(high) * 0.1 or 1.0
    return (low - room, high + room) if margin or low == high else (low, high)


class _Painter:
    """Draws a plot on a canvas that is _SCALE times too large; lengths here are final pixels."""

    def __init__(self, canvas: Image.Image, plot: Plot, width: int, height: int) -> None:
        self._canvas, self._draw, self._plot = canvas, ImageDraw.Draw(canvas), plot
        self._size = (width, height)
        points = [point for curve in plot.curves for point in curve.points]
        top = 36 if plot.title else 14
        x_low, x_high = _span([x for x, _ in points], log=False, margin=0.0)
        y_low, y_high = _span([y for _, y in points], log=plot.log_y, margin=0.06)
        bottom = height - (46 if plot.x_label else 28)
        self._y = _Axis(y_low, y_high, bottom, top, log=plot.log_y)
        self._y_ticks = self._y.ticks(5)
        widest = max((self._width(text) for _, text in self._y_ticks), default=0)
        self._x = _Axis(x_low, x_high, 14 + widest + (24 if plot.y_label else 6), width - 18)

    def paint(self) -> None:
        """The whole plot."""
        self._grid()
        for index, curve in enumerate(self._plot.curves):
            self._curve(curve, COLOURS[index % len(COLOURS)])
        self._labels()
        if len(self._plot.curves) > 1:
            self._legend()

    def _grid(self) -> None:
        left, right, bottom, top = self._x.start, self._x.end, self._y.start, self._y.end
        for value, text in self._y_ticks:
            y = self._y.place(value)
            self._line([(left, y), (right, y)], _GRID, 1)
            self._text((left - 7, y), text, "rm")
        for value, text in self._x.ticks(6):
            x = self._x.place(value)
            self._line([(x, bottom), (x, bottom + 5)], _GREY, 1)
            self._text((x, bottom + 9), text, "mt")
        self._line([(left, top), (left, bottom), (right, bottom)], _GREY, 1)

    def _curve(self, curve: Curve, colour: str) -> None:
        places = [(self._x.place(x), self._y.place(y)) for x, y in curve.points]
        if len(places) > 1:
            self._line(places, colour, 2)
        if curve.markers or len(places) == 1:
            for x, y in places:
                self._dot(x, y, colour)

    def _labels(self) -> None:
        width, height = self._size
        middle = (self._x.start + self._x.end) / 2
        self._text((width / 2, 18), self._plot.title, "mm", size=_TITLE_FONT, colour=_INK)
        self._text((middle, height - 11), self._plot.x_label, "mm", colour=_INK)
        if not self._plot.y_label:
            return
        label = self._plot.y_label
        side = Image.new("RGB", (round(self._width(label) + 4) * _SCALE, 20 * _SCALE), "white")
        font = ImageFont.load_default(_FONT * _SCALE)
        ImageDraw.Draw(side).text((side.width / 2, side.height / 2), label, _INK, font, anchor="mm")
        turned = side.rotate(90, expand=True)
        centre = (self._y.start + self._y.end) / 2 * _SCALE
        self._canvas.paste(turned, (4 * _SCALE, round(centre - turned.height / 2)))

    def _legend(self) -> None:
        labels = [curve.label for curve in self._plot.curves]
        line = 19
        wide = 46 + max(self._width(label) for label in labels)
        left = self._x.end - wide - 8
        top = self._legend_top(left, line * len(labels) + 8)
        box = [left, top, left + wide, top + line * len(labels) + 8]
        self._draw.rounded_rectangle([v * _SCALE for v in box], 4 * _SCALE, "white", _GRID, _SCALE)
        for index, label in enumerate(labels):
            y = top + 4 + line * (index + 0.5)
            colour = COLOURS[index % len(COLOURS)]
            self._line([(left + 8, y), (left + 30, y)], colour, 3)
            self._text((left + 38, y), label, "lm", colour=_INK)

    def _legend_top(self, left: float, tall: float) -> float:
        """At the right end of the plot, up or down, wherever fewer points would be hidden."""
        places = [
            self._y.place(y) for c in self._plot.curves for x, y in c.points if self._x.place(x) >= left
        ]
        up, down = self._y.end + 6, self._y.start - tall - 6
        hidden = [sum(top <= y <= top + tall for y in places) for top in (up, down)]
        return up if hidden[0] <= hidden[1] else down

    def _line(self, places: list[tuple[float, float]], colour: str, width: float) -> None:
        scaled = [(x * _SCALE, y * _SCALE) for x, y in places]
        self._draw.line(scaled, colour, round(width * _SCALE), joint="curve")

    def _dot(self, x: float, y: float, colour: str) -> None:
        self._draw.ellipse([(v + d) * _SCALE for d in (-3.5, 3.5) for v in (x, y)], colour)

    def _text(
        self, place: tuple[float, float], text: str, anchor: str, *, size: int = _FONT, colour: str = _GREY
    ) -> None:
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text([v * _SCALE for v in place], text, colour, font, anchor=anchor)

    def _width(self, text: str) -> float:
        return ImageFont.load_default(_FONT * _SCALE).getlength(text) / _SCALE
