"""PASCAL VOC's layout: lists that people wrote themselves, and the layout that CVAT exports."""

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig
from deeplab.data.mask_files import decode_label
from deeplab.data.readers import FORMATS
from deeplab.data.readers.classes import classes_from
from deeplab.data.readers.voc import BuildVocConfig

COLORS = {"background": (0, 0, 0), "road": (128, 64, 128), "sky": (70, 130, 180)}


@pytest.fixture
def folder(tmp_path):
    """Three images, and masks in colors."""
    for part in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (tmp_path / part).mkdir()
    for name in "abc":
        (tmp_path / "JPEGImages" / f"{name}.jpg").touch()
        Image.fromarray(np.array([list(COLORS.values())], np.uint8)).save(
            tmp_path / "SegmentationClass" / f"{name}.png"
        )
    return tmp_path


def read(folder, **settings):
    paths = (str(folder / part) for part in ("JPEGImages", "SegmentationClass", "ImageSets"))
    return FORMATS.get("voc").read(BuildVocConfig(*paths, **settings))


def names_of(source):
    return {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()}


@pytest.mark.parametrize(
    "text",
    ["# made by hand\n\na\n  \nb\n# c is blurred\n", "JPEGImages/a.jpg\nJPEGImages/b.jpg\n", "D:\\x\\a.jpg\r\nb\r\n"],
)
def test_lists_with_comments_blank_lines_and_paths(folder, text):
    (folder / "ImageSets" / "train.txt").write_bytes(text.encode())
    assert names_of(read(folder)) == {"train": ["a", "b"]}


def test_a_list_of_comments_only(folder):
    (folder / "ImageSets" / "train.txt").write_text("# a\n")
    with raises("empty-list", where="train.txt"):
        read(folder)


def test_the_export_of_cvat_needs_no_flags(folder):
    """Masks in colors, labelmap.txt beside the folders, and a single list that is called default."""
    (folder / "ImageSets" / "default.txt").write_text("a\nb\nc\n")
    lines = [f"{name}:{','.join(map(str, color))}::" for name, color in COLORS.items()]
    (folder / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines, ""]))
    source = read(folder)
    assert names_of(source) == {"": ["a", "b", "c"]}  # is divided
    classes = classes_from(LabelConfig(), source)
    mask = (folder / "SegmentationClass" / "a.png").read_bytes()
    assert classes.names == tuple(COLORS) and classes.colors == tuple(COLORS.values())
    assert decode_label(mask, "a.png", classes.rule).label.tolist() == [[0, 1, 2]]
