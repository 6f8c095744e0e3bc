"""Splits of a dataset: fractions, groups, classes that reach every split, folds, lists, and those of the format."""

import collections
import itertools
import os
import random

import cv2
import numpy as np
import pytest
from support.empty_files import touch
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig, SplitConfig
from deeplab.data.conversion.splits import divide, fold_splits, group_keys, read_sources
from deeplab.data.readers import FORMATS, Format
from deeplab.data.readers.folder import BuildFolderConfig, read_folder
from deeplab.data.readers.packed_pairs import PackedPairs
from deeplab.data.readers.source import Source

TWO = {"train": 0.8, "val": 0.2}
THREE = {"train": 0.7, "val": 0.2, "test": 0.1}


def numbered(number):
    return [f"{index:04d}" for index in range(number)]


def named(places, names):
    return {split: [names[place] for place in members] for split, members in places.items()}


def sizes(places):
    return {split: len(members) for split, members in places.items()}


def once_each(splits, number):
    return sorted(itertools.chain.from_iterable(splits)) == list(range(number))


def images_with(label, places, classes):
    return {split: sum(label in classes[index] for index in members) for split, members in places.items()}


@pytest.mark.parametrize(
    "settings", [{}, {"folds": 2}, {"train_pct": 0.5, "group_by": "([ab])[0-9]$"}, {"list_files": "few.txt"}]
)
@pytest.mark.parametrize("inside", ["", "train/"])
def test_sources_keep_pairs_in_the_compact_form(tmp_path, monkeypatch, settings, inside):
    monkeypatch.chdir(tmp_path)
    names = [f"{inside}{letter}{number}" for letter in "ab" for number in (1, 2)]
    touch(tmp_path, *(f"images/{name}.jpg" for name in names), *(f"masks/{name}.png" for name in names))
    (tmp_path / "few.txt").write_text(f"{names[2]}\n{names[0]}\n")
    config = BuildFolderConfig("images", "masks")
    for source in read_sources("folder", config, LabelConfig(), SplitConfig(**settings)).values():
        for pairs in source.splits.values():
            assert isinstance(pairs, PackedPairs)
            assert [(f"images/{pair.name}.jpg", f"masks/{pair.name}.png") for pair in pairs] == [
                (pair.image, pair.mask) for pair in pairs
            ]
        assert sorted(pair.name for pair in source.pairs()) == (names[0:3:2] if "list_files" in settings else names)


# --- Shares -------------------------------------------------------------------------------------------------


def test_division_by_seed():
    names = [f"{number:02d}" for number in range(10)]
    divided = named(divide(names, TWO, seed=0), names)
    # Python's generator is the same everywhere; this pins the division across machines and versions.
    assert divided == {"train": ["07", "08", "01", "05", "03", "04", "02", "00"], "val": ["06", "09"]}
    assert named(divide(names[::-1], TWO, seed=0), names[::-1]) == divided
    assert named(divide(names, TWO, seed=1), names) != divided


@pytest.mark.parametrize("seed", range(50))
def test_plain_division_is_one_shuffle_cut_once(seed):
    """Splits that were drawn before there were groups and classes are drawn again the same."""
    draw = random.Random(seed)
    names = [str(draw.randrange(1000)) for _ in range(draw.randrange(2, 60))]  # some names twice
    share = draw.choice((0.8, 0.5, 0.75, 0.99, 0.01, draw.random()))
    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    cut = min(max(round(len(names) * share), 1), len(names) - 1)
    divided = divide(names, {"train": share, "val": 1 - share}, seed)
    assert named(divided, names) == {"train": shuffled[:cut], "val": sorted(shuffled[cut:])}
    assert once_each(divided.values(), len(names))


