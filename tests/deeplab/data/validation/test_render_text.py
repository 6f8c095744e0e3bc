"""The report on a terminal."""

import io

import pytest
from support.check_reports import small_report

from deeplab.data.dataset import Dataset
from deeplab.data.validation import render_text
from deeplab.data.validation.check_report import SplitFacts
from deeplab.data.validation.rules import RULES, finding
from deeplab.losses.class_balance import SCHEMES
from deeplab.utils import console
from deeplab.utils.errors import spell_as_flags


def test_text_says_everything():
    shown = render_text.text(small_report())
    for line in (
        "    0  ground            70.00%       3",
        "    1  hat               30.00%       2",
        "  255  (ignored)         20.00%",
        "train       3  40x50 to 60x50  3 jpeg, RGB",
        "`label_weights=0.791,1.21`",
        "crops: `train_crop_size=49,65` `eval_crop_size=65,65`",
        f"error size-differs (30 times): {RULES.get('size-differs').message}",
        "  m0.png: too small",
        "  and 25 more",
        f"  hint: {RULES.get('size-differs').hint}",
        "  hint: weight it",
    ):
        assert line in shown, f"{line!r} is not in\n{shown}"
    assert "m5.png" not in shown
    assert "\033" not in shown
    assert shown.endswith("training must not start: 30 errors, 1 warning, 1 note")


def test_settings_are_shown_as_flags_on_the_command_line(monkeypatch):
    monkeypatch.setattr(console, "_spell", lambda text: spell_as_flags(text, ["label_map", "split"]))
    found = [finding("record-without-label", "a", "`label_map=1:0`", hint="`train_crop_size=9,9`")]
    shown = render_text.text(small_report(findings=found, numbers={}, checked="photos (as with `label_map=255:1`)"))
    for flag in ("photos (as with --label_map=255:1)", "a: --label_map=1:0", "hint: --train_crop_size=9,9"):
        assert flag in shown
    assert "--label_weights=0.791,1.21" in shown and "--train_crop_size=49,65 --eval_crop_size=65,65" in shown
    assert "`" not in shown


def test_a_clean_report():
    clean = small_report(findings=[], numbers={})
    assert render_text.verdict(clean) == "training may start: no errors, no warnings, no notes"
    assert render_text.repair_text(clean) == ""


def test_colors():
    shown = render_text.text(small_report(), color=True)
    assert "\033[31;1merror\033[0m" in shown
    assert "\033[33;1mwarning\033[0m" in shown


def test_hints_that_differ_are_beside_their_files():
    findings = [finding("size-differs", "a", "x", hint="turn it"), finding("size-differs", "b", "y", hint="cut it")]
    shown = render_text.text(small_report(findings=findings, numbers={"size-differs": 2}))
    assert "  a: x\n    hint: turn it\n  b: y\n    hint: cut it" in shown


class TestRepair:
    MAPPED = finding("label-out-of-range", "a", "x", repair={"label_map": "255:1"})
    SNAPPED = finding("mask-color-unknown", "b", "y", repair={"color_tolerance": "7"})
    OTHER = finding("mask-color-unknown", "c", "z", repair={"color_tolerance": "12"})
    LOST = finding("size-differs", "d", "x")

    def test_settings_are_put_together(self):
        report = small_report(findings=[self.MAPPED, self.OTHER, self.SNAPPED])
        assert report.repair == {"label_map": "255:1", "color_tolerance": "12"} and report.unrepaired == []
        assert render_text.repair_text(report) == (
            "building the records again with `label_map=255:1` `color_tolerance=12` repairs label-out-of-range, "
            "mask-color-unknown"
        )

    def test_the_command_is_on_a_line_of_its_own(self):
        command = f"deeplab build-data folder --image_folder={'x' * 120} --label_map=255:1"
        shown = render_text.text(small_report(findings=[self.MAPPED, self.LOST], command=command))
        assert f"does not repair size-differs:\n  {command}\n\ntraining must not start" in shown


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
    shown = render_text.text(small_report(dataset=Dataset("many", names), splits={"train": facts}, weights={}))
    assert "class_149" in shown
    assert "class_0 " in shown
    assert "class_70 " not in shown
    assert "and 110 more classes" in shown


def test_very_many_weights_are_written_elsewhere():
    names = tuple(f"class_{index}" for index in range(41))
    facts = SplitFacts(1, (9,) * 41, 0, (1,) * 41, {(9, 9): 1}, {"png, RGB": 1})
    many = small_report(dataset=Dataset("many", names), splits={"train": facts}, weights={"sqrt": (1.0,) * 41})
    assert "`label_weights` with the 41 numbers that" in render_text.text(many)


@pytest.mark.parametrize("number", [1, 3, 9])
def test_tables_fit_a_hundred_columns(number):
    facts = SplitFacts(10_000, (10**9, 10**5), 250, (9_999, 2), {(4000, 6000): 2, (60, 50): 1}, {"jpeg, RGB": 10_000})
    splits = {f"validation_{index}": facts for index in range(number)}
    dataset = Dataset("photos", ("ground", "a class whose name is longer than anybody would think"))
    weights = dict.fromkeys(SCHEMES, (0.5, 1.5))
    shown = render_text.text(small_report(dataset=dataset, splits=splits, weights=weights))
    for line in shown.splitlines():
        assert len(line) <= 100 or line.startswith(("  hint: ", "`label_weights")), line
    assert all(f"{split}: pixels" in shown for split in splits)
    assert shown.count("a class whose name is longe...") == {1: 2, 3: 3, 9: 6}[number]
    assert "0.0100%" not in shown and "0.01%" in shown


def test_small_fractions_keep_their_digits():
    facts = SplitFacts(1, (10**7, 31), 0, (1, 1), {(9, 9): 1}, {})
    assert "0.0003%" in render_text.text(small_report(splits={"train": facts}))


def test_sentences_are_broken_and_files_are_not():
    name, rule = "f" * 120, "near-duplicate-in-two-splits"
    shown = render_text.text(small_report(findings=[finding(rule, name, "t " * 60)], numbers={}))
    assert f"  {name}: {'t ' * 60}" in shown
    assert RULES.get(rule).message not in shown
    assert RULES.get(rule).message in " ".join(shown.split())


def test_names_cannot_take_over_the_terminal():
    hostile = "a\033[31mb\nc\r\x9bd\u202ee\udce9"
    facts = SplitFacts(1, (7, 3), 0, (1, 1), {(9, 9): 1}, {"jpeg, RGB": 1})
    found = [finding("size-differs", hostile, hostile, hint=hostile, repair={"label_map": "1:0"})]
    shown = render_text.text(
        small_report(
            checked=hostile,
            findings=found,
            numbers={},
            dataset=Dataset("photos", (hostile, "hat")),
            splits={hostile: facts},
            weights={},
        )
    )
    assert not {"\033", "\r", "\x9b", "\u202e", "\udce9"} & set(shown)
    assert "a\ufffd[31mb\ufffdc" in shown
