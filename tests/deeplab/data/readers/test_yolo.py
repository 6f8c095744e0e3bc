"""YOLO's polygons as Ultralytics and Roboflow store them, into labels worked out by hand."""

import pickle

import pytest

from deeplab.data.labels import LabelRule
from deeplab.data.readers.source import UNDIVIDED, Painter, indices_of
from deeplab.data.readers.yolo import BuildYoloConfig, read_yolo
from deeplab.utils.errors import UserError

SQUARE = "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"  # of an image of 8x4 pixels: columns 2 to 5, rows 1 and 2
MIDDLE = [[0] * 8, [0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0], [0] * 8]


def put(root, **files):
    """Writes `split_a="text"` as images/split/a.jpg and labels/split/a.txt; no label for None."""
    for name, text in files.items():
        split, stem = name.split("_")
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        (root / "images" / split / f"{stem}.jpg").touch()
        if text is not None:
            (root / "labels" / split / f"{stem}.txt").write_text(text)


def write_yaml(root, text="train: images/train\nval: images/val\n", names="names:\n  0: hair\n  1: skin\n"):
    path = root / "data.yaml"
    path.write_text(text + names)
    return path


def read(root, **settings):
    return read_yolo(BuildYoloConfig(data_yaml=str(root / "data.yaml"), **settings))


def draw(source, place=0, size=(4, 8)):
    painter = Painter(indices_of(source.class_names, 255), 255, LabelRule())
    return pickle.loads(pickle.dumps(source.pairs()[place].mask)).draw(painter, *size).tolist()


def drawn(root, text, **settings):
    put(root, train_a=text)
    write_yaml(root, "train: images/train\n")
    return draw(read(root, **settings))


def members(source):
    return {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()}


# --- Lines --------------------------------------------------------------------------------------------------


def test_source(tmp_path):
    put(tmp_path, train_a=f"1 {SQUARE}\n", train_b=f"0 {SQUARE}\n", val_a=f"0 {SQUARE}\n")
    write_yaml(tmp_path)
    source = read(tmp_path)
    assert source.class_names == ("background", "hair", "skin") and source.drawn
    assert members(source) == {"train": ["train/a", "train/b"], "val": ["val/a"]}
    pair = source.splits["val"][0]
    assert pair.image == str(tmp_path / "images" / "val" / "a.jpg")
    assert pair.mask_file == str(tmp_path / "labels" / "val" / "a.txt") and pair.mask.size is None
    assert draw(source)[1] == [0, 0, 2, 2, 2, 2, 0, 0]  # class 1 there is 2 here


def test_shares_of_whatever_size_the_image_has(tmp_path):
    assert drawn(tmp_path, f"0 {SQUARE}") == MIDDLE
    assert draw(read(tmp_path), size=(2, 4)) == [[0, 1, 1, 0], [0] * 4]  # centers on the lower border are out


def test_order_and_blank_lines(tmp_path):
    whole = "0 0 0 1 0 1 1 0 1"
    assert drawn(tmp_path, f"\n{whole}\r\n\n1 {SQUARE}\n")[1] == [1, 1, 2, 2, 2, 2, 1, 1]
    assert drawn(tmp_path, f"1 {SQUARE}\n{whole}\n")[1] == [1] * 8
    assert drawn(tmp_path, f"1 {SQUARE}\n{whole}\n", overlap="area")[1] == [1, 1, 2, 2, 2, 2, 1, 1]


def test_boxes_are_drawn_and_pointed_out(tmp_path, capsys):
    assert drawn(tmp_path, f"0 0.5 0.5 0.5 0.5\n1 {SQUARE}\n0.0 0.5 0.5 0.5 0.5") == MIDDLE
    said = capsys.readouterr().err
    assert "2 lines are boxes, drawn as rectangles: this looks like data for detection: " in said
    assert drawn(tmp_path, "0 0.875 0.5 0.5 2e-1")[2] == [0] * 8  # a box beyond the border is cut
    assert drawn(tmp_path, "0 0.875 0.5 0.5 0.5")[2] == [0, 0, 0, 0, 0, 1, 1, 1]


