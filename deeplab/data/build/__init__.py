"""Record builders: layouts of images and masks in, TFRecord shards and `dataset.yml` out.

`FORMATS` lists the layouts; a builder's script (`datasets/build_*_data.py`) is one line over an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deeplab.data.build.folder import BuildFolderConfig, build_folder
from deeplab.data.build.settings import LabelConfig, RecordConfig
from deeplab.data.build.voc import BuildVocConfig, build_voc
from deeplab.data.dataset import Dataset


@dataclass(frozen=True)
class Format:
    """One layout.

    Attributes:
      summary: one line for a list of formats.
      groups: settings groups, in the order of the function's arguments.
      function: builds the records.
    """

    summary: str
    groups: tuple[type, ...]
    function: Callable[..., Dataset]


FORMATS: dict[str, Format] = {
    "voc": Format(
        "PASCAL VOC: images, masks, and a list of names for each split",
        (BuildVocConfig, LabelConfig, RecordConfig),
        build_voc,
    ),
    "folder": Format(
        "two parallel folders of images and masks, divided by a seed and a share, or by lists",
        (BuildFolderConfig, LabelConfig, RecordConfig),
        build_folder,
    ),
}
