"""Which mask belongs to which image."""

import random
import re
import unicodedata

import pytest
from support.empty_files import touch
from support.errors import raises

from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.pairs import (
    MASK_EXTENSIONS,
    match_folders,
    pair_by_names,
    pair_folders,
    read_pair_list,
    refuse_leaks,
)
from deeplab.data.readers.source import Pair
from deeplab.utils.paths import require_folder


@pytest.fixture
def folders(tmp_path):
    touch(tmp_path / "images", "a.jpg", "b.JPEG", "c.png", "notes.txt")
    touch(tmp_path / "masks", "a.png", "b.png", "c.png")
    return tmp_path


def images(root, *extensions):
    return Folder(root / "images", extensions or IMAGE_EXTENSIONS, "image_format")


def masks(root):
    return Folder(root / "masks", (".png",))


def test_mixed_formats_are_paired_by_stem(folders):
    found = pair_folders(images(folders), masks(folders))
    assert [(pair.name, pair.image.rsplit("/")[-1], pair.mask.rsplit("/")[-1]) for pair in found] == [
        ("a", "a.jpg", "a.png"),
        ("b", "b.JPEG", "b.png"),
        ("c", "c.png", "c.png"),
    ]


def test_unmatched_files_are_named(folders, capsys):
    touch(folders, "images/d.jpg", "masks/e.png", "masks/f.png")
    assert len(pair_folders(images(folders), masks(folders))) == 3
    said = capsys.readouterr().err
    assert "1 image without a mask, left out: d" in said
    assert "2 masks without an image, left out: e, f" in said


def test_suffix_of_masks(tmp_path):
    touch(
        tmp_path,
        "images/ISIC_1.jpg",
        "images/ISIC_2.jpg",
        "masks/ISIC_1_segmentation.png",
        "masks/ISIC_2_segmentation.png",
    )
    with raises("no-matching-names", where=tmp_path / "masks") as caught:
        pair_folders(images(tmp_path), masks(tmp_path))
    assert caught.value.hint == "`mask_suffix=_segmentation`"
    assert [pair.name for pair in pair_folders(images(tmp_path), masks(tmp_path), "", "{name}_segmentation")] == [
        "ISIC_1",
        "ISIC_2",
    ]


def test_ambiguous_stem(folders):
    touch(folders, "images/a.png")
    with raises("ambiguous-name", where=folders / "images") as caught:
        pair_folders(images(folders), masks(folders))
    assert caught.value.value == ("a.jpg", "a.png") and "`image_format`" in caught.value.hint


def test_folders_are_searched_with_their_subfolders(tmp_path):
    touch(tmp_path, "images/day/a.jpg", "images/b.jpg", "masks/day/a.png", "masks/b.png", "images/.hidden/c.jpg")
    assert [pair.name for pair in pair_folders(images(tmp_path), masks(tmp_path))] == ["b", "day/a"]


def test_masks_in_a_folder_among_the_images(tmp_path):
    touch(tmp_path, "images/a.png", "images/masks/a.png")
    found = pair_folders(images(tmp_path), Folder(tmp_path / "images" / "masks", (".png",)))
    assert [(pair.name, pair.mask) for pair in found] == [("a", str(tmp_path / "images" / "masks" / "a.png"))]


def test_folder_without_an_image(tmp_path):
    touch(tmp_path, "images/notes.txt", "images/a.CR2", "masks/a.png")
    with raises("no-files", where=tmp_path / "images") as caught:
        pair_folders(images(tmp_path), masks(tmp_path))
    assert caught.value.hint == "its files end in .cr2, .txt: convert them"


def test_subfolders_that_are_links(tmp_path):
    touch(tmp_path, "disk/images/a.jpg", "disk/masks/a.png")
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "far").symlink_to(tmp_path / "disk" / kind, target_is_directory=True)
    assert [pair.name for pair in pair_folders(images(tmp_path), masks(tmp_path))] == ["far/a"]


def test_a_suffix_tells_masks_from_images_in_one_folder(tmp_path, capsys):
    touch(tmp_path, "images/a.png", "images/a_mask.png", "images/b.png")
    together = Folder(tmp_path / "images", (".png",))
    assert [pair.name for pair in pair_folders(together, together, "", "{name}_mask")] == ["a"]
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and "1 image without a mask, left out: b\n" in said
    with raises("no-files", where=tmp_path / "images") as caught:
        pair_folders(images(tmp_path, ".jpg"), together)
    assert "`mask_suffix=_mask`" in caught.value.hint


