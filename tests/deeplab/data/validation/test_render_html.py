"""The HTML report: one file that needs nothing else, in which nothing that users named can become markup."""

import base64
import dataclasses
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.disc_files import draw, encoded
from support.html_reader import HOSTILE, Reader

from deeplab.data.dataset import Dataset
from deeplab.data.validation import render_html
from deeplab.data.validation.check_report import CheckReport, CropAdvice, Finding, Sample, SplitFacts
from deeplab.data.validation.render_html import groups, page
from deeplab.data.validation.rules import RULES


def report(**changes):
    train = SplitFacts(
        3, (600, 300, 100), 1000, (3, 2, 1), {(10, 20): 2, (20, 10): 1}, {"jpeg, RGB": 2, "png, gray": 1}
    )
    val = SplitFacts(1, (90, 10, 0), 0, (1, 1, 0), {(10, 20): 1}, {"jpeg, RGB": 1})
    dataset = Dataset("set", ("ground", "disc", "square"), ((0, 0, 0), (255, 0, 0), (0, 200, 0)))
    return dataclasses.replace(CheckReport("data/set", dataset, {"train": train, "val": val}), **changes)


def finding(rule="size-differs", severity="error", where="masks/a.png", **changes):
    return dataclasses.replace(Finding(rule, severity, where, "train", "is 3x4", "resize it"), **changes)


def full_report():
    return report(
        findings=[finding(preview=b"\xff\xd8picture"), finding("class-rare", "warning", "disc", split="")],
        numbers={"size-differs": 12, "class-rare": 1},
        weights={"inverse": [0.5, 1.25, None]},
        crop=CropAdvice((17, 17), (33, 33), "it holds them"),
        samples=[Sample("a", "train", b"\xff\xd8image", b"\xff\xd8overlay")],
    )


class TestOneFile:
    @pytest.mark.parametrize("made", [report, full_report])
    def test_nothing_comes_from_elsewhere(self, made):
        text = page(made())
        read = Reader(text)
        assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in read.elements}
        for _, attributes in read.elements:
            assert not [name for name in attributes if name.startswith("on")]
            assert attributes.get("src", "data:").startswith("data:image/jpeg;base64,") or "src" not in attributes
            assert attributes.get("href", "#").startswith("#")
        assert not re.search(r"url\(|@import|https?:|//[a-z]", text)
        policy = next(attributes for attributes in read.all("meta") if "http-equiv" in attributes)
        assert policy["http-equiv"] == "Content-Security-Policy" and "default-src 'none'" in policy["content"]

    def test_links_lead_to_findings(self):
        read = Reader(page(full_report()))
        there = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
        wanted = {attributes["href"][1:] for attributes in read.all("a")}
        assert wanted == {"rule-size-differs", "rule-class-rare"} <= there

    def test_images_are_inside(self):
        sources = [attributes["src"].partition(",")[2] for attributes in Reader(page(full_report())).all("img")]
        assert [base64.b64decode(source) for source in sources] == [
            b"\xff\xd8image",
            b"\xff\xd8overlay",
            b"\xff\xd8picture",
        ]

    def test_light_dark_and_paper(self):
        text = page(report())
        assert "prefers-color-scheme: dark" in text and "@media print" in text
        assert text == page(report())

    def test_a_report_on_nothing(self):
        nothing = CheckReport("data", Dataset("data", ("a",)), {}, [finding("nothing-to-check")])
        assert "Training must not start" in Reader(page(nothing)).text
        unread = dataclasses.replace(nothing, splits={"train": SplitFacts(2, (0,), 0, (0,), {}, {})})
        assert "Image sizes" not in Reader(page(unread)).text


class TestEscaping:
    def test_whatever_users_name(self):
        facts = report().splits["train"]
        dataset = Dataset(HOSTILE, (HOSTILE, '"', "'>"))
        hostile = report(
            checked=HOSTILE,
            dataset=dataset,
            splits={HOSTILE: dataclasses.replace(facts, kinds={HOSTILE: 3})},
            findings=[
                Finding(HOSTILE, "error", HOSTILE, HOSTILE, HOSTILE, HOSTILE, {"label_map": HOSTILE}, (), b"\xff\xd8")
            ],
            numbers={HOSTILE: 1},
            weights={HOSTILE: [1.0, 1.0, 1.0]},
            crop=CropAdvice((1, 1), (1, 1), HOSTILE),
            samples=[Sample(HOSTILE, HOSTILE, b"\xff\xd8", b"\xff\xd8")],
            command=HOSTILE,
        )
        read = Reader(page(hostile))
        assert not [tag for tag, attributes in read.elements if tag == "script" or "onerror" in attributes]
        assert read.text.count("<script>alert(2)</script>") >= 10

    def test_characters_that_html_forbids(self):
        text = page(report(checked="a\0b\ud800", findings=[finding(where="c\x1bd")]))
        assert "<h1>a\ufffdb?</h1>" in text and "c\ufffdd" in text


