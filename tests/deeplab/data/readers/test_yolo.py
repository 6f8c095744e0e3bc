"""YOLO's polygons as Ultralytics and Roboflow store them, into labels worked out by hand."""

import pickle

import pytest
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.source import UNDIVIDED, Painter
from deeplab.data.readers.yolo import BuildYoloConfig, read_yolo

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
    painter = Painter(source.class_names, LabelSpec())
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


def test_fractions_of_whatever_size_the_image_has(tmp_path):
    assert drawn(tmp_path, f"0 {SQUARE}") == MIDDLE
    assert draw(read(tmp_path), size=(2, 4)) == [[0, 1, 1, 0], [0] * 4]  # centers on the lower border are out


@pytest.mark.parametrize("separators", [",", ", ", "; ", "\t", " , "])
def test_separators_of_numbers(tmp_path, separators):
    assert drawn(tmp_path, separators.join(["0", *SQUARE.split()])) == MIDDLE
    assert drawn(tmp_path, f"0 {SQUARE},") == MIDDLE
    pairs = SQUARE.split()
    points = " ".join(f"{x},{y}" for x, y in zip(pairs[::2], pairs[1::2], strict=True))
    assert drawn(tmp_path, f"0 {points}") == MIDDLE


def test_decimal_commas_are_not_taken_for_separators(tmp_path):
    put(tmp_path, train_a="0 0,1 0,1 0,9 0,1 0,9 0,9")
    write_yaml(tmp_path, "train: images/train\n")
    with raises("wrong-type", where="a.txt, line 1") as caught:
        read(tmp_path)
    assert "decimal points" in caught.value.hint


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


def test_what_is_far_outside_is_cut_off_on_request(tmp_path):
    text = "0 -0.5 0 1.5 0 1.5 0.5 -0.5 0.5"
    with raises("out-of-range") as caught:
        drawn(tmp_path, text)
    assert "`on_outside=cut`" in caught.value.hint
    assert drawn(tmp_path, text, on_outside="cut") == [[1] * 8] * 2 + [[0] * 8] * 2
    with raises("out-of-range") as caught:  # these are pixels
        drawn(tmp_path, "0 0 0 200 0 200 100 0 100", on_outside="cut")
    assert "on_outside" not in caught.value.hint


def test_images_without_lines(tmp_path, capsys):
    put(tmp_path, train_a=f"0 {SQUARE}", train_b=None, train_c="\n")
    write_yaml(tmp_path, "train: images/train\n")
    source = read(tmp_path)
    assert members(source) == {"train": ["a", "b", "c"]}
    assert draw(source, 1) == draw(source, 2) == [[0] * 8] * 4
    assert "2 images without a shape: background everywhere" in capsys.readouterr().err
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
    with raises("image-not-found", where="val.txt, line 2") as caught:
        read(tmp_path)
    assert caught.value.value == "../../etc/passwd"
    assert members(read(tmp_path, on_missing="skip")) == {"train": ["b", "a"], "val": ["c"]}


@pytest.mark.parametrize(
    "text",
    [
        "path: C:\\Users\\me\\data\ntrain: C:\\Users\\me\\data\\images\\train\n",
        'path: "C:\\Users\\me"\ntrain: "C:\\Users\\me\\images\\train"\n',  # \U is no escape of YAML
        "train: /home/me/data/images/train\n",
    ],
)
def test_absolute_paths_of_another_machine(tmp_path, text):
    put(tmp_path, train_a=f"0 {SQUARE}")
    write_yaml(tmp_path, text)
    assert members(read(tmp_path)) == {"train": ["a"]}


@pytest.mark.parametrize("listed", ["D:\\me\\data\\images\\train\\a.jpg", "/mnt/d/data/images/train/a.jpg"])
def test_absolute_paths_in_a_list(tmp_path, listed):
    put(tmp_path, train_a=f"0 {SQUARE}")
    (tmp_path / "train.txt").write_text(f"# made by a script\n\n{listed}\n")
    write_yaml(tmp_path, "train: train.txt\n")
    assert members(read(tmp_path)) == {"train": ["a"]}


def test_same_images_in_two_splits(tmp_path):
    put(tmp_path, train_a=f"0 {SQUARE}")
    write_yaml(tmp_path, "train: images/train\nval: images/train\n")
    assert members(read(tmp_path)) == {"train": ["a"], "val": ["a"]}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("train: [", "invalid-yaml"),
        ("- train", "wrong-type"),
        ("", "wrong-type"),
        ("a: 2020-99-99", "invalid-yaml"),
        ("a: !!python/object:os.system {}", "invalid-yaml"),
        ("train: images/train", "wrong-type"),
        ("names: 3", "wrong-type"),
        ("names: []", "missing-class-names"),
        ("names: [hair, yes]", "wrong-type"),
        ("names: [hair, {}]", "wrong-type"),
        ("names: [hair, skin, hair]", "duplicate-name"),
        ("names: {0: hair, 2: skin}", "missing-class-names"),
        ("names: {hair: 0}", "missing-class-names"),
        ("names: [hair]\nnc: 2", "class-count-mismatch"),
        ("names: [hair]", "missing-key"),
        ("names: [hair]\ntrain: 5", "wrong-type"),
        ("names: [hair]\npath: [a]\ntrain: a", "wrong-type"),
        ("names: [hair]\ntrain: images/x", "folder-not-found"),
        ("names: [hair]\ntrain: data.yaml", "folder-not-found"),
        ('names: [hair]\ntrain: "a\\0b"', "folder-not-found"),
        ("names: [hair]\ntrain: labels", "no-files"),
        ("names: [hair]\ntrain: images/train\nkpt_shape: [17, 3]", "wrong-format"),
    ],
)
def test_yaml_that_breaks_the_format(tmp_path, text, code):
    put(tmp_path, train_a=f"0 {SQUARE}")
    write_yaml(tmp_path, text, "")
    with raises(code, where=tmp_path) as caught:
        read(tmp_path)
    assert caught.value.hint