@pytest.mark.parametrize(
    ("number", "shares", "wanted"),
    [
        (10, {"train": 0.75, "val": 0.25}, {"train": 8, "val": 2}),
        (2, {"train": 0.99, "val": 0.01}, {"train": 1, "val": 1}),
        (3, {"train": 1.0, "val": 0.0}, {"train": 3}),
        (10, THREE, {"train": 7, "val": 2, "test": 1}),
        (3, {"train": 0.98, "val": 0.01, "test": 0.01}, {"train": 1, "val": 1, "test": 1}),
        (5, {"train": 0.6, "test": 0.4}, {"train": 3, "test": 2}),
    ],
)
def test_sizes_are_rounded_but_never_to_nothing(number, shares, wanted):
    assert sizes(divide(numbered(number), shares, 0)) == wanted


def test_too_few_images():
    with raises("too-few-images", field="train_pct") as caught:
        divide(["a", "b"], THREE, 0)
    assert caught.value.rule == "2 images cannot make the 3 splits train, val, test"
    assert "`train_pct=1`" in caught.value.hint
    with raises("too-few-images", field="train_pct") as caught:
        divide(numbered(9), THREE, 0, groups=["g"] * 8 + ["h"])
    assert caught.value.rule.startswith("2 groups") and "smaller groups" in caught.value.hint
    with raises("too-few-images", field="folds") as caught:
        fold_splits(numbered(4), 5, 0)
    assert (caught.value.value, caught.value.hint) == (4, "use at most `folds=4`")


# --- Groups -------------------------------------------------------------------------------------------------


def test_groups_stay_whole_and_sizes_are_met():
    groups = ["a"] * 30 + ["b"] * 30 + ["c"] * 20 + ["d"] * 10 + ["e"] * 10
    for seed in range(20):
        divided = divide(numbered(100), TWO, seed, groups)
        assert sizes(divided) == {"train": 80, "val": 20}
        inside = {split: {groups[index] for index in members} for split, members in divided.items()}
        assert not inside["train"] & inside["val"]
        assert inside["val"] in ({"c"}, {"d", "e"})


def test_the_seed_chooses_among_groups_of_like_size():
    groups = [f"g{index // 4}" for index in range(40)]
    found = {frozenset(groups[index] for index in divide(numbered(40), TWO, seed, groups)["val"]) for seed in range(20)}
    assert len(found) > 10 and all(len(keys) == 2 for keys in found)


def test_large_groups_are_not_all_in_the_largest_split():
    groups = [f"large{index // 8}" for index in range(80)] + [f"small{index}" for index in range(20)]
    with_large = sum(
        any(groups[index].startswith("large") for index in divide(numbered(100), TWO, seed, groups)["val"])
        for seed in range(20)
    )
    assert with_large > 15


def test_one_group_larger_than_a_share_is_pointed_out(capsys):
    groups = ["video1"] * 60 + [f"v{index // 4}" for index in range(40)]
    divided = divide(numbered(100), {"train": 0.5, "val": 0.5}, 0, groups)
    assert sorted(sizes(divided).values()) == [40, 60]
    said = capsys.readouterr().err
    assert "groups stay whole" in said and "60 images instead of 50" in said
    assert "'video1' alone has 60, more than all that belong in" in said
    divide(numbered(100), {"train": 0.6, "val": 0.4}, 0, groups)
    assert not capsys.readouterr().err


def test_sizes_come_near_the_shares_with_a_dozen_patients():
    for seed in range(20):
        draw = random.Random(seed)
        groups = [f"patient{key}" for key in range(12) for _ in range(draw.randrange(20, 90))]
        divided = divide(numbered(len(groups)), THREE, seed, groups)
        assert all(abs(len(members) / len(groups) - THREE[split]) < 0.01 for split, members in divided.items())


@pytest.mark.parametrize("shares", [THREE, {"train": 0.98, "val": 0.01, "test": 0.01}])
def test_no_split_is_empty_with_few_large_groups(shares):
    for seed in range(20):
        assert set(sizes(divide(numbered(15), shares, seed, groups=list("aaaaabbbbbccccc"))).values()) == {5}


