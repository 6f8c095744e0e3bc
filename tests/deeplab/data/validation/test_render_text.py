"""The report as text and as JSON."""

import io
import json

import pytest

from deeplab.data.dataset import Dataset
from deeplab.data.validation import render_json, render_text
from deeplab.data.validation.check_report import CropAdvice, Report, SplitFacts
from deeplab.data.validation.rules import MOST_SHOWN, RULES, finding
from deeplab.losses.class_balance import SCHEMES


def report(**more):
    facts = SplitFacts(3, (700, 300), 250, (3, 2), {(40, 50): 2, (60, 50): 1}, {"jpeg, RGB": 3})
    findings = [
        *(finding("size-differs", f"m{number}.png", "too small", split="train") for number in range(7)),
        finding("class-rare", "train", "hat has few", hint="weigh it"),
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
    return Report(**{**values, **more})


def test_text_says_everything():
    shown = render_text.text(report())
    for line in (
        "    0  ground            70.00%       3",
        "    1  hat               30.00%       2",
        "  255  (ignored)         20.00%",
        "train       3  40x50 to 60x50  3 jpeg, RGB",
        "`label_weights=0.791,1.21`",
        "crops: `train_crop_size=49,65` `eval_crop_size=65,65`",
        f"error size-differs (30 times): {RULES['size-differs'].sentence}",
        "  m0.png: too small",
        "  and 25 more",
        f"  hint: {RULES['size-differs'].hint}",
        "  hint: weigh it",
    ):
        assert line in shown, f"{line!r} is not in\n{shown}"
    assert "m5.png" not in shown
    assert "\033" not in shown
    assert shown.endswith("training must not start: 30 errors, 1 warning, 1 note")


def test_a_clean_report():
    clean = report(findings=[], numbers={})
    assert render_text.verdict(clean) == "training may start: no errors, no warnings, no notes"


def test_colors():
    shown = render_text.text(report(), color=True)
    assert "\033[31;1merror\033[0m" in shown
    assert "\033[33;1mwarning\033[0m" in shown


def test_remedies_that_differ_stand_with_their_files():
    findings = [finding("size-differs", "a", "x", hint="turn it"), finding("size-differs", "b", "y", hint="cut it")]
    shown = render_text.text(report(findings=findings, numbers={"size-differs": 2}))
    assert "  a: x\n    hint: turn it\n  b: y\n    hint: cut it" in shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "wanted"),
    [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)],
)
def test_colors_are_for_terminals(monkeypatch, stream, no_color, wanted):
    monkeypatch.setenv("NO_COLOR", no_color)
    assert render_text.wants_color(stream) is wanted


def test_very_many_classes_are_shortened():
    number = 150
    pixels = tuple(range(1, number + 1))
    facts = SplitFacts(1, pixels, 0, (1,) * number, {(9, 9): 1}, {"png, RGB": 1})
    names = tuple(f"class_{index}" for index in range(number))
    many = report(dataset=Dataset("many", names), splits={"train": facts}, weights={})
    shown = render_text.text(many)
    assert "class_149" in shown
    assert "class_0 " in shown
    assert "class_70 " not in shown
    assert "and 110 classes more" in shown


def test_very_many_weights_stand_elsewhere():
    names = tuple(f"class_{index}" for index in range(41))
    facts = SplitFacts(1, (9,) * 41, 0, (1,) * 41, {(9, 9): 1}, {"png, RGB": 1})
    many = report(dataset=Dataset("many", names), splits={"train": facts}, weights={"sqrt": (1.0,) * 41})
    assert "`label_weights` with the 41 numbers that" in render_text.text(many)