def test_yaml_that_is_nested_without_end(tmp_path):
    write_yaml(tmp_path, "[" * 5000)
    with raises("invalid-yaml", where="data.yaml"):
        read(tmp_path)


def test_no_labels_at_all(tmp_path):
    put(tmp_path, train_a=None)
    write_yaml(tmp_path, "train: images/train\n")
    with raises("no-files", where="data.yaml") as caught:
        read(tmp_path)
    assert "labels/train/a.txt" in caught.value.rule


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"2 {SQUARE}", "unknown-class"),
        (f"-1 {SQUARE}", "unknown-class"),
        (f"0.5 {SQUARE}", "unknown-class"),
        (f"nan {SQUARE}", "unknown-class"),
        (f"hair {SQUARE}", "wrong-type"),
        ("0", "invalid-points"),
        ("0 0.1 0.2 0.3", "invalid-points"),
        (f"0 {SQUARE} 0.9", "invalid-points"),
        ("0 0.5 0.5 0.5 0.5 0.9", "invalid-points"),
        ("0 12 30 40 30 40 50", "out-of-range"),
        ("0 0.1 0.1 0.5 0.1 0.5 -0.02", "out-of-range"),
        ("0 0.1 0.1 0.5 nan 0.5 0.2", "out-of-range"),
        ("0 0.1 0.1 0.5 1e999 0.5 0.2", "out-of-range"),
    ],
)
def test_lines_that_break_the_format(tmp_path, line, code):
    with raises(code, where=f"{tmp_path / 'labels' / 'train' / 'a.txt'}, line 3") as caught:
        drawn(tmp_path, f"0 {SQUARE}\n\n{line}\n")
    assert caught.value.hint


def test_polygons_of_one_point_and_boxes_without_size_are_counted(tmp_path, capsys):
    assert drawn(tmp_path, f"0 0.1 0.2\n1 0.5 0.5 0 0.2\n0 {SQUARE}") == MIDDLE
    assert "2 shapes without an area left out" in capsys.readouterr().err


def test_a_number_too_many_may_be_a_confidence(tmp_path):
    with raises("invalid-points") as caught:
        drawn(tmp_path, f"0 {SQUARE} 0.9")
    assert caught.value.value == 9 and "confidence" in caught.value.hint


def test_label_file_that_is_no_text(tmp_path):
    put(tmp_path, train_a="")
    write_yaml(tmp_path, "train: images/train\n")
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(b"\x89PNG\r\n")
    with raises("not-utf-8", where="a.txt"):
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
    assert "labels/all: 1 label without an image left out: c.txt" in capsys.readouterr().err
    with raises("file-not-found", field="names") as caught:
        folders(tmp_path)
    assert caught.value.value.endswith("labels/all/classes.txt")
    names.rename(tmp_path / "labels" / "all" / "classes.txt")
    assert folders(tmp_path).class_names == ("background", "hair", "skin")


def test_subfolders_that_are_called_train_and_val_are_the_splits(tmp_path):
    put(tmp_path, train_a=f"1 {SQUARE}", valid_a=f"0 {SQUARE}")
    (tmp_path / "obj.names").write_text("hair\nskin\n")
    places = {"image_folder": str(tmp_path / "images"), "label_folder": str(tmp_path / "labels")}
    source = read_yolo(BuildYoloConfig(**places, names=str(tmp_path / "obj.names")))
    assert members(source) == {"train": ["train/a"], "valid": ["valid/a"]}


def test_settings_that_do_not_go_together(tmp_path):
    with raises("missing-setting", field="data_yaml"):
        read_yolo(BuildYoloConfig())
    with raises("missing-setting", field="data_yaml"):
        read_yolo(BuildYoloConfig(image_folder=str(tmp_path)))
    with raises("conflicting-settings", field="data_yaml") as caught:
        read_yolo(BuildYoloConfig(data_yaml="data.yaml", image_folder="images", names="obj.names"))
    assert "`image_folder`, `names`" in caught.value.rule
    with raises("folder-not-found", field="label_folder"):
        read_yolo(BuildYoloConfig(image_folder=str(tmp_path), label_folder=str(tmp_path / "labels")))
    with raises("file-not-found", where="data.yaml"):
        read(tmp_path)
