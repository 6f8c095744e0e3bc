"""The report as one HTML file.

`report.html.j2` is the page, in the skeleton of `visualization/html_page.py`; this module gives it numbers, groups and
the geometry of the charts. It reads in light and dark, on a phone and on paper.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.data import colormaps
from deeplab.data.class_names import MANY_CLASSES
from deeplab.data.dataset import Dataset, SizeRange
from deeplab.data.split_names import training_split
from deeplab.data.validation.check_report import SEVERITIES, CheckReport, CropAdvice, Finding, Severity
from deeplab.data.validation.render_text import repair_text
from deeplab.data.validation.rules import RULES
from deeplab.losses.class_balance import SCHEMES, recommended_scheme, value_text
from deeplab.utils import console
from deeplab.utils.text import counted
from deeplab.visualization import html_page
from deeplab.visualization.charts import round_step
from deeplab.visualization.label_rendering import most_frequent

TEMPLATE = pathlib.Path(__file__).with_name("report.html.j2")
WIDE_RANGE = 100  # from this ratio of fractions on, a linear axis hides the small ones
_SHOWS_NO_CLASS = ("label-out-of-range", "labels-are-gray-levels")  # values on overlays that no class has
_MAX_OPEN = 8  # findings of a rule that show at once; further ones are folded


def page(report: CheckReport) -> str:
    """A whole HTML document about a check."""
    return html_page.render(TEMPLATE, _values(report), {"weight": _weight})


def _weight(weight: float) -> str:
    return f"{weight:#.3g}" if weight < 1000 else f"{weight:,.0f}"


def _values(report: CheckReport) -> dict[str, Any]:
    dataset, splits = report.dataset, report.splits
    numbers = {severity: report.number_of(severity) for severity in SEVERITIES}
    occurring = {index for facts in splits.values() for index, number in enumerate(facts.pixels) if number}
    training = splits.get(training_split(list(splits)))
    shown = sorted((occurring or set(range(dataset.num_classes))) - {dataset.ignore_label})
    totals = [sum(facts.pixels[index] for facts in splits.values()) for index in range(dataset.num_classes)]
    legend = most_frequent(shown, totals)[0]
    return {
        "report": report,
        "folds": report.dataset.num_classes > MANY_CLASSES,
        "counts": ", ".join(counted(number, kind) for kind, number in numbers.items() if number or kind != "note"),
        "tone": "bad" if not report.may_train else "fair" if numbers["warning"] else "good",
        "repair": console.spelled(repair_text(report)),
        "groups": groups(report),
        "tiles": [
            (sum(facts.images for facts in splits.values()), "images"),
            (len(splits), "splits" if len(splits) != 1 else "split"),
            (dataset.num_classes, "classes, including the background"),
            (dataset.ignore_label, "is the ignore label"),
        ],
        "ignored": {
            name: _fraction(facts.ignored_pixels, sum(facts.pixels) + facts.ignored_pixels)
            for name, facts in splits.items()
        },
        "span": span,
        "histogram": histogram_of(report) if splits else None,
        "scatter": scatter_of({name: facts.sizes for name, facts in splits.items() if facts.sizes}, report.crop),
        "colors": [html_page.hex_color(color) for color in _colors(dataset)],
        "recommended": recommended_scheme(training.pixels) if training and any(training.pixels) else "",
        "schemes": SCHEMES,
        "largest": {scheme: max(filter(None, weights), default=1) for scheme, weights in report.weights.items()},
        "weights_setting": console.spelled("`label_weights=`").strip("`"),
        "values": lambda weights: value_text(weights).split(","),
        "legend": legend,
        "unlisted": len(shown) - len(legend),
        "shows_no_class": any(finding.rule in _SHOWS_NO_CLASS for finding in report.findings),
    }


def _colors(dataset: Dataset) -> np.ndarray:
    """RGB of each class, uint8 [classes or more, 3]."""
    return colormaps.colors_for(dataset.colors, dataset.num_classes)[: max(256, dataset.num_classes)]


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def span(sizes: SizeRange | None, side: str) -> str:
    """`300 to 500` for a side, "width" or "height"; one number where both are equal."""
    if sizes is None:
        return "–"
    low, high = getattr(sizes, f"min_{side}"), getattr(sizes, f"max_{side}")
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


# --- Findings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """The findings of one rule.

    Attributes:
      rule: its name.
      severity: the highest of its findings.
      number: how often it was violated, unlisted findings included.
      message: what the rule is about; empty where nothing is known of it.
      hint: what to do, where it is the same for all findings; else that of the rule.
      findings: those that are listed.
    """

    rule: str
    severity: Severity
    number: int
    message: str
    hint: str
    findings: Sequence[Finding]

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return f"rule-{self.rule}"

    @property
    def times(self) -> str:
        """`12 times, 8 of them listed`."""
        listed = len(self.findings)
        times = f"{self.number:,} times" if self.number != 1 else "once"
        return times + (f", {listed:,} of them listed" if listed < self.number else "")

    @property
    def opened(self) -> Sequence[Finding]:
        """Findings that show at once."""
        return self.findings[:_MAX_OPEN]

    @property
    def folded(self) -> Sequence[Finding]:
        """Findings that show on a click."""
        return self.findings[_MAX_OPEN:]


def groups(report: CheckReport) -> list[Group]:
    """The findings by rule: errors first, then in the order in which the report has them."""
    by_rule: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    found = [_group(rule, findings, report) for rule, findings in by_rule.items()]
    return sorted(found, key=lambda group: SEVERITIES.index(group.severity))


def _group(rule: str, findings: Sequence[Finding], report: CheckReport) -> Group:
    known = RULES.get(rule) if rule in RULES else None
    severity = min((finding.severity for finding in findings), key=SEVERITIES.index)
    same_hint = len({finding.hint for finding in findings}) == 1
    hint = findings[0].hint if same_hint else known.hint if known else ""
    number = max(report.numbers.get(rule, 0), len(findings))
    return Group(rule, severity, number, known.message if known else "", hint, findings)


# --- Histogram of the classes -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """An axis of fractions.

    Attributes:
      low, high: fractions, 0..1, at its ends.
      ticks: fractions with a grid line.
      logarithmic: equal factors have equal lengths.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool

    @property
    def name(self) -> str:
        """The class by which the style sheet shows one axis and hides the other."""
        return "log" if self.logarithmic else "lin"

    @property
    def labels(self) -> tuple[float, ...]:
        """Ticks with a number; at most seven have room."""
        return self.ticks[:: math.ceil(len(self.ticks) / 7)]

    def place(self, fraction: float) -> float:
        """Where a fraction is on the axis, 0..1; 0 for 0."""
        if not self.logarithmic:
            return fraction / self.high
        return math.log(fraction / self.low) / math.log(self.high / self.low) if fraction > self.low else 0.0


