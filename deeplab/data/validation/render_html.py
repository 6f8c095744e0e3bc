"""The report as one HTML file that needs nothing beside it: no script, no font, no picture from elsewhere.

It reads in light and dark, on a telephone and on paper. All that users made (names of files and classes, texts) is
escaped, and the page forbids itself to load or run anything, should that ever fail.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from deeplab import __version__
from deeplab.data import colormaps
from deeplab.data.validation import html_charts as charts
from deeplab.data.validation.check_report import Report, SplitFacts
from deeplab.data.validation.html_findings import fault_list, fault_sections, groups, verdict
from deeplab.data.validation.html_markup import Markup, Part, element, join, jpeg
from deeplab.losses.class_balance import SCHEMES, ClassWeights, value_text
from deeplab.utils import console
from deeplab.visualization.label_rendering import percent

STYLE = pathlib.Path(__file__).with_name("html_style.css")
_FORBID_ALL = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SHOWS_NO_CLASS = ("label-out-of-range", "labels-are-gray-levels")  # values on overlays that no class has
_MOST_SHOWN_ROWS = 40  # classes from which the table of weights is folded


def page(report: Report) -> str:
    """A whole HTML document on what a check found out."""
    faults = groups(report)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_FORBID_ALL),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"Check of {report.checked}"),
        element("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    body = element(
        "body",
        element("header", element("p", "Dataset check", class_="kicker"), element("h1", report.checked)),
        element(
            "main",
            verdict(report, faults),
            fault_list(faults),
            facts_section(report),
            classes_section(report),
            sizes_section(report),
            weights_section(report),
            samples_section(report),
            fault_sections(faults),
        ),
        element("footer", f"Written by deeplab {__version__}, check_data."),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def section(title: str, *content: Part, **attributes: object) -> Markup:
    """A part of the page under its title."""
    return element("section", element("h2", title), *content, **attributes)


def table(header: Sequence[object], rows: Sequence[Sequence[object]], class_: str = "") -> Markup:
    """Rows of cells; a cell that is a `<td>` already stays as it is. Wide tables scroll by themselves."""

    def line(cells: Sequence[object], kind: str) -> Markup:
        return element("tr", [as_cell(cell, kind) for cell in cells])

    head = element("thead", line(header, "th"))
    body = element("tbody", [line(row, "td") for row in rows])
    return element("div", element("table", head, body, class_=class_ or None), class_="scroll")


def as_cell(content: object, kind: str) -> Markup:
    """A cell of a table; numbers stand to the right."""
    if isinstance(content, Markup) and content.startswith(("<td", "<th")):
        return content
    if isinstance(content, int):
        return element(kind, f"{content:,}", class_="number")
    return element(kind, content if isinstance(content, Markup) else str(content))


def share_of(part: int, whole: int) -> float:
    """A share, 0..1; 0 of nothing."""
    return part / whole if whole else 0.0


# --- Facts ----------------------------------------------------------------------------------------------------


def facts_section(report: Report) -> Markup:
    """What was looked at: numbers, and a line for each split."""
    dataset, splits = report.dataset, report.splits
    numbers = [
        (f"{sum(facts.images for facts in splits.values()):,}", "images"),
        (f"{len(splits)}", "splits" if len(splits) != 1 else "split"),
        (f"{dataset.num_classes}", "classes, the background counts"),
        (f"{dataset.ignore_label}", "is the ignore label"),
    ]
    tiles = [element("div", element("b", number), element("span", what), class_="tile") for number, what in numbers]
    counts = [element("th", word, class_="number") for word in ("images", "distinct sizes", "ignored pixels")]
    header = ["split", *counts, "width", "height", "classes that occur", "kinds of images"]
    rows = [split_row(name, facts, dataset.num_classes) for name, facts in splits.items()]
    return section("What was checked", element("div", tiles, class_="tiles"), table(header, rows), id="facts")


def split_row(name: str, facts: SplitFacts, num_classes: int) -> list[object]:
    """The cells of a split's line."""
    sizes, occurring = facts.size_range, sum(number > 0 for number in facts.pixels)
    ignored = share_of(facts.ignored_pixels, sum(facts.pixels) + facts.ignored_pixels)
    kinds = sorted(facts.kinds.items(), key=lambda item: -item[1])
    return [
        element("td", element("b", name)),
        facts.images,
        len(facts.sizes),
        element("td", percent(ignored), class_="number"),
        span(sizes.min_width, sizes.max_width) if sizes else "–",
        span(sizes.min_height, sizes.max_height) if sizes else "–",
        f"{occurring} of {num_classes}",
        ", ".join(f"{number:,} {kind}" for kind, number in kinds) or "–",
    ]


def span(least: int, most: int) -> str:
    """`300 to 500`, or one number where both are the same."""
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


