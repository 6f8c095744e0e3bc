"""The full release of ADE20K: numbers of names in two channels, names in JSON files, rare ones left out."""

import json
import pickle

import numpy as np
import pytest
from support.errors import raises
from support.mask_files import built_labels, names_of, write_gray, write_image

from deeplab.data import dataset as datasets
from deeplab.data.readers.ade20k_full import BuildAde20kFullConfig, read_ade20k_full

WALL, DOOR, CAR, DUCK = 2978, 774, 401, 3650
NAMES = {WALL: "wall", DOOR: "door", CAR: "car, auto, automobile", DUCK: "duck"}


def as_colors(numbers, instance=7):
    """As the release stores numbers of names: tens of red, green; blue numbers the objects."""
    numbers = np.array(numbers)
    return np.stack([numbers // 256 * 10, numbers % 256, np.full_like(numbers, instance)], axis=-1).astype(np.uint8)


def ade_object(place, number, **more):
    """An object as the release describes it."""
    return {
        "id": place,
        "name": NAMES.get(number, "x"),
        "name_ndx": number,
        "hypernym": [NAMES.get(number, "x"), "entity"],
        "raw_name": "x",
        "attributes": [],
        "depth_ordering_rank": 1,
        "occluded": "no",
        "crop": "0",
        "parts": {"hasparts": [], "ispartof": [], "part_level": 0},
        "instance_mask": f"ADE_train_00000001/instance_00{place}_ADE_train_00000001.png",
        "polygon": {"x": [1, 2, 2], "y": [1, 1, 2]},
        "saved_date": "18-Dec-2005 06:56:48",
        **more,
    }


def ade_image(root, part, name, numbers, objects=None, content=None):
    folder = root / "images" / "ADE" / part / "urban" / "street"
    folder.mkdir(parents=True, exist_ok=True)
    write_gray(folder / f"{name}.jpg", *np.shape(numbers))
    write_image(folder / f"{name}_seg.png", as_colors(numbers))
    write_image(folder / f"{name}_parts_1.png", as_colors(np.zeros_like(numbers)))
    (folder / name).mkdir(exist_ok=True)
    write_image(folder / name / f"instance_000_{name}.png", np.zeros(np.shape(numbers), np.uint8))
    listed = sorted(set(np.ravel(numbers).tolist()) - {0}) if objects is None else objects
    made = [ade_object(place, number) for place, number in enumerate(listed)]
    text = json.dumps({"annotation": {"filename": f"{name}.jpg", "imsize": [2, 2, 3], "object": made}})
    (folder / f"{name}.json").write_bytes(content or text.encode())
    return folder / f"{name}.json"


@pytest.fixture
def release(tmp_path):
    ade_image(tmp_path, "training", "ADE_train_00000001", [[0, WALL], [DOOR, CAR]])
    ade_image(tmp_path, "training", "ADE_train_00000002", [[WALL, WALL], [DOOR, 0]], [WALL, DOOR, CAR])
    ade_image(tmp_path, "validation", "ADE_val_00000001", [[DUCK, DUCK], [WALL, CAR]])
    return tmp_path


def read(root, **settings):
    return read_ade20k_full(BuildAde20kFullConfig(ade20k_root=str(root), **settings))


def test_numbers_become_classes_in_their_order(release):
    source = read(release)
    assert source.class_names == ("car, auto, automobile", "door", "wall", "duck")
    assert names_of(source) == {"train": ["ADE_train_00000001", "ADE_train_00000002"], "val": ["ADE_val_00000001"]}
    assert built_labels(source, release / "out", "train") == {
        "ADE_train_00000001": [[255, 2], [1, 0]],
        "ADE_train_00000002": [[2, 2], [1, 255]],
    }
    assert built_labels(source, release / "out2", "val")["ADE_val_00000001"] == [[3, 3], [2, 0]]
    described = datasets.load(release / "out" / "dataset.yml")
    assert described.class_names == source.class_names and described.ignore_label == 255
    assert pickle.loads(pickle.dumps(source)).pairs() == source.pairs()


def test_parts_are_no_classes(release):
    parts = {"hasparts": [], "ispartof": 0, "part_level": 1}
    objects = [ade_object(0, WALL), ade_object(1, 2999, name="brick", parts=parts)]
    content = json.dumps({"annotation": {"object": objects}}).encode()
    ade_image(release, "training", "ADE_train_00000003", [[WALL, 2999]], content=content)
    source = read(release)
    assert "brick" not in source.class_names
    assert built_labels(source, release / "out", "train")["ADE_train_00000003"] == [[2, 255]]


def test_rare_names_are_ignored(release, capsys):
    source = read(release, min_images=2)
    assert source.class_names == ("car, auto, automobile", "door", "wall")
    assert "1 are in fewer than 2 training images" in "".join(capsys.readouterr())
    assert built_labels(source, release / "out", "val")["ADE_val_00000001"] == [[255, 255], [2, 0]]
    with raises("out-of-range", field="min_images"):
        read(release, min_images=3)


def test_a_release_of_more_names_than_a_byte_holds(tmp_path):
    numbers = np.arange(1, 401).reshape(20, 20)
    NAMES.update({number: f"thing {number}" for number in numbers.ravel().tolist() if number not in NAMES})
    ade_image(tmp_path, "training", "ADE_train_00000001", numbers)
    ade_image(tmp_path, "validation", "ADE_val_00000001", numbers[::-1])
    source = read(tmp_path)
    assert len(source.class_names) == 400
    labels = built_labels(source, tmp_path / "out", "train")["ADE_train_00000001"]
    assert np.array_equal(labels, numbers - 1)
    assert datasets.load(tmp_path / "out" / "dataset.yml").ignore_label == 65535


def test_numbers_without_a_name(release):
    ade_image(release, "training", "ADE_train_00000003", [[WALL, 99], [CAR, 0]], [WALL, CAR])
    with raises("label-out-of-range", where="ADE_train_00000003_seg.png") as caught:
        built_labels(read(release), release / "out", "train")
    assert caught.value.value == [99]


def test_text_that_is_not_utf_8(release):
    content = json.dumps({"annotation": {"object": [ade_object(0, WALL), ade_object(1, DUCK, raw_name="caf#")]}})
    path = ade_image(release, "training", "ADE_train_00000003", [[WALL, DUCK]], content=content.encode())
    path.write_bytes(content.encode().replace(b"caf#", b"caf\xe9"))
    assert "duck" in read(release).class_names


@pytest.mark.parametrize(
    ("objects", "code"),
    [
        ([ade_object(0, 0)], "out-of-range"),
        ([ade_object(0, 2**40)], "out-of-range"),
        ([ade_object(0, WALL), ade_object(1, WALL, name="other")], "class-mismatch"),
        ([ade_object(0, WALL, name="a\nb")], "control-characters"),
        ([{"name": "wall"}], "missing-key"),
        ("wall", "wrong-type"),
    ],
)
def test_json_files_that_break_the_format(release, objects, code):
    content = json.dumps({"annotation": {"object": objects}}).encode()
    ade_image(release, "training", "ADE_train_00000003", [[WALL]], content=content)
    with raises(code, where="ADE_train_00000003.json"):
        read(release)


def test_files_that_are_missing(release, tmp_path_factory):
    (release / "images/ADE/training/urban/street/ADE_train_00000002_seg.png").unlink()
    with raises("files-missing", where=release):
        read(release)
    with raises("no-files"):
        read(tmp_path_factory.mktemp("empty"))
