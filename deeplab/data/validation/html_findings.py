"""The faults on the HTML report: the verdict, a list of the broken rules, and each rule's faults with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deeplab.data.validation.check_report import Finding, Report
from deeplab.data.validation.html_markup import Markup, element, jpeg
from deeplab.data.validation.rules import RULES
from deeplab.utils.text import counted

_ORDER = {"error": 0, "warning": 1, "note": 2}
_MOST_OPEN = 8  # faults of a rule that show at once; further ones are folded


@dataclass(frozen=True)
class Group:
    """The faults that break one rule.

    Attributes:
      rule: its short name.
      severity: "error", "warning" or "note".
      number: how often it is broken, faults that are not listed included.
      sentence: what the rule is about; empty where nothing is known of it.
      hint, fix: what to do, and what `fix` does, where it is the same for all of its faults; else empty.
      findings: those that are listed.
    """

    rule: str
    severity: str
    number: int
    sentence: str
    hint: str
    fix: str
    findings: Sequence[Finding]

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return f"fault-{self.rule}"

    @property
    def fixable(self) -> int:
        """How many of the listed faults `fix` mends."""
        return sum(bool(finding.fix) for finding in self.findings)


def groups(report: Report) -> list[Group]:
    """The faults by rule: errors first, then by the order in which the report has them."""
    by_rule: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    found = [_group(rule, findings, report) for rule, findings in by_rule.items()]
    return sorted(found, key=lambda group: _ORDER.get(group.severity, 3))


def _group(rule: str, findings: Sequence[Finding], report: Report) -> Group:
    known = RULES.get(rule)
    severities = sorted({str(finding.severity) for finding in findings}, key=lambda word: _ORDER.get(word, 3))
    hint = _only([finding.hint for finding in findings]) or (known.hint if known else "")
    fix = _only([finding.fix for finding in findings])
    number = max(report.numbers.get(rule, 0), len(findings))
    return Group(rule, severities[0], number, known.sentence if known else "", hint, fix, findings)


def _only(texts: Sequence[str]) -> str:
    """The text that all have; empty where they differ."""
    return texts[0] if len(set(texts)) == 1 else ""


def verdict(report: Report, faults: Sequence[Group]) -> Markup:
    """Whether training may start, and how many faults of each kind there are."""
    words = "Training may start" if report.may_train else "Training must not start"
    numbers = {kind: sum(group.number for group in faults if group.severity == kind) for kind in _ORDER}
    shown = [counted(numbers[kind], kind) for kind in _ORDER if numbers[kind] or kind != "note"]
    fixable = sum(group.fixable for group in faults)
    fix = f"`fix=FOLDER` mends {counted(fixable, 'fault')} of those listed, in a copy." if fixable else None
    good = report.may_train and not numbers["warning"]
    return element(
        "section",
        element("p", words, class_="words"),
        element("p", ", ".join(shown), class_="counts"),
        element("p", fix) if fix else None,
        class_=f"verdict {'good' if good else 'fair' if report.may_train else 'bad'}",
    )


def fault_list(faults: Sequence[Group]) -> Markup:
    """One line a broken rule, each a link to its faults."""
    if not faults:
        return Markup()
    lines = [
        element(
            "a",
            badge(group.severity),
            element("b", f"{group.number:,}"),
            element("span", element("code", group.rule), " ", group.sentence),
            href=f"#{group.anchor}",
        )
        for group in faults
    ]
    return element("nav", lines, class_="faults", aria_label="Broken rules")


def badge(severity: str) -> Markup:
    """The kind of fault as a colored word."""
    return element("span", severity, class_=f"badge {severity if severity in _ORDER else 'note'}")


def fault_sections(faults: Sequence[Group]) -> Markup:
    """Every rule's faults, one after the other."""
    if not faults:
        return Markup()
    return element("section", element("h2", "Faults"), [fault_section(group) for group in faults], id="faults")


def fault_section(group: Group) -> Markup:
    """One rule: what it is, what to do, and where it is broken."""
    shown = len(group.findings)
    times = f"{group.number:,} times" if group.number != 1 else "once"
    times += f", {shown:,} of them listed" if shown < group.number else ""
    items = [finding_item(finding, group) for finding in group.findings]
    opened, folded = items[:_MOST_OPEN], items[_MOST_OPEN:]
    more = element("summary", f"Show {len(folded):,} more")
    return element(
        "article",
        element("h3", badge(group.severity), element("code", group.rule), element("small", times)),
        element("p", group.sentence) if group.sentence else None,
        hint_line(group.hint),
        hint_line(group.fix, "`fix=FOLDER`"),
        element("ul", opened, class_="findings"),
        element("details", more, element("ul", folded, class_="findings")) if folded else None,
        class_=f"fault {group.severity if group.severity in _ORDER else 'note'}",
        id=group.anchor,
    )


def hint_line(hint: str, word: str = "Hint") -> Markup:
    """What to do now."""
    return element("p", element("b", f"{word}: "), hint, class_="hint") if hint else Markup()


def finding_item(finding: Finding, group: Group) -> Markup:
    """One fault: the file, what is wrong, what to do where that is not said of all, and its picture."""
    split = element("span", finding.split, class_="chip") if finding.split not in ("", finding.where) else None
    words = [
        element("p", element("b", finding.where, class_="where"), " ", split),
        element("p", finding.text),
        hint_line(finding.hint) if finding.hint != group.hint else None,
        hint_line(finding.fix, "`fix=FOLDER`") if finding.fix != group.fix else None,
    ]
    picture = jpeg(finding.picture, f"the pair of {finding.where}") if finding.picture else Markup()
    return element("li", picture, element("div", words))