# --- Classes --------------------------------------------------------------------------------------------------


def classes_section(report: Report) -> Markup:
    """The histogram: for each class its share of the pixels and the number of images with it, split by split."""
    splits, dataset = report.splits, report.dataset
    if not splits:
        return Markup()
    shares = [[share_of(n, sum(facts.pixels)) for n in facts.pixels] for facts in splits.values()]
    by_class = [list(of_class) for of_class in zip(*shares, strict=True)]
    every = [share for of_class in by_class for share in of_class]
    axes = [charts.linear_axis(every), charts.logarithmic_axis(every)] if charts.is_wide(every) else []
    axes = axes or [charts.linear_axis(every)]
    colors = colors_of(report)
    rows = []
    for index, (name, of_class) in enumerate(zip(dataset.class_names, by_class, strict=True)):
        drawn = [charts.bars(of_class, axis, rgb(colors[index]), axis_class(axis)) for axis in axes]
        cells = [pixels_cell(share, facts) for share, facts in zip(of_class, splits.values(), strict=True)]
        cells += [images_cell(facts, index) for facts in splits.values()]
        if index == dataset.ignore_label:  # as in ADE20K: the last line counts it
            cells = [element("td", "ignored", class_="number soft", colspan=2 * len(splits))]
        rows.append(element("tr", class_cells(index, name, colors), element("td", drawn, class_="plot"), cells))
    body = element("tbody", rows, ignored_row(report))
    plot = element("table", classes_head(list(splits), axes), body, class_="classes")
    chooser = scale_chooser() if len(axes) > 1 else Markup()
    return section("Classes", explain_bars(report), chooser, element("div", plot, class_="scroll"), id="classes")


def explain_bars(report: Report) -> Markup:
    """How to read the histogram."""
    names = list(report.splits)
    order = f" Bars from top to bottom: {', '.join(names)}." if len(names) > 1 else ""
    text = f"Share of each class in the pixels that count, and the number of images in which it occurs.{order}"
    return element("p", text, class_="remark")


def scale_chooser() -> Markup:
    """Two buttons that the style sheet heeds; shares differ widely, so the logarithmic axis is chosen at first."""
    options = []
    for word, checked in (("logarithmic", "checked"), ("linear", None)):
        options.append(element("input", type="radio", name="scale", id=f"scale-{word}", checked=checked))
        options.append(element("label", word, for_=f"scale-{word}"))
    return join(options)  # no element around them: the style sheet's rule is for what follows beside them


def axis_class(axis: charts.Axis) -> str:
    """The class by which the style sheet shows one axis and hides the other."""
    return "log" if axis.logarithmic else "lin"


def classes_head(splits: Sequence[str], axes: Sequence[charts.Axis]) -> Markup:
    """Two lines: what the columns hold, and the splits."""
    labels = [charts.axis_labels(axis, axis_class(axis)) for axis in axes]
    upper = [
        element("th", "class", colspan=2, rowspan=2),
        element("th", "share", class_="plot"),
        element("th", "share of the pixels", colspan=len(splits), class_="number"),
        element("th", "images with it", colspan=len(splits), class_="number"),
    ]
    lower = [element("th", labels, class_="plot"), *[element("th", name, class_="number") for name in [*splits] * 2]]
    return element("thead", element("tr", upper), element("tr", lower))


def class_cells(index: int, name: str, colors: Sequence[Sequence[int]]) -> list[Markup]:
    """Label value, color and name."""
    return [element("td", str(index), class_="number"), element("th", swatch(colors[index]), name, scope="row")]


def pixels_cell(share: float, facts: SplitFacts) -> Markup:
    absent = not share and sum(facts.pixels) > 0
    return element("td", "absent" if absent else percent(share), class_="number absent" if absent else "number")


def images_cell(facts: SplitFacts, index: int) -> Markup:
    number = facts.images_with[index]
    return element("td", f"{number:,}", class_="number" if number else "number absent")


def ignored_row(report: Report) -> Markup:
    """The last line: pixels that do not count."""
    facts = list(report.splits.values())
    shares = [share_of(one.ignored_pixels, sum(one.pixels) + one.ignored_pixels) for one in facts]
    cells = [element("td", percent(share), class_="number") for share in shares]
    name = element("th", element("i", class_="swatch hatched"), "ignored, of all pixels", scope="row")
    value = element("td", str(report.dataset.ignore_label), class_="number")
    rest = [element("td"), cells, element("td", colspan=len(facts))]
    return element("tr", value, name, rest, class_="ignored")


def colors_of(report: Report) -> list[list[int]]:
    """RGB of every label value."""
    return colormaps.colors_for(report.dataset.colors, report.dataset.num_classes).tolist()


def rgb(color: Sequence[int]) -> str:
    """A color as CSS has it."""
    red, green, blue = map(int, color)
    return f"#{red:02x}{green:02x}{blue:02x}"


