"""The report on a terminal: what there is, what is wrong with it, and whether training may start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from deeplab import console
from deeplab.data.check import weights as weights_
from deeplab.data.check.report import Finding, Report, Severity
from deeplab.data.check.roles import training_split
from deeplab.data.check.rules import RULES

_MOST_NAMED = 5  # findings of a rule
_MOST_CLASSES = 40  # lines of a table
_CODES = {"error": "31;1", "warning": "33;1", "note": "36", "good": "32;1", "bold": "1", "dim": "2"}


def wants_colour(stream: object = None) -> bool:
    """Whether a stream (default: standard output) is a terminal whose user has not set NO_COLOR (no-color.org)."""
    stream = stream or sys.stdout
    return bool(getattr(stream, "isatty", lambda: False)()) and not os.environ.get("NO_COLOR")


def text(report: Report, colour: bool = False) -> str:
    """The report as lines for a terminal.

    Args:
      report: what was found.
      colour: with ANSI colours.
    """
    paint = _Paint(colour)
    parts = [paint(report.checked, "bold")]
    if any(facts.images for facts in report.splits.values()):
        parts += [_class_table(report), _split_table(report)]
    if report.weights:
        parts.append(_weights(report, paint))
    if report.crop:
        train, evaluation = (f"{height},{width}" for height, width in (report.crop.train, report.crop.eval))
        title = paint(f"crops: --train_crop_size={train} --eval_crop_size={evaluation}", "bold")
        parts.append(f"{title}\n{report.crop.why}")
    parts += list(_findings(report, paint))
    return "\n\n".join([*parts, verdict(report, paint)])


class _Paint:
    """Puts words into colours, or leaves them as they are."""

    def __init__(self, colour: bool):
        self.colour = colour

    def __call__(self, words: str, kind: str) -> str:
        return f"\033[{_CODES[kind]}m{words}\033[0m" if self.colour else words


def verdict(report: Report, paint: _Paint | None = None) -> str:
    """Whether training may start, and how much is wrong: one line."""
    paint = paint or _Paint(False)
    numbers = {severity: numbers_of(report, severity) for severity in ("error", "warning", "note")}
    words = ", ".join(f"{number or 'no'} {kind}{'s' if number != 1 else ''}" for kind, number in numbers.items())
    if not report.may_train:
        return f"{paint('training must not start', 'error')}: {words}"
    return f"{paint('training may start', 'warning' if numbers['warning'] else 'good')}: {words}"


def numbers_of(report: Report, severity: str) -> int:
    """Findings of a severity, those that are not listed included; a rule counts under its gravest finding."""
    gravest: dict[str, str] = {}
    for finding in report.findings:  # errors come first
        gravest.setdefault(finding.rule, finding.severity)
    return sum(report.numbers.get(rule, 0) for rule, kind in gravest.items() if kind == severity)


# --- Tables -------------------------------------------------------------------------------------------------


def _class_table(report: Report) -> str:
    """Share of the pixels that count and number of images of each class in each split."""
    splits = {split: facts for split, facts in report.splits.items() if facts.images}
    rows: list[list[object]] = []
    for index in _shown_classes(report):
        row: list[object] = [index, report.dataset.class_names[index]]
        for facts in splits.values():
            row += [_percent(facts.pixels[index], sum(facts.pixels)), facts.images_with[index]]
        rows.append(row)
    ignored: list[object] = [report.dataset.ignore_label, "(ignored)"]
    for facts in splits.values():
        ignored += [_percent(facts.ignored_pixels, facts.ignored_pixels + sum(facts.pixels)), ""]
    header = ["label", "class", *(word for split in splits for word in (f"{split}: pixels", "images"))]
    table = console.table([*rows, ignored], header)
    left_out = report.dataset.num_classes - len(rows)
    return table + (f"\nand {left_out} classes more (--json, --html list all)" if left_out else "")


def _shown_classes(report: Report) -> list[int]:
    """All classes, or of very many the most frequent and the rarest."""
    number = report.dataset.num_classes
    if number <= _MOST_CLASSES:
        return list(range(number))
    totals = [sum(facts.pixels[index] for facts in report.splits.values()) for index in range(number)]
    order = sorted(range(number), key=lambda index: -totals[index])
    half = _MOST_CLASSES // 2
    return sorted([*order[:half], *order[-half:]])


def _percent(part: int, whole: int) -> str:
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.2f}%" if share >= 0.005 or not part else "<0.01%"


def _split_table(report: Report) -> str:
    rows = []
    for split, facts in report.splits.items():
        size = facts.size_range
        sizes = "-"
        if size:
            low, high = f"{size.min_height}x{size.min_width}", f"{size.max_height}x{size.max_width}"
            sizes = low if low == high else f"{low} to {high}"
        kinds = "; ".join(f"{number} {kind}" for kind, number in facts.kinds.items())
        rows.append([split, facts.images, sizes, kinds or "-"])
    return console.table(rows, ["split", "images", "height x width", "kinds"])


def _weights(report: Report, paint: _Paint) -> str:
    names = list(report.weights)
    rows = [
        [index, report.dataset.class_names[index], *(_weight(report.weights[name][index]) for name in names)]
        for index in _shown_classes(report)
    ]
    rows.append(["", "largest / smallest", *(f"{weights_.ratio(report.weights[name]):.3g}" for name in names)])
    title = f"class weights from split {training_split(list(report.splits))}, mean 1; {weights_.ROOT} to begin with:"
    flag = weights_.as_flag(report.weights[weights_.ROOT]) if weights_.ROOT in report.weights else ""
    return f"{paint(title, 'bold')}\n{flag}\n{console.table(rows, ['label', 'class', *names])}"


def _weight(weight: float | None) -> str:
    return "-" if weight is None else f"{weight:.3f}"


# --- Findings -----------------------------------------------------------------------------------------------


def _findings(report: Report, paint: _Paint) -> Iterator[str]:
    """A paragraph a rule."""
    by_rule: dict[tuple[str, Severity], list[Finding]] = {}
    for finding in report.findings:
        by_rule.setdefault((finding.rule, finding.severity), []).append(finding)
    for (rule, severity), found in by_rule.items():
        number = max(report.numbers.get(rule, 0), len(found))
        times = f" ({number} times)" if number > 1 else ""
        sentence = RULES[rule].sentence if rule in RULES else ""
        yield "\n".join(
            [f"{paint(severity, severity)} {paint(rule, 'bold')}{times}: {sentence}", *_lines(found, number)]
        )


def _lines(found: Sequence[Finding], number: int) -> Iterator[str]:
    shown = found[:_MOST_NAMED]
    same_remedy = len({finding.remedy for finding in shown}) == 1
    for finding in shown:
        yield f"  {finding.where}: {finding.text}"
        if not same_remedy:
            yield f"    remedy: {finding.remedy}"
    if number > len(shown):
        yield f"  and {number - len(shown)} more"
    if same_remedy:
        yield f"  remedy: {shown[0].remedy}"
    if any(finding.fix for finding in found):
        yield f"  --fix=FOLDER {found[0].fix}" if found[0].fix else "  --fix=FOLDER mends some of these in a copy"
