"""Predictions as annotations, read back by the builders: the label comes out as it went in."""

import json

import numpy as np
import pytest
from PIL import Image
from support.accumulator_battery import pair

from deeplab.data import colormaps
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.coco import BuildCocoConfig, read_coco
from deeplab.data.readers.cvat import BuildCvatConfig, read_cvat
from deeplab.data.readers.labelme import BuildLabelmeConfig, read_labelme
from deeplab.data.readers.shapes import Shape, paint
from deeplab.data.readers.source import Painter
from deeplab.data.readers.yolo import BuildYoloConfig, read_yolo
from deeplab.inference.annotation_writers import FORMATS, AnnotatedImage
from deeplab.inference.polygons import regions

NAMES = ("background", 'a "quoted" <name> & more', "Straße", "never")


@pytest.fixture
def written(tmp_path):
    """Writes two labels in a format; gives the folder of the results, that of the images, and the labels by name."""
    images = tmp_path / "images"
    (images / "day").mkdir(parents=True)
    labels = {name: pair(seed, 40, 60, 3)[0] for seed, name in enumerate(("day/one", "two"))}
    for name, label in labels.items():
        Image.fromarray(np.zeros((*label.shape, 3), np.uint8)).save(images / f"{name}.png")

    def write(kind):
        writer = FORMATS.get(kind)(tmp_path / "out", NAMES, colormaps.colors_for("pascal", 4))
        (tmp_path / "out").mkdir()
        for number, (name, label) in reversed(list(enumerate(labels.items()))):  # threads finish in any order
            found = regions(label, [1, 2])
            writer.add(AnnotatedImage(number, name, str(images / f"{name}.png"), *label.shape, found))
        writer.finish()
        listed = [*writer.common_paths(), *(path for name in labels for path in writer.paths(name))]
        there = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        assert sorted(listed) == sorted(there)
        return tmp_path / "out", images, labels

    return write


def drawn(source, label_names):
    """Every label of a source by name, with the class numbers of `label_names`."""
    spec = LabelSpec(len(source.class_names))
    painter = Painter(tuple(source.class_names), spec)
    order = [label_names.index(name) for name in source.class_names]
    found = {}
    for pairs in source.splits.values():
        for one in pairs:
            label = one.mask.draw(painter, 40, 60)
            found[one.name] = np.array(order)[label]
    return found


READ = {
    "coco": lambda out, images: read_coco(
        BuildCocoConfig(annotations=str(out / "coco.json"), image_folder=str(images))
    ),
    "cvat": lambda out, images: read_cvat(BuildCvatConfig(annotations=str(out / "cvat.xml"), image_folder=str(images))),
    "labelme": lambda out, images: read_labelme(
        BuildLabelmeConfig(annotation_folder=str(out / "labelme"), image_folder=str(images))
    ),
    "yolo": lambda out, images: read_yolo(BuildYoloConfig(label_folder=str(out / "yolo"), image_folder=str(images))),
}


@pytest.mark.parametrize("kind", list(READ))
def test_builders_read_the_labels_back(written, kind, capsys):
    out, images, labels = written(kind)
    source = READ[kind](out, images)
    found = drawn(source, NAMES)
    assert sorted(found) == sorted(labels)
    for name, label in labels.items():
        np.testing.assert_array_equal(found[name], label)


def test_geojson_holds_regions_with_holes(written):
    out, _, labels = written("geojson")
    for name, label in labels.items():
        features = json.loads((out / "geojson" / f"{name}.geojson").read_text())["features"]
        shapes = []
        for feature in features:
            rings = [np.array(ring, float) for ring in feature["geometry"]["coordinates"]]
            assert all((ring[0] == ring[-1]).all() for ring in rings)
            assert feature["properties"]["name"] == NAMES[feature["properties"]["class"]]
            shapes.append(Shape(feature["properties"]["name"], tuple(rings)))
        painter = Painter(NAMES, LabelSpec(4))
        np.testing.assert_array_equal(paint(shapes, painter, name, *label.shape), label)


def test_coco_lists_areas_and_boxes(written):
    out, _, labels = written("coco")
    content = json.loads((out / "coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["day/one.png", "two.png"]
    assert [category["name"] for category in content["categories"]] == list(NAMES[1:])
    of_first = [one for one in content["annotations"] if one["image_id"] == 1 and one["category_id"] == 1]
    assert sum(one["area"] for one in of_first) == (labels["day/one"] == 1).sum()
    rows, columns = np.nonzero(labels["day/one"] == 1)
    assert min(one["bbox"][0] for one in of_first) == columns.min()
    assert max(one["bbox"][1] + one["bbox"][3] for one in of_first) == rows.max() + 1


def test_an_image_without_objects(tmp_path):
    for kind in FORMATS:
        writer = FORMATS.get(kind)(tmp_path, NAMES, colormaps.colors_for("pascal", 4))
        writer.add(AnnotatedImage(0, "empty", "empty.jpg", 3, 4, []))
        writer.finish()
    assert json.loads((tmp_path / "labelme" / "empty.json").read_text())["shapes"] == []
    assert (tmp_path / "yolo" / "empty.txt").read_text() == ""


@pytest.mark.parametrize("kind", READ)
def test_classes_that_a_byte_does_not_hold(tmp_path, kind):
    names = ("background", *(f"thing {number}" for number in range(1, 300)))
    label, images, out = np.zeros((40, 60), np.uint16), tmp_path / "images", tmp_path / "out"
    label[4:20, 5:30], label[25:36, 40:55] = 299, 43  # which 8 bits would confuse
    images.mkdir()
    out.mkdir()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(images / "one.png")
    writer = FORMATS.get(kind)(out, names, colormaps.colors_for("pascal", 300))
    writer.add(AnnotatedImage(0, "one", str(images / "one.png"), 40, 60, regions(label, [43, 299])))
    writer.finish()
    np.testing.assert_array_equal(drawn(READ[kind](out, images), names)["one"], label)
