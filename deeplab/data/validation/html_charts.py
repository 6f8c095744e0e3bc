"""Drawings of the HTML report, as SVG: bars of shares, and a scatter of image sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deeplab.data.validation.check_report import CropAdvice
from deeplab.data.validation.html_markup import Markup, element

WIDE_RANGE = 100  # from this ratio of shares on, a linear axis hides the small ones
BAR, BAR_GAP = 5, 2  # height of a bar, and what stands between two, in pixels


# --- Shares ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """An axis of shares.

    Attributes:
      low, high: shares, 0..1, at its ends.
      ticks: shares with a grid line.
      logarithmic: equal factors are equal lengths.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool

    def place(self, share: float) -> float:
        """Where a share lies, 0..1; 0 for no share at all."""
        if not self.logarithmic:
            return share / self.high
        return math.log(share / self.low) / math.log(self.high / self.low) if share > self.low else 0.0


def linear_axis(shares: Iterable[float]) -> Axis:
    """From 0 to the first round number that is no less than the largest share."""
    largest = max((share for share in shares), default=0) or 1.0
    step = round_step(largest)
    number = max(1, math.ceil(round(largest / step, 6)))
    return Axis(0.0, step * number, tuple(step * index for index in range(number + 1)), False)


def logarithmic_axis(shares: Iterable[float]) -> Axis:
    """Powers of ten from below the smallest share to 100 percent."""
    smallest = min((share for share in shares if share > 0), default=0.1)
    power = min(-1, math.floor(math.log10(smallest) - 0.15))  # so that its bar has some length
    return Axis(10.0**power, 1.0, tuple(10.0**exponent for exponent in range(power, 1)), True)


def is_wide(shares: Iterable[float]) -> bool:
    """Whether the shares above 0 differ so much that a logarithmic axis is needed to see them all."""
    present = [share for share in shares if share > 0]
    return bool(present) and max(present) > WIDE_RANGE * min(present)


def round_step(largest: float, most: int = 5) -> float:
    """A step of 1, 2 or 5 times a power of ten, of which at most `most` reach the largest value."""
    power = 10.0 ** math.floor(math.log10(largest / most))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * most >= largest * (1 - 1e-9))


