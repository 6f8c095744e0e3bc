"""Which image goes to which split: shares, groups that stay whole, classes that reach every split, folds."""

import collections
import itertools
import random

import pytest

from deeplab.data.conversion.splits import divide, fold_splits, group_keys
from deeplab.utils.errors import UserError

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
    with pytest.raises(UserError, match=r"(?s)2 images cannot make the 3 splits train, val, test.*--train_pct=1"):
        divide(["a", "b"], THREE, 0)
    with pytest.raises(UserError, match=r"(?s)2 groups cannot make the 3 splits.*smaller groups"):
        divide(numbered(9), THREE, 0, groups=["g"] * 8 + ["h"])
    with pytest.raises(UserError, match=r"(?s)--folds: 4 images cannot make 5 folds.*--folds=4 at most"):
        fold_splits(numbered(4), 5, 0)


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
    assert "'video1' alone has 60, more than the whole share of" in said
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
    with pytest.raises(UserError, match=r"finds nothing in 7 of 9 names: other0_1, .*, other4_1\n") as fault:
        group_keys(names, "^(p[0-9])_")
    assert fault.value.where == "--group_by"
    assert "--group_by='^(.+)[_-]' would make 8 groups, such as 'p1' for 'p1_1'" in fault.value.hint


@pytest.mark.parametrize(
    ("names", "pattern", "rule", "hint"),
    [
        (
            ["a_1", "a_2", "b_1"],
            ".*",
            "gives each of 3 names a group of its own, such as 'a_1'",
            "such as 'a' for 'a_1'",
        ),
        (["a_1", "a_2", "b_1"], "_", "puts all 3 names into one group, '_'", "would make 2 groups"),
        (["x", "y"], "(", "is no regular expression: .*", "quote it for the shell"),
        (["x", "y"], "^(x)?", "finds nothing in 1 of 2 names: y", "put into brackets what"),
        (["d/f1", "d/f2", "e/f3"], ".*", "gives each of 3", "such as 'd' for 'd/f1'"),
        (["vid12", "vid13", "cam1"], ".*", "gives each of 3", "such as 'vid' for 'vid12'"),
    ],
)
def test_patterns_that_make_no_groups(names, pattern, rule, hint):
    with pytest.raises(UserError, match=rf"(?s)--group_by: .*{rule}.*hint: .*{hint}"):
        group_keys(names, pattern)


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