def linear_axis(fractions: Iterable[float]) -> Axis:
    """From 0 to the first round number that is not below the largest fraction."""
    largest = max((fraction for fraction in fractions), default=0) or 1.0
    step = round_step(largest)
    number = max(1, math.ceil(round(largest / step, 6)))
    return Axis(0.0, step * number, tuple(step * index for index in range(number + 1)), False)


def logarithmic_axis(fractions: Iterable[float]) -> Axis:
    """Powers of ten from below the smallest fraction to 100 percent."""
    smallest = min((fraction for fraction in fractions if fraction > 0), default=0.1)
    power = min(-1, math.floor(math.log10(smallest) - 0.15))  # so that its bar has some length
    return Axis(10.0**power, 1.0, tuple(10.0**exponent for exponent in range(power, 1)), True)


def is_wide(fractions: Iterable[float]) -> bool:
    """Whether the fractions above 0 differ so much that a logarithmic axis is needed to see them all."""
    present = [fraction for fraction in fractions if fraction > 0]
    return bool(present) and max(present) > WIDE_RANGE * min(present)


@dataclass(frozen=True)
class Histogram:
    """Fractions of the classes as bars.

    Attributes:
      fractions: for each class the fraction in each split.
      axes: one, or a logarithmic one and a linear one to choose from.
    """

    fractions: Sequence[Sequence[float]]
    axes: Sequence[Axis]

    thickness, gap = 5, 2  # of a bar, in pixels

    @property
    def height(self) -> int:
        """Of the bars of a class."""
        return len(self.fractions[0]) * (self.thickness + self.gap) + self.gap

    def bars(self, fractions: Sequence[float], axis: Axis) -> list[tuple[int, float]]:
        """Top in pixels and width in percent of the bars of one class, one per split that has the class."""
        tops = [self.gap + index * (self.thickness + self.gap) for index in range(len(fractions))]
        return [(top, 100 * axis.place(value)) for top, value in zip(tops, fractions, strict=True) if value > 0]


def histogram_of(report: CheckReport) -> Histogram:
    """The fractions of all classes."""
    by_split = [[_fraction(n, sum(facts.pixels)) for n in facts.pixels] for facts in report.splits.values()]
    every = [fraction for of_split in by_split for fraction in of_split]
    axes = [logarithmic_axis(every), linear_axis(every)] if is_wide(every) else [linear_axis(every)]
    return Histogram([list(of_class) for of_class in zip(*by_split, strict=True)], axes)