class TestVerdict:
    @pytest.mark.parametrize(
        ("severities", "words"),
        [
            ([], "Training may start no errors, no warnings"),
            (["note"], "Training may start no errors, no warnings, 1 note"),
            (["warning"], "Training may start no errors, 1 warning"),
            (["warning", "error"], "Training must not start 1 error, 1 warning"),
        ],
    )
    def test_words(self, severities, words):
        found = [finding(f"rule-{index}", severity) for index, severity in enumerate(severities)]
        assert words in Reader(page(report(findings=found))).text

    def test_findings_that_are_not_listed_count(self):
        text = Reader(page(full_report())).text
        assert "12 errors, 1 warning" in text and "12 times, 1 of them listed" in text

    def test_the_command_that_repairs(self):
        command = "deeplab build-data folder --label_map=255:1 --output_dir=tfrecord"
        found = [finding("label-out-of-range", repair={"label_map": "255:1"}), finding(where="b.png")]
        read = Reader(page(report(findings=found, command=command)))
        assert f"repairs label-out-of-range; it does not repair size-differs: {command}" in read.text
        without = Reader(page(report(findings=found)))
        assert "building the records again with `label_map=255:1` repairs label-out-of-range" in without.text
        assert "repairs" not in Reader(page(report())).text


class TestFindings:
    def test_errors_come_first(self):
        found = [finding("b", "note"), finding("a", "warning"), finding("c", "error"), finding("a", "warning")]
        assert [(group.rule, group.number) for group in groups(report(findings=found))] == [
            ("c", 1),
            ("a", 2),
            ("b", 1),
        ]

    def test_a_hint_that_all_share_is_shown_once(self):
        same = [finding(where=f"{index}.png") for index in range(3)]
        assert Reader(page(report(findings=same))).text.count("resize it") == 1
        differing = [*same, finding(hint="turn it")]
        text = Reader(page(report(findings=differing))).text
        assert text.count("resize it") == 3 and text.count("turn it") == 1
        assert RULES.get("size-differs").hint in text and RULES.get("size-differs").message in text

    def test_unknown_rules_are_shown(self):
        text = Reader(page(report(findings=[finding("brand-new", text="is odd")]))).text
        assert "brand-new" in text and "is odd" in text

    def test_many_findings_are_folded(self):
        found = [finding(where=f"{index}.png") for index in range(20)]
        read = Reader(page(report(findings=found)))
        assert "Show 12 more" in read.text and len(read.all("details")) == 1
        assert all(f" {index}.png " in read.text for index in range(20))


class TestClasses:
    def test_fractions_and_images(self):
        text = Reader(page(report())).text
        assert "0 ground 60.0 % 90.0 % 3 1" in text
        assert "1 disc 30.0 % 10.0 % 2 1" in text
        assert "2 square 10.0 % absent 1 0" in text
        assert "255 ignored, of all pixels 50.0 % 0" in text

    def test_bars_are_as_long_as_shares(self):
        assert "linear" not in Reader(page(report())).text
        bars = [rect for rect in Reader(page(report())).all("rect") if rect.get("fill")]
        assert [(rect["fill"], rect["width"]) for rect in bars] == [
            ("#000000", "60.000"),
            ("#000000", "90.000"),
            ("#ff0000", "30.000"),
            ("#ff0000", "10.000"),
            ("#00c800", "10.000"),
        ]

    def test_small_fractions_get_a_logarithmic_axis_to_choose(self):
        facts = dataclasses.replace(report().splits["train"], pixels=(99_000, 990, 10))
        read = Reader(page(report(splits={"train": facts})))
        assert "logarithmic linear" in read.text
        shown = [attributes["class"] for attributes in read.all("svg") if "bars" in attributes["class"]]
        assert shown == ["bars log", "bars lin"] * 3

    def test_as_many_classes_as_there_are(self):
        names = tuple(f"class {index}!" for index in range(151))
        facts = SplitFacts(9, tuple(range(151)), 0, (9,) * 151, {(8, 8): 9}, {})
        weights = {"sqrt": [1.0] * 151}
        read = Reader(page(CheckReport("ade", Dataset("ade", names), {"train": facts}, weights=weights)))
        assert all(read.text.count(name) >= 2 for name in names)
        assert "The weights of all 151 classes" in read.text

    def test_an_ignore_label_among_the_classes(self):
        dataset = dataclasses.replace(report().dataset, ignore_label=0)
        facts = SplitFacts(1, (0, 50, 50), 100, (0, 1, 1), {}, {})
        text = Reader(page(report(dataset=dataset, splits={"train": facts}))).text
        assert "0 ground ignored" in text and "absent" not in text


