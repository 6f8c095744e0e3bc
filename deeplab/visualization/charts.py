"""Charts of HTML reports as geometry: the block `line_chart` of `blocks.html.j2` turns it into SVG.

Reports of evaluation and training use them for curves over steps and for reliability plots. They need no library.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Points = Sequence[tuple[float, float]]

COLORS = ("#3b78c9", "#d1603d", "#3d9a5f", "#9a5bb5", "#c39a1d", "#5b6675", "#c94f86", "#2e9aa6")
_WIDTH, _HEIGHT = 540, 260  # of the plot, in pixels
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 28, 20, 46  # room for the labels around it
_MAX_DOTS = 60  # of one curve; with more, the line alone shows it


@dataclass(frozen=True)
class LineChart:
    """Curves over a common axis.

    Attributes:
      title: what it shows, for screen readers.
      series: points (x, y) of each curve by its name, in ascending x; points that are not finite are left out.
      x_name, y_name: names of the axes.
      y_limits: ends of the vertical axis; None = round numbers around the values.
      x_limits: ends of the horizontal axis; None = those of the points.
      diagonal: draw the line from corner to corner, where y is x.
    """

    title: str
    series: Mapping[str, Points]
    x_name: str = "step"
    y_name: str = ""
    y_limits: tuple[float, float] | None = None
    x_limits: tuple[float, float] | None = None
    diagonal: bool = False
    _finite: dict[str, list[tuple[float, float]]] = field(init=False, repr=False, compare=False, default_factory=dict)

    full_width, full_height = _LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM

    def __post_init__(self) -> None:
        for name, points in self.series.items():
            self._finite[name] = [point for point in points if all(map(math.isfinite, point))]

    def _reach(self, axis: int) -> tuple[float, float]:
        """Ends of an axis."""
        given = (self.x_limits, self.y_limits)[axis]
        if given:
            return given
        values = [point[axis] for points in self._finite.values() for point in points] or [0.0, 1.0]
        low, high = min(values), max(values)
        if low == high:
            low, high = low - 0.5, high + 0.5
        if axis == 0:
            return low, high
        step = round_step(high - low)
        return step * math.floor(low / step), step * math.ceil(high / step)

    def x(self, value: float) -> float:
        """Place of a value of the horizontal axis in the drawing."""
        low, high = self._reach(0)
        return round(_LEFT + _WIDTH * (value - low) / (high - low), 1)

    def y(self, value: float) -> float:
        """Place of a value of the vertical axis in the drawing; values beyond its ends are drawn at them."""
        low, high = self._reach(1)
        return round(_TOP + _HEIGHT * (1 - (min(max(value, low), high) - low) / (high - low)), 1)

    def _ticks(self, axis: int) -> list[float]:
        low, high = self._reach(axis)
        step = round_step(high - low, 6)
        first = math.ceil(low / step - 1e-9)
        return [step * index for index in range(first, math.floor(high / step + 1e-9) + 1)]

    def lines(self) -> Iterator[tuple[float, float, float, float]]:
        """Grid lines: x and y of both ends."""
        yield from ((self.x(at), _TOP, self.x(at), _TOP + _HEIGHT) for at in self._ticks(0))
        yield from ((_LEFT, self.y(at), _LEFT + _WIDTH, self.y(at)) for at in self._ticks(1))

    def texts(self) -> Iterator[tuple[float, float, str, str]]:
        """Numbers of the grid lines and names of the axes: x, y, anchor, text."""
        bottom = _TOP + _HEIGHT
        yield from ((self.x(at), bottom + 18, "middle", f"{at:.6g}") for at in self._ticks(0))
        yield from ((_LEFT - 8, self.y(at) + 4, "end", f"{at:.6g}") for at in self._ticks(1))
        yield _LEFT + _WIDTH, bottom + 38, "end", self.x_name
        yield 8, _TOP - 12, "start", self.y_name

    def guides(self) -> Iterator[str]:
        """Points of lines that show what values should be."""
        if self.diagonal:
            ends = (self._reach(0), self._reach(1))
            yield " ".join(f"{self.x(ends[0][i])},{self.y(ends[1][i])}" for i in (0, 1))

    def curves(self) -> Iterator[tuple[str, str, str]]:
        """Name, color and points of each curve."""
        for index, (name, points) in enumerate(self._finite.items()):
            yield name, COLORS[index % len(COLORS)], " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)

    def dots(self) -> Iterator[tuple[str, float, float, str]]:
        """Color, x, y and text of the points of curves that have few."""
        for index, (name, points) in enumerate(self._finite.items()):
            for x, y in points if len(points) <= _MAX_DOTS else ():
                yield COLORS[index % len(COLORS)], self.x(x), self.y(y), f"{name}: {x:.6g}, {y:.4g}"


def round_step(largest: float, max_steps: int = 5) -> float:
    """The smallest of 1, 2 or 5 times a power of ten of which `max_steps` steps reach `largest`, a number above 0."""
    power = 10.0 ** math.floor(math.log10(largest / max_steps))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * max_steps >= largest * (1 - 1e-9))
