"""Settings of the conversion that contradict each other."""

import pytest
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig, compiled_pattern


@pytest.mark.parametrize(
    ("settings", "code", "field", "hint"),
    [
        ({"train_pct": 80.0}, "out-of-range", "train_pct", "`train_pct=0.8`"),
        ({"train_pct": 0.0}, "out-of-range", "train_pct", ""),
        ({"train_pct": -0.5}, "out-of-range", "train_pct", ""),
        ({"test_pct": 10.0}, "out-of-range", "test_pct", "`test_pct=0.1`"),
        ({"test_pct": 1.0}, "out-of-range", "test_pct", ""),
        ({"test_pct": 0.3}, "conflicting-settings", "test_pct", "`train_pct=0.4`"),
        ({"train_pct": 0.7, "test_pct": 0.4}, "conflicting-settings", "test_pct", "`train_pct=0.3`"),
        ({"folds": 1}, "out-of-range", "folds", "`train_pct`"),
        ({"folds": -5}, "out-of-range", "folds", ""),
        ({"fold": 2}, "missing-setting", "fold", "`folds=5`"),
        ({"folds": 5, "fold": 5}, "out-of-range", "fold", "counted from 0"),
        ({"folds": 5, "fold": -2}, "out-of-range", "fold", ""),
        ({"folds": 5, "train_pct": 0.5}, "conflicting-settings", "folds", ""),
        ({"folds": 5, "test_pct": 0.1}, "conflicting-settings", "folds", ""),
        ({"group_by": "("}, "bad-pattern", "group_by", ""),
    ],
)
def test_splits_that_cannot_be(settings, code, field, hint):
    with raises(code, field) as info:
        SplitConfig(**settings)
    assert hint in info.value.hint


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"stratify": True, "folds": 5}, "`stratify`, `folds`"),
        ({"train_pct": 0.8}, "`train_pct`"),
        ({"group_by": "^a"}, "`group_by`"),
    ],
)
def test_own_lists_leave_nothing_to_divide(settings, named):
    with raises("conflicting-settings", "list_files") as info:
        SplitConfig(list_files="a.txt", **settings)
    assert info.value.rule.endswith(named)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train_pct": 1.0},
        {"test_pct": 0.2},
        {"train_pct": 0.7, "test_pct": 0.3},
        {"folds": 5},
        {"folds": 5, "fold": 4, "stratify": True, "group_by": "^(p)"},
        {"list_files": "a.txt,b.txt"},
    ],
)
def test_splits_that_make_sense(settings):
    config = SplitConfig(**settings)
    assert all(getattr(config, name) == value for name, value in settings.items())
    assert config.fold == settings.get("fold", -1)


@pytest.mark.parametrize(
    ("group", "settings", "code", "field"),
    [
        (LabelConfig, {"ignore_label": 65536}, "out-of-range", "ignore_label"),
        (LabelConfig, {"num_classes": 65536}, "out-of-range", "num_classes"),
        (RecordConfig, {"num_shards": 0}, "out-of-range", "num_shards"),
        (RecordConfig, {"num_shards": 100_000}, "out-of-range", "num_shards"),
        (RecordConfig, {"num_workers": -1}, "out-of-range", "num_workers"),
        (RecordConfig, {"resume": True, "overwrite": True}, "conflicting-settings", "resume"),
    ],
)
def test_bad_settings(group, settings, code, field):
    with raises(code, field):
        group(**settings)


def test_patterns_are_compiled():
    assert compiled_pattern("^a", "filter").search("abc")
    with raises("bad-pattern", "filter"):
        compiled_pattern("*", "filter")
