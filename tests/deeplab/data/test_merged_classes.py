"""Classes by name: merging, renaming, reordering, dropping; errors that say what is missing."""

import pytest
from support.errors import raises

from deeplab.data.merged_classes import merge, proposal

OLD = ("background", "road", "car", "truck", "bus", "tree")


def test_the_example_of_the_help():
    merged = merge(["road,car=car|truck|bus,background=*"], OLD)
    assert merged.names == ("background", "road", "car")
    assert merged.values == {"background": 0, "tree": 0, "road": 1, "car": 2, "truck": 2, "bus": 2}
    assert merged.members == (("background", "tree"), ("road",), ("car", "truck", "bus"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("*", OLD),
        ("truck,*", ("background", "truck", "road", "car", "bus", "tree")),  # reordered
        ("street=road,*", ("background", "street", "car", "truck", "bus", "tree")),  # renamed
        ("tree,other=*", ("background", "tree", "other")),
        ("vehicle=car|truck,vehicle=bus,background=*", ("background", "vehicle")),  # two entries of one class
        ("Car=CAR,background=*", ("background", "Car")),  # case does not matter where nothing else differs
        ("road=background|road,*", ("road", "car", "truck", "bus", "tree")),  # the background may be named, too
    ],
)
def test_names_and_order(text, names):
    assert merge([text], OLD).names == names


def test_ignored_classes_are_no_classes():
    merged = merge(["ignore=tree|void,vehicle=*"], OLD)
    assert merged.names == ("background", "vehicle") and merged.ignored == ("tree", "void")
    assert merged.values["tree"] is None and merged.values["background"] == 0


def test_the_star_never_means_the_background():
    assert merge(["road,ignore=*"], OLD).values["background"] == 0
    assert merge(["road,ignore=*"], OLD[1:]).names == ("road",)  # where there is no background, none is made


def test_entries_of_a_yaml_list_and_names_with_separators():
    merged = merge(["wall=wall\\, building", "a\\|b", "background=*"], ("background", "wall, building", "a|b", "c"))
    assert merged.members == (("background", "c"), ("wall, building",), ("a|b",))


@pytest.mark.parametrize(
    ("text", "code", "value"),
    [
        ("car=car|trick,*", "unknown-class", "trick"),
        ("car", "unnamed-classes", ("road", "truck", "bus", "tree")),
        ("car=car|truck,truck=truck,*", "duplicate-name", "truck"),
        ("car=car|car,*", "duplicate-name", "car"),
        *((text, "invalid-classes", None) for text in ("", "a=*,b=*", "=car", "car=", "a=b=c", "*=car", "a=car|*")),
        ("background=*", "invalid-classes", None),
    ],
)
def test_errors(text, code, value):
    with raises(code, field="classes") as caught:
        merge([text], OLD)
    assert value is None or caught.value.value == value


def test_a_misspelled_class_suggests_the_nearest():
    with raises("unknown-class", field="classes") as caught:
        merge(["trees,*"], OLD)
    assert "'tree'" in caught.value.hint


def test_mere_numbers_need_no_entry_for_each():
    assert merge(["road=1|2"], [str(value) for value in range(256)], numbered=True).names == ("road",)


def test_names_for_mere_numbers_are_pointed_to_class_names():
    with raises("unknown-class", field="classes") as caught:
        merge(["background,road"], [str(value) for value in range(256)], numbered=True)
    assert "class_names=" in caught.value.hint and "255" not in caught.value.hint
    assert merge(["road=1"], ["0", "1"], numbered=True).members[-1] == ("1",)


def test_the_table_shows_what_each_class_is_made_of():
    merged = merge(["vehicle=car|truck|bus,ignore=tree,*"], OLD)
    text = merged.table([10, 30, 50], 10)
    assert "car, truck, bus" in text and "30.00%" in text and "(ignored)" in text and "tree" in text


def test_the_color_is_that_of_the_name_or_of_the_first_member():
    merged = merge(["car=truck|car,road,background=*"], OLD)
    assert merged.first_member(1, OLD) == "car" and merged.first_member(1, ["truck"]) == "truck"
    assert merged.first_member(1, []) is None


def test_classes_that_differ_little_are_proposed_to_be_merged():
    text = proposal(("background", "Cat", "cats", "cell", "cel", "dog"))
    assert text == "Cat=Cat|cats,cell=cell|cel,*"
    assert merge([text], ("background", "Cat", "cats", "cell", "cel", "dog")).names == (
        "background",
        "Cat",
        "cell",
        "dog",
    )
    assert proposal(("cat", "dog")) == ""
