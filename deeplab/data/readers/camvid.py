"""CamVid as its makers published it, as SegNet's authors did, as on Kaggle, and as images with lists of names.

All of them give the 11 classes and the splits of Badrinarayanan et al., "SegNet", 2015: 367 train, 101 val, 233 test.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deeplab.config.fields import Config, setting
from deeplab.data import dataset as datasets
from deeplab.data.image_files import IMAGE_EXTENSIONS
from deeplab.data.readers import register_format
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.name_lists import read_names
from deeplab.data.readers.pairs import pair_by_names
from deeplab.data.readers.source import Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import require_folder
from deeplab.utils.text import counted, shorten

_SPLITS = ("train", "val", "test")
_STILLS, _LABELED = "701_StillsRaw_full", "LabeledApproved_full"
_VOID = {11: 255}  # index masks number the classes 0 to 10 and call everything else 11

_FRAME = re.compile(r"^(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)$")
_LAST_TRAINING_FRAME = 8520  # of sequence 0001TP: its second half is test
_VAL_FRAMES = range(7959, 8160, 2)  # of sequence 0016E5: the stretch that was labeled at 15 Hz


@dataclass(frozen=True)
class BuildCamvidConfig(Config):
    """Where CamVid is, and in which form."""

    camvid_root: str = setting("./CamVid", "Folder of CamVid, in any of the four layouts.")
    layout: str = setting(
        "",
        f"original: {_STILLS}/ and {_LABELED}/, in colors; segnet: train/ and trainannot/, and so on; "
        "kaggle: train/ and train_labels/, and so on, in colors; lists: images/, masks/ and train.txt, and so on "
        "(unset: the one that exists).",
        choices=("", "original", "segnet", "kaggle", "lists"),
    )
    on_missing: str = setting(
        "fail", "Images and masks of lists that do not exist: stop, or leave them out.", choices=("fail", "skip")
    )


@register_format("camvid", BuildCamvidConfig)
def read_camvid(config: BuildCamvidConfig) -> Source:
    """Reads the splits train, val and test, with the 11 classes; everything else is ignored.

    Raises:
      UserError: no layout or two of them in the folder, files without a partner, or frames that are not CamVid's.
    """
    root = pathlib.Path(config.camvid_root)
    require_folder(root, "camvid_root")
    layout = config.layout or _layout_of(root)
    source = _read_lists(root, config.on_missing == "skip") if layout == "lists" else _READERS[layout](root)
    _compare(source.splits)
    return source


def split_of(frame: str) -> str:
    """Returns the published split of a frame, `0016E5_07961` -> val; empty for names that are not CamVid's."""
    match = _FRAME.match(frame)
    if not match:
        return ""
    sequence, number = match[1], int(match[2])
    if sequence == "0001TP":
        return "train" if number <= _LAST_TRAINING_FRAME else "test"
    if sequence == "0016E5":
        return "val" if number in _VAL_FRAMES else "train"
    return "train" if sequence == "0006R0" else "test"


def _layout_of(root: pathlib.Path) -> str:
    signs = {
        "original": (_STILLS, _LABELED),
        "segnet": ("train", "trainannot"),
        "kaggle": ("train", "train_labels"),
        "lists": ("images", "masks"),
    }
    found = [layout for layout, names in signs.items() if all((root / name).is_dir() for name in names)]
    if len(found) == 1:
        return found[0]
    if found:
        rule = f"{root} contains CamVid in more than one layout: {', '.join(found)}"
        raise UserError(
            "unclear-layout", rule, f"choose one with `layout={found[0]}`", field="camvid_root", value=tuple(found)
        )
    begun = [
        f"{root / name} exists, but {root / other} does not"
        for first, second in signs.values()
        for name, other in ((first, second), (second, first))
        if (root / name).is_dir() and not (root / other).is_dir()
    ]
    known = "; ".join(f"{first}/ and {second}/" for first, second in signs.values())
    held = shorten(sorted(child.name for child in root.iterdir())) or "nothing"
    rule = f"{root} is not a layout of CamVid ({known}): " + ("; ".join(begun) or f"it contains {held}")
    raise UserError("wrong-layout", rule, "set the folder that contains two of these", field="camvid_root")


