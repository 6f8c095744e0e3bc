"""`dataset.yml`: written and read back, found by name or place, faults that name the field."""

import pathlib
import textwrap

import pytest
from support.errors import raises

from deeplab.data import dataset as datasets
from deeplab.data.dataset import Dataset, SizeRange, find, load, parse, save
from deeplab.utils.errors import UserError

FACES = Dataset(
    name="faces",
    class_names=("background", "hair", "skin: face and neck", "no"),
    colors=((0, 0, 255), (255, 0, 0), (0, 255, 0), (1, 2, 3)),
    ignore_label=200,
    splits={"train": 3, "val": 1},
    pixels={"train": (10, 20, 30, 0), "val": (1, 2, 3, 4)},
    ignored_pixels={"train": 5, "val": 0},
    size_range={"train": SizeRange(100, 200, 300, 400), "val": SizeRange(7, 7, 9, 9)},
    image_formats=("jpeg", "png"),
)


def test_save_and_load_round_trip(tmp_path):
    save(FACES, tmp_path / "dataset.yml")
    assert load(tmp_path / "dataset.yml") == FACES
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.yml"]


def test_background_counts_and_ignore_label_does_not():
    assert FACES.num_classes == 4


def test_hand_written_file_may_hold_names_alone(tmp_path):
    path = tmp_path / "dataset.yml"
    path.write_text("classes: [background, hair, skin]\nsplits: {train: 160, val: 40}\n")
    found = load(path)
    assert (found.class_names, found.ignore_label) == (("background", "hair", "skin"), 255)
    assert found.splits == {"train": 160, "val": 40}
    assert found.name == tmp_path.name


def test_bare_number_of_classes_gets_names():
    assert parse("num_classes: 2", "x.yml").class_names == ("class_0", "class_1")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("classes: [a, b\n", "is no YAML"),
        ("- a\n", "name: value"),
        ("classes: []", "classes must be a list"),
        ("classes: [a, yes]", "classes[1]"),
        ("classes: [a, {name: b, color: [1, 2, 3]}]", "classes[1]"),
        ("classes: [{name: a, color: [1, 2]}]", "classes[0].color"),
        ("classes: [{name: a, color: [1, 2, 256]}]", "classes[0].color"),
        ("classes: [{name: a, color: [1, 2, 3]}, b]", "no color for b"),
        ("classes: [a, b]\nnum_classes: 3", "num_classes is 3, but classes lists 2"),
        ("classes: [a, b]\nignore_label: 256", "ignore_label"),
        ("classes: [a, b]\nignore_lable: 255", "did you mean 'ignore_label'?"),
        ("classes: [a, b]\nsplits: {train: many}", "splits.train"),
        ("classes: [a, b]\nsplits: {train: {images: 1, pixels: [1]}}", "splits.train.pixels must list 2"),
        ("classes: [a, b]\nimage_formats: [bmp]", "image_formats"),
    ],
)
def test_malformed_files_name_the_field(text, named):
    with pytest.raises(UserError) as fault:
        parse(text, "some/dataset.yml")
    assert named in str(fault.value)
    assert str(fault.value).startswith("some/dataset.yml")


# Class counts, ignore labels and split sizes are the reference's.
@pytest.mark.parametrize(
    ("name", "num_classes", "ignore_label", "splits"),
    [
        ("pascal_voc_seg", 21, 255, {"train": 1464, "train_aug": 10582, "trainval": 2913, "val": 1449}),
        (
            "cityscapes",
            19,
            255,
            {
                "train_fine": 2975,
                "train_coarse": 22973,
                "trainval_fine": 3475,
                "trainval_coarse": 23473,
                "val_fine": 500,
                "test_fine": 1525,
            },
        ),
        ("ade20k", 151, 0, {"train": 20210, "val": 2000}),
    ],
)
def test_known_data_sets(name, num_classes, ignore_label, splits):
    known = find(name)
    assert (known.num_classes, known.ignore_label, dict(known.splits)) == (num_classes, ignore_label, splits)
    assert len(known.colors) == num_classes


def test_known_data_sets_are_found_in_an_installed_package(monkeypatch):
    monkeypatch.setattr(datasets, "KNOWN_FOLDER", pathlib.Path("nowhere"))
    monkeypatch.setattr(datasets.importlib.resources, "files", lambda _: REPOSITORY / "datasets")
    assert {"ade20k", "cityscapes", "pascal_voc_seg"} < set(datasets.known_names())
    assert find("ade20k").num_classes == 151


REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def records_of_faces(tmp_path):
    save(FACES, tmp_path / "dataset.yml")
    return tmp_path


def test_unset_name_takes_the_folders_own_description(records_of_faces):
    assert find("", records_of_faces) == FACES


def test_unset_name_without_description_is_pascal_and_says_so(tmp_path, capsys):
    assert find("", tmp_path).name == "pascal_voc_seg"
    assert "pascal_voc_seg" in capsys.readouterr().err


def test_paths_win_over_the_folder(records_of_faces, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "own.yml"
    other.write_text("classes: [a, b]")
    assert find(str(other), records_of_faces).name == "own"
    assert find(str(records_of_faces)).name == "faces"


def test_name_of_the_folders_own_data_set(records_of_faces):
    assert find("faces", records_of_faces) == FACES


def test_known_name_that_contradicts_the_records_shows_both_counts(records_of_faces):
    with pytest.raises(UserError, match=r"21 classes and ignore label 255.*4 classes and ignore label 200"):
        find("pascal_voc_seg", records_of_faces)


def test_known_name_that_agrees_gives_the_counted_description(tmp_path):
    counted = Dataset("mine", tuple(f"c{i}" for i in range(21)), splits={"train": 7})
    save(counted, tmp_path / "dataset.yml")
    assert find("pascal_voc_seg", tmp_path).splits == {"train": 7}


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match=r"(?s)'pascal_voc'.*did you mean 'pascal_voc_seg'"):
        find("pascal_voc")


def test_missing_file_says_who_writes_one(tmp_path):
    with pytest.raises(UserError, match="build_"):
        find(str(tmp_path / "no.yml"))


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "dataset.yml"
    save(FACES, path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(datasets.os, "fsync", fail)
    with raises("unwritable-file", where=path):
        save(parse("classes: [a]", "x"), path)
    assert load(path) == FACES
    assert [file.name for file in tmp_path.iterdir()] == ["dataset.yml"]


def test_written_file_is_readable_by_people():
    text = datasets.as_text(parse("classes: [a, b]\nsplits: {train: 3}\nname: two", "x"))
    assert text == textwrap.dedent(
        """\
        # What this dataset is. The label value of a class is its place in the list, from 0.
        name: two
        ignore_label: 255
        classes:
        - a
        - b
        image_formats: [jpeg]
        label_format: png
        splits:
          train: 3
        """
    )
