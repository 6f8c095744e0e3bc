"""The HTML report: one file that needs nothing else, in which nothing that users named can become markup."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from deeplab.data.dataset import Dataset
from deeplab.data.validation import html_charts as charts
from deeplab.data.validation.check_report import CropAdvice, Finding, Report, Sample, SplitFacts
from deeplab.data.validation.html_findings import groups
from deeplab.data.validation.html_markup import Markup, element
from deeplab.data.validation.render_html import page
from deeplab.data.validation.rules import RULES

HOSTILE = "<img src=x onerror=\"alert('1')\">'&amp;</title></style><script>alert(2)</script>"
VOID = ("br", "img", "input", "meta", "wbr")


class Reader(html.parser.HTMLParser):
    """Elements with their attributes, text by element, and a check that start and end tags match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def report(**changes):
    train = SplitFacts(
        3, (600, 300, 100), 1000, (3, 2, 1), {(10, 20): 2, (20, 10): 1}, {"jpeg, RGB": 2, "png, gray": 1}
    )
    val = SplitFacts(1, (90, 10, 0), 0, (1, 1, 0), {(10, 20): 1}, {"jpeg, RGB": 1})
    dataset = Dataset("set", ("ground", "disc", "square"), ((0, 0, 0), (255, 0, 0), (0, 200, 0)))
    return dataclasses.replace(Report("data/set", dataset, {"train": train, "val": val}), **changes)


def finding(rule="size-differs", severity="error", where="masks/a.png", **changes):
    return dataclasses.replace(Finding(rule, severity, where, "train", "is 3x4", "resize it"), **changes)


def full_report():
    return report(
        findings=[finding(picture=b"\xff\xd8picture"), finding("class-rare", "warning", "disc", split="")],
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

    def test_links_lead_to_faults(self):
        read = Reader(page(full_report()))
        there = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
        wanted = {attributes["href"][1:] for attributes in read.all("a")}
        assert wanted == {"fault-size-differs", "fault-class-rare"} <= there

    def test_pictures_are_inside(self):
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
        nothing = Report("data", Dataset("data", ("a",)), {}, [finding("nothing-to-check")])
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
            findings=[Finding(HOSTILE, "error", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, b"\xff\xd8")],
            numbers={HOSTILE: 1},
            weights={HOSTILE: [1.0, 1.0, 1.0]},
            crop=CropAdvice((1, 1), (1, 1), HOSTILE),
            samples=[Sample(HOSTILE, HOSTILE, b"\xff\xd8", b"\xff\xd8")],
        )
        read = Reader(page(hostile))
        assert not [tag for tag, attributes in read.elements if tag == "script" or "onerror" in attributes]
        assert read.text.count("<script>alert(2)</script>") >= 10

    def test_elements(self):
        made = element("a", "1 < 2", Markup("<b></b>"), None, [["x"], "&"], class_="c", data_x='"', hidden=False)
        assert made == '<a class="c" data-x="&quot;">1 &lt; 2<b></b>x&amp;</a>'
        assert element("br") == "<br>"

    def test_characters_that_html_forbids(self):
        assert element("p", "a\0b\ud800") == "<p>a\ufffdb?</p>"


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

    def test_faults_that_are_not_listed_count(self):
        text = Reader(page(full_report())).text
        assert "12 errors, 1 warning" in text and "12 times, 1 of them listed" in text

    def test_what_fix_mends(self):
        found = [finding(fix="turns it"), finding(where="b.png")]
        text = Reader(page(report(findings=found))).text
        assert "--fix=FOLDER mends 1 fault of those listed" in text and "--fix=FOLDER: turns it" in text


class TestFaults:
    def test_errors_come_first(self):
        found = [finding("b", "note"), finding("a", "warning"), finding("c", "error"), finding("a", "warning")]
        assert [(group.rule, group.number) for group in groups(report(findings=found))] == [
            ("c", 1),
            ("a", 2),
            ("b", 1),
        ]

    def test_a_hint_that_all_share_stands_once(self):
        same = [finding(where=f"{index}.png") for index in range(3)]
        assert Reader(page(report(findings=same))).text.count("resize it") == 1
        differing = [*same, finding(hint="turn it")]
        text = Reader(page(report(findings=differing))).text
        assert text.count("resize it") == 3 and text.count("turn it") == 1
        assert RULES["size-differs"].hint in text and RULES["size-differs"].sentence in text

    def test_unknown_rules_are_shown(self):
        text = Reader(page(report(findings=[finding("brand-new", text="is odd")]))).text
        assert "brand-new" in text and "is odd" in text

    def test_many_faults_are_folded(self):
        found = [finding(where=f"{index}.png") for index in range(20)]
        read = Reader(page(report(findings=found)))
        assert "Show 12 more" in read.text and len(read.all("details")) == 1
        assert all(f" {index}.png " in read.text for index in range(20))


class TestClasses:
    def test_shares_and_images(self):
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

    def test_small_shares_get_a_logarithmic_axis_to_choose(self):
        facts = dataclasses.replace(report().splits["train"], pixels=(99_000, 990, 10))
        read = Reader(page(report(splits={"train": facts})))
        assert "logarithmic linear" in read.text
        shown = [attributes["class"] for attributes in read.all("svg") if "bars" in attributes["class"]]
        assert shown == ["bars lin", "bars log"] * 3

    def test_as_many_classes_as_there_are(self):
        names = tuple(f"class {index}!" for index in range(151))
        facts = SplitFacts(9, tuple(range(151)), 0, (9,) * 151, {(8, 8): 9}, {})
        weights = {"square root": [1.0] * 151}
        read = Reader(page(Report("ade", Dataset("ade", names), {"train": facts}, weights=weights)))
        assert all(read.text.count(name) >= 2 for name in names)
        assert "The weights of all 151 classes" in read.text

    def test_an_ignore_label_among_the_classes(self):
        dataset = dataclasses.replace(report().dataset, ignore_label=0)
        facts = SplitFacts(1, (0, 50, 50), 100, (0, 1, 1), {}, {})
        text = Reader(page(report(dataset=dataset, splits={"train": facts}))).text
        assert "0 ground ignored" in text and "absent" not in text


