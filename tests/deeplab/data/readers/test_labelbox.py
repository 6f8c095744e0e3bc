"""Labelbox: NDJSON and the older exports, masks in a folder, images without a label."""

import json

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.labelbox import BuildLabelboxConfig, read_labelbox
from deeplab.data.readers.source import Painter

SQUARE = [{"x": x, "y": y} for x, y in ((1, 1), (5, 1), (5, 5), (1, 5))]
POLYGON = {"name": "car", "annotation_kind": "ImagePolygon", "polygon": SQUARE}


def row(name, *objects, labels=1):
    label = {"label_kind": "Default", "annotations": {"objects": list(objects), "classifications": []}}
    return {
        "data_row": {"id": "x", "external_id": name, "row_data": "https://storage/x"},
        "media_attributes": {"height": 10, "width": 12},
        "projects": {"p": {"labels": [label] * labels}},
    }


def write(folder, *rows, name="export.ndjson"):
    (folder / "images").mkdir(exist_ok=True)
    for image in ("a", "b"):
        Image.new("RGB", (12, 10)).save(folder / "images" / f"{image}.jpg")
    text = "\n".join(json.dumps(each) for each in rows) if name.endswith("ndjson") else json.dumps(list(rows), indent=1)
    (folder / name).write_text(text)
    return {"annotations": str(folder / name), "image_folder": str(folder / "images")}


def drawn(settings):
    source = read_labelbox(BuildLabelboxConfig(**settings))
    pair = source.pairs()[0]
    return source, pair.mask.draw(Painter(source.class_names, LabelSpec()), 10, 12)


@pytest.mark.parametrize("name", ["export.ndjson", "export.json"])
def test_lines_and_lists(tmp_path, name):
    box = {"name": "dog", "bounding_box": {"top": 6, "left": 0, "height": 2, "width": 3}}
    settings = write(tmp_path, row("a.jpg", POLYGON, box, {"name": "car", "point": SQUARE[0]}), row("b.jpg"), name=name)
    source, label = drawn(settings)
    assert source.class_names == ("background", "car", "dog") and len(source.pairs()) == 2
    assert (label == 1).sum() == 16 and (label[6:8, :3] == 2).all() and source.pairs()[0].mask.size == (10, 12)


def test_the_older_exports(tmp_path):
    address = "https://storage.labelbox.com/ck%2F123-a.jpg?Expires=1"
    (tmp_path / "images").mkdir()
    Image.new("RGB", (12, 10)).save(tmp_path / "images" / "123-a.jpg")
    objects = {"objects": [{"title": "car", "value": "vehicle", "color": "#00f", "polygon": SQUARE}]}
    entries = [
        {"External ID": "", "Labeled Data": address, "Label": objects},
        {"External ID": "a.jpg", "Labeled Data": "", "Label": {"dog": [{"geometry": SQUARE}]}},
        {"External ID": "b.jpg", "Labeled Data": "", "Label": "Skip"},
    ]
    source, label = drawn(write(tmp_path, *entries, name="export.json"))
    assert [pair.name for pair in source.pairs()] == ["123-a", "a"]
    assert source.class_names == ("background", "car", "dog") and label.sum() == 16


def test_images_without_a_label_are_left_out_and_counted(tmp_path, capsys):
    source, _ = drawn(write(tmp_path, row("a.jpg", POLYGON), row("b.jpg", labels=0)))
    assert len(source.pairs()) == 1 and "1 image without a label left out: b.jpg" in capsys.readouterr().err


def test_masks_are_read_from_a_folder(tmp_path):
    (tmp_path / "masks").mkdir()
    pixels = np.zeros((10, 12), np.uint8)
    pixels[:3] = 255
    Image.fromarray(pixels).save(tmp_path / "masks" / "f1.png")
    colors = np.zeros((10, 12, 3), np.uint8)
    colors[8:] = 9, 8, 7
    colors[7] = 1, 2, 3
    Image.fromarray(colors).save(tmp_path / "masks" / "shared.png")
    objects = (
        {"feature_id": "f1", "name": "sky", "mask": {"url": "https://api.labelbox.com/masks/f1"}},
        {"feature_id": "f2", "name": "road", "composite_mask": {"url": "https://a/shared", "color_rgb": [9, 8, 7]}},
        POLYGON,
    )
    source, label = drawn({**write(tmp_path, row("a.jpg", *objects)), "mask_folder": str(tmp_path / "masks")})
    road, sky = source.class_names.index("road"), source.class_names.index("sky")
    assert (label[8:] == road).all() and (label[7] == 0).all() and (label == sky).sum() == 36 - 8


def test_outlines_beside_masks_must_be_inside_the_image_too(tmp_path):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((10, 12), 255, np.uint8)).save(tmp_path / "masks" / "f1.png")
    mask = {"feature_id": "f1", "name": "sky", "mask": {"url": "https://api.labelbox.com/masks/f1"}}
    far = {"name": "car", "bounding_box": {"top": 6, "left": 0, "height": 20, "width": 30}}
    with raises("shapes-outside", where="annotations"):
        drawn({**write(tmp_path, row("a.jpg", mask, far)), "mask_folder": str(tmp_path / "masks")})


def test_masks_without_a_folder_are_not_downloaded(tmp_path):
    mask = {"feature_id": "f1", "name": "sky", "mask": {"url": "https://api.labelbox.com/masks/f1"}}
    with raises("file-not-found", where="export.ndjson, row 1, object 1") as caught:
        drawn(write(tmp_path, row("a.jpg", mask)))
    assert "mask_folder" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"shapes": []}, "wrong-format"),
        (row("c.jpg", POLYGON), "image-not-found"),
        (row("a.jpg", {"name": "car", "polygon": [{"x": "1", "y": 1}]}), "wrong-type"),
        (row("a.jpg", {"polygon": SQUARE}), "missing-key"),
    ],
)
def test_errors_name_the_row(tmp_path, content, code):
    with raises(code, where="export.ndjson, row 1"):
        drawn(write(tmp_path, content))


def test_a_damaged_line_is_named(tmp_path):
    settings = write(tmp_path, row("a.jpg", POLYGON), row("b.jpg", POLYGON))
    path = tmp_path / "export.ndjson"
    path.write_text(path.read_text()[:-3])
    with raises("invalid-json", where="line 2"):
        drawn(settings)
