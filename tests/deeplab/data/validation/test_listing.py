"""Datasets with missing files: the rest is listed."""

import dataclasses
import pathlib

import pytest
from support.disc_files import draw, encoded
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig, SplitConfig
from deeplab.config.validation_config import CheckConfig
from deeplab.data.readers import FORMATS
from deeplab.data.readers.folder import BuildFolderConfig
from deeplab.data.readers.voc import BuildVocConfig
from deeplab.data.validation.listing import listed
from deeplab.utils.errors import UserError


@pytest.fixture
def voc(discs):
    lists = discs.folder / "lists"
    lists.mkdir()
    for split, names in discs.names.items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    return BuildVocConfig(
        image_folder=str(discs.folder / "images"),
        semantic_segmentation_folder=str(discs.folder / "masks"),
        list_folder=str(lists),
    )


@pytest.fixture
def two_folders(discs):
    return BuildFolderConfig(image_folder=str(discs.folder / "images"), mask_folder=str(discs.folder / "masks"))


def list_of(format_name, config, **splits):
    return listed(format_name, config, LabelConfig(), SplitConfig(**splits))


def sizes(source):
    return {split: len(pairs) for split, pairs in source.splits.items()}


def rules(found):
    return [(item.rule, pathlib.Path(item.where).name) for item in found]


def test_a_clean_layout(voc):
    source, found = list_of("voc", voc)
    assert sizes(source) == {"train": 8, "val": 4}
    assert found == []


def test_listed_names_without_files(voc, discs):
    discs.image("a2").unlink()
    discs.mask("b0").unlink()
    source, found = list_of("voc", voc)
    assert sizes(source) == {"train": 7, "val": 3}
    assert rules(found) == [("listed-name-missing", "train.txt"), ("listed-name-missing", "val.txt")]
    assert f"{discs.folder}/images/a2: no such file" in found[0].text
    assert f"{discs.folder}/masks/b0: no such file" in found[1].text


def test_an_empty_list_and_one_that_is_none(voc, discs):
    discs.image("a2").unlink()  # only then the reader's own checks are left
    (pathlib.Path(voc.list_folder) / "README.txt").write_text("See the paper.\n")  # no split is meant
    (pathlib.Path(voc.list_folder) / "night.txt").write_text("n0\nn1\n")  # a split is meant
    (pathlib.Path(voc.list_folder) / "test.txt").touch()
    source, found = list_of("voc", voc)
    assert sorted(rules(found)) == [
        ("listed-name-missing", "train.txt"),
        ("listing-unusable", "night.txt"),
        ("listing-unusable", "test.txt"),
    ]
    assert sizes(source)["train"] == 7


def test_files_without_a_partner(two_folders, discs):
    discs.image("a2").unlink()
    discs.mask("b0").unlink()
    source, found = list_of("folder", two_folders)
    assert rules(found) == [("image-without-mask", "b0.jpg"), ("mask-without-image", "a2.png")]
    assert sum(sizes(source).values()) == 10


def test_a_name_with_two_images(two_folders, discs):
    (discs.folder / "images" / "a2.png").write_bytes(encoded(draw(2)[0]))
    source, found = list_of("folder", two_folders)
    assert rules(found) == [("name-ambiguous", "a2.jpg")]
    assert "there are several (.jpg, .png)" in found[0].text
    assert sizes(source) == {"all": 11}


def test_names_that_do_not_match(two_folders, discs):
    for name in discs.all_names:
        discs.mask(name).rename(discs.folder / "masks" / f"{name}_label.png")
    source, found = list_of("folder", two_folders)
    assert source is None
    assert rules(found) == [("listing-unusable", "masks")]
    assert found[0].hint == "`mask_suffix=_label`"


def test_lists_of_ones_own(two_folders, tmp_path):
    (tmp_path / "train.txt").write_text("a0\na1.jpg\nlost\n")
    (tmp_path / "val.txt").write_text("b0\n")
    source, found = list_of("folder", two_folders, list_files=f"{tmp_path}/train.txt,{tmp_path}/val.txt")
    assert sizes(source) == {"train": 2, "val": 1}
    assert rules(found) == [("listed-name-missing", "train.txt")]
    assert "lost" in found[0].text


def lists_of(discs, folder, **more):
    """Lists of all names and of more, as the value of --list_files."""
    for split, names in discs.names.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in [*names, *more.get(split, [])]))
    return ",".join(str(folder / f"{split}.txt") for split in discs.names)