@pytest.mark.parametrize("number", [1, 3, 9])
def test_tables_fit_a_hundred_columns(number):
    facts = SplitFacts(10_000, (10**9, 10**5), 250, (9_999, 2), {(4000, 6000): 2, (60, 50): 1}, {"jpeg, RGB": 10_000})
    splits = {f"validation_{index}": facts for index in range(number)}
    dataset = Dataset("photos", ("ground", "a class whose name is longer than anybody would think"))
    weights = dict.fromkeys(SCHEMES, (0.5, 1.5))
    shown = render_text.text(report(dataset=dataset, splits=splits, weights=weights))
    for line in shown.splitlines():
        assert len(line) <= 100 or line.startswith(("  hint: ", "--label_weights")), line
    assert all(f"{split}: pixels" in shown for split in splits)
    assert shown.count("a class whose name is longe...") == {1: 2, 3: 3, 9: 6}[number]
    assert "0.0100%" not in shown and "0.01%" in shown


def test_small_shares_keep_their_digits():
    facts = SplitFacts(1, (10**7, 31), 0, (1, 1), {(9, 9): 1}, {})
    shown = render_text.text(report(splits={"train": facts}))
    assert "0.0003%" in shown


def test_sentences_are_broken_and_files_are_not():
    name = "f" * 120
    found = [finding("near-picture-in-two-splits", name, "t " * 60)]
    shown = render_text.text(report(findings=found, numbers={}))
    assert f"  {name}: {'t ' * 60}" in shown
    assert RULES["near-picture-in-two-splits"].sentence not in shown
    assert RULES["near-picture-in-two-splits"].sentence in " ".join(shown.split())


def test_names_cannot_take_over_the_terminal():
    hostile = "a\033[31mb\nc\r\x9bd\u202ee\udce9"
    facts = SplitFacts(1, (7, 3), 0, (1, 1), {(9, 9): 1}, {"jpeg, RGB": 1})
    found = [finding("size-differs", hostile, hostile, hint=hostile, fix=hostile)]
    dataset = Dataset("photos", (hostile, "hat"))
    shown = render_text.text(
        report(checked=hostile, findings=found, numbers={}, dataset=dataset, splits={hostile: facts}, weights={})
    )
    assert not {"\033", "\r", "\x9b", "\u202e", "\udce9"} & set(shown)
    assert "a\ufffd[31mb\ufffdc" in shown
    assert json.loads(render_json.text(report(checked=hostile)))["checked"] == hostile


def test_json_holds_everything_but_pictures():
    content = json.loads(render_json.text(report()))
    assert content["may_train"] is False
    assert content["numbers"]["size-differs"] == 30
    assert content["findings"][0] == {
        "rule": "size-differs",
        "severity": "error",
        "where": "m0.png",
        "split": "train",
        "text": "too small",
        "hint": RULES["size-differs"].hint,
        "fix": "",
    }
    assert content["classes"][1] == {
        "label": 1,
        "name": "hat",
        "color": [9, 9, 9],
        "pixels": {"train": 300},
        "images": {"train": 2},
    }
    assert content["splits"]["train"]["sizes"][1] == {"height": 60, "width": 50, "images": 1}
    assert content["weights"] == {"sqrt": [0.5, 1.5]}
    assert content["crop"]["train"] == [49, 65]
    assert content["label_map"] == {"255": 1}
    assert content["rules"]["class-rare"] == RULES["class-rare"].sentence


def test_json_keys_are_documented():
    for key in render_json.content(report()):
        assert f"    {key} " in render_json.__doc__


def test_every_rule_is_explained():
    for name, rule in RULES.items():
        assert name == name.lower() and " " not in name
        assert rule.severity in ("error", "warning", "note")
        assert rule.sentence.endswith(".")
        assert rule.hint and not rule.hint.endswith(".")


def test_of_each_rule_the_first_are_kept():
    from deeplab.data.validation.analysis import FindingLog

    log = FindingLog()
    log.add(finding("image-gray", str(number), "gray") for number in range(MOST_SHOWN + 5))
    log.add([finding("size-differs", "x", "too small")])
    assert log.numbers == {"image-gray": MOST_SHOWN + 5, "size-differs": 1}
    assert [item.rule for item in log.in_order()] == ["size-differs", *["image-gray"] * MOST_SHOWN]
    assert not log.wants("image-gray")
