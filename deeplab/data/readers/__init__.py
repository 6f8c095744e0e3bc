"""Readers of annotation formats: a folder or file in, a `Source` of images, labels, splits and class names out.

`FORMATS` is the registry. A reader is one module: a config dataclass and a function from it to a `Source`, registered
with `register_format`. Readers read no pixels, and are imported when they are used. `deeplab/data/conversion` divides
what has no splits and writes the records; it knows no format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from deeplab.data.split_names import usual_name
from deeplab.utils import console
from deeplab.utils.registry import Registry

if TYPE_CHECKING:
    from deeplab.data.readers.source import Source

_ReadFunction = TypeVar("_ReadFunction", bound=Callable[..., Any])


@dataclass(frozen=True)
class Format:
    """One annotation format.

    Attributes:
      config: its config dataclass.
      reader: reads a dataset of this format; takes an instance of `config`.
      output_dir: folder of the records unless `output_dir` is set; empty: it must be set.
      num_shards: shards per split unless `num_shards` is set.
    """

    config: type
    reader: Callable[[Any], Source]
    output_dir: str = ""
    num_shards: int = 4

    def read(self, config: Any) -> Source:
        """Reads a dataset; its splits have the names that the commands use: train, val, test.

        Args:
          config: an instance of `config`.

        Raises:
          UserError: as the reader.
        """
        source = self.reader(config)
        return dataclasses.replace(source, splits=_with_usual_names(source.splits))


FORMATS: Registry[Format] = Registry("annotation format")

for _name, _summary in {
    "folder": "two parallel folders of images and masks",
    "binary": "one black-and-white mask per class and image, as in ISIC",
    "voc": "PASCAL VOC: images, masks, and lists of the splits; SBD",
    "cityscapes": "Cityscapes: leftImg8bit, gtFine or gtCoarse",
    "ade20k": "ADE20K scene parsing",
    "ade20k_full": "ADE20K's full release of 2021: all names of objects",
    "vistas": "Mapillary Vistas: label masks and their JSON file",
    "camvid": "CamVid: color masks as published, or SegNet's folders",
    "coco": "COCO JSON: polygons and RLE, crowds, things and stuff",
    "coco_panoptic": "COCO panoptic: a JSON file, and PNG files of segments",
    "labelme": "labelme: one JSON file per image",
    "cvat": "CVAT for images 1.1, CVAT for video 1.1: XML",
    "label_studio": "Label Studio: JSON, polygons and brush masks",
    "via": "VGG Image Annotator: JSON or CSV",
    "supervisely": "Supervisely: the folders of a project",
    "yolo": "YOLO: polygons in text files",
    "isat": "ISAT: one JSON file per image, polygons in layers",
    "labelme_xml": "LabelMe 3 (MIT): one XML file per image",
    "labelbox": "Labelbox: NDJSON or JSON export",
    "darwin": "V7 Darwin: one JSON file per image",
    "nifti": "NIfTI volumes: each slice is an image (extra `medical`)",
    "parquet": "parquet and Arrow files, as of Hugging Face datasets (extra `hf`)",
    "rle_csv": "Kaggle's CSV of run lengths",
    "deepfashion2": "DeepFashion2: clothes in 13 classes",
}.items():
    FORMATS.register_lazily(_name, f"{__name__}.{_name}", _summary)


def register_format(name: str, config: type, **defaults: Any) -> Callable[[_ReadFunction], _ReadFunction]:
    """Returns a decorator that registers a read function.

    Args:
      name: the format's name in `FORMATS`.
      config: its config dataclass.
      defaults: `output_dir` and `num_shards`, where they differ from those of `Format`.
    """

    def register(read: _ReadFunction) -> _ReadFunction:
        FORMATS.register(name)(Format(config, read, **defaults))
        return read

    return register


def _with_usual_names(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Renames splits such as `valid` and `Training`, and says so.

    A single split `default`, as CVAT writes it, tells nothing, and is divided; beside train it is val.
    """
    names = {split: usual_name(split) for split in splits}
    if "default" in splits:
        names["default"] = "" if len(splits) == 1 else "default" if "val" in names.values() else "val"
    if len(set(names.values())) < len(names):  # both `val` and `valid`
        return dict(splits)
    changed = [f"{split} is {name or 'divided'}" for split, name in names.items() if name != split]
    if changed:
        console.note(f"splits: {', '.join(changed)}")
    return {names[split]: pairs for split, pairs in splits.items()}