# --- The layouts --------------------------------------------------------------------------------------------


def _read_original(root: pathlib.Path) -> Source:
    images, masks = _folders(root, _STILLS, _LABELED)
    pairs = pair_by_names(_names(images), images, masks, "_L", str(masks.path))
    strange = [pair.name for pair in pairs if not split_of(pair.name)]
    if strange:
        rule = f"{counted(len(strange), 'file')} not named like CamVid's frames (0001TP_006690): {shorten(strange, 10)}"
        hint = "move them elsewhere, or build your own frames with format 'folder'"
        raise UserError("wrong-layout", rule, hint, where=images.path, value=tuple(strange))
    splits: dict[str, list[Pair]] = {split: [] for split in _SPLITS}
    for pair in pairs:
        splits[split_of(pair.name)].append(pair)
    return Source({split: members for split, members in splits.items() if members}, known="camvid", palette=palette())


def _read_segnet(root: pathlib.Path) -> Source:
    return Source(_split_folders(root, "annot", ""), known="camvid", label_map=_VOID)


def _read_kaggle(root: pathlib.Path) -> Source:
    return Source(_split_folders(root, "_labels", "_L"), known="camvid", palette=palette())


def _split_folders(root: pathlib.Path, ending: str, mask_suffix: str) -> dict[str, list[Pair]]:
    """Returns the pairs of the folders train, val and test, and of those of their masks, train + ending."""
    splits = {}
    for split in (split for split in _SPLITS if (root / split).is_dir() or (root / f"{split}{ending}").is_dir()):
        images, masks = _folders(root, split, f"{split}{ending}")
        splits[split] = pair_by_names(_names(images), images, masks, mask_suffix, str(masks.path))
    return splits


def _read_lists(root: pathlib.Path, skip_missing: bool = False) -> Source:
    images, masks = _folders(root, "images", "masks")
    lists = {split: root / f"{split}.txt" for split in _SPLITS if (root / f"{split}.txt").is_file()}
    if not lists:
        rule, hint = "contains none of train.txt, val.txt, test.txt", "write the names of the images into them"
        raise UserError("no-files", rule, hint, where=root)
    splits = {
        split: pair_by_names(read_names(path, images.find), images, masks, "", str(path), skip_missing)
        for split, path in lists.items()
    }
    return Source(splits, known="camvid", label_map=_VOID)


_READERS: Mapping[str, Callable[[pathlib.Path], Source]] = {
    "original": _read_original,
    "segnet": _read_segnet,
    "kaggle": _read_kaggle,
    "lists": _read_lists,
}


def _folders(root: pathlib.Path, images: str, masks: str) -> tuple[Folder, Folder]:
    require_folder(root / images, "camvid_root")
    require_folder(root / masks, "camvid_root")
    return Folder(root / images, IMAGE_EXTENSIONS), Folder(root / masks, (".png",))


def _names(images: Folder) -> list[str]:
    names = images.wanted_stems()
    if not names:
        raise UserError("no-files", f"contains no file with {', '.join(images.extensions)}", where=images.path)
    return names


def palette() -> str:
    """Returns the path of the original masks' palette: 32 colors, merged into the 11 classes."""
    return str(datasets.known_folder() / "camvid.palette")


def _compare(splits: Mapping[str, Sequence[Pair]]) -> None:
    """Warns if there are not as many frames as published, since figures cannot be compared with others' then."""
    published = datasets.load_known("camvid").splits
    found = {split: len(splits.get(split, ())) for split in published}
    if found != dict(published):
        counts = ", ".join(f"{split} {found[split]} of {published[split]}" for split in published)
        console.warning(f"these are not the published splits of CamVid: {counts} frames")
