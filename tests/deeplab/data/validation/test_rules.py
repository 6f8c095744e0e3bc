"""The battery: every rule fires on the set that was broken for it, and none on the clean set."""

import re
import textwrap

import pytest
from support.broken_datasets import BROKEN
from support.disc_files import check_records
from support.errors import raises

from deeplab.data.validation.check_report import SEVERITIES
from deeplab.data.validation.rules import (
    DATASET_CHECKS,
    MAX_LISTED,
    PAIR_CHECKS,
    RULES,
    Rule,
    append_counted,
    finding,
    for_drawn,
    for_records,
)


def test_every_rule_has_a_broken_set():
    assert set(BROKEN) == set(RULES)


@pytest.mark.parametrize("rule", BROKEN)
def test_a_rule_fires_on_its_broken_set(rule, discs, tmp_path):
    report = BROKEN[rule](discs, tmp_path)
    found = [item for item in report.findings if item.rule == rule]
    assert found and report.numbers[rule] >= len(found)
    known = RULES.get(rule)
    for item in found:
        assert item.severity == known.severity
        assert item.where and item.text and item.hint
    assert report.may_train is all(item.severity != "error" for item in report.findings)


def test_hints_on_drawn_labels_do_not_speak_of_mask_files():
    for rule in RULES:
        item = for_drawn(finding(rule, "labels", "text"))
        if item.hint != RULES.get(rule).hint:
            assert "mask" not in item.hint
    assert for_drawn(finding("class-absent", "labels", "text")).hint.startswith("drop it with `classes`")
    own = finding("class-absent", "labels", "text", hint="something more specific")
    assert for_drawn(own) is own


def test_no_rule_fires_on_the_clean_set(discs, tmp_path):
    assert discs.check().findings == []
    assert discs.check_folders().findings == []
    assert check_records(discs.records(tmp_path / "records")).findings == []


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_explained(rule):
    known = RULES.get(rule)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule)
    assert known.severity in SEVERITIES
    assert known.message[0].isupper() or known.message.startswith("dataset.yml")
    assert known.message.endswith((".", "..."))
    assert known.hint and not known.hint.endswith(".")
    assert "--" not in known.message + known.hint  # the command line spells flags


def test_a_finding_has_what_its_rule_says():
    plain = finding("size-differs", "a.png", "is smaller")
    assert (plain.severity, plain.hint, plain.repair) == ("error", RULES.get("size-differs").hint, {})
    special = finding(
        "size-differs", "a.png", "is smaller", hint="enlarge it", severity="note", repair={"exif": "auto"}
    )
    assert (special.severity, special.hint, special.repair) == ("note", "enlarge it", {"exif": "auto"})


def test_an_unknown_rule_is_refused():
    with raises("unknown-name"):
        finding("size-difers", "a.png", "is smaller")


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="registered already"):
        RULES.register("size-differs")(Rule("note", "Another.", "nothing"))


@pytest.mark.parametrize(
    ("item", "ending"),
    [
        (finding("size-differs", "a", "b"), "; then build the records again with `overwrite=true`"),
        (finding("image-gray", "a", "b"), "nothing to do"),  # a note
        (finding("record-fields-wrong", "a", "b"), "build the records again with `overwrite=true`"),
        (finding("class-absent", "a", "b"), RULES.get("class-absent").hint),  # not in the files before the records
        (finding("label-out-of-range", "a", "b", hint="set 'ignore_label: 0' in dataset.yml"), "in dataset.yml"),
    ],
)
def test_hints_for_records(item, ending):
    hint = for_records(item).hint
    assert hint.endswith(ending) and hint.count("build the records again") <= 1


def test_a_further_check_is_one_module(discs, monkeypatch):
    """As the docstring of `rules` shows it, run as it stands there."""
    from deeplab.data.validation import rules

    for registry in (RULES, PAIR_CHECKS, DATASET_CHECKS):
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    example = textwrap.dedent(rules.__doc__.partition("`DATASET_CHECKS`.\n\n")[2])
    exec(f"from __future__ import annotations\n{example}", {"RULES": RULES, "PAIR_CHECKS": PAIR_CHECKS, "Rule": Rule})
    assert "mask-empty" in RULES and discs.check().findings == []
    discs.change_labels(lambda label: label * 0, ["a1"])
    met = {item.rule: item for item in discs.check().findings}
    assert met["mask-empty"].where == str(discs.image("a1")) and met["mask-empty"].severity == "warning"


def test_what_a_report_does_not_list_is_only_counted():
    items: list[str] = []
    for number in range(10 * MAX_LISTED):
        append_counted(items, f"item {number}")
    assert len(items) == 10 * MAX_LISTED
    assert items[:MAX_LISTED] == [f"item {number}" for number in range(MAX_LISTED)]
    assert len(set(map(id, items))) == MAX_LISTED