def test_names_differ_only_in_case_or_unicode_form(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Straße ü") for form in ("NFC", "NFD"))
    touch(tmp_path, f"images/{decomposed}.jpg", f"masks/{composed}.png", "images/IMG_1.JPG", "masks/img_1.png")
    found = pair_folders(images(tmp_path), masks(tmp_path))
    assert [pair.name for pair in found] == ["IMG_1", composed]
    assert [pair.image for pair in found] == [
        str(tmp_path / "images" / name) for name in ("IMG_1.JPG", f"{decomposed}.jpg")
    ]
    listed = pair_by_names([decomposed, composed, "img_1"], images(tmp_path), masks(tmp_path), "", "train.txt")
    assert [pair.image for pair in listed] == [found[1].image] * 2 + [found[0].image]
    touch(tmp_path, "images/A.jpg", "images/a.jpg", "masks/a.png", "masks/A.png")
    assert [(pair.name, pair.mask[-5:]) for pair in pair_folders(images(tmp_path), masks(tmp_path))][:2] == [
        ("A", "A.png"),  # exact names first
        ("IMG_1", "1.png"),
    ]


LAYOUTS = {  # names of images, names of masks, patterns: as in DeepGlobe, KITTI, people's own, Cityscapes, IDD
    "deepglobe": ("{}_sat.jpg", "{}_mask.png", "{name}_sat", "{name}_mask"),
    "kitti": ("um_{:06}.png", "um_lane_{:06}.png", "um_{name}", "um_lane_{name}"),
    "prefix": ("image_{}.png", "mask_{}.png", "image_{name}", "mask_{name}"),
    "cityscapes": (
        *("a{}_leftImg8bit.png", "a{}_gtFine_labelTrainIds.png"),
        *("{name}_leftImg8bit", "{name}_gtFine_labelTrainIds"),
    ),
    "potsdam": ("top_potsdam_2_{}_RGB.tif", "top_potsdam_2_{}_label.tif", "{name}_RGB", "{name}_label"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_error_proposes_patterns_that_work(tmp_path, layout):
    image, mask, *expected = LAYOUTS[layout]
    for number in range(100, 104):
        touch(tmp_path, f"images/{image.format(number)}", f"masks/{mask.format(number)}")
    folders = Folder(tmp_path / "images", IMAGE_EXTENSIONS), Folder(tmp_path / "masks", MASK_EXTENSIONS)
    with raises("no-matching-names", where=tmp_path / "masks") as caught:
        pair_folders(*folders)
    proposed = dict(re.findall(r"`(\w+)=([^`]*)`", caught.value.hint))
    assert "of 4 images" not in caught.value.hint
    found = pair_folders(*folders, proposed["image_pattern"], proposed["mask_pattern"])
    assert [pair.image for pair in found] == [
        str(tmp_path / "images" / image.format(number)) for number in range(100, 104)
    ]
    assert [pair.mask for pair in found] == [
        str(tmp_path / "masks" / mask.format(number)) for number in range(100, 104)
    ]
    assert len(pair_folders(*folders, *expected)) == 4


def test_images_and_masks_of_patterns_in_one_folder(tmp_path):
    touch(tmp_path, "images/100_sat.jpg", "images/100_mask.png", "images/101_sat.jpg", "images/notes.txt")
    together = Folder(tmp_path / "images", IMAGE_EXTENSIONS)
    found = match_folders(together, together, "{name}_sat", "{name}_mask")
    assert [(pair.name, pair.mask) for pair in found.pairs] == [("100_sat", str(tmp_path / "images" / "100_mask.png"))]
    assert found.images_without_mask == ("101_sat.jpg",) and found.masks_without_image == ()


def test_lists_of_pairs(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b c.jpg", "masks/x.png", "masks/y.png")
    for separator in ("\t", ",", ";", ", "):
        (tmp_path / "list.txt").write_text(f"a.jpg{separator}x.png\n/b c.jpg{separator}y.png\n")
        found = read_pair_list(str(tmp_path / "list.txt"), str(tmp_path / "images"), str(tmp_path / "masks"))
        assert found == [
            Pair("a", str(tmp_path / "images" / "a.jpg"), str(tmp_path / "masks" / "x.png")),
            Pair("b c", str(tmp_path / "images" / "b c.jpg"), str(tmp_path / "masks" / "y.png")),
        ]
    (tmp_path / "list.txt").write_text("a.jpg x.png\na.jpg z.png\n")
    with raises("files-missing", where="list.txt") as caught:
        read_pair_list(str(tmp_path / "list.txt"), str(tmp_path / "images"), str(tmp_path / "masks"))
    assert caught.value.value == 1 and "z.png" in caught.value.rule
    folders = str(tmp_path / "images"), str(tmp_path / "masks")
    assert [pair.name for pair in read_pair_list(str(tmp_path / "list.txt"), *folders, skip_missing=True)] == ["a"]
    (tmp_path / "list.txt").write_text("a.jpg z.png\n")
    with raises("files-missing", where="list.txt"):  # nothing would be left
        read_pair_list(str(tmp_path / "list.txt"), *folders, skip_missing=True)
    (tmp_path / "list.txt").write_text("a.jpg\n")
    with raises("wrong-format", where="list.txt, line 1"):
        read_pair_list(str(tmp_path / "list.txt"), str(tmp_path / "images"), str(tmp_path / "masks"))


def test_missing_folder_lists_its_neighbors(folders):
    with raises("folder-not-found", field="image_folder") as caught:
        require_folder(folders / "image", "image_folder")
    assert "images, masks" in caught.value.hint


def test_list_order_is_kept_and_extensions_let_pass(folders):
    found = pair_by_names(["c", "a.jpg"], images(folders), masks(folders), "", "train.txt")
    assert [pair.name for pair in found] == ["c", "a"]


def test_names_in_subfolders(tmp_path):
    touch(tmp_path, "images/day/a.jpg", "masks/day/a.png")
    (found,) = pair_by_names(["day/a"], images(tmp_path), masks(tmp_path), "", "train.txt")
    assert found == Pair("day/a", str(tmp_path / "images/day/a.jpg"), str(tmp_path / "masks/day/a.png"))


def test_all_missing_files_are_named_at_once(folders):
    with raises("files-missing", where="train.txt") as caught:
        pair_by_names(["a", "x", "y"], images(folders), masks(folders), "", "train.txt")
    assert caught.value.value == 4
    assert "images/x: no such file" in caught.value.rule and "masks/y: no such file" in caught.value.rule


def test_names_without_files_can_be_left_out(folders, capsys):
    found = pair_by_names(["a", "x"], images(folders), masks(folders), "", "train.txt", skip_missing=True)
    assert [pair.name for pair in found] == ["a"]
    assert "train.txt: 2 files cannot be found, left out" in capsys.readouterr().err
    with raises("files-missing", where="train.txt"):
        pair_by_names(["x"], images(folders), masks(folders), "", "train.txt", skip_missing=True)


def test_the_right_format_is_proposed(folders):
    with raises("files-missing", where="train.txt") as caught:
        pair_by_names(["a"], images(folders, ".png"), masks(folders), "", "train.txt")
    assert "no such file (.png), but .jpg; set `image_format=jpg`" in caught.value.rule


def test_shared_images_are_pointed_out(capsys):
    a, b, c = (Pair(name, f"images/{name}.jpg", f"masks/{name}.png") for name in "abc")
    refuse_leaks({"train": [a, b], "val": [b], "trainval": [a, b], "test": [c]})
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "splits 'train' and 'val' share 1 image (b)" in said
    refuse_leaks({"train": [Pair("1", "train/1.jpg", "")], "val": [Pair("1", "val/1.jpg", "")]})
    assert capsys.readouterr().err == ""  # two images of one name


def test_many_shared_images_are_an_error():
    shared = [Pair(str(number), f"images/{number}.jpg", "") for number in range(9)]
    refuse_leaks({"train": shared, "val": shared[:5]})
    refuse_leaks({"train": shared, "trainval": shared, "train_aug": shared})
    refuse_leaks({"train_0": shared, "val_1": shared})  # of different folds
    with raises("split-leak", where="split val") as caught:
        refuse_leaks({"train": shared, "val": shared[:6]})
    assert caught.value.value == 6


def test_a_list_of_pairs_may_have_names_of_columns_and_quotes(tmp_path):
    for name in ("a.jpg", "b,c.jpg", "x.png", "y.png"):
        (tmp_path / name).touch()
    path = tmp_path / "pairs.csv"
    path.write_text('image,mask\n"a.jpg","x.png"\n"b,c.jpg"\ty.png\n')
    assert [pair.name for pair in read_pair_list(path, str(tmp_path), str(tmp_path))] == ["a", "b,c"]
    path.write_text("a.jpg,x.png\nimage,mask\n")  # only the first line can be one
    with raises("files-missing", where="pairs.csv"):
        read_pair_list(path, str(tmp_path), str(tmp_path))
    path.write_text("lost.jpg,lost.png\na.jpg,x.png\n")
    with raises("files-missing", where="pairs.csv"):
        read_pair_list(path, str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("prefix", ["C:\\data\\images\\", "/home/me/data/images/", "images/", "../data/images/", ""])
def test_paths_of_another_machine_in_a_list_of_pairs(tmp_path, prefix):
    touch(tmp_path, "images/day/a.jpg", "images/a.jpg", "masks/a.png")
    separator = "\\" if "\\" in prefix else "/"
    mask = f"{prefix.replace('images', 'masks')}a.png"
    (tmp_path / "list.txt").write_text(f"# image, mask\n{prefix}day{separator}a.jpg,{mask}\n")
    folders = str(tmp_path / "images"), str(tmp_path / "masks")
    (pair,) = read_pair_list(str(tmp_path / "list.txt"), *folders)
    assert pair == Pair("day/a", f"{folders[0]}/day/a.jpg", f"{folders[1]}/a.png")


def test_two_paths_of_a_list_that_end_in_the_same_image(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/a.png")
    (tmp_path / "list.txt").write_text("\n\nday/a.jpg a.png\nnight/a.jpg a.png\n")
    with raises("ambiguous-name", where="list.txt, line 4") as caught:
        read_pair_list(str(tmp_path / "list.txt"), str(tmp_path / "images"), str(tmp_path / "masks"))
    assert caught.value.value == "night/a.jpg"


def test_files_without_an_extension_are_named(tmp_path):
    touch(tmp_path, "images/IM000001", "masks/a.png")
    with raises("no-files", where=tmp_path / "images") as caught:
        pair_folders(images(tmp_path, *IMAGE_EXTENSIONS), masks(tmp_path))
    assert "IM000001" in caught.value.hint and ".dcm" in caught.value.hint


def test_nothing_is_proposed_for_names_without_a_common_part(tmp_path):
    touch(tmp_path, "images/a.png", "masks/x.png")
    with raises("no-matching-names") as caught:
        pair_folders(images(tmp_path), masks(tmp_path))
    assert caught.value.value == ("a", "x") and "pattern" not in caught.value.hint


@pytest.mark.parametrize("seed", range(12))
def test_equal_names_are_paired_as_by_a_pattern(tmp_path, seed):
    """The way that takes little memory finds what the way of patterns finds, in the same order."""
    draw = random.Random(seed)
    stems = [*"abAB", "é", "e\u0301", "x.y", "x", "two\nlines", "z_1"]
    inside = ["", "", "day/", "day-2/", "Day/", "masks/"]
    touch(tmp_path, "images/a.jpg", "masks/a.png")
    for folder, extensions in (("images", (".jpg", ".PNG", ".txt", "")), ("masks", (".png", ".bmp", ".txt"))):
        for _ in range(14):
            touch(tmp_path / folder, draw.choice(inside) + draw.choice(stems) + draw.choice(extensions))
    below = seed % 3 == 0  # masks inside the folder of the images
    root = tmp_path / "images" if below else tmp_path
    if below:
        touch(root, "masks/a.png", "masks/b.png", "masks/masks/b.png")
    both = [(Folder(tmp_path / "images", IMAGE_EXTENSIONS), Folder(root / "masks", MASK_EXTENSIONS)) for _ in range(2)]
    assert match_folders(*both[0]) == match_folders(*both[1], "{name}", "{name}")