class TestCharts:
    def test_axes(self):
        linear = charts.linear_axis([0.31, 0.02])
        assert linear.high == pytest.approx(0.4) and len(linear.ticks) == 5
        assert linear.place(0.1) == pytest.approx(0.25)
        logarithmic = charts.logarithmic_axis([0.5, 0.002])
        assert (logarithmic.low, logarithmic.high) == (0.001, 1.0)
        assert logarithmic.place(0.001) == 0 and logarithmic.place(0) == 0
        assert logarithmic.place(0.1) == pytest.approx(2 / 3)
        assert len(logarithmic.ticks) == 4

    def test_when_shares_are_wide_apart(self):
        assert not charts.is_wide([0.5, 0.005, 0]) and charts.is_wide([0.5, 0.0049])
        assert not charts.is_wide([0, 0]) and not charts.is_wide([])

    def test_round_steps(self):
        assert [charts.round_step(value) for value in (1.0, 4.9, 5.1, 520)] == pytest.approx([0.2, 1, 2, 200])

    def test_dots_and_crops(self):
        read = Reader(page(full_report()))
        dots = read.all("circle")
        assert len(dots) == 2
        assert "20 wide, 10 high: train 2, val 1" in read.text and "10 wide, 20 high: train 1" in read.text
        assert "--train_crop_size=17,17 --eval_crop_size=33,33" in read.text

    def test_areas_are_in_proportion(self):
        assert charts.radius(100, 100, 5) == 26
        assert charts.radius(25, 100, 5) == 13
        assert charts.radius(100, 100, 240) == 13
        assert charts.radius(1, 100_000, 5) > 3

    def test_places_in_the_plot(self):
        plot = charts._Plot(700.0, 350.0)
        assert plot.height == 350 and (plot.x(350), plot.y(0), plot.y(350)) == (64 + 350, 26 + 350, 26)
        assert charts._Plot(7000.0, 100.0).height == 220


def test_weights_to_copy():
    text = Reader(page(full_report())).text.replace(" ", "")
    assert "--label_weights=0.5,1.25,1" in text  # the class without a pixel has 1


class TestOfARealCheck:
    """The page on a dataset with faults of every kind, from the files to the pictures."""

    @pytest.fixture
    def broken(self, discs, drawn):
        draw, encoded = drawn
        discs.image("a0").write_bytes(b"<html>404</html>")
        discs.image("a1").write_bytes(encoded(Image.fromarray(draw(1)[0]).convert("CMYK"), "jpeg"))
        discs.mask("a2").write_bytes(encoded(draw(2)[1][:60]))
        discs.mask("a3").write_bytes(encoded(np.where(draw(3)[1] == 2, 9, draw(3)[1]).astype(np.uint8)))
        discs.mask("b0").write_bytes(encoded(np.ascontiguousarray(draw(8)[1][:, ::-1])))
        discs.image("b1").write_bytes(discs.image("a5").read_bytes())
        discs.image("b2").write_bytes(encoded(draw(6)[0], "jpeg", quality=60))
        return discs.check(with_pictures=True)

    def test_what_the_page_shows(self, broken):
        text = page(broken)
        read = Reader(text)
        rules = {finding.rule for finding in broken.findings}
        assert {"image-unknown-format", "image-cmyk", "size-differs", "label-out-of-range", "mask-mirrored"} <= rules
        assert {"picture-in-two-splits", "near-picture-in-two-splits", "same-picture-other-label"} <= rules
        for rule in rules:
            assert f'id="fault-{rule}"' in text and RULES[rule].sentence in read.text
        assert not re.search(r"<script|<link|url\(|https?:", text)
        bars = [attributes for attributes in read.all("svg") if "bars" in attributes["class"]]
        assert len(bars) == 3 * (2 if "logarithmic" in read.text else 1)  # the histogram: one of each class and axis
        (scatter,) = [attributes for attributes in read.all("svg") if attributes["class"] == "scatter"]
        assert scatter["aria-label"] == "Sizes of the images: 1 distinct ones"
        assert len(read.all("circle")) == 1

    def test_samples_and_faults_have_pictures(self, broken):
        """All but the faults of files that cannot be read, and of labels in all."""
        assert len(broken.samples) == 11  # of twelve pairs; one image is none
        pictured = {finding.rule: bool(finding.picture) for finding in broken.findings}
        assert not [rule for rule, shown in pictured.items() if not shown]
        shown = [
            base64.b64decode(attributes["src"].partition(",")[2]) for attributes in Reader(page(broken)).all("img")
        ]
        for sample in broken.samples:
            assert sample.image in shown and sample.overlay in shown
        for finding in broken.findings:
            assert finding.picture in shown
        for data in shown:
            Image.open(io.BytesIO(data)).load()

    def test_an_overlay_shows_the_label(self, broken):
        (finding,) = [finding for finding in broken.findings if finding.rule == "label-out-of-range"]
        overlay = np.asarray(Image.open(io.BytesIO(finding.picture))).astype(int)
        sample = next(sample for sample in broken.samples if sample.name == "a3")
        image = np.asarray(Image.open(io.BytesIO(sample.image))).astype(int)
        difference = np.abs(overlay - image).mean(-1)
        assert overlay.shape == (64, 80, 3)
        assert difference[-16:].max() > 60  # there stands the bar, whose value is no class
