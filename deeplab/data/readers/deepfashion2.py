"""DeepFashion2: photos of clothes, and one JSON a photo with the outlines of 13 kinds of them.

The items of a photo are painted from the largest to the smallest. Annotation files are opened when their label is
drawn, so that hundreds of thousands of them neither wait for one another nor lie in memory.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.fields import setting
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_files import DrawnConfig, ImageFinder, Tally, read_json, require, require_pairs
from deeplab.data.readers.regions import in_order
from deeplab.data.readers.shapes import Shape, background_of, paint, polygon
from deeplab.data.readers.source import UNDIVIDED, Painter, Pair, Source, with_background
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


@dataclass(frozen=True)
class BuildDeepFashion2Config(DrawnConfig):
    """Where annotation files and images lie."""

    deepfashion2_root: str = setting("", "Folder with train/ and validation/, each with image/ and annos/.")
    annotation_folder: str = setting("", "Instead: folder of annotation files, 000001.json ...")
    image_folder: str = setting("", "And that of their images, 000001.jpg ...")
    overlap: str = setting(
        "area",
        "Which item covers which: small ones the large ones, or later ones in the file the earlier ones.",
        choices=("file", "area"),
    )

    def __post_init__(self) -> None:
        given = [bool(folder) for folder in (self.annotation_folder, self.image_folder)]
        if bool(self.deepfashion2_root) == any(given) or any(given) != all(given):
            hint = "`deepfashion2_root=FOLDER`, or `annotation_folder=.../annos` `image_folder=.../image`"
            raise UserError("unclassified", "or both other folders must be given", hint, field="deepfashion2_root")


@dataclass(frozen=True, eq=False)
class DeepFashion2Mask:
    """The label of one image; see `source.Mask`.

    Attributes:
      where: the annotation file.
      overlap: "area" or "file".
      size: the files state none.
    """

    where: str
    overlap: str = "area"
    size: tuple[int, int] | None = None

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width].

        Raises:
          UserError: the file cannot be read or breaks the format.
        """
        shapes = in_order(list(items_of(self.where).values()), self.overlap)
        return paint(shapes, painter, self.where, height, width, background=background_of(painter))


def items_of(path: str) -> dict[str, list[Shape]]:
    """The shapes of every item in an annotation file, `item1`, `item2` ...; an item is the union of its shapes.

    Raises:
      UserError: the file cannot be read, or an item breaks the format.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(
            "unclassified",
            "must hold an object with item1, item2 ...",
            "take the files of DeepFashion2's annos/",
            where=path,
        )
    keys = [key for key in content if key.startswith("item")]
    if not keys and "source" not in content and "pair_id" not in content:
        raise UserError(
            "unclassified", "has no item and no `source`", "take the files of DeepFashion2's annos/", where=path
        )
    return {key: _shapes(content[key], f"{path}, {key}") for key in keys}


def _shapes(item: Any, where: str) -> list[Shape]:
    category = require(item, "category_id", int, where)
    if not 1 <= category <= len(CLOTHES):
        raise UserError(
            "unclassified",
            f"`category_id` must be 1 to {len(CLOTHES)}, not {category}",
            "mend it, or take it out",
            where=where,
        )
    rings = require(item, "segmentation", list, where)
    return [polygon(CLOTHES[category - 1], ring, where=where) for ring in rings if ring != []]


@register_format("deepfashion2", BuildDeepFashion2Config)
def read_deepfashion2(config: BuildDeepFashion2Config) -> Source:
    """The pairs of DeepFashion2, with its 13 classes after the background.

    Raises:
      UserError: folders or images that are missing.
    """
    tally = Tally(config.skip_empty)
    for split, (annotation_folder, image_folder) in _folders(config).items():
        _gather(split, annotation_folder, image_folder, config, tally)
    tally.report()
    require_pairs(tally, config.deepfashion2_root or config.annotation_folder, "it should hold 000001.json ...")
    return Source(tally.splits, with_background(CLOTHES), drawn=True)


def _folders(config: BuildDeepFashion2Config) -> Mapping[str, tuple[str, str]]:
    """Folders of annotations and images by split."""
    if not config.deepfashion2_root:
        return {UNDIVIDED: (config.annotation_folder, config.image_folder)}
    root = pathlib.Path(config.deepfashion2_root)
    require_folder(root, "`deepfashion2_root`")
    found = {split: root / folder for split, folder in _SPLITS.items() if (root / folder).is_dir()}
    if not found:
        rule = f"{root} has neither {' nor '.join(_SPLITS.values())}"
        raise UserError("unclassified", rule, "unpack train.zip and validation.zip there", field="deepfashion2_root")
    return {split: (str(folder / "annos"), str(folder / "image")) for split, folder in found.items()}


def _gather(
    split: str, annotation_folder: str, image_folder: str, config: BuildDeepFashion2Config, tally: Tally
) -> None:
    require_folder(annotation_folder, "`annotation_folder`" if not split else "`deepfashion2_root`")
    finder = ImageFinder(image_folder, "`image_folder`" if not split else "`deepfashion2_root`")
    names = [name for name in list_files(annotation_folder) if name.lower().endswith(".json")]
    bar = console.progress(names, what=f"looking for images{' of ' * bool(split)}{split}", unit="file")
    for name in bar:
        path = os.path.join(annotation_folder, name)
        with tally.collecting():
            image = finder.find(os.path.splitext(name)[0] + ".jpg", path)
            empty = config.skip_empty and not any(items_of(path).values())
            pair_name = f"{split}/{finder.name(image)}" if split else finder.name(image)  # each split counts from 1
            tally.add(Pair(pair_name, image, DeepFashion2Mask(path, config.overlap)), path, split, empty)
    tally.left_out(finder.unused(), "without an annotation file")