class TestCharts:
    def test_axes(self):
        linear = render_html.linear_axis([0.31, 0.02])
        assert linear.high == pytest.approx(0.4) and len(linear.ticks) == 5
        assert linear.place(0.1) == pytest.approx(0.25)
        logarithmic = render_html.logarithmic_axis([0.5, 0.002])
        assert (logarithmic.low, logarithmic.high) == (0.001, 1.0)
        assert logarithmic.place(0.001) == 0 and logarithmic.place(0) == 0
        assert logarithmic.place(0.1) == pytest.approx(2 / 3)
        assert len(logarithmic.ticks) == 4

    def test_when_fractions_are_wide_apart(self):
        assert not render_html.is_wide([0.5, 0.005, 0]) and render_html.is_wide([0.5, 0.0049])
        assert not render_html.is_wide([0, 0]) and not render_html.is_wide([])

    def test_round_steps(self):
        assert [render_html.round_step(value) for value in (1.0, 4.9, 5.1, 520)] == pytest.approx([0.2, 1, 2, 200])

    def test_dots_and_crops(self):
        read = Reader(page(full_report()))
        dots = read.all("circle")
        assert len(dots) == 2
        assert "20 wide, 10 high: train 2, val 1" in read.text and "10 wide, 20 high: train 1" in read.text
        assert "`train_crop_size=17,17` `eval_crop_size=33,33`" in read.text

    def test_areas_are_in_proportion(self):
        assert render_html.radius(100, 100, 5) == 26
        assert render_html.radius(25, 100, 5) == 13
        assert render_html.radius(100, 100, 240) == 13
        assert render_html.radius(1, 100_000, 5) > 3

    def test_places_in_the_plot(self):
        plot = render_html.Scatter(700.0, 350.0)
        assert plot.height == 350 and (plot.x(350), plot.y(0), plot.y(350)) == (64 + 350, 26 + 350, 26)
        assert render_html.Scatter(7000.0, 100.0).height == 220


def test_weights_to_copy():
    text = Reader(page(full_report())).text.replace(" ", "")
    assert "label_weights=0.5,1.25,1" in text  # the class without a pixel has 1


class TestOfARealCheck:
    """The page on a dataset with problems of every kind, from the files to the images."""

    @pytest.fixture
    def broken(self, discs):
        discs.image("a0").write_bytes(b"<html>404</html>")
        discs.image("a1").write_bytes(encoded(Image.fromarray(draw(1)[0]).convert("CMYK"), "jpeg"))
        discs.mask("a2").write_bytes(encoded(draw(2)[1][:60]))
        discs.mask("a3").write_bytes(encoded(np.where(draw(3)[1] == 2, 9, draw(3)[1]).astype(np.uint8)))
        discs.mask("b0").write_bytes(encoded(np.full((64, 80), 255, np.uint8)))
        discs.image("b1").write_bytes(discs.image("a5").read_bytes())
        discs.image("b2").write_bytes(encoded(draw(6)[0], "jpeg", quality=60))
        return discs.check(with_previews=True)

    def test_what_the_page_shows(self, broken):
        text = page(broken)
        read = Reader(text)
        rules = {finding.rule for finding in broken.findings}
        assert {
            "image-unknown-format",
            "image-cmyk",
            "size-differs",
            "label-out-of-range",
            "label-all-ignored",
        } <= rules
        assert {"image-in-two-splits", "near-duplicate-in-two-splits", "same-image-other-label"} <= rules
        for rule in rules:
            assert f'id="rule-{rule}"' in text and RULES.get(rule).message.replace("`", "") in read.text.replace(
                "`", ""
            )
        assert not re.search(r"<script|<link|url\(|https?:", text)
        bars = [attributes for attributes in read.all("svg") if "bars" in attributes["class"]]
        assert len(bars) == 3 * (2 if "logarithmic" in read.text else 1)  # the histogram: one of each class and axis
        (scatter,) = [attributes for attributes in read.all("svg") if attributes["class"] == "scatter"]
        assert scatter["aria-label"] == "Sizes of the images: 1 distinct ones"
        assert len(read.all("circle")) == 1

    def test_samples_and_findings_have_images(self, broken):
        """All but findings about files that cannot be read, and about all labels."""
        assert len(broken.samples) == 11  # of twelve pairs; one image is none
        previews = {finding.rule: bool(finding.preview) for finding in broken.findings}
        assert not [rule for rule, shown in previews.items() if not shown]
        shown = [
            base64.b64decode(attributes["src"].partition(",")[2]) for attributes in Reader(page(broken)).all("img")
        ]
        for sample in broken.samples:
            assert sample.image in shown and sample.overlay in shown
        for finding in broken.findings:
            assert finding.preview in shown
        for data in shown:
            Image.open(io.BytesIO(data)).load()

    def test_an_overlay_shows_the_label(self, broken):
        (finding,) = [finding for finding in broken.findings if finding.rule == "label-out-of-range"]
        overlay = np.asarray(Image.open(io.BytesIO(finding.preview))).astype(int)
        sample = next(sample for sample in broken.samples if sample.name == "a3")
        image = np.asarray(Image.open(io.BytesIO(sample.image))).astype(int)
        difference = np.abs(overlay - image).mean(-1)
        assert overlay.shape == (64, 80, 3)
        assert difference[-16:].max() > 60  # the bar, whose value is no class


def test_jinja2_is_imported_only_when_a_page_is_written():
    code = "import deeplab.data.validation.render_html, sys; assert 'jinja2' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
