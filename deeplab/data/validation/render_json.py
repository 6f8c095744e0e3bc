"""The report as JSON, for programs. Keys stay as they are; new ones may be added.

    checked         what was looked at
    may_train       whether training may start
    numbers         findings of each rule, those that are not listed included
    findings        rule, severity (error, warning, note), where, split, text, hint, fix
    classes         label, name, color [r, g, b], and for each split pixels and images
    ignore_label    label value of pixels that do not count
    splits          for each: images, ignored_pixels, sizes [{height, width, images}], kinds {kind: images}
    weights         for each scheme one number a class, null for classes without a pixel in the training split
    crop            train [height, width], eval [height, width], why; null where no image could be read
    label_map       {old: new}: what all mask values must be replaced by, where that is certain
    rules           what each broken rule means

Pictures are left out.
"""

from __future__ import annotations

import json
from typing import Any

from deeplab.data.validation.check_report import Report, SplitFacts
from deeplab.data.validation.rules import RULES

_FINDING = ("rule", "severity", "where", "split", "text", "hint", "fix")


def text(report: Report) -> str:
    """The report as JSON text, keys as the module says; in ASCII, so that any name gets through anywhere."""
    return json.dumps(content(report), indent=1) + "\n"


def content(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "checked": report.checked,
        "may_train": report.may_train,
        "numbers": dict(report.numbers),
        "findings": [{key: getattr(finding, key) for key in _FINDING} for finding in report.findings],
        "classes": _classes(report),
        "ignore_label": report.dataset.ignore_label,
        "splits": {split: _split(facts) for split, facts in report.splits.items()},
        "weights": {scheme: list(weights) for scheme, weights in report.weights.items()},
        "crop": _crop(report),
        "label_map": {str(old): new for old, new in report.label_map.items()},
        "rules": {rule: RULES[rule].sentence for rule in report.numbers if rule in RULES},
    }


def _classes(report: Report) -> list[dict[str, Any]]:
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


def _crop(report: Report) -> dict[str, Any] | None:
    if report.crop is None:
        return None
    return {"train": list(report.crop.train), "eval": list(report.crop.eval), "why": report.crop.why}
