"""The report as JSON, for programs. Keys stay as they are; new ones may be added.

    checked         what was checked
    may_train       whether training may start
    numbers         findings of each rule, unlisted ones included
    findings        rule, severity (error, warning, note), where, split, text, hint, repair
    repair          {setting: value} of build-data: what repairs the dataset, as far as settings can
    command         the build-data command line with these settings; empty where it is not known
    classes         label, name, color [r, g, b], and for each split pixels and images
    ignore_label    label value of pixels that do not count
    splits          for each: images, ignored_pixels, sizes [{height, width, images}], kinds {kind: images}
    weights         for each scheme one number per class, null for classes without a pixel in the training split
    crop            train [height, width], eval [height, width], why; null where no image could be read
    label_map       {old: new}: what all mask values must be replaced by, where that is certain
    rules           the message of each violated rule

Images are left out.
"""

from __future__ import annotations

import json
from typing import Any

from deeplab.data.validation.check_report import CheckReport, Finding, SplitFacts
from deeplab.data.validation.rules import RULES
from deeplab.utils.console import spelled


def text(report: CheckReport) -> str:
    """The report as JSON text, keys as the module says; in ASCII, so that any name is safe everywhere."""
    return json.dumps(content(report), indent=1) + "\n"


def content(report: CheckReport) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "checked": spelled(report.checked),
        "may_train": report.may_train,
        "numbers": dict(report.numbers),
        "findings": [_finding(finding) for finding in report.findings],
        "repair": report.repair,
        "command": report.command,
        "classes": _classes(report),
        "ignore_label": report.dataset.ignore_label,
        "splits": {split: _split(facts) for split, facts in report.splits.items()},
        "weights": {scheme: list(weights) for scheme, weights in report.weights.items()},
        "crop": _crop(report),
        "label_map": {str(old): new for old, new in report.label_map.items()},
        "rules": {rule: spelled(RULES.get(rule).message) for rule in report.numbers if rule in RULES},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "where": finding.where,
        "split": finding.split,
        "text": spelled(finding.text),
        "hint": spelled(finding.hint),
        "repair": dict(finding.repair),
    }


def _classes(report: CheckReport) -> list[dict[str, Any]]:
    colors = [list(color) for color in report.dataset.colors]
    return [
        {
            "label": index,
            "name": name,
            "color": colors[index] if colors else None,
            "pixels": {split: facts.pixels[index] for split, facts in report.splits.items()},
            "images": {split: facts.images_with[index] for split, facts in report.splits.items()},
        }
        for index, name in enumerate(report.dataset.class_names)
    ]


def _split(facts: SplitFacts) -> dict[str, Any]:
    return {
        "images": facts.images,
        "ignored_pixels": facts.ignored_pixels,
        "sizes": [{"height": h, "width": w, "images": number} for (h, w), number in facts.sizes.items()],
        "kinds": dict(facts.kinds),
    }


def _crop(report: CheckReport) -> dict[str, Any] | None:
    if report.crop is None:
        return None
    return {"train": list(report.crop.train), "eval": list(report.crop.eval), "why": report.crop.why}