# --- Keys of groups -----------------------------------------------------------------------------------------


def test_keys_are_what_the_brackets_find_or_the_whole_match():
    names = ["p1_001", "p1_002", "p2_001"]
    assert group_keys(names, "^(p[0-9])_") == ["p1", "p1", "p2"]
    assert group_keys(names, "^p[0-9]") == ["p1", "p1", "p2"]
    assert group_keys(["city/a1", "city/b1", "town/a1"], "^([^/]+)/") == ["city", "city", "town"]


def test_names_without_a_match_are_named():
    names = ["p1_1", "p1_2", *(f"other{index}_1" for index in range(7))]
    with raises("bad-groups", field="group_by") as caught:
        group_keys(names, "^(p[0-9])_")
    assert caught.value.rule.endswith("does not match 7 of 9 names: other0_1, other1_1, other2_1, other3_1, other4_1")
    assert "`group_by='^(.+)[_-]'` would make 8 groups, such as 'p1' for 'p1_1'" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "pattern", "rule", "hint"),
    [
        (["a_1", "a_2", "b_1"], ".*", "each of 3 names a group of its own, such as 'a_1'", "such as 'a' for 'a_1'"),
        (["a_1", "a_2", "b_1"], "_", "puts all 3 names into one group, '_'", "would make 2 groups"),
        (["x", "y"], "^(x)?", "does not match 1 of 2 names: y", "put in parentheses what"),
        (["d/f1", "d/f2", "e/f3"], ".*", "gives each of 3", "such as 'd' for 'd/f1'"),
        (["vid12", "vid13", "cam1"], ".*", "gives each of 3", "such as 'vid' for 'vid12'"),
    ],
)
def test_patterns_that_make_no_groups(names, pattern, rule, hint):
    with raises("bad-groups", field="group_by") as caught:
        group_keys(names, pattern)
    assert caught.value.value == pattern
    assert rule in caught.value.rule and hint in caught.value.hint


def test_a_pattern_that_is_no_regular_expression():
    with raises("bad-pattern", field="group_by"):
        group_keys(["x", "y"], "(")


# --- Classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_rare_class_reaches_both_splits(seed):
    classes = [frozenset({0, 1} if index in (3, 50, 98) else {0}) for index in range(100)]
    divided = divide(numbered(100), TWO, seed, classes=classes)
    assert sizes(divided) == {"train": 80, "val": 20}
    assert images_with(1, divided, classes) == {"train": 2, "val": 1}


@pytest.mark.parametrize("seed", range(20))
def test_every_class_is_divided_by_the_shares(seed):
    """Classes of 50, 30, 20 and 10 of 100 images, in all combinations that chance gives. The rarest come out best."""
    draw = random.Random(seed)
    members = [set(draw.sample(range(100), number)) for number in (50, 30, 20, 10)]
    classes = [frozenset(label for label in range(4) if index in members[label]) for index in range(100)]
    divided = divide(numbered(100), THREE, seed, classes=classes)
    assert sizes(divided) == {"train": 70, "val": 20, "test": 10}
    for label, number, tolerance in zip(range(4), (50, 30, 20, 10), (2.5, 2.5, 1, 0.5), strict=True):
        for split, images in images_with(label, divided, classes).items():
            assert abs(images - THREE[split] * number) <= tolerance


def test_classes_that_rarer_ones_push_out_are_brought_back():
    """Worked by hand: dealt out from the rarest, 1 and 2 both fill val first, and 0 would be left with train only."""
    classes = [frozenset({0, 1}), frozenset({1}), frozenset({0, 2}), frozenset({2}), *[frozenset({0})] * 2]
    for seed in range(30):
        divided = divide(numbered(6), {"train": 0.6, "val": 0.4}, seed, classes=classes)
        assert sizes(divided) == {"train": 4, "val": 2}
        assert all(all(images_with(label, divided, classes).values()) for label in (0, 1, 2))