def test_points_a_little_outside_are_let_pass(tmp_path):
    assert drawn(tmp_path, "0 -0.004 -0.01 1.01 0 1.0001 1 0 1.005") == [[1] * 8] * 4


def test_images_without_lines(tmp_path, capsys):
    put(tmp_path, train_a=f"0 {SQUARE}", train_b=None, train_c="\n")
    write_yaml(tmp_path, "train: images/train\n")
    source = read(tmp_path)
    assert members(source) == {"train": ["a", "b", "c"]}
    assert draw(source, 1) == draw(source, 2) == [[0] * 8] * 4
    assert "2 images without a shape: background all over" in capsys.readouterr().err
    assert members(read(tmp_path, skip_empty=True)) == {"train": ["a"]}


# --- data.yaml ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("names: [hair, skin]", ("background", "hair", "skin")),
        ("names: {1: skin, 0: hair}", ("background", "hair", "skin")),
        ("nc: 2\nnames: ['hair', 'no']", ("background", "hair", "no")),
        ("names: [background, hair]", ("background", "hair")),  # one that has it already
        ("names: {'0': 1, '1': 2}", ("background", "1", "2")),
    ],
)
def test_names(tmp_path, names, classes):
    put(tmp_path, train_a=f"1 {SQUARE}")
    write_yaml(tmp_path, "train: images/train\n", names)
    source = read(tmp_path)
    assert source.class_names == classes
    assert draw(source)[1][3] == classes.index(classes[-1])


def test_path_is_relative_to_the_file(tmp_path):
    put(tmp_path / "images" / "heads", train_a=f"0 {SQUARE}")
    for text in ("path: images/heads\n", f"path: {tmp_path / 'images' / 'heads'}\n", "path: ./x/../images/heads/\n"):
        (tmp_path / "x").mkdir(exist_ok=True)
        write_yaml(tmp_path, text + "train: images/train\nval:\ntest: # none\n")
        assert members(read(tmp_path)) == {"train": ["a"]} and draw(read(tmp_path)) == MIDDLE


def test_path_of_another_machine_falls_back_on_the_files_folder(tmp_path):
    put(tmp_path, train_a=f"0 {SQUARE}")
    write_yaml(tmp_path, "path: ../datasets/heads\ntrain: images/train\n")
    assert members(read(tmp_path)) == {"train": ["a"]}


def test_layout_of_roboflow(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "images" / "a.v1.jpg").touch()
        (tmp_path / split / "labels" / "a.v1.txt").write_text(f"0 {SQUARE}")
    write_yaml(tmp_path, "train: ../train/images\nval: ../valid/images\ntest: ''\nroboflow: {version: 1}\n")
    source = read(tmp_path)
    assert members(source) == {"train": ["train/a.v1"], "val": ["valid/a.v1"]} and draw(source) == MIDDLE