def swatch(color: Sequence[int]) -> Markup:
    """A small square of a color."""
    return element("i", class_="swatch", style=f"background:{rgb(color)}")


# --- Sizes and crop -------------------------------------------------------------------------------------------


def sizes_section(report: Report) -> Markup:
    """The scatter of sizes, and the crop sizes that suit them."""
    sizes = {name: facts.sizes for name, facts in report.splits.items() if facts.sizes}
    if not sizes:
        return Markup()
    distinct = len(charts.together(sizes))
    remark = "Each dot is one size of images, its area the number of images that have it."
    remark = "All images have the same size." if distinct == 1 else remark
    figure = element("figure", charts.size_scatter(sizes, report.crop))
    return section("Image sizes", element("p", remark, class_="remark"), figure, crop_advice(report), id="sizes")


def crop_advice(report: Report) -> Markup:
    """Recommended crop sizes, as flags to copy."""
    if report.crop is None:
        return Markup()
    train, evaluation = (",".join(map(str, size)) for size in (report.crop.train, report.crop.eval))
    flags = element("pre", f"`train_crop_size={train}` `eval_crop_size={evaluation}`", class_="copy")
    return join([element("h3", "Recommended crop sizes (height,width)"), element("p", report.crop.why), flags])


# --- Weights --------------------------------------------------------------------------------------------------


def weights_section(report: Report) -> Markup:
    """Class weights of several schemes side by side, and the flags that set them."""
    if not report.weights:
        return Markup()
    colors, schemes = colors_of(report), list(report.weights)
    largest = {scheme: max((w or 0 for w in report.weights[scheme]), default=0) for scheme in schemes}
    rows = []
    for index, name in enumerate(report.dataset.class_names):
        cells = [weight_cell(report.weights[scheme][index], largest[scheme]) for scheme in schemes]
        rows.append([*class_cells(index, name, colors), *cells])
    header = ["", "class", *[element("th", scheme, class_="number") for scheme in schemes]]
    shown = table(header, rows, "weights")
    if len(rows) > _MOST_SHOWN_ROWS:
        shown = element("details", element("summary", f"The weights of all {len(rows)} classes"), shown)
    remark = "Weights for the loss by scheme, from the pixels of the training split; – has no pixel there."
    flags = [scheme_flag(scheme, report.weights[scheme]) for scheme in schemes]
    return section("Class weights", element("p", remark, class_="remark"), shown, flags, id="weights")


def weight_cell(weight: float | None, largest: float) -> Markup:
    """A weight over a bar that shows its size within its scheme."""
    if weight is None:
        return element("td", "–", class_="number")
    part = 100 * weight / largest if largest else 0
    text = f"{weight:#.3g}" if weight < 1000 else f"{weight:,.0f}"
    return element("td", text, class_="number bar", style=f"`part`:{part:.1f}%")


def scheme_flag(scheme: str, weights: ClassWeights) -> Markup:
    """What a scheme is, and the flag that sets its weights, to copy."""
    *first, last = value_text(weights).split(",")
    parts = [[number, ",", element("wbr")] for number in first]  # lines break after commas alone
    flag = element(
        "pre", element("span", f"{console.spelled('`label_weights=`').strip('`')}"), parts, last, class_="copy"
    )
    about = SCHEMES[scheme].explanation if scheme in SCHEMES else None
    return join([element("h3", scheme, element("small", about) if about else None), flag])


# --- Samples --------------------------------------------------------------------------------------------------


def samples_section(report: Report) -> Markup:
    """Pairs to look at, and the legend of their colors."""
    if not report.samples:
        return Markup()
    figures = [
        element(
            "figure",
            element("div", jpeg(sample.image, f"image {sample.name}"), jpeg(sample.overlay, f"label of {sample.name}")),
            element("figcaption", element("b", sample.name), f" ({sample.split})"),
            class_="pair",
        )
        for sample in report.samples
    ]
    return section("Samples", legend(report), element("div", figures, class_="gallery"), id="samples")


def legend(report: Report) -> Markup:
    """Color and name of every class that occurs."""
    colors = colors_of(report)
    occurring = {
        index for facts in report.splits.values() for index, number in enumerate(facts.pixels) if number > 0
    } or set(range(report.dataset.num_classes))
    chips = [
        element("span", swatch(colors[index]), name, class_="chip")
        for index, name in enumerate(report.dataset.class_names)
        if index in occurring and index != report.dataset.ignore_label
    ]
    chips.append(element("span", element("i", class_="swatch hatched"), "ignored", class_="chip"))
    if any(finding.rule in _SHOWS_NO_CLASS for finding in report.findings):
        chips.append(element("span", element("i", class_="swatch crossed"), "no class", class_="chip"))
    return element("p", chips, class_="legend")