def test_many_rare_classes_reach_nearly_all_splits():
    """Sixty classes of three to nine of 200 images: a random division leaves out dozens of them."""
    lacking = by_chance = 0
    for seed in range(10):
        draw = random.Random(seed)
        classes = [
            frozenset(label for label in range(60) if draw.random() < 0.05 / (1 + label / 10)) for _ in range(200)
        ]
        due = [label for label in range(60) if sum(label in shown for shown in classes) >= 3]
        stratified = divide(numbered(200), THREE, seed, classes=classes)
        random_one = divide(numbered(200), THREE, seed)
        lacking += sum(list(images_with(label, stratified, classes).values()).count(0) for label in due)
        by_chance += sum(list(images_with(label, random_one, classes).values()).count(0) for label in due)
    assert lacking <= 8 and by_chance > 200


def test_many_classes_are_divided_evenly():
    """Forty classes, the first in every image, the last in one of forty: off by less than half an image on average."""
    off, by_chance = [], []
    for seed in range(10):
        draw = random.Random(seed)
        classes = [frozenset(label for label in range(40) if draw.random() < 1 / (1 + label)) for _ in range(300)]
        totals = collections.Counter(itertools.chain.from_iterable(classes))
        for places, found in ((classes, off), (None, by_chance)):
            divided = divide(numbered(300), THREE, seed, classes=places)
            for label, split in itertools.product(totals, THREE):
                found.append(abs(images_with(label, divided, classes)[split] - THREE[split] * totals[label]))
    assert sum(off) / len(off) < 0.42 < 1 < sum(by_chance) / len(by_chance)


def test_stratified_divisions_are_the_same_everywhere():
    """Pinned: drawn with Python 3.10 to 3.13."""
    classes = [frozenset({index % 2, 2 + index % 3} if index % 7 else {5}) for index in range(20)]
    groups = [f"g{index // 2 % 7}" for index in range(20)]
    shares = {"train": 0.7, "val": 0.3}
    assert divide(numbered(20), shares, 3, classes=classes)["val"] == [2, 4, 12, 14, 15, 17]
    assert divide(numbered(20), shares, 3, groups, classes)["val"] == [0, 1, 8, 9, 14, 15]


def covered(divided, classes, label):
    return all(images_with(label, divided, classes).values())


def test_classes_reach_every_split_wherever_that_is_possible():
    """Against every possible division of small sets: of 60 at most one misses what can be had."""
    missed = 0
    for seed in range(60):
        draw = random.Random(seed)
        classes = [frozenset(label for label in range(4) if draw.random() < 0.35) for _ in range(8)]
        due = [label for label in range(4) if sum(label in shown for shown in classes) >= 2]
        divided = divide(numbered(8), {"train": 0.7, "val": 0.3}, seed, classes=classes)
        if all(covered(divided, classes, label) for label in due):
            continue
        others = (set(members) for members in itertools.combinations(range(8), len(divided["val"])))
        missed += any(
            all(covered({"val": val, "train": set(range(8)) - val}, classes, label) for label in due) for val in others
        )
    assert missed <= 1


def test_classes_and_groups_together():
    """Ten patients of ten images; class 1 in two of them: one in each split, whole."""
    groups = [f"p{index // 10}" for index in range(100)]
    classes = [frozenset({0, 1} if key in ("p2", "p7") else {0}) for key in groups]
    for seed in range(20):
        divided = divide(numbered(100), TWO, seed, groups, classes)
        assert sizes(divided) == {"train": 80, "val": 20}
        assert images_with(1, divided, classes) == {"train": 10, "val": 10}
        assert len({groups[index] for index in divided["val"]}) == 2


def test_images_without_classes_fill_the_sizes():
    classes = [frozenset({1})] * 5 + [frozenset()] * 95
    divided = divide(numbered(100), TWO, 0, classes=classes)
    assert sizes(divided) == {"train": 80, "val": 20}
    assert images_with(1, divided, classes) == {"train": 4, "val": 1}


