"""Mapillary Vistas: versions, names and colors of the JSON file, labels that are not evaluated."""

import json

import pytest
from support.errors import raises
from support.mask_files import built_labels, names_of, write_gray, write_image

from deeplab.data import dataset as datasets
from deeplab.data.readers.vistas import BuildVistasConfig, read_vistas

LABELS = [("animal--bird", True), ("void--ego-vehicle", False), ("flat--road", True), ("void--unlabeled", False)]


def vistas_labels(labels=LABELS):
    return [
        {
            "color": [place, 20, 30],
            "instances": True,
            "readable": name.rpartition("-")[2].title(),
            "name": name,
            "evaluate": is_class,
        }
        for place, (name, is_class) in enumerate(labels)
    ]


@pytest.fixture
def vistas(tmp_path):
    for version, labels in {"v1.2": LABELS[:3], "v2.0": LABELS}.items():
        content = {"labels": vistas_labels(labels), "version": version[1:], "mapping": "public"}
        (tmp_path / f"config_{version}.json").write_text(json.dumps(content))
    for folder, names in {"training": ("b1", "a1"), "validation": ("c1",)}.items():
        for name in names:
            (tmp_path / folder / "images").mkdir(parents=True, exist_ok=True)
            write_gray(tmp_path / folder / "images" / f"{name}.jpg")
            for version, mask in {"v1.2": [[0, 1], [2, 2]], "v2.0": [[0, 1], [2, 3]]}.items():
                (tmp_path / folder / version / "labels").mkdir(parents=True, exist_ok=True)
                write_image(tmp_path / folder / version / "labels" / f"{name}.png", mask)
    (tmp_path / "testing" / "images").mkdir(parents=True)
    return tmp_path


def read(root, **settings):
    return read_vistas(BuildVistasConfig(vistas_root=str(root), **settings))


def test_labels_that_are_not_evaluated_are_ignored(vistas):
    source = read(vistas)
    assert names_of(source) == {"train": ["a1", "b1"], "val": ["c1"]}
    assert source.class_names == ("animal--bird", "flat--road") and source.colors == ((0, 20, 30), (2, 20, 30))
    assert built_labels(source, vistas / "out", "train")["a1"] == [[0, 255], [1, 255]]
    assert datasets.load(vistas / "out" / "dataset.yml").class_names == source.class_names


def test_the_version_can_be_chosen(vistas):
    assert built_labels(read(vistas, labels_version="v1.2"), vistas / "out", "train")["a1"] == [[0, 255], [1, 1]]
    with raises("unknown-name", field="labels_version"):
        read(vistas, labels_version="v3.0")


def test_the_first_release_has_no_folder_of_a_version(vistas):
    (vistas / "config_v1.2.json").rename(vistas / "config.json")
    (vistas / "config_v2.0.json").unlink()
    for folder in ("training", "validation"):
        (vistas / folder / "v1.2" / "labels").rename(vistas / folder / "labels")
    assert len(read(vistas).class_names) == 2


def test_newer_versions_come_first(vistas):
    (vistas / "config_v2.0.json").rename(vistas / "config_v10.1.json")
    for folder in ("training", "validation"):
        (vistas / folder / "v2.0").rename(vistas / folder / "v10.1")
    assert read(vistas).label_map == {1: 255, 2: 1, 3: 255}


def test_what_is_missing(vistas, tmp_path_factory):
    (vistas / "training" / "v2.0" / "labels" / "a1.png").unlink()
    with raises("files-missing"):
        read(vistas)
    with raises("no-files"):
        read(tmp_path_factory.mktemp("empty"))
    (vistas / "config_v2.0.json").write_text(json.dumps({"labels": []}))
    with raises("missing-class-names", where="config_v2.0.json"):
        read(vistas)
