"""DeepFashion2: photos of clothes, and one JSON file per photo with the outlines of 13 kinds of them.

The items of a photo are painted from the largest to the smallest. Annotation files are opened when their label is
drawn, so that hundreds of thousands of them are neither read one after the other nor kept in memory. Up to 500 of each
split, evenly spread, are read before, to find shapes that do not fit the images.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deeplab.config.conversion_config import DrawnConfig
from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_values import read_json, require
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder
from deeplab.data.readers.shapes import Shape, polygons
from deeplab.data.readers.source import UNDIVIDED, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import list_files, require_folder

CLOTHES = (  # by `category_id`, from 1
    "short sleeve top",
    "long sleeve top",
    "short sleeve outwear",
    "long sleeve outwear",
    "vest",
    "sling",
    "shorts",
    "trousers",
    "skirt",
    "short sleeve dress",
    "long sleeve dress",
    "vest dress",
    "sling dress",
)
_SPLITS = {"train": "train", "val": "validation"}  # by split, the folders of the published archives
_MAX_LOOKED_AT = 500  # annotation files of a split, of which shapes outside the image are counted
_HINT = "use the files of DeepFashion2's annos/"


@dataclass(frozen=True)
class BuildDeepFashion2Config(DrawnConfig):
    """Where annotation files and images are."""

    deepfashion2_root: str = setting("", "Folder with train/ and validation/, each with image/ and annos/.")
    annotation_folder: str = setting("", "Instead: folder of annotation files, 000001.json ...")
    image_folder: str = setting("", "And that of their images, 000001.jpg ...")
    overlap: str = setting(
        "area",
        "Which item covers which: small ones the large ones, or later ones in the file the earlier ones.",
        choices=("file", "area"),
    )

    def validate(self) -> None:
        given = [bool(folder) for folder in (self.annotation_folder, self.image_folder)]
        if bool(self.deepfashion2_root) == any(given) or any(given) != all(given):
            rule = "must be set, or both `annotation_folder` and `image_folder`"
            hint = "`deepfashion2_root=FOLDER`, or `annotation_folder=.../annos` `image_folder=.../image`"
            raise UserError("conflicting-settings", rule, hint, field="deepfashion2_root")


@register_format("deepfashion2", BuildDeepFashion2Config)
def read_deepfashion2(config: BuildDeepFashion2Config) -> Source:
    """Reads the pairs of DeepFashion2, with its 13 classes after the background.

    Raises:
      UserError: folders or images do not exist.
    """
    collector = Collector(config)
    for split, (annotation_folder, image_folder) in _folders(config).items():
        _add_split(split, annotation_folder, image_folder, config, collector)
    collector.report()
    where = config.deepfashion2_root or config.annotation_folder
    collector.require_pairs(where, "it should contain 000001.json ...")
    return Source(collector.splits, collector.class_names(CLOTHES), drawn=True)


def _folders(config: BuildDeepFashion2Config) -> Mapping[str, tuple[str, str]]:
    """Returns the folders of annotations and images by split."""
    if not config.deepfashion2_root:
        return {UNDIVIDED: (config.annotation_folder, config.image_folder)}
    root = pathlib.Path(config.deepfashion2_root)
    require_folder(root, "deepfashion2_root")
    found = {split: root / folder for split, folder in _SPLITS.items() if (root / folder).is_dir()}
    if not found:
        rule = f"{root} contains neither {' nor '.join(_SPLITS.values())}"
        raise UserError("wrong-layout", rule, "unpack train.zip and validation.zip there", field="deepfashion2_root")
    return {split: (str(folder / "annos"), str(folder / "image")) for split, folder in found.items()}


def _add_split(
    split: str, annotation_folder: str, image_folder: str, config: BuildDeepFashion2Config, collector: Collector
) -> None:
    require_folder(annotation_folder, "deepfashion2_root" if split else "annotation_folder")
    finder = ImageFinder(image_folder, "deepfashion2_root" if split else "image_folder")
    names = [name for name in list_files(annotation_folder) if name.lower().endswith(".json")]
    step = math.ceil(len(names) / _MAX_LOOKED_AT)
    for number, name in enumerate(
        console.progress(names, what=f"finding images{' of ' * bool(split)}{split}", unit="file")
    ):
        path = os.path.join(annotation_folder, name)
        with collector.catching():
            image = finder.find(os.path.splitext(name)[0] + ".jpg", path)
            empty = config.skip_empty and not items_of(path)
            pair_name = f"{split}/{finder.name(image)}" if split else finder.name(image)  # each split counts from 1
            shapes = functools.partial(_draw, path)
            outlines = _known_items(path) if number % step == 0 else []
            collector.add(pair_name, image, path, shapes, split=split, empty=empty, outlines=outlines)
    collector.left_out(finder.unused(), "without an annotation file")


def _known_items(path: str) -> list[Shape]:
    """Returns the items of an annotation file; none if it is damaged, which drawing it reports."""
    with contextlib.suppress(UserError):
        return items_of(path)
    return []


def _draw(path: str, height: int, width: int) -> list[Shape]:
    """Returns the shapes of an annotation file, for an image of any size."""
    return items_of(path)


def items_of(path: str) -> list[Shape]:
    """Reads the items of an annotation file, `item1`, `item2` ...; those without an area are left out.

    Raises:
      UserError: the file cannot be read, or an item breaks the format.
    """
    content = read_json(path)
    keys = [key for key in content if key.startswith("item")] if isinstance(content, dict) else []
    if not keys and (not isinstance(content, dict) or not {"source", "pair_id"} & content.keys()):
        raise UserError("wrong-format", "has no item1, and no 'source' either", _HINT, where=path)
    items = [_item(content[key], f"{path}, {key}") for key in keys]
    return [item for item in items if item.has_area]


def _item(item: Any, where: str) -> Shape:
    category = require(item, "category_id", int, where)
    if not 1 <= category <= len(CLOTHES):
        rule = f"'category_id' must be from 1 to {len(CLOTHES)}, not {category}"
        raise UserError("out-of-range", rule, "correct it, or remove the item", where=where, value=category)
    return polygons(CLOTHES[category - 1], require(item, "segmentation", list, where), where=where)