# --- Folds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [5, 7, 23, 100, 101])
@pytest.mark.parametrize("stratified", [False, True])
def test_every_image_is_in_val_once_and_folds_are_of_one_size(number, stratified):
    classes = [frozenset({index % 3, 3 + index % 5}) for index in range(number)] if stratified else None
    folds = fold_splits(numbered(number), 5, 0, classes=classes)
    assert once_each([fold["val"] for fold in folds], number)
    assert all(once_each(fold.values(), number) for fold in folds)
    counts = [len(fold["val"]) for fold in folds]
    assert max(counts) - min(counts) <= 1
    assert all(fold["val"] == sorted(fold["val"]) for fold in folds)


def test_folds_keep_groups_whole_and_classes_even():
    groups = [f"p{index // 5}" for index in range(100)]
    classes = [frozenset({0, 1} if index % 25 < 5 else {0}) for index in range(100)]  # four patients have class 1
    folds = fold_splits(numbered(100), 4, 0, groups, classes)
    assert [len(fold["val"]) for fold in folds] == [25] * 4
    for fold in folds:
        assert not {groups[index] for index in fold["val"]} & {groups[index] for index in fold["train"]}
        assert images_with(1, fold, classes) == {"train": 15, "val": 5}


# --- Properties over many draws -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(150))
def test_properties(seed):
    draw = random.Random(seed)
    number = draw.randrange(3, 40)
    names = [f"{draw.randrange(100)}_{index}" for index in range(number)]
    groups = [f"g{int(draw.random() ** 3 * 12)}" for _ in names] if seed % 2 else None
    classes = [frozenset(label for label in range(6) if draw.random() < 0.3) for _ in names] if seed % 3 else None
    if groups and len(set(groups)) < 3:
        groups = [f"g{index % 4}" for index in range(number)]
    divided = divide(names, THREE, seed, groups, classes)
    assert list(divided) == ["train", "val", "test"] and all(divided.values())
    assert once_each(divided.values(), number)
    assert divided == divide(names, THREE, seed, groups, classes)
    for key in set(groups or []):
        assert sum(key in {groups[index] for index in members} for members in divided.values()) == 1
    if groups is None:
        assert sizes(divided) == sizes(divide(names, THREE, seed))
    order = draw.sample(range(number), number)
    shuffled = [[part[index] for index in order] if part else None for part in (groups, classes)]
    again = divide([names[index] for index in order], THREE, seed, *shuffled)
    assert named(again, [names[index] for index in order]) == named(divided, names)


def test_same_names_are_images_of_their_own():
    names = ["a"] * 6 + ["b"] * 4
    assert once_each(divide(names, TWO, 0).values(), 10)
    assert once_each(divide(names, TWO, 0, groups=names).values(), 10)
    assert named(divide(names, TWO, 0, groups=names), names) in (
        {"train": ["a"] * 6, "val": ["b"] * 4},
        {"train": ["b"] * 4, "val": ["a"] * 6},
    )


def test_large_sets_take_seconds():
    draw = random.Random(0)
    classes = [frozenset(draw.choices(range(50), k=4)) for _ in range(20_000)]
    divided = divide(numbered(20_000), THREE, 0, classes=classes)
    totals = collections.Counter(itertools.chain.from_iterable(classes))
    for label in range(50):
        for split, images in images_with(label, divided, classes).items():
            assert abs(images - THREE[split] * totals[label]) <= 0.01 * totals[label]


# --- Datasets on the disk -----------------------------------------------------------------------------------

LABELS = LabelConfig(num_classes=3)


def write_pair(root, name, value):
    for kind in ("images", "masks"):
        (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(root / "images" / f"{name}.jpg"), np.full([4, 6, 3], 90, np.uint8))
    label = np.zeros([4, 6], np.uint8)
    label[0, 0] = value
    assert cv2.imwrite(str(root / "masks" / f"{name}.png"), label)


