"""Which annotation files a setting means: files of several images, or one file per image, and the split of each.

Readers of annotation formats call `files_by_split` or `read_each`. What the files contain is read by each reader, with
`annotation_values`; their images are found by `image_finder`; the pairs are collected by `collector`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from deeplab.config.conversion_config import FilePerImageConfig
from deeplab.data.readers.collector import Collector
from deeplab.data.readers.image_finder import ImageFinder
from deeplab.data.readers.name_lists import paths_by_split
from deeplab.data.split_names import split_in
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import list_files, require_folder

_FOLDER = "annotation_folder"


def files_by_split(text: str, field: str, *extensions: str) -> list[tuple[str, str]]:
    """Returns split and path of each annotation file of a setting; the split is UNDIVIDED if nothing tells it.

    `train:FILE,val:FILE` names the splits. Otherwise the names of the files tell them, if all do
    (`instances_train2017.json`), or those of the folders in which they are (`train/via.json,val/via.json`).

    Args:
      text: the value of the setting: files or folders, with commas.
      field: its name, for messages.
      extensions: of the files that count in a folder and its subfolders, such as ".json".

    Raises:
      UserError: the value is empty, a folder contains no such file, or only some parts name a split.
    """
    found = [
        (split, file)
        for split, path in paths_by_split(text, field)
        for file in (_files_in(path, extensions) if os.path.isdir(path) else [path])
    ]
    if found[0][0]:
        return found
    paths = [path for _, path in found]
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    folders = [os.path.basename(os.path.dirname(os.path.abspath(path))) for path in paths]
    for names in (stems, folders):
        splits = [split_in(name) for name in names]
        # A single split must be the last word of every file's name: `test_export.json` is no test split.
        if all(splits) and (len(set(splits)) > 1 or (names is stems and all(map(_ends_with_split, names)))):
            return list(zip(splits, paths, strict=True))
    return found


def _ends_with_split(name: str) -> bool:
    return split_in(re.findall("[A-Za-z]+", name)[-1]) != ""


def _files_in(folder: str, extensions: tuple[str, ...]) -> list[str]:
    found = [os.path.join(folder, name) for name in list_files(folder) if name.lower().endswith(extensions)]
    if not found:
        rule = f"contains no {' or '.join(extensions)} file, nor does a subfolder"
        raise UserError("no-files", rule, "give the folder that contains the annotations", where=folder)
    return found


def find_named(images: ImageFinder, stored: str, path: str, inside: str, collector: Collector) -> str:
    """Returns the path of the image of an annotation file: as the file says, else with the file's own name.

    Args:
      images: finder of the images.
      stored: the name that the file gives; may be empty.
      path: of the annotation file.
      inside: its subfolder, in which is looked first.
      collector: counts images that were found by the name of their file.

    Raises:
      UserError: there is no such image, or there are several.
    """
    own = f"{os.path.splitext(os.path.basename(path))[0]}.jpg"  # every image extension will be tried
    if not images.look_up(stored, inside) and images.look_up(own, inside):
        if stored:
            collector.note("images found by the name of the annotation file, as the name in it is wrong", path)
        stored = own
    return images.find(stored or own, path, inside)


@dataclass(frozen=True)
class AnnotationFile:
    """The annotation file of one image.

    Attributes:
      path: where it is.
      name: its path in the folder of the annotations.
      split: of its image; `UNDIVIDED` if that is not known.
      images: finds its image.
    """

    path: str
    name: str
    split: str
    images: ImageFinder

    @property
    def inside(self) -> str:
        """The subfolder that it is in, in which its image is looked for first."""
        return os.path.dirname(self.name)


def read_each(
    config: FilePerImageConfig,
    extension: str,
    read: Callable[[AnnotationFile, Collector], None],
    is_image: Callable[[str], bool] = lambda path: True,
) -> tuple[Collector, list[str]]:
    """Reads the annotation file of every image, and reports what is wrong with them.

    Images without an annotation file are left out: they are not known to be empty.

    Args:
      config: where files and images are.
      extension: of the annotation files, such as ".json".
      read: reads one file into the collector.
      is_image: tells, by their paths, images from other image files in the folder.

    Returns:
      What was collected, and the folders of the annotations.

    Raises:
      UserError: no such folder or no such file in it; whatever `read` raises; no pair is left.
    """
    collector = Collector(config)
    files = _files_per_image(config.annotation_folder, extension)
    finders = {folder: ImageFinder(config.image_folder or folder) for _, folder, _ in files}
    for split, folder, name in console.progress(files, what="reading annotations", unit="file"):
        with collector.catching():
            read(AnnotationFile(os.path.join(folder, name), name, split, finders[folder]), collector)
    unused = {path for finder in finders.values() for path in finder.unused() if is_image(path)}
    collector.left_out(sorted(unused), f"without a {extension} file")
    collector.report()
    collector.require_pairs(config.annotation_folder, "`skip_empty=false` keeps images without a shape")
    return collector, list(finders)


def _files_per_image(text: str, extension: str) -> list[tuple[str, str, str]]:
    """Returns split, folder and path in the folder of each annotation file, of formats with one per image.

    `train:FOLDER,val:FOLDER` names the splits. Otherwise subfolders that are all named after splits are the splits.

    Raises:
      UserError: a folder does not exist, or contains no such file.
    """
    found: list[tuple[str, str, str]] = []
    for split, folder in paths_by_split(text, _FOLDER):
        require_folder(folder, _FOLDER)
        names = [name for name in list_files(folder) if name.lower().endswith(extension)]
        if not names:
            rule = f"contains no {extension} file, nor does a subfolder"
            raise UserError("no-files", rule, f"`{_FOLDER}` is the folder of the annotations", where=folder)
        inside = {name.partition("/")[0]: split_in(name.partition("/")[0]) for name in names if "/" in name}
        told = not split and all("/" in name for name in names) and all(inside.values()) and len(inside) > 1
        found += [(inside[name.partition("/")[0]] if told else split, folder, name) for name in names]
    return found
