"""The report as JSON."""

import json

from support.check_reports import small_report

from deeplab.data.validation import render_json
from deeplab.data.validation.rules import RULES, finding


def test_everything_but_images():
    found = [
        finding("size-differs", "m0.png", "too small", split="train"),
        finding("label-out-of-range", "m1.png", "holds 255", hint="`label_map=255:1`", repair={"label_map": "255:1"}),
        finding("class-rare", "train", "hat has few"),
    ]
    report = small_report(
        findings=found,
        numbers={"size-differs": 30, "label-out-of-range": 1, "class-rare": 1},
        command="deeplab build-data folder --label_map=255:1 --output_dir=tfrecord",
    )
    content = json.loads(render_json.text(report))
    assert content["may_train"] is False
    assert content["numbers"]["size-differs"] == 30
    assert content["findings"][0] == {
        "rule": "size-differs",
        "severity": "error",
        "where": "m0.png",
        "split": "train",
        "text": "too small",
        "hint": RULES.get("size-differs").hint,
        "repair": {},
    }
    assert content["findings"][1]["repair"] == content["repair"] == {"label_map": "255:1"}
    assert content["command"] == report.command
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
    assert content["rules"]["class-rare"] == RULES.get("class-rare").message


def test_keys_are_documented():
    for key in render_json.content(small_report()):
        assert f"    {key} " in render_json.__doc__


def test_any_name_is_safe():
    hostile = "a\033[31mb\nc\r\x9bd\u202ee\udce9"
    text = render_json.text(small_report(checked=hostile))
    assert text.isascii() and json.loads(text)["checked"] == hostile