def test_list_of_folders_and_labels_beside_images(tmp_path):
    for place in ("day", "night"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.png").touch()
        (tmp_path / place / "a.txt").write_text(f"0 {SQUARE}")
    write_yaml(tmp_path, "train: [day, night]\n")
    source = read(tmp_path)
    assert members(source) == {"train": ["day/a", "night/a"]} and draw(source) == MIDDLE


def test_lists_of_images(tmp_path):
    put(tmp_path, train_a=f"0 {SQUARE}", train_b=f"0 {SQUARE}", train_c=f"1 {SQUARE}")
    (tmp_path / "train.txt").write_text("./images/train/b.jpg\n/elsewhere/images/train/a.jpg\n")
    (tmp_path / "val.txt").write_text("images\\train\\c.jpg\n")
    write_yaml(tmp_path, "train: train.txt\nval: val.txt\n")
    source = read(tmp_path)
    assert members(source) == {"train": ["b", "a"], "val": ["c"]} and draw(source) == MIDDLE
    (tmp_path / "val.txt").write_text("images/train/c.jpg\n../../etc/passwd\n")
    with pytest.raises(UserError, match=r"val\.txt, line 2: its image '\.\./\.\./etc/passwd' is not in"):
        read(tmp_path)


def test_same_images_in_two_splits(tmp_path):
    put(tmp_path, train_a=f"0 {SQUARE}")
    write_yaml(tmp_path, "train: images/train\nval: images/train\n")
    assert members(read(tmp_path)) == {"train": ["a"], "val": ["a"]}


@pytest.mark.parametrize(
    ("text", "rule", "hint"),
    [
        ("train: [", "is not YAML", "docs.ultralytics.com"),
        ("- train", "it must be an object, not a list", ""),
        ("", "it must be an object, not null", ""),
        ("a: 2020-99-99", "is not YAML", ""),
        ("a: !!python/object:os.system {}", "is not YAML", ""),
        ("train: images/train", "`names` must be a list or an object, not null", ""),
        ("names: 3", "`names` must be a list or an object, not the number 3", ""),
        ("names: []", "names no class", ""),
        ("names: [hair, yes]", "the name of class 1 must be text, not true", "put it in quotes"),
        ("names: [hair, {}]", "the name of class 1 must be text, not an object", ""),
        ("names: [hair, skin, hair]", "names hair more than once", "a name of its own"),
        ("names: {0: hair, 2: skin}", "must number the classes 0, 1, 2 ..., not 0, 2", "without gaps"),
        ("names: {hair: 0}", "must number the classes 0, 1, 2 ..., not hair", "without gaps"),
        ("names: [hair]\nnc: 2", "`nc` is the number 2, but `names` has 1 classes", "one of the two"),
        ("names: [hair]", "names no images", "write train: and val:"),
        ("names: [hair]\ntrain: 5", "`train` must be text, not the number 5", ""),
        ("names: [hair]\npath: [a]\ntrain: a", "`path` must be text, not a list", ""),
        ("names: [hair]\ntrain: images/x", "`train` is 'images/x', but there is no folder", "`path` is relative to"),
        ("names: [hair]\ntrain: data.yaml", "but there is no folder and no list", "relative to"),
        ('names: [hair]\ntrain: "a\\0b"', "but there is no folder and no list", "relative to"),
        ("names: [hair]\ntrain: labels", "holds no image", "give the folder of the images"),
        ("names: [hair]\ntrain: images/train\nkpt_shape: [17, 3]", "describes key points", "segmentation"),
    ],
)
def test_faults_of_the_yaml(tmp_path, text, rule, hint):
    put(tmp_path, train_a=f"0 {SQUARE}")
    write_yaml(tmp_path, text, "")
    with pytest.raises(UserError) as fault:
        read(tmp_path)
    assert str(tmp_path) in fault.value.where
    assert rule in fault.value.rule and hint in fault.value.hint


def test_yaml_that_is_nested_without_end(tmp_path):
    write_yaml(tmp_path, "[" * 5000)
    with pytest.raises(UserError, match=r"data\.yaml: is nested too deep"):
        read(tmp_path)


def test_no_labels_at_all(tmp_path):
    put(tmp_path, train_a=None)
    write_yaml(tmp_path, "train: images/train\n")
    with pytest.raises(UserError, match=r"none of the 1 images has labels: .*a\.jpg would have .*labels/train/a\.txt"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("line", "rule", "hint"),
    [
        (f"2 {SQUARE}", "class 2 is none of the 2 in `names`", "add its name"),
        (f"-1 {SQUARE}", "class -1 is none of the 2", "mend the line"),
        (f"0.5 {SQUARE}", "class 0.5 is none of the 2", "mend the line"),
        (f"nan {SQUARE}", "class nan is none of the 2", "mend the line"),
        (f"hair {SQUARE}", "must be `class x1 y1 x2 y2 ...` in numbers, not 'hair 0.25", "mend the line"),
        ("0", "has 0 numbers after the class", "take it out"),
        ("0 0.1 0.2", "has 2 numbers after the class", "take it out"),
        (f"0 {SQUARE} 0.9", "has 9 numbers after the class", "if the last is a confidence, take it out"),
        ("0 0.5 0.5 0.5 0.5 0.9", "has 5 numbers after the class", "if the last is a confidence"),
        ("0 12 30 40 30 40 50", "12 is outside of 0 to 1", "divide x by the width"),
        ("0 0.1 0.1 0.5 0.1 0.5 -0.02", "-0.02 is outside of 0 to 1", "divide"),
        ("0 0.1 0.1 0.5 nan 0.5 0.2", "nan is outside of 0 to 1", "divide"),
        ("0 0.1 0.1 0.5 1e999 0.5 0.2", "inf is outside of 0 to 1", "divide"),
    ],
)
def test_faults_of_a_line(tmp_path, line, rule, hint):
    with pytest.raises(UserError) as fault:
        drawn(tmp_path, f"0 {SQUARE}\n\n{line}\n")
    assert fault.value.where == f"{tmp_path / 'labels' / 'train' / 'a.txt'}, line 3"
    assert rule in fault.value.rule and hint in fault.value.hint


def test_label_file_that_is_no_text(tmp_path):
    put(tmp_path, train_a="")
    write_yaml(tmp_path, "train: images/train\n")
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match=r"a\.txt: is not UTF-8 at byte 0"):
        read(tmp_path)


