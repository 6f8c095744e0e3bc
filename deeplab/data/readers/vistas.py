"""Mapillary Vistas: masks of label numbers, whose names and colors are in a JSON file of the release.

Version 1.2 has 66 labels, version 2.0 has 124. Labels that the release does not evaluate (`evaluate: false`) mark
pixels to ignore. Masks of instances hold the label number times 256, and are not needed.

https://www.mapillary.com/dataset/vistas
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from deeplab.config.fields import Config, setting
from deeplab.data.dataset import Color
from deeplab.data.label_bits import IGNORE_8_BIT
from deeplab.data.readers import register_format
from deeplab.data.readers.annotation_values import class_name, read_color, read_json, require, yes_or_no
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.pairs import pair_by_names
from deeplab.data.readers.source import Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_folder

_SPLITS = {"training": "train", "validation": "val"}  # folders; masks of `testing` are not published
_CONFIG = re.compile(r"config(?:_(v[\d.]+))?\.json")


@dataclass(frozen=True)
class BuildVistasConfig(Config):
    """Where the release is, and which of its labels are meant."""

    vistas_root: str = setting("", "Folder with training/, validation/ and config_v2.0.json.", required=True)
    labels_version: str = setting("", "Version of the labels, such as v1.2 (unset: the newest one that is there).")


@register_format("vistas", BuildVistasConfig)
def read_vistas(config: BuildVistasConfig) -> Source:
    """Reads the splits train and val.

    Raises:
      UserError: the folder is another one (`no-files`), the version is unknown, images have no mask, or the JSON file
        breaks the format.
    """
    root = config.vistas_root
    require_folder(root, "vistas_root")
    files = {match[1] or "": name for name in sorted(os.listdir(root)) if (match := _CONFIG.fullmatch(name))}
    if not files:
        hint = "give the unpacked release, with training/ and validation/ in it"
        raise UserError("no-files", "contains no config_v2.0.json", hint, where=root)
    version = config.labels_version or max(files, key=_as_numbers)
    if version not in files:
        rule, hint = f"there is no config_{version}.json", f"there are {', '.join(filter(None, files)) or 'none'}"
        raise UserError("unknown-name", rule, hint, field="labels_version", value=version)
    console.note(f"labels of {files[version]}")
    path = os.path.join(root, files[version])
    labels = require(read_json(path), "labels", list, path)
    names: list[str] = []
    colors: list[Color | None] = []
    label_map: dict[int, int] = {}
    for number, label in enumerate(labels):
        where = f"{path}, label {number}"
        is_class = yes_or_no(label, "evaluate", where, default=True)
        label_map[number] = len(names) if is_class else IGNORE_8_BIT
        if is_class:
            names.append(class_name(label, "name", where))
            colors.append(read_color(label.get("color")))
    if not 1 < len(names) <= len(labels) <= IGNORE_8_BIT:
        rule = f"lists {len(labels)} labels, {len(names)} of them evaluated, which is no such file"
        raise UserError("missing-class-names", rule, "unpack the release again", where=path)
    known = tuple(color for color in colors if color)
    label_map = {old: new for old, new in label_map.items() if old != new}
    splits = {
        split: _pairs(os.path.join(root, folder), version)
        for folder, split in _SPLITS.items()
        if os.path.isdir(os.path.join(root, folder))
    }
    if not splits:
        hint = "give the folder that contains them"
        raise UserError("no-files", "contains neither training/ nor validation/", hint, where=root)
    return Source(splits, tuple(names), known if len(known) == len(names) else (), label_map=label_map)


def _as_numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _pairs(folder: str, version: str) -> list[Pair]:
    images, masks = os.path.join(folder, "images"), os.path.join(folder, version, "labels")
    require_folder(images, "vistas_root")
    require_folder(masks, "vistas_root")
    found = Folder(images, (".jpg",))
    names = found.wanted_stems()
    if not names:
        raise UserError("no-files", "contains no .jpg", "unpack the release again", where=images)
    return pair_by_names(names, found, Folder(masks, (".png",)), "", masks)
