"""The layout of Cityscapes: leftImg8bit/SPLIT/CITY for images, gtFine or gtCoarse likewise for masks.

Records need masks of train ids. Cityscapes ships masks of label ids; its script createTrainIdLabelImgs makes the
others. Both are read: label ids are mapped while records are built.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deeplab.config.fields import Config, setting, split_words
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers import register_format
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.source import Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.paths import require_folder
from deeplab.utils.text import shorten

# Which folders make which split. The names are those that the reference's descriptor and training commands use.
_SPLITS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "gtFine": {"train_fine": ("train",), "val_fine": ("val",), "trainval_fine": ("train", "val")},
    "gtCoarse": {"train_coarse": ("train", "train_extra"), "trainval_coarse": ("train", "train_extra", "val")},
}
_USUAL_SPLITS = {"gtFine": ("train_fine", "val_fine"), "gtCoarse": ("train_coarse",)}

# Label ids of the 19 classes in the order of their train ids; all other ids from 0 to 33 are not evaluated (Cordts et
# al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016).
_IDS_OF_CLASSES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_NUM_IDS = 34
TRAIN_IDS: Mapping[int, int] = {
    label: _IDS_OF_CLASSES.index(label) if label in _IDS_OF_CLASSES else 255 for label in range(_NUM_IDS)
}

_IMAGES = "leftImg8bit"
_TRAIN_IDS, _LABEL_IDS = "labelTrainIds", "labelIds"


@dataclass(frozen=True)
class BuildCityscapesConfig(Config):
    """Where Cityscapes is, and which annotations and splits to read."""

    cityscapes_root: str = setting("./cityscapes", "Folder that contains leftImg8bit/ and gtFine/ or gtCoarse/.")
    image_format: str = setting(
        "", "Extension of the images (unset: whichever an image has).", choices=("", "jpg", "jpeg", "png")
    )
    label_format: str = setting("png", "Extension of the masks.", choices=("png",))
    annotations: str = setting("gtFine", "Fine or coarse masks.", choices=("gtFine", "gtCoarse"))
    splits: str = setting(
        "",
        "Splits to build, with commas: train_fine, val_fine, trainval_fine; of gtCoarse train_coarse (which is train "
        "and train_extra) and trainval_coarse (unset: train_fine,val_fine; of gtCoarse train_coarse).",
    )


@dataclass(frozen=True)
class _CityscapesFrame:
    """One image: its place (`train/aachen/aachen_000000_000019`) and its file."""

    place: str
    image: str


@register_format("cityscapes", BuildCityscapesConfig, output_dir="./tfrecord", num_shards=10)
def read_cityscapes(config: BuildCityscapesConfig) -> Source:
    """Reads the pairs of the wanted splits, by city and name; they are called `aachen_000000_000019`.

    Raises:
      UserError: folders or masks are missing, or only some images have masks of train ids and the others only masks of
        label ids.
    """
    root = pathlib.Path(config.cityscapes_root)
    require_folder(root / _IMAGES, "cityscapes_root")
    require_folder(root / config.annotations, "cityscapes_root")
    wanted = _wanted_splits(config)
    parts = {part: _frames(root, part, config) for part in dict.fromkeys(part for of in wanted.values() for part in of)}
    frames = [frame for members in parts.values() for frame in members]
    kind = _kind_of_masks(root, frames, config.annotations)
    _leave_out_test(root, config.annotations)
    splits = {
        split: [_pair(root, frame, config.annotations, kind) for part in of for frame in parts[part]]
        for split, of in wanted.items()
    }
    return Source(splits, known="cityscapes", label_map=TRAIN_IDS if kind == _LABEL_IDS else {})


def _wanted_splits(config: BuildCityscapesConfig) -> dict[str, Sequence[str]]:
    known = _SPLITS[config.annotations]
    names = split_words(config.splits)
    for name in names:
        if name not in known:
            rule = f"{config.annotations} has no split {name!r}"
            raise UserError("unknown-split", rule, nearest(name, list(known)), field="splits", value=name)
    return {name: known[name] for name in names or _USUAL_SPLITS[config.annotations]}


def _frames(root: pathlib.Path, part: str, config: BuildCityscapesConfig) -> list[_CityscapesFrame]:
    """Returns the images of a part, sorted; none of `train_extra` if its 44 GB are not there."""
    extensions = (f".{config.image_format}",) if config.image_format else IMAGE_EXTENSIONS
    if part == "train_extra" and not (root / _IMAGES / part).is_dir():
        console.warning(f"{root / _IMAGES / part}: no such folder, so the split consists of train alone")
        return []
    require_folder(root / _IMAGES / part, "cityscapes_root")
    folder = Folder(root / _IMAGES / part, extensions, "image_format")
    ending = f"_{_IMAGES}"
    frames = []
    for stem in folder.wanted_stems():
        if stem.endswith(ending):
            files = folder.candidates(stem)
            if len(files) > 1:
                rule = f"there are several files of this image: {', '.join(map(os.path.basename, files))}"
                raise UserError("ambiguous-name", rule, "choose with `image_format`", where=files[0])
            frames.append(_CityscapesFrame(f"{part}/{stem.removesuffix(ending)}", files[0]))
    if not frames:
        rule = f"contains no CITY/NAME{ending} with {' or '.join(extensions)}"
        hint = "unpack leftImg8bit_trainvaltest.zip into `cityscapes_root`"
        raise UserError("no-files", rule, hint, where=folder.path)
    return frames


def _pair(root: pathlib.Path, frame: _CityscapesFrame, annotations: str, kind: str) -> Pair:
    return Pair(os.path.basename(frame.place), frame.image, _mask_of(root, frame, annotations, kind))


def _mask_of(root: pathlib.Path, frame: _CityscapesFrame, annotations: str, kind: str) -> str:
    return str(root / annotations / f"{frame.place}_{annotations}_{kind}.png")


def _kind_of_masks(root: pathlib.Path, frames: Sequence[_CityscapesFrame], annotations: str) -> str:
    """Returns the kind of mask that all images have: train ids if possible, else label ids.

    Raises:
      UserError: neither kind is complete.
    """

    def without(kind: str) -> list[str]:
        paths = (_mask_of(root, frame, annotations, kind) for frame in frames)
        return [path for path in paths if not os.path.isfile(path)]

    no_train_ids = without(_TRAIN_IDS)
    if not no_train_ids:
        return _TRAIN_IDS
    no_label_ids = without(_LABEL_IDS)
    if no_label_ids:
        raise _incomplete(root / annotations, no_train_ids, no_label_ids, len(frames))
    some = len(frames) - len(no_train_ids)
    only = f"only {some} of {len(frames)} images have masks of train ids" if some else "there are no masks of train ids"
    console.note(f"{root / annotations}: {only}: reading those of label ids, mapped to the 19 train ids")
    return _LABEL_IDS


def _incomplete(
    folder: pathlib.Path, no_train_ids: Sequence[str], no_label_ids: Sequence[str], number: int
) -> UserError:
    lacking = set(no_train_ids)
    neither = [path for path in no_label_ids if path.replace(_LABEL_IDS, _TRAIN_IDS) in lacking]
    if neither:
        shown = "".join(f"\n    {path}" for path in neither[:10]) + ("\n    ..." if len(neither) > 10 else "")
        rule = f"{len(neither)} of {number} images have no mask, neither *_{_TRAIN_IDS}.png nor:{shown}"
        hint = f"unpack {folder.name}_trainvaltest.zip or {folder.name}.zip again"
        return UserError("files-missing", rule, hint, where=folder, value=len(neither))
    rule = (
        f"two kinds of masks are mixed, and neither is complete: {len(no_train_ids)} of {number} images have no "
        f"*_{_TRAIN_IDS}.png, {len(no_label_ids)} no *_{_LABEL_IDS}.png ({shorten(no_label_ids, 3)})"
    )
    hint = "run createTrainIdLabelImgs of cityscapesscripts, or unpack the archive again"
    return UserError("files-missing", rule, hint, where=folder, value=len(no_label_ids))


def _leave_out_test(root: pathlib.Path, annotations: str) -> None:
    if annotations == "gtFine" and (root / _IMAGES / "test").is_dir():
        console.note(
            "split test is left out: its published masks are dummies; `deeplab predict` reads its images as they are"
        )