def bars(shares: Sequence[float], axis: Axis, color: str, class_: str) -> Markup:
    """One bar a split, from top to bottom, over the axis's grid lines; as wide as the place it stands in."""
    height = len(shares) * (BAR + BAR_GAP) + BAR_GAP
    lines = [
        element("line", x1=f"{100 * axis.place(tick):.2f}", x2=f"{100 * axis.place(tick):.2f}", y1=-4, y2=height + 4)
        for tick in axis.ticks
    ]
    rectangles = [
        element(
            "rect",
            x=0,
            y=BAR_GAP + index * (BAR + BAR_GAP),
            width=f"{100 * axis.place(share):.3f}",
            height=BAR,
            fill=color,
        )
        for index, share in enumerate(shares)
        if share > 0
    ]
    return element(
        "svg",
        lines,
        rectangles,
        class_=f"bars {class_}",
        viewBox=f"0 0 100 {height}",
        height=height,
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def axis_labels(axis: Axis, class_: str) -> Markup:
    """The shares of the grid lines, to stand above the bars."""
    labels = [
        element("span", f"{100 * tick:.6g} %", style=f"left:{100 * axis.place(tick):.2f}%")
        for tick in axis.ticks[:: math.ceil(len(axis.ticks) / 7)]
    ]
    return element("div", labels, class_=f"axis {class_}")


# --- Sizes ----------------------------------------------------------------------------------------------------

Sizes = Mapping[str, Mapping[tuple[int, int], int]]  # by split: number of images of each (height, width)

_WIDTH, _LEAST, _MOST = 700, 220, 640  # of the plot, in pixels; the height follows the images' shape within bounds
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 26, 24, 46  # room for the labels around it
_LARGEST, _CROWD = 26.0, 60  # radius of the largest dot, as long as there are no more dots than that


def size_scatter(sizes: Sizes, crop: CropAdvice | None) -> Markup:
    """Width against height: a dot for each distinct size, its area the number of images, crop sizes as rectangles."""
    numbers = together(sizes)
    crops = [("train", crop.train), ("eval", crop.eval)] if crop else []
    reach = [*numbers, *(size for _, size in crops)]
    plot = _Plot(1.06 * max(width for _, width in reach), 1.06 * max(height for height, _ in reach))
    most = max(numbers.values())
    dots = [
        plot.dot(size, radius(number, most, len(numbers)), dot_title(size, sizes))
        for size, number in sorted(numbers.items(), key=lambda item: -item[1])  # small dots lie above large ones
    ]
    rectangles = [plot.rectangle(size, name, index) for index, (name, size) in enumerate(crops)]
    return element(
        "svg",
        plot.grid(),
        rectangles,
        element("g", dots, class_="dots"),
        class_="scatter",
        viewBox=f"0 0 {_LEFT + _WIDTH + _RIGHT} {_TOP + plot.height + _BOTTOM:.0f}",
        role="img",
        aria_label=f"Sizes of the images: {len(numbers)} distinct ones",
    )


def together(sizes: Sizes) -> dict[tuple[int, int], int]:
    """Number of images of each (height, width) over all splits."""
    numbers: dict[tuple[int, int], int] = {}
    for of_split in sizes.values():
        for size, number in of_split.items():
            numbers[size] = numbers.get(size, 0) + number
    return numbers


def radius(number: int, most: int, dots: int) -> float:
    """Radius of the dot for a number of images of the `most` that one dot has.

    Areas are in proportion as far as the least radius lets them; the more dots, the smaller all of them.
    """
    largest = max(8.0, _LARGEST * min(1.0, math.sqrt(_CROWD / dots))) if most > 3 else 7.0
    return max(0.14 * largest, largest * math.sqrt(number / most))


def dot_title(size: tuple[int, int], sizes: Sizes) -> str:
    """What a dot says when the pointer rests on it."""
    by_split = ", ".join(f"{split} {of_split[size]}" for split, of_split in sizes.items() if size in of_split)
    return f"{size[1]} wide, {size[0]} high: {by_split}"


@dataclass(frozen=True)
class _Plot:
    """From pixels of images to places in the drawing; both axes have the same scale unless that gets too flat.

    Attributes:
      wide, high: pixels of images at the ends of the axes.
    """

    wide: float
    high: float

    @property
    def height(self) -> float:
        return min(_MOST, max(_LEAST, _WIDTH * self.high / self.wide))

    def x(self, width: float) -> float:
        return round(_LEFT + _WIDTH * width / self.wide, 1)

    def y(self, height: float) -> float:
        return round(_TOP + self.height * (1 - height / self.high), 1)

    def dot(self, size: tuple[int, int], radius: float, title: str) -> Markup:
        return element("circle", element("title", title), cx=self.x(size[1]), cy=self.y(size[0]), r=f"{radius:.1f}")

    def rectangle(self, size: tuple[int, int], name: str, index: int) -> Markup:
        height, width = size
        box = element(
            "rect",
            x=self.x(0),
            y=self.y(height),
            width=f"{self.x(width) - self.x(0):.1f}",
            height=f"{self.y(0) - self.y(height):.1f}",
        )
        label = element(  # inside the lower left corner: one below the other, whatever the sizes are
            "text", f"--{name}_crop_size={height},{width}", x=self.x(0) + 8, y=self.y(0) - 26 + 16 * index
        )
        return element("g", box, label, class_=f"crop crop{index}")

    def grid(self) -> list[Markup]:
        """Grid lines and their numbers, and what the axes are."""
        step_x, step_y = round_step(self.wide, 8), round_step(self.high, 6)
        columns = [step_x * index for index in range(int(self.wide / step_x) + 1)]
        rows = [step_y * index for index in range(int(self.high / step_y) + 1)]
        bottom, right = self.y(0), self.x(self.wide)
        lines = [element("line", x1=self.x(at), x2=self.x(at), y1=self.y(self.high), y2=bottom) for at in columns]
        lines += [element("line", x1=self.x(0), x2=right, y1=self.y(at), y2=self.y(at)) for at in rows]
        texts = [element("text", f"{at:g}", x=self.x(at), y=bottom + 18, text_anchor="middle") for at in columns]
        texts += [element("text", f"{at:g}", x=self.x(0) - 8, y=self.y(at) + 4, text_anchor="end") for at in rows[1:]]
        texts.append(element("text", "width in pixels", x=right, y=bottom + 38, text_anchor="end"))
        texts.append(element("text", "height in pixels", x=8, y=_TOP - 12))
        return [element("g", lines, class_="grid"), element("g", texts)]
