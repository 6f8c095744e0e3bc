"""Conversion of mask folders."""

import pathlib

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.conversion_config import ColorMaskConfig, RemoveColormapConfig
from deeplab.data.conversion.mask_tools import (
    convert_color_masks,
    remove_colormap,
)
from deeplab.data.mask_files import write_index_png

LFW = str(pathlib.Path(__file__).resolve().parents[4] / "datasets" / "lfw_parts.palette")
BLUE, RED, GREEN = (0, 0, 255), (255, 0, 0), (0, 255, 0)


def write_colors(path, *rows):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.array(rows, np.uint8)).save(path)


@pytest.fixture
def masks(tmp_path):
    write_colors(tmp_path / "colors" / "a.png", [BLUE, RED], [GREEN, BLUE])
    write_colors(tmp_path / "colors" / "b.ppm", [RED, RED])  # the LFW parts are PPM files
    return tmp_path


def convert(root, **settings):
    return convert_color_masks(ColorMaskConfig(str(root / "colors"), str(root / "out"), LFW, **settings))


def test_colors_become_palette_pngs_of_indices(masks, capsys):
    counts = convert(masks)
    assert counts[:3].tolist() == [2, 3, 1]
    image = Image.open(masks / "out" / "a.png")
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), [[0, 1], [2, 0]])
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), [[BLUE, RED], [GREEN, BLUE]])
    np.testing.assert_array_equal(np.asarray(Image.open(masks / "out" / "b.png")), [[1, 1]])
    assert "50.00%" in capsys.readouterr().out


def test_strange_color_stops_and_leaves_nothing(masks):
    write_colors(masks / "colors" / "c.png", [BLUE, (250, 0, 0)])
    with raises("unknown-color", where="c.png") as caught:
        convert(masks)
    assert "not in the palette (1 in all)" in caught.value.rule
    assert not (masks / "out").exists()
    assert convert(masks, color_tolerance=5.0)[:3].tolist() == [3, 4, 1]


def test_existing_masks_are_not_overwritten_unasked(masks):
    convert(masks)
    with raises("would-overwrite", field="output_dir") as caught:
        convert(masks)
    assert caught.value.value == ["a", "b"]
    convert(masks, overwrite=True)


def test_failure_while_overwriting_keeps_what_was_there(masks):
    convert(masks)
    write_colors(masks / "colors" / "c.png", [(9, 9, 9)])
    with raises("unknown-color", where="c.png"):
        convert(masks, overwrite=True)
    assert sorted(path.name for path in (masks / "out").iterdir()) == ["a.png", "b.png"]


def test_two_masks_of_one_name(masks):
    write_colors(masks / "colors" / "b.png", [BLUE])
    with raises("duplicate-names", field="mask_folder") as caught:
        convert(masks)
    assert caught.value.value == ["b"]


def test_folder_without_masks(tmp_path):
    with raises("folder-not-found", field="mask_folder"):
        convert(tmp_path)
    (tmp_path / "colors").mkdir()
    with raises("no-images", field="mask_folder"):
        convert(tmp_path)


def test_colormap_is_removed(tmp_path):
    label = np.array([[0, 1, 255]], np.uint8)
    (tmp_path / "gt").mkdir()
    write_index_png(tmp_path / "gt" / "a.png", label)
    remove_colormap(RemoveColormapConfig(str(tmp_path / "gt"), str(tmp_path / "raw")))
    image = Image.open(tmp_path / "raw" / "a.png")
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), label)


def test_files_that_only_look_like_masks_are_passed_over(masks, capsys):
    (masks / "colors" / "._a.png").write_bytes(b"\0\5\x16\7")  # what macOS puts beside files
    (masks / "colors" / "c.png").mkdir()
    convert(masks)
    assert sorted(path.name for path in (masks / "out").iterdir()) == ["a.png", "b.png"]


def test_the_extension_may_be_given_in_capitals(tmp_path):
    (tmp_path / "masks").mkdir()
    write_index_png(tmp_path / "masks" / "a.PNG", np.array([[0, 3]], np.uint8))
    remove_colormap(RemoveColormapConfig(str(tmp_path / "masks"), str(tmp_path / "out"), "PNG"))
    assert (tmp_path / "out" / "a.png").is_file()
