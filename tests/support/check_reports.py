"""Small reports of a check, for the tests of its renderers."""

from deeplab.data.dataset import Dataset
from deeplab.data.validation.check_report import CheckReport, CropAdvice, SplitFacts
from deeplab.data.validation.rules import finding


def small_report(**changes) -> CheckReport:
    """A report on two classes in one split, with an error, a warning and a note."""
    facts = SplitFacts(3, (700, 300), 250, (3, 2), {(40, 50): 2, (60, 50): 1}, {"jpeg, RGB": 3})
    findings = [
        *(finding("size-differs", f"m{number}.png", "too small", split="train") for number in range(7)),
        finding("class-rare", "train", "hat has few", hint="weight it"),
        finding("image-gray", "x.png", "has one channel"),
    ]
    values = {
        "checked": "photos",
        "dataset": Dataset("photos", ("ground", "hat"), ((0, 0, 0), (9, 9, 9))),
        "splits": {"train": facts},
        "findings": findings,
        "numbers": {"size-differs": 30, "class-rare": 1, "image-gray": 1},
        "weights": {"sqrt": (0.5, 1.5)},
        "crop": CropAdvice((49, 65), (65, 65), "it fits"),
        "label_map": {255: 1},
    }
    return CheckReport(**{**values, **changes})