# --- Without data.yaml --------------------------------------------------------------------------------------


def folders(root, **settings):
    places = {"image_folder": str(root / "images" / "all"), "label_folder": str(root / "labels" / "all")}
    return read_yolo(BuildYoloConfig(**{**places, **settings}))


def test_folders(tmp_path, capsys):
    put(tmp_path, all_a=f"1 {SQUARE}", all_b=None)
    (tmp_path / "images" / "all" / "day").mkdir()
    (tmp_path / "images" / "all" / "day" / "a.png").touch()
    (tmp_path / "labels" / "all" / "c.txt").touch()
    names = tmp_path / "obj.names"
    names.write_text("hair\nskin\n")
    source = folders(tmp_path, names=str(names))
    assert members(source) == {UNDIVIDED: ["a", "b", "day/a"]} and source.class_names == ("background", "hair", "skin")
    assert draw(source)[1] == [0, 0, 2, 2, 2, 2, 0, 0]
    assert "labels/all: 1 labels without an image left out: c.txt" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--names: no such file: .*labels/all/classes\.txt"):
        folders(tmp_path)
    names.rename(tmp_path / "labels" / "all" / "classes.txt")
    assert folders(tmp_path).class_names == ("background", "hair", "skin")


def test_settings_that_do_not_go_together(tmp_path):
    with pytest.raises(UserError, match=r"--data_yaml: is not given\n.*--image_folder, --label_folder and --names"):
        read_yolo(BuildYoloConfig())
    with pytest.raises(UserError, match="--data_yaml: is not given"):
        read_yolo(BuildYoloConfig(image_folder=str(tmp_path)))
    with pytest.raises(UserError, match="--data_yaml: says what --image_folder, --names would say again"):
        read_yolo(BuildYoloConfig(data_yaml="data.yaml", image_folder="images", names="obj.names"))
    with pytest.raises(UserError, match="--label_folder: no such folder"):
        read_yolo(BuildYoloConfig(image_folder=str(tmp_path), label_folder=str(tmp_path / "labels")))
    with pytest.raises(UserError, match=r"data\.yaml: cannot be read: No such file"):
        read(tmp_path)
