"""SBD, the Semantic Boundaries Dataset: masks for PASCAL VOC's images, which extend its train split to train_aug.

Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011. The archive unpacks to
benchmark_RELEASE/dataset with img/, cls/ (one MATLAB file per mask), train.txt and val.txt.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deeplab.data.matlab_files import Content, read_matrices
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.name_lists import read_list
from deeplab.data.readers.source import Painter, Pair
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import read_file
from deeplab.utils.text import counted, shorten

PUBLISHED_SIZE = 10582  # of train_aug
_INSIDE = ("", "dataset", "benchmark_RELEASE/dataset")  # where the lists may be below `sbd_root`
_UNPACK = "unpack benchmark.tgz again"


@dataclass(frozen=True)
class SbdMask:
    """A mask in a MATLAB file: struct GTcls, field Segmentation."""

    path: str

    @property
    def where(self) -> str:
        """The file to name in messages."""
        return self.path

    @property
    def size(self) -> None:
        """Not known before the file is read; `draw` compares it with the image's."""
        return None

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """Draws the label, uint8 [height, width]: VOC's class indices 0 to 20; SBD ignores no pixel.

        Raises:
          UserError: the file cannot be read, or its mask has another size.
        """
        label = read_segmentation(self.path)
        if label.shape != (height, width):
            rule = f"the mask is {label.shape[1]}x{label.shape[0]} pixels, its image {width}x{height}"
            hint = f"image and mask are not from the same release: {_UNPACK}"
            raise UserError("size-mismatch", rule, hint, where=self.path, value=label.shape)
        return label


def read_segmentation(path: str | os.PathLike) -> np.ndarray:
    """Reads the mask in one of SBD's MATLAB files, uint8 [H, W].

    Raises:
      UserError: the file is not a MATLAB file, is damaged, or contains no such mask.
    """
    data = read_file(str(path))
    try:
        content = read_matrices(data)
    except ValueError as error:
        raise UserError("unreadable-file", f"cannot be read as a MATLAB file: {error}", _UNPACK, where=path) from None
    return _as_label(_field(content, path), path)


def _field(content: Mapping[str, Content], path: str | os.PathLike) -> Content:
    if "GTcls" not in content:
        rule = "contains no GTcls, so it is not one of SBD's class masks"
        raise UserError("wrong-format", rule, "they are in cls/; inst/ contains those of single objects", where=path)
    held = content["GTcls"]
    if not isinstance(held, dict) or "Segmentation" not in held:
        raise UserError("wrong-format", "its GTcls is not a struct with a field Segmentation", _UNPACK, where=path)
    return held["Segmentation"]


def _as_label(mask: Content, path: str | os.PathLike) -> np.ndarray:
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "uif":
        raise UserError("wrong-format", "its GTcls.Segmentation is not a matrix of numbers", _UNPACK, where=path)
    label = mask.astype(np.uint8)
    if not np.array_equal(label, mask):
        rule = "its GTcls.Segmentation contains numbers that are not class indices (0 to 255)"
        raise UserError("out-of-range", rule, _UNPACK, where=path)
    return np.ascontiguousarray(label)


def train_aug(voc_train: Sequence[Pair], voc_val_names: Sequence[str], sbd_root: str, image_folder: str) -> list[Pair]:
    """Returns VOC's train split together with SBD's images that are not in VOC's val split, sorted by name.

    Args:
      voc_train: pairs of VOC's train split; their masks, which are finer, are used where both have one.
      voc_val_names: names in VOC's val split, none of which may be trained on.
      sbd_root: the unpacked archive: benchmark_RELEASE, the folder dataset in it, or the folder that contains it.
      image_folder: VOC's JPEGImages; images that it lacks are taken from SBD's own img/.

    Raises:
      UserError: no SBD there, or images or masks that its lists name are missing; the first ten are named.
    """
    root = _dataset_folder(sbd_root)
    listed = {name for part in ("train", "val") for name in read_list(root / f"{part}.txt")}
    ours = {pair.name for pair in voc_train}
    names = sorted(listed - ours - set(voc_val_names))
    added = _pairs(root, names, image_folder)
    pairs = sorted([*voc_train, *added], key=lambda pair: pair.name)
    published = "" if len(pairs) == PUBLISHED_SIZE else f"; the published one has {PUBLISHED_SIZE}"
    console.note(f"train_aug: {len(pairs)} images, {len(ours)} of VOC's train and {len(added)} of SBD{published}")
    return pairs


def _dataset_folder(sbd_root: str) -> pathlib.Path:
    for inside in _INSIDE:
        folder = pathlib.Path(sbd_root) / inside
        if (folder / "cls").is_dir() and (folder / "train.txt").is_file() and (folder / "val.txt").is_file():
            return folder
    rule = f"{sbd_root} is not SBD: it needs cls/, train.txt and val.txt, as in benchmark_RELEASE/dataset"
    hint = "unpack benchmark.tgz and set the folder benchmark_RELEASE"
    raise UserError("wrong-layout", rule, hint, field="sbd_root", value=sbd_root)


def _pairs(root: pathlib.Path, names: Sequence[str], image_folder: str) -> list[Pair]:
    masks = Folder(root / "cls", (".mat",))
    folders = [Folder(folder, (".jpg", ".jpeg")) for folder in (pathlib.Path(image_folder), root / "img")]
    pairs, missing = [], []
    for name in names:
        mask = next(iter(masks.candidates(name)), "")
        image = next((path for folder in folders for path in folder.candidates(name)), "")
        missing += [f"cls/{name}.mat"] * (not mask) + [f"img/{name}.jpg"] * (not image)
        pairs.append(Pair(name, image, SbdMask(mask)))
    if missing:
        rule = f"cannot find {counted(len(missing), 'file')} that its lists name: {shorten(missing, 10)}"
        raise UserError("files-missing", rule, _UNPACK, where=root, value=tuple(missing))
    return pairs