def read(root, on_missing="fail", **settings):
    config = BuildFolderConfig(str(root / "images"), str(root / "masks"), on_missing=on_missing)
    return read_sources("folder", config, LABELS, SplitConfig(**settings))


def members(source):
    return {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()}


@pytest.fixture
def patients(tmp_path):
    """Ten images of five patients; class 2 in two of them alone."""
    for number in range(10):
        write_pair(tmp_path, f"p{number // 2}_{number}", 2 if number in (3, 8) else 1)
    return tmp_path


@pytest.fixture
def with_splits(tmp_path):
    """Images in the folders train and val."""
    for number in range(8):
        write_pair(tmp_path, f"{'train' if number < 6 else 'val'}/{number}", 2 if number in (0, 1) else 1)
    return tmp_path


def test_a_layout_without_splits_is_divided_in_eighty_and_twenty(patients):
    (source,) = read(patients).values()
    assert {split: len(names) for split, names in members(source).items()} == {"train": 8, "val": 2}


def test_a_third_split_for_testing(patients):
    (source,) = read(patients, train_pct=0.6, test_pct=0.2).values()
    assert {split: len(names) for split, names in members(source).items()} == {"train": 6, "val": 2, "test": 2}


def test_stratified_splits_hold_every_class(patients):
    """Two images hold class 2: one for each split, whatever the seed."""
    for seed in range(5):
        (source,) = read(patients, stratify=True, train_pct=0.5, seed=seed).values()
        assert [len({"p1_3", "p4_8"} & set(names)) for names in members(source).values()] == [1, 1]


def test_no_group_stands_in_two_splits(patients):
    (source,) = read(patients, group_by="^(p[0-9]+)_").values()
    groups = [{name.split("_")[0] for name in names} for names in members(source).values()]
    assert not set.intersection(*groups) and len(set.union(*groups)) == 5


def test_folds_are_datasets_of_their_own(patients):
    folds = read(patients, folds=5)
    assert list(folds) == [f"fold_{number}" for number in range(5)]
    held_out = [name for source in folds.values() for name in members(source)["val"]]
    assert sorted(held_out) == sorted(pair.name for pair in folds["fold_0"].pairs())
    (only,) = read(patients, folds=5, fold=3).values()
    assert members(only) == members(folds["fold_3"])


def test_splits_of_the_layout_are_kept(with_splits):
    (source,) = read(with_splits).values()
    assert members(source)["val"] == ["val/6", "val/7"]


def test_shares_divide_the_layout_s_splits_again(with_splits):
    (source,) = read(with_splits, train_pct=0.5, test_pct=0.25).values()
    assert {split: len(names) for split, names in members(source).items()} == {"train": 4, "val": 2, "test": 2}


def test_stratifying_divides_the_layout_s_splits_again(with_splits):
    (source,) = read(with_splits, stratify=True).values()
    assert [len({"train/0", "train/1"} & set(names)) for names in members(source).values()] == [1, 1]


def test_grouping_divides_the_layout_s_splits_again(with_splits):
    """Images train/0 and val/0 are of one group."""
    write_pair(with_splits, "val/0", 1)
    (source,) = read(with_splits, group_by="([0-9]+)$").values()
    assert [len({"train/0", "val/0"} & set(names)) for names in members(source).values()] in ([2, 0], [0, 2])


def test_lists_name_the_splits(patients, tmp_path):
    (tmp_path / "mine.txt").write_text("p0_0\np1_3.jpg\n")
    (tmp_path / "rest.txt").write_text("p4_8\n")
    (source,) = read(patients, list_files=f"{tmp_path}/mine.txt, {tmp_path}/rest.txt").values()
    assert members(source) == {"mine": ["p0_0", "p1_3"], "rest": ["p4_8"]}