# --- Scatter of the image sizes -----------------------------------------------------------------------------

Sizes = Mapping[str, Mapping[tuple[int, int], int]]  # by split: number of images of each (height, width)

_WIDTH, _MIN_HEIGHT, _MAX_HEIGHT = 700, 220, 640  # of the plot, in pixels; the height follows the images' shape
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 26, 24, 46  # room for the labels around it
_LARGEST, _CROWD = 26.0, 60  # radius of the largest dot, as long as there are no more dots than that


@dataclass(frozen=True)
class Dot:
    """Images of one size."""

    height: int
    width: int
    radius: float
    title: str


@dataclass(frozen=True)
class Scatter:
    """Width against height: a dot for each distinct size, crop sizes as rectangles.

    Both axes have the same scale, unless the plot gets too flat.

    Attributes:
      wide, high: pixels of images at the ends of the axes.
      dots: large ones first, so that small ones are drawn on top of them.
      crops: name, height, width.
    """

    wide: float
    high: float
    dots: Sequence[Dot] = ()
    crops: Sequence[tuple[str, int, int]] = ()

    full_width = _LEFT + _WIDTH + _RIGHT

    @property
    def height(self) -> float:
        """Of the plot."""
        return min(_MAX_HEIGHT, max(_MIN_HEIGHT, _WIDTH * self.high / self.wide))

    @property
    def full_height(self) -> float:
        """Of the drawing, labels included."""
        return _TOP + self.height + _BOTTOM

    def x(self, width: float) -> float:
        """Place of a width in the drawing."""
        return round(_LEFT + _WIDTH * width / self.wide, 1)

    def y(self, height: float) -> float:
        """Place of a height in the drawing."""
        return round(_TOP + self.height * (1 - height / self.high), 1)

    def _steps(self) -> tuple[list[float], list[float]]:
        step_x, step_y = round_step(self.wide, 8), round_step(self.high, 6)
        columns = [step_x * index for index in range(int(self.wide / step_x) + 1)]
        return columns, [step_y * index for index in range(int(self.high / step_y) + 1)]

    def lines(self) -> Iterator[tuple[float, float, float, float]]:
        """Grid lines: x and y of both ends."""
        columns, rows = self._steps()
        yield from ((self.x(at), self.y(self.high), self.x(at), self.y(0)) for at in columns)
        yield from ((self.x(0), self.y(at), self.x(self.wide), self.y(at)) for at in rows)

    def texts(self) -> Iterator[tuple[float, float, str, str]]:
        """Numbers of the grid lines and names of the axes: x, y, anchor, text."""
        columns, rows = self._steps()
        bottom = self.y(0)
        yield from ((self.x(at), bottom + 18, "middle", f"{at:g}") for at in columns)
        yield from ((self.x(0) - 8, self.y(at) + 4, "end", f"{at:g}") for at in rows[1:])
        yield self.x(self.wide), bottom + 38, "end", "width in pixels"
        yield 8, _TOP - 12, "start", "height in pixels"


def scatter_of(sizes: Sizes, crop: CropAdvice | None) -> Scatter | None:
    """The scatter of the sizes of all splits; None where there are none."""
    numbers: dict[tuple[int, int], int] = {}
    for of_split in sizes.values():
        for size, number in of_split.items():
            numbers[size] = numbers.get(size, 0) + number
    if not numbers:
        return None
    crops = [("train", *crop.train), ("eval", *crop.eval)] if crop else []
    reach = [*numbers, *((height, width) for _, height, width in crops)]
    maximum = max(numbers.values())
    dots = [
        Dot(*size, radius(number, maximum, len(numbers)), _title(size, sizes))
        for size, number in sorted(numbers.items(), key=lambda item: -item[1])
    ]
    wide, high = 1.06 * max(width for _, width in reach), 1.06 * max(height for height, _ in reach)
    return Scatter(wide, high, dots, crops)


def radius(number: int, maximum: int, dots: int) -> float:
    """Radius of the dot for a number of images; `maximum` is the largest number of all dots.

    Areas are in proportion, down to a minimum radius; the more dots, the smaller all of them.
    """
    largest = max(8.0, _LARGEST * min(1.0, math.sqrt(_CROWD / dots))) if maximum > 3 else 7.0
    return max(0.14 * largest, largest * math.sqrt(number / maximum))


def _title(size: tuple[int, int], sizes: Sizes) -> str:
    """What a dot says when the pointer rests on it."""
    by_split = ", ".join(f"{split} {of_split[size]}" for split, of_split in sizes.items() if size in of_split)
    return f"{size[1]} wide, {size[0]} high: {by_split}"
