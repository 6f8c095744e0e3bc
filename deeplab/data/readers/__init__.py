"""Record builders: datasets in any usual layout in, TFRecord shards and `dataset.yml` out.

`FORMATS` lists the layouts. Each is a module with a settings group and a function that makes a `Source` of it: which
images there are, where their labels come from, which split they belong to, what the classes are. `sources.py` divides
what has no splits, `engine.py` writes the records; neither knows the layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deeplab.data.readers.ade20k import BuildAde20kConfig, read_ade20k
from deeplab.data.readers.binary import BuildBinaryConfig, read_binary
from deeplab.data.readers.camvid import BuildCamvidConfig, read_camvid
from deeplab.data.readers.cityscapes import BuildCityscapesConfig, read_cityscapes
from deeplab.data.readers.coco import BuildCocoConfig, read_coco
from deeplab.data.readers.cvat import BuildCvatConfig, read_cvat
from deeplab.data.readers.deepfashion2 import BuildDeepFashion2Config, read_deepfashion2
from deeplab.data.readers.folder import BuildFolderConfig, read_folder
from deeplab.data.readers.label_studio import BuildLabelStudioConfig, read_label_studio
from deeplab.data.readers.labelme import BuildLabelmeConfig, read_labelme
from deeplab.data.readers.source import Source
from deeplab.data.readers.supervisely import BuildSuperviselyConfig, read_supervisely
from deeplab.data.readers.via import BuildViaConfig, read_via
from deeplab.data.readers.voc import BuildVocConfig, read_voc
from deeplab.data.readers.yolo import BuildYoloConfig, read_yolo


@dataclass(frozen=True)
class Format:
    """One layout.

    Attributes:
      summary: one line for a list of formats.
      config: its settings group.
      read: what a dataset of this layout holds.
      output_dir: where records go unless `output_dir` says; empty: it must.
      num_shards: shards of a split unless `num_shards` says.
    """

    summary: str
    config: type
    read: Callable[[Any], Source]
    output_dir: str = ""
    num_shards: int = 4


FORMATS: dict[str, Format] = {
    "folder": Format("two parallel folders of images and masks", BuildFolderConfig, read_folder),
    "binary": Format("one mask of yes and no for each class, as in ISIC", BuildBinaryConfig, read_binary),
    "voc": Format("PASCAL VOC: images, masks, and lists of the splits; SBD", BuildVocConfig, read_voc, "./tfrecord"),
    "cityscapes": Format(
        "Cityscapes: leftImg8bit and gtFine", BuildCityscapesConfig, read_cityscapes, "./tfrecord", num_shards=10
    ),
    "ade20k": Format("ADE20K scene parsing", BuildAde20kConfig, read_ade20k, "./ADE20K/tfrecord"),
    "camvid": Format("CamVid: color masks as published, or SegNet's folders", BuildCamvidConfig, read_camvid),
    "coco": Format("COCO JSON: polygons and RLE, crowds, things and stuff", BuildCocoConfig, read_coco),
    "labelme": Format("labelme: one JSON an image", BuildLabelmeConfig, read_labelme),
    "cvat": Format("CVAT for images 1.1: XML", BuildCvatConfig, read_cvat),
    "label_studio": Format("Label Studio: JSON, polygons and brush", BuildLabelStudioConfig, read_label_studio),
    "via": Format("VGG Image Annotator: JSON", BuildViaConfig, read_via),
    "supervisely": Format("Supervisely: a project's folders", BuildSuperviselyConfig, read_supervisely),
    "yolo": Format("YOLO: polygons in text files", BuildYoloConfig, read_yolo),
    "deepfashion2": Format("DeepFashion2: clothes in 13 classes", BuildDeepFashion2Config, read_deepfashion2),
}