def test_names_on_a_list_that_have_no_pair(patients, tmp_path):
    (tmp_path / "mine.txt").write_text("p0_0\nlost\n")
    with raises("unknown-image", where="mine.txt") as caught:
        read(patients, list_files=f"{tmp_path}/mine.txt")
    assert caught.value.value == ["lost"] and "such as 'p0_0'" in caught.value.hint
    (source,) = read(patients, list_files=f"{tmp_path}/mine.txt", on_missing="skip").values()
    assert members(source) == {"mine": ["p0_0"]}


def test_two_lists_of_one_name(patients, tmp_path):
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "mine.txt").write_text("p0_0\n")
    with raises("duplicate-names", field="list_files"):
        read(patients, list_files=f"{tmp_path}/mine.txt,{tmp_path}/other/mine.txt")


def test_images_on_no_list_are_told_of(patients, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("p0_0\np1_3\n")
    read(patients, list_files=str(tmp_path / "mine.txt"))
    assert "8 of 10 images are on no list and are left out: p0_1, p1_2" in capsys.readouterr().err


def test_lists_with_commas_in_their_names_and_no_list_at_all(patients, tmp_path):
    (tmp_path / "a,b.txt").write_text("\ufeffp0_0\r\n", encoding="utf-8")
    (source,) = read(patients, list_files=str(tmp_path / "a,b.txt")).values()
    assert members(source) == {"a,b": ["p0_0"]}
    with raises("missing-setting", field="list_files"):
        read(patients, list_files=",")


def test_how_images_were_divided_is_said(patients, capsys):
    read(patients, group_by="^(p[0-9]+)_", seed=3)
    assert "10 images in 5 groups divided by seed 3: train 8, val 2\n" in capsys.readouterr().err
    read(patients, folds=5)
    assert "10 images divided by seed 0 into 5 folds\n" in capsys.readouterr().err


def test_splits_that_give_way_are_named(with_splits, capsys):
    read(with_splits, train_pct=0.5)
    assert "the splits of the dataset (train, val) are replaced by new ones" in capsys.readouterr().err


@pytest.fixture
def namesakes(tmp_path, monkeypatch):
    """A layout that calls different images of train and val by the same names, as COCO's folders may."""
    splits = {}
    for split in ("train", "val"):
        for number in range(4):
            write_pair(tmp_path / split, f"{number:04d}", 1)
        folder = BuildFolderConfig(str(tmp_path / split / "images"), str(tmp_path / split / "masks"))
        splits[split] = read_folder(folder).pairs()
    monkeypatch.setitem(FORMATS._items, "namesakes", Format(object, lambda _: Source(splits)))
    return lambda **settings: read_sources("namesakes", None, LABELS, SplitConfig(**settings))


def test_images_of_one_name_are_all_divided(namesakes):
    (source,) = namesakes(train_pct=0.5).values()
    pairs = source.pairs()
    assert len({pair.image for pair in pairs}) == len(pairs) == 8
    assert sorted(pair.name for pair in pairs)[3:5] == ["train/0003", "val/0000"]
    (kept,) = namesakes().values()
    assert members(kept)["val"][0] == "0000"


def test_images_of_one_name_on_a_list(namesakes, tmp_path):
    (tmp_path / "mine.txt").write_text("val/0001\n")
    (source,) = namesakes(list_files=str(tmp_path / "mine.txt")).values()
    assert source.splits["mine"][0].image == str(tmp_path / "val" / "images" / "0001.jpg")
    (tmp_path / "mine.txt").write_text("0001\n")
    with raises("unknown-image", where="mine.txt") as caught:
        namesakes(list_files=str(tmp_path / "mine.txt"))
    assert "such as 'train/0000'" in caught.value.hint


def test_a_file_name_that_no_record_can_hold(patients):
    for kind, ending in (("images", b".jpg"), ("masks", b".png")):
        folder = os.fsencode(patients / kind)
        os.rename(folder + b"/p0_0" + ending, folder + b"/caf\xe9" + ending)
    with raises("not-utf-8", where="images/caf\ufffd.jpg"):
        read(patients)
