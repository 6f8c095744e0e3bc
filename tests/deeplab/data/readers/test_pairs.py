"""Which image belongs to which mask, and which pair to which split."""

import pytest

from deeplab.data.readers import pairs
from deeplab.data.readers.folder import BuildFolderConfig, by_subfolder, read_folder
from deeplab.data.readers.pairs import Folder, find_lists, pair_by_names, pair_folders, read_list
from deeplab.data.readers.source import UNDIVIDED, Pair
from deeplab.utils.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def folders(tmp_path):
    touch(tmp_path / "images", "a.jpg", "b.JPEG", "c.png", "notes.txt")
    touch(tmp_path / "masks", "a.png", "b.png", "c.png")
    return tmp_path


def images(root, *extensions):
    return Folder(root / "images", extensions or pairs.IMAGE_EXTENSIONS, "--image_format")


def masks(root):
    return Folder(root / "masks", (".png",))


def test_mixed_formats_are_paired_by_stem(folders):
    found = pair_folders(images(folders), masks(folders), "")
    assert [(pair.name, pair.image.rsplit("/")[-1], pair.mask.rsplit("/")[-1]) for pair in found] == [
        ("a", "a.jpg", "a.png"),
        ("b", "b.JPEG", "b.png"),
        ("c", "c.png", "c.png"),
    ]


def test_unmatched_files_are_named(folders, capsys):
    touch(folders, "images/d.jpg", "masks/e.png", "masks/f.png")
    assert len(pair_folders(images(folders), masks(folders), "")) == 3
    said = capsys.readouterr().err
    assert "1 images without a mask, left out: d" in said
    assert "2 masks without an image, left out: e, f" in said


def test_suffix_of_masks(tmp_path):
    touch(
        tmp_path,
        "images/ISIC_1.jpg",
        "images/ISIC_2.jpg",
        "masks/ISIC_1_segmentation.png",
        "masks/ISIC_2_segmentation.png",
    )
    with pytest.raises(UserError, match="--mask_suffix=_segmentation"):
        pair_folders(images(tmp_path), masks(tmp_path), "")
    assert [pair.name for pair in pair_folders(images(tmp_path), masks(tmp_path), "_segmentation")] == [
        "ISIC_1",
        "ISIC_2",
    ]


def test_ambiguous_stem(folders):
    touch(folders, "images/a.png")
    with pytest.raises(UserError, match=r"there are several \(\.jpg, \.png\); choose with --image_format"):
        pair_folders(images(folders), masks(folders), "")


def test_folders_are_searched_with_their_subfolders(tmp_path):
    touch(tmp_path, "images/day/a.jpg", "images/b.jpg", "masks/day/a.png", "masks/b.png", "images/.hidden/c.jpg")
    assert [pair.name for pair in pair_folders(images(tmp_path), masks(tmp_path), "")] == ["b", "day/a"]


def test_masks_in_a_folder_among_the_images(tmp_path):
    touch(tmp_path, "images/a.png", "images/masks/a.png")
    found = pair_folders(images(tmp_path), Folder(tmp_path / "images" / "masks", (".png",)), "")
    assert [(pair.name, pair.mask) for pair in found] == [("a", str(tmp_path / "images" / "masks" / "a.png"))]


def test_folder_without_a_picture(tmp_path):
    touch(tmp_path, "images/notes.txt", "images/a.HEIC", "masks/a.png")
    with pytest.raises(UserError, match=r"images: holds no file with \.jpg.*\n.*what it holds ends in \.heic, \.txt"):
        pair_folders(images(tmp_path), masks(tmp_path), "")


def test_subfolders_that_are_links(tmp_path):
    touch(tmp_path, "disk/images/a.jpg", "disk/masks/a.png")
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "far").symlink_to(tmp_path / "disk" / kind, target_is_directory=True)
    assert [pair.name for pair in pair_folders(images(tmp_path), masks(tmp_path), "")] == ["far/a"]


def test_a_suffix_tells_masks_from_images_in_one_folder(tmp_path, capsys):
    touch(tmp_path, "images/a.png", "images/a_mask.png", "images/b.png")
    together = Folder(tmp_path / "images", (".png",))
    assert [pair.name for pair in pair_folders(together, together, "_mask")] == ["a"]
    said = capsys.readouterr().err
    assert said.count("warning") == 1 and "1 images without a mask, left out: b\n" in said
    with pytest.raises(UserError, match=r"holds no file with \.jpg\n.*lie together here: --mask_suffix=_mask"):
        pair_folders(images(tmp_path, ".jpg"), together, "")