def test_what_lists_leave_out_is_no_problem(two_folders, discs, tmp_path):
    (discs.folder / "images" / "more.jpg").write_bytes(discs.image("a0").read_bytes())
    (discs.folder / "masks" / "others.png").write_bytes(discs.mask("a0").read_bytes())
    source, found = list_of("folder", two_folders, list_files=lists_of(discs, tmp_path))
    assert (sizes(source), found) == ({"train": 8, "val": 4}, [])


def test_a_listed_name_without_a_mask(two_folders, discs, tmp_path):
    discs.mask("a2").unlink()
    source, found = list_of("folder", two_folders, list_files=lists_of(discs, tmp_path))
    assert sizes(source) == {"train": 7, "val": 4}
    assert rules(found) == [("listed-name-missing", "train.txt")]
    assert found[0].text == f"{discs.folder}/masks/a2: no such file"


def test_a_listed_name_with_two_images(two_folders, discs, tmp_path):
    (discs.folder / "images" / "a2.png").write_bytes(encoded(draw(2)[0]))
    source, found = list_of("folder", two_folders, list_files=lists_of(discs, tmp_path))
    assert sizes(source) == {"train": 7, "val": 4}
    assert "there are several (.jpg, .png)" in found[0].text


def test_a_list_that_is_none_is_reported_once(two_folders, discs, tmp_path):
    lists = lists_of(discs, tmp_path)
    (tmp_path / "val.txt").write_text(f"{'Read this first. ' * 20}\n")
    source, found = list_of("folder", two_folders, list_files=lists)
    assert sizes(source) == {"train": 8}  # and not that a split is empty
    assert rules(found) == [("listing-unusable", "val.txt")]
    assert len(found[0].text) < 160


@pytest.mark.parametrize("content", [b"", b"\xff\xfea\0", None])
def test_a_list_that_cannot_be_read(two_folders, discs, tmp_path, content):
    lists = lists_of(discs, tmp_path)
    (tmp_path / "val.txt").unlink()
    if content is not None:
        (tmp_path / "val.txt").write_bytes(content)
    source, found = list_of("folder", two_folders, list_files=lists)
    assert sizes(source) == {"train": 8}
    assert rules(found) == [("listing-unusable", "val.txt")]


@pytest.mark.parametrize("ending", ["\r\n", ".jpg\n", "  \n\n"])
def test_lists_as_people_write_them(two_folders, discs, tmp_path, ending):
    lists = lists_of(discs, tmp_path)
    (tmp_path / "train.txt").write_bytes("".join(name + ending for name in discs.names["train"]).encode())
    source, found = list_of("folder", two_folders, list_files=lists)
    assert (sizes(source), found) == ({"train": 8, "val": 4}, [])


def test_files_that_systems_leave_behind_are_no_images(two_folders, discs):
    for name in ("Thumbs.db", ".DS_Store", "._a0.jpg", "desktop.ini"):
        (discs.folder / "images" / name).write_bytes(b"\0\5\x16\7")
        (discs.folder / "masks" / name).write_bytes(b"\0\5\x16\7")
    source, found = list_of("folder", two_folders)
    assert sum(sizes(source).values()) == 12
    assert found == []


def test_one_pair_is_not_divided(two_folders, discs):
    for name in discs.all_names[1:]:
        discs.image(name).unlink()
        discs.mask(name).unlink()
    source, found = list_of("folder", two_folders)
    assert (sizes(source), found) == ({"train": 1}, [])
    with pytest.raises(UserError) as info:
        list_of("folder", two_folders, train_pct=0.5)
    assert info.value.field == "train_pct"


def test_a_folder_without_lists(voc, tmp_path):
    (tmp_path / "empty").mkdir()
    source, found = list_of("voc", dataclasses.replace(voc, list_folder=str(tmp_path / "empty")))
    assert source is None
    assert rules(found) == [("listing-unusable", "empty")]


def test_a_bad_mask_does_not_prevent_division(two_folders, discs):
    discs.mask("a2").write_bytes(b"")
    source, found = list_of("folder", two_folders, stratify=True, train_pct=0.5)
    assert sizes(source) == {"train": 6, "val": 6}
    assert found == []


@pytest.mark.parametrize("name", FORMATS)
def test_no_flag_has_two_meanings(name):
    groups = (FORMATS.get(name).config, LabelConfig, SplitConfig, CheckConfig)
    names = [field.name for group in groups for field in dataclasses.fields(group)]
    assert len(names) == len(set(names))


def test_flags_that_cannot_be_followed_stop(two_folders):
    with raises("folder-not-found", field="image_folder"):
        list_of("folder", BuildFolderConfig(image_folder="nowhere", mask_folder=two_folders.mask_folder))
