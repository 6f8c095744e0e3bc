"""The layout of PASCAL VOC: a folder of images, one of masks, and lists of names, which are the splits."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deeplab.config.fields import Config, setting, split_words
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers import register_format
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.name_lists import find_lists, is_other_text, read_names
from deeplab.data.readers.pairs import classes_beside, pair_by_names
from deeplab.data.readers.source import Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_folder


@dataclass(frozen=True)
class BuildVocConfig(Config):
    """Where images, masks and lists are."""

    image_folder: str = setting("./VOCdevkit/VOC2012/JPEGImages", "Folder of the images.")
    semantic_segmentation_folder: str = setting(
        "./VOCdevkit/VOC2012/SegmentationClassRaw", "Folder of the masks; palette PNG or gray."
    )
    list_folder: str = setting(
        "./VOCdevkit/VOC2012/ImageSets/Segmentation",
        "Folder of the lists: each NAME.txt is split NAME, one image name per line.",
    )
    image_format: str = setting(
        "",
        "Extension of the images (unset: whichever an image has; the reference has png).",
        choices=("", "jpg", "jpeg", "png"),
    )
    label_format: str = setting("png", "Extension of the masks.", choices=("png",))
    splits: str = setting("", "Lists to read, by name, with commas (unset: all).")
    on_missing: str = setting(
        "fail", "Names in lists whose image or mask does not exist: stop, or leave them out.", choices=("fail", "skip")
    )
    sbd_root: str = setting(
        "", "Folder of the unpacked SBD (benchmark_RELEASE): adds its masks to the train split, as split train_aug."
    )


@register_format("voc", BuildVocConfig, output_dir="./tfrecord")
def read_voc(config: BuildVocConfig) -> Source:
    """Reads the pairs of every split that has a list, and of train_aug if `sbd_root` is set.

    Raises:
      UserError: folders, lists or files are missing.
    """
    wanted = split_words(config.splits)
    lists = find_lists(config.list_folder, wanted)
    require_folder(config.image_folder, "image_folder")
    require_folder(config.semantic_segmentation_folder, "semantic_segmentation_folder")
    extensions = (f".{config.image_format}",) if config.image_format else IMAGE_EXTENSIONS
    images = Folder(config.image_folder, extensions, "image_format")
    masks = Folder(config.semantic_segmentation_folder, (f".{config.label_format}",))
    names = {split: read_names(path, images.find) for split, path in lists.items()}
    names = _without_other_texts(names, lists, images, wanted)
    splits: dict[str, list[Pair]] = {
        split: pair_by_names(members, images, masks, "", str(lists[split]), config.on_missing == "skip")
        for split, members in names.items()
    }
    if config.sbd_root:
        splits["train_aug"] = _train_aug(config, splits)
    masks_folder = pathlib.Path(config.semantic_segmentation_folder)
    return Source(splits, **classes_beside(masks_folder, masks_folder.parent))


def _train_aug(config: BuildVocConfig, splits: Mapping[str, Sequence[Pair]]) -> list[Pair]:
    lacking = [split for split in ("train", "val") if split not in splits]
    if lacking:
        rule = f"needs VOC's own lists train and val, which define train_aug: there is no {lacking[0]}"
        raise UserError("missing-split", rule, "add it to `splits`", field="sbd_root", value=lacking[0])
    from deeplab.data.readers.sbd import train_aug

    held_out = [pair.name for pair in splits["val"]]
    return train_aug(splits["train"], held_out, config.sbd_root, config.image_folder)


def _without_other_texts(
    names: Mapping[str, list[str]], lists: Mapping[str, pathlib.Path], images: Folder, wanted: Sequence[str]
) -> dict[str, list[str]]:
    """Returns the names of each list. A README.txt among the lists is left out with a note.

    Raises:
      UserError: a list names no image that exists, while others do (`wrong-format`).
    """
    real = [split for split, members in names.items() if any(map(images.find, members))]
    kept = dict(names)
    for split in names:
        if split in real or not real:
            continue
        if not wanted and is_other_text(lists[split], names[split], images):
            console.note(f"{lists[split]} is not a list of images, and is left out")
            del kept[split]
            continue
        rule = f"is not a list of images: none of its {len(names[split])} lines names one in {images.path}"
        raise UserError("wrong-format", rule, f"leave it out with `splits={','.join(real)}`", where=lists[split])
    return kept
