"""Record builders: data sets in any usual layout in, TFRecord shards and `dataset.yml` out.

`FORMATS` lists the layouts. Each is a module with a settings group and a function that makes a `Source` of it: which
images there are, where their labels come from, which split they belong to, what the classes are. `sources.py` divides
what has no splits, `engine.py` writes the records; neither knows the layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deeplab.data.build.folder import BuildFolderConfig, read_folder
from deeplab.data.build.source import Source
from deeplab.data.build.voc import BuildVocConfig, read_voc


@dataclass(frozen=True)
class Format:
    """One layout.

    Attributes:
      summary: one line for a list of formats.
      config: its settings group.
      read: what a data set of this layout holds.
      output_dir: where records go unless `--output_dir` says; empty: it must.
      num_shards: shards of a split unless `--num_shards` says.
    """

    summary: str
    config: type
    read: Callable[[Any], Source]
    output_dir: str = ""
    num_shards: int = 4


FORMATS: dict[str, Format] = {
    "folder": Format("two parallel folders of images and masks", BuildFolderConfig, read_folder),
    "voc": Format("PASCAL VOC: images, masks, and lists of the splits; SBD", BuildVocConfig, read_voc, "./tfrecord"),
}
