"""LabelMe 3: polygons, masks in PNG files, deleted objects, files that are none."""

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.conversion_config import FilePerImageConfig
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.labelme_xml import read_labelme_xml
from deeplab.data.readers.source import Painter

SQUARE = ((1, 1), (5, 1), (5, 5), (1, 5))


def outline(name, points=SQUARE, deleted=0):
    points = "".join(f"<pt><x> {x} </x><y>{y}</y></pt>" for x, y in points)
    return f"<object><name>\n{name}\n</name><deleted>{deleted}</deleted><polygon>{points}</polygon></object>"


def masked(name, file):
    return f"<object><name>{name}</name><deleted>0</deleted><segm><mask>{file}</mask></segm></object>"


def write(folder, *objects, size="<imagesize><nrows>10</nrows><ncols>12</ncols></imagesize>"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10)).save(folder / "a.jpg")
    text = f"<annotation><filename>a.jpg</filename>{size}{''.join(objects)}</annotation>"
    (folder / "a.xml").write_text(text)
    return folder


def drawn(folder, **settings):
    source = read_labelme_xml(FilePerImageConfig(annotation_folder=str(folder), **settings))
    pair = source.pairs()[0]
    return source, pair, pair.mask.draw(Painter(source.class_names, LabelSpec()), 10, 12)


def test_polygons_in_the_order_of_the_file_without_deleted_ones(tmp_path):
    objects = outline("car"), outline("dog", ((3, 3), (9, 3), (9, 9), (3, 9))), outline("gone", deleted=1)
    source, pair, label = drawn(write(tmp_path, *objects))
    assert source.class_names == ("background", "car", "dog") and pair.mask.size == (10, 12)
    assert (label == 2).sum() == 36 and (label == 1).sum() == 16 - 4


@pytest.mark.parametrize("place", ["annotations/Masks", "annotations", "Masks"])
def test_objects_whose_pixels_are_in_a_file(tmp_path, place):
    folder = write(tmp_path / "annotations", outline("car"), masked("dog", "a_mask_1.png"))
    (tmp_path / place).mkdir(exist_ok=True)
    pixels = np.zeros((10, 12), np.uint8)
    pixels[4:7, 4:7] = 255
    Image.fromarray(pixels).save(tmp_path / place / "a_mask_1.png")
    source, _, label = drawn(folder)
    assert source.class_names == ("background", "car", "dog")
    assert (label == 2).sum() == 9 and (label == 1).sum() == 16 - 1


def test_a_mask_that_does_not_exist(tmp_path):
    with raises("file-not-found", where="a.xml, object 1"):
        drawn(write(tmp_path, masked("dog", "../../etc/passwd")))


def test_a_file_without_a_size_fits_any_image(tmp_path):
    _, pair, _ = drawn(write(tmp_path, outline("car"), size=""))
    assert pair.mask.size is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<annotation><object><name>a</name><bndbox/></object></annotation>", "wrong-format"),  # PASCAL VOC
        ("<annotations/>", "wrong-format"),  # CVAT
        ("<annotation>", "invalid-xml"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>", "wrong-format"),
        ("<annotation>" * 60, "invalid-xml"),
        (f"<annotation>{outline('', SQUARE)}</annotation>", "empty-name"),
        (f"<annotation>{outline('car', (('x', 1),))}</annotation>", "invalid-points"),
    ],
)
def test_errors(tmp_path, text, code):
    write(tmp_path)
    (tmp_path / "a.xml").write_text(text)
    with raises(code, where="a.xml"):
        drawn(tmp_path)