def test_masks_that_are_jpeg_are_taken_where_there_are_no_others(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/a.jpg")
    config = BuildFolderConfig(str(tmp_path / "images"), str(tmp_path / "masks"))
    assert read_folder(config).pairs()[0].mask.endswith("masks/a.jpg")
    touch(tmp_path, "masks/a.png")  # a.jpg shows it in colors
    assert read_folder(config).pairs()[0].mask.endswith("masks/a.png")


def test_subfolders_called_train_and_val_are_the_splits():
    pairs_of = {name: Pair(name, "", "") for name in ("train/a", "train/b", "val/a", "c")}
    splits = by_subfolder([pairs_of[name] for name in ("train/a", "train/b", "val/a")])
    assert {split: [pair.name for pair in members] for split, members in splits.items()} == {
        "train": ["train/a", "train/b"],
        "val": ["val/a"],
    }
    assert list(by_subfolder(list(pairs_of.values()))) == [UNDIVIDED]


def test_missing_folder_lists_its_neighbors(folders):
    with pytest.raises(UserError, match=r"(?s)--image_folder: no such folder.*holds the folders images, masks"):
        pairs.require_folder(folders / "image", "--image_folder")


def test_list_order_is_kept_and_extensions_let_pass(folders):
    found = pair_by_names(["c", "a.jpg"], images(folders), masks(folders), "", "train.txt")
    assert [pair.name for pair in found] == ["c", "a"]


def test_names_in_subfolders(tmp_path):
    touch(tmp_path, "images/day/a.jpg", "masks/day/a.png")
    (found,) = pair_by_names(["day/a"], images(tmp_path), masks(tmp_path), "", "train.txt")
    assert found == Pair("day/a", str(tmp_path / "images/day/a.jpg"), str(tmp_path / "masks/day/a.png"))


def test_all_missing_files_are_named_at_once(folders):
    with pytest.raises(UserError) as fault:
        pair_by_names(["a", "x", "y"], images(folders), masks(folders), "", "train.txt")
    assert fault.value.where == "train.txt"
    assert fault.value.rule.startswith("4 files cannot be found")
    assert "images/x: no such file" in fault.value.rule and "masks/y: no such file" in fault.value.rule


def test_wrong_format_flag_is_worked_out(folders):
    with pytest.raises(UserError, match=r"no such file \(\.png\), but \.jpg; give --image_format=jpg"):
        pair_by_names(["a"], images(folders, ".png"), masks(folders), "", "train.txt")


# --- Lists and splits ---------------------------------------------------------------------------------------


def test_list_of_names(tmp_path, capsys):
    (tmp_path / "train.txt").write_bytes(b"a\r\nb \r\n\r\na\r\n")
    assert read_list(tmp_path / "train.txt") == ["a", "b", "a"]
    assert "names that stand there more than once, whose images count as often: a\n" in capsys.readouterr().err


def test_empty_list(tmp_path):
    (tmp_path / "val.txt").write_text("\n  \n")
    with pytest.raises(UserError, match=r"val.txt: the list is empty"):
        read_list(tmp_path / "val.txt")


def test_a_list_that_windows_has_written(tmp_path):
    (tmp_path / "train.txt").write_bytes("\ufeffname 1\r\nname 2\r\n".encode())
    assert read_list(tmp_path / "train.txt") == ["name 1", "name 2"]


def test_lists_of_a_folder(tmp_path):
    touch(tmp_path, "train.txt", "val.txt", "._train.txt")
    assert list(find_lists(tmp_path)) == ["train", "val"]
    assert list(find_lists(tmp_path, ["val"])) == ["val"]
    with pytest.raises(UserError, match="lists there are train, val"):
        find_lists(tmp_path, ["test"])
    with pytest.raises(UserError, match=r"write train.txt and val.txt there"):
        find_lists(tmp_path.parent)


def test_shared_images_are_pointed_out(capsys):
    a, b, c = (Pair(name, f"images/{name}.jpg", f"masks/{name}.png") for name in "abc")
    pairs.warn_of_leaks({"train": [a, b], "val": [b], "trainval": [a, b], "test": [c]})
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "1 images are in split 'train' and in 'val' (b)" in said
    pairs.warn_of_leaks({"train": [Pair("1", "train/1.jpg", "")], "val": [Pair("1", "val/1.jpg", "")]})
    assert capsys.readouterr().err == ""  # two images of one name
