"""The report on a terminal: what the dataset holds, what is wrong with it, and whether training may start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from deeplab.data.class_names import frequent_and_rare
from deeplab.data.split_names import training_split
from deeplab.data.validation.check_report import SEVERITIES, CheckReport, Finding, Severity, SplitFacts
from deeplab.data.validation.rules import RULES
from deeplab.losses import class_balance
from deeplab.utils import console
from deeplab.utils.text import WIDTH, broken, counted, harmless, percent

_MAX_NAMED = 5  # findings of a rule
_MAX_CLASSES = 40  # lines of a table
_MAX_KINDS = 3  # of images in a line
_MAX_NAME = 30  # characters of a class's name in a table
_CODES = {"error": "31;1", "warning": "33;1", "note": "36", "good": "32;1", "bold": "1", "dim": "2"}


def wants_color(stream: object = None) -> bool:
    """Whether a stream (default: standard output) is a terminal whose user has not set NO_COLOR (no-color.org)."""
    stream = stream or sys.stdout
    return bool(getattr(stream, "isatty", lambda: False)()) and not os.environ.get("NO_COLOR")


def text(report: CheckReport, color: bool = False) -> str:
    """The report as lines for a terminal.

    Args:
      report: what was found.
      color: with ANSI colors.
    """
    paint = _Paint(color)
    parts = [paint(_line(report.checked), "bold")]
    if any(facts.images for facts in report.splits.values()):
        parts += [_class_tables(report), _split_table(report)]
    if report.weights:
        parts.append(_weights(report, paint))
    if report.crop:
        train, evaluation = (f"{height},{width}" for height, width in (report.crop.train, report.crop.eval))
        title = console.spelled(f"crops: `train_crop_size={train}` `eval_crop_size={evaluation}`")
        parts.append(f"{paint(title, 'bold')}\n{broken(report.crop.why)}")
    parts += list(_findings(report, paint))
    repair = repair_text(report)
    if repair:
        parts.append("\n".join([broken(console.spelled(repair)), *([f"  {report.command}"] * bool(report.command))]))
    return "\n\n".join([*parts, verdict(report, paint)])


class _Paint:
    """Puts words into colors, or leaves them as they are."""

    def __init__(self, color: bool):
        self.color = color

    def __call__(self, words: str, kind: str) -> str:
        return f"\033[{_CODES[kind]}m{words}\033[0m" if self.color else words


def _line(words: str) -> str:
    """A text on one line, with settings as this program shows them."""
    return harmless(console.spelled(words))


def verdict(report: CheckReport, paint: _Paint | None = None) -> str:
    """Whether training may start, and how much is wrong: one line."""
    paint = paint or _Paint(False)
    numbers = {severity: report.number_of(severity) for severity in SEVERITIES}
    words = ", ".join(counted(number, kind) for kind, number in numbers.items())
    if not report.may_train:
        return f"{paint('training must not start', 'error')}: {words}"
    return f"{paint('training may start', 'warning' if numbers['warning'] else 'good')}: {words}"


def repair_text(report: CheckReport) -> str:
    """Which settings repair the dataset, and what they do not repair; empty where no setting does."""
    if not report.repair:
        return ""
    rules = list(dict.fromkeys(finding.rule for finding in report.findings if finding.repair))
    settings = " ".join(f"`{name}={value}`" for name, value in report.repair.items())
    build = "building with this command" if report.command else f"building the records again with {settings}"
    rest = f"; it does not repair {', '.join(report.unrepaired)}" if report.unrepaired else ""
    return f"{build} repairs {', '.join(rules)}{rest}{':' if report.command else ''}"


# --- Tables -------------------------------------------------------------------------------------------------


def _class_tables(report: CheckReport) -> str:
    """Fraction of the labeled pixels and number of images of each class in each split."""
    splits = {split: facts for split, facts in report.splits.items() if facts.images}
    left_out = report.dataset.num_classes - len(_shown_classes(report))
    more = f"\nand {left_out} more class{'es' if left_out > 1 else ''} (`json`, `html` list all)" if left_out else ""
    return _class_table(report, splits) + console.spelled(more)


def _class_table(report: CheckReport, splits: Mapping[str, SplitFacts]) -> str:
    """As many tables as it takes for none to be too wide."""
    rows: list[list[object]] = []
    for index in _shown_classes(report):
        row: list[object] = [index, _class_name(report, index)]
        for facts in splits.values():
            row += [_percent(facts.pixels[index], sum(facts.pixels)), facts.images_with[index]]
        rows.append(row)
    ignored: list[object] = [report.dataset.ignore_label, "(ignored)"]
    for facts in splits.values():
        ignored += [_percent(facts.ignored_pixels, facts.ignored_pixels + sum(facts.pixels)), ""]
    header = ["label", "class", *(word for split in splits for word in (f"{harmless(split)}: pixels", "images"))]
    table = console.table([*rows, ignored], header)
    if len(splits) == 1 or len(table.partition("\n")[0]) <= WIDTH:
        return table
    names = list(splits)
    halves = names[: (len(names) + 1) // 2], names[(len(names) + 1) // 2 :]
    return "\n\n".join(_class_table(report, {name: splits[name] for name in half}) for half in halves)


def _shown_classes(report: CheckReport) -> list[int]:
    """All classes, or of very many the most frequent and the rarest."""
    number = report.dataset.num_classes
    if number <= _MAX_CLASSES:
        return list(range(number))
    totals = [sum(facts.pixels[index] for facts in report.splits.values()) for index in range(number)]
    return frequent_and_rare(totals, _MAX_CLASSES)


def _class_name(report: CheckReport, index: int) -> str:
    name = harmless(report.dataset.class_names[index])
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 3]}..."


def _percent(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "-"


def _split_table(report: CheckReport) -> str:
    rows = []
    for split, facts in report.splits.items():
        size = facts.size_range
        sizes = "-"
        if size:
            low, high = f"{size.min_height}x{size.min_width}", f"{size.max_height}x{size.max_width}"
            sizes = low if low == high else f"{low} to {high}"
        kinds = [f"{number} {kind}" for kind, number in facts.kinds.items()]
        more = [f"{len(kinds) - _MAX_KINDS} more kinds"] if len(kinds) > _MAX_KINDS else []
        rows.append([harmless(split), facts.images, sizes, "; ".join([*kinds[:_MAX_KINDS], *more]) or "-"])
    return console.table(rows, ["split", "images", "height x width", "kinds"])


def _weights(report: CheckReport, paint: _Paint) -> str:
    names, training = list(report.weights), training_split(list(report.splits))
    rows = [
        [index, _class_name(report, index), *(_weight(report.weights[name][index]) for name in names)]
        for index in _shown_classes(report)
    ]
    rows.append(["", "largest / smallest", *(f"{class_balance.ratio(report.weights[name]):.3g}" for name in names)])
    pixels = report.splits[training].pixels
    title = f"class weights from split {harmless(training)}, mean 1"
    remark = f"where rare classes are not predicted, try {class_balance.recommended_scheme(pixels)} first:"
    recommended = console.spelled(class_balance.setting_text(class_balance.recommended_weights(pixels)))
    return f"{paint(title, 'bold')}\n{remark}\n{recommended}\n{console.table(rows, ['label', 'class', *names])}"


def _weight(weight: float | None) -> str:
    return "-" if weight is None else f"{weight:.3f}"


# --- Findings -----------------------------------------------------------------------------------------------


def _findings(report: CheckReport, paint: _Paint) -> Iterator[str]:
    """A paragraph for each rule."""
    by_rule: dict[tuple[str, Severity], list[Finding]] = {}
    for finding in report.findings:
        by_rule.setdefault((finding.rule, finding.severity), []).append(finding)
    for (rule, severity), found in by_rule.items():
        number = max(report.numbers.get(rule, 0), len(found))
        times = f" ({number} times)" if number > 1 else ""
        message = console.spelled(RULES.get(rule).message) if rule in RULES else ""
        head = broken(f"{severity} {rule}{times}: {message}")
        painted = f"{paint(severity, severity)} {paint(rule, 'bold')}"
        yield "\n".join([painted + head.removeprefix(f"{severity} {rule}"), *_lines(found, number)])


def _lines(found: Sequence[Finding], number: int) -> Iterator[str]:
    shown = found[:_MAX_NAMED]
    same_hint = len({finding.hint for finding in shown}) == 1
    for finding in shown:
        yield _line(f"  {finding.where}: {finding.text}")
        if not same_hint:
            yield _line(f"    hint: {finding.hint}")
    if number > len(shown):
        yield f"  and {number - len(shown)} more"
    if same_hint:
        yield _line(f"  hint: {shown[0].hint}")
