"""V7 Darwin: both versions, holes, ellipses, boxes, raster layers, what has no area."""

import json
import math

import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.conversion_config import FilePerImageConfig
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.darwin import read_darwin
from deeplab.data.readers.source import Painter

BOX = {"x": 1, "y": 1, "w": 8, "h": 8}


def square(low, high):
    return [{"x": x, "y": y} for x, y in ((low, low), (high, low), (high, high), (low, high))]


def write(folder, *annotations, **more):
    Image.new("RGB", (12, 10)).save(folder / "a.jpg")
    slot = {"type": "image", "slot_name": "0", "width": 12, "height": 10}
    item = {"name": "a.jpg", "path": "/", "slots": [slot]}
    (folder / "a.json").write_text(json.dumps({"version": "2.0", "item": item, "annotations": annotations, **more}))
    return folder


def drawn(folder, **settings):
    source = read_darwin(FilePerImageConfig(annotation_folder=str(folder), **settings))
    pair = source.pairs()[0]
    assert pair.mask.size == (10, 12)
    return source, pair.mask.draw(Painter(source.class_names, LabelSpec()), 10, 12)


def test_a_path_inside_another_is_a_hole_and_the_box_of_a_polygon_is_none(tmp_path):
    ring = {"name": "ring", "polygon": {"paths": [square(1, 9), square(3, 7)]}, "bounding_box": BOX}
    source, label = drawn(write(tmp_path, ring))
    assert source.class_names == ("background", "ring") and label.sum() == 64 - 16 and label[5, 5] == 0


def test_version_one(tmp_path):
    Image.new("RGB", (12, 10)).save(tmp_path / "a.jpg")
    outline = {"path": square(1, 9), "additional_paths": [square(3, 7)]}
    image = {"filename": "a.jpg", "width": 12, "height": 10}
    content = {"dataset": "d", "image": image, "annotations": [{"name": "ring", "polygon": outline}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert drawn(tmp_path)[1].sum() == 64 - 16


def test_boxes_ellipses_and_lines(tmp_path):
    round_ = {"angle": math.pi / 2, "center": {"x": 6, "y": 5}, "radius": {"x": 4, "y": 2}}
    shapes = (
        {"name": "a", "bounding_box": {"x": 0, "y": 0, "w": 3, "h": 2}},
        {"name": "b", "ellipse": round_},
        {"name": "c", "line": {"path": [{"x": 0, "y": 9}, {"x": 12, "y": 9}]}},
    )
    _, label = drawn(write(tmp_path, *shapes), line_width=2.0)
    assert (label == 1).sum() == 6 and label[2, 6] == 2 and label[5, 3] == 0  # the ellipse stands upright
    assert (label == 3)[8:].all()


def test_raster_layers(tmp_path):
    layer = {"dense_rle": [2, 12, 0, 90, 1, 18], "mask_annotation_ids_mapping": {"m1": 1, "m2": 2}, "total_pixels": 120}
    annotations = [
        {"id": "m1", "name": "car", "mask": {}},
        {"id": "m2", "name": "sky", "mask": {}},
        {"id": "r", "name": "__raster_layer__", "raster_layer": layer},
    ]
    source, label = drawn(write(tmp_path, *annotations))
    assert source.class_names == ("background", "car", "sky")
    assert (label[0] == 2).all() and label.ravel()[102:].tolist() == [1] * 18 and (label.ravel()[12:102] == 0).all()


def test_what_has_no_area_is_counted(tmp_path, capsys):
    others = [{"name": "n", kind: {}} for kind in ("keypoint", "skeleton", "tag")]
    drawn(write(tmp_path, *others, {"name": "n", "bounding_box": BOX}))
    assert "3 shapes without an area left out (1 keypoint, 1 skeleton, 1 tag)" in capsys.readouterr().err


LAYER = {"dense_rle": [1, 120], "mask_annotation_ids_mapping": {"m": 1}}


@pytest.mark.parametrize(
    ("annotation", "code"),
    [
        ({"name": "a", "polygon": {"paths": [[{"x": 1}]]}}, "missing-key"),
        ({"name": "a", "polygon": {"paths": [[{"x": 1, "y": True}]]}}, "wrong-type"),
        ({"name": "r", "raster_layer": LAYER}, "unknown-id"),
        ({"name": "r", "raster_layer": {**LAYER, "dense_rle": [1, 7]}}, "invalid-rle"),
        ({"name": "r", "raster_layer": {**LAYER, "dense_rle": [1]}}, "invalid-rle"),
        ({"polygon": {"paths": [square(1, 9)]}}, "missing-key"),
    ],
)
def test_errors_name_the_annotation(tmp_path, annotation, code):
    with raises(code, where="a.json, annotation 1"):
        drawn(write(tmp_path, annotation))


@pytest.mark.parametrize(
    "item",
    [
        {"name": "a.jpg", "slots": [{"type": "image"}, {"type": "image"}]},
        {"name": "a.mp4", "slots": [{"type": "video", "frame_count": 9}]},
    ],
)
def test_videos_and_several_images_are_refused(tmp_path, item):
    with raises("wrong-format", where="a.json"):
        drawn(write(tmp_path, item=item))


def test_other_json_files_are_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": []}')
    with raises("wrong-format", where="a.json"):
        drawn(tmp_path)
