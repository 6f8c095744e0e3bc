"""Masks of one class each: every image has a file for every class that occurs in it, black and white."""

from __future__ import annotations

import io
import itertools
import os
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from deeplab.config.fields import setting
from deeplab.data.image_files import UNREADABLE, png_chunks, unreadable
from deeplab.data.readers import register_format
from deeplab.data.readers.folder import by_subfolder
from deeplab.data.readers.pairs import IMAGE_EXTENSIONS, Folder
from deeplab.data.readers.source import BACKGROUND, Painter, Pair, Source, with_background
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import files_of, read_file, require_folder, shorten

_EXAMPLE = "`class_masks=lesion=masks/{name}_segmentation.png`"
_COARSEST_INDEX = 32  # masks whose highest value is no higher hold indices, and those have no in-between tones


@dataclass(frozen=True)
class BuildBinaryConfig:
    """Where the images lie, and how the masks of each class are called."""

    image_folder: str = setting("", "Folder of the images, and of subfolders of them.", required=True)
    class_masks: str = setting(
        "",
        "Classes and their masks, with commas: lesion=masks/{name}_segmentation.png, where {name} is the image's name "
        "without extension. Where masks overlap, the class that stands later here covers the earlier ones.",
        required=True,
    )
    mask_folder: str = setting("", "Folder from which the paths of `class_masks` go (unset: as they are).")
    require_all_masks: bool = setting(False, "Every image must have a mask of every class, be it black.")
    skip_unlabeled: bool = setting(False, "Leave images out that have no mask of any class.")


@dataclass(frozen=True)
class ClassMasks:
    """The masks of one image, put together.

    Attributes:
      image: path of the image, for messages.
      masks: class names and paths, in the order in which they cover each other.
      build: number of the dataset in this process, so that oddities are said once for each.
    """

    image: str
    masks: tuple[tuple[str, str], ...]
    build: int = 0

    @property
    def where(self) -> str:
        """The file to name in messages."""
        return self.masks[0][1] if self.masks else self.image

    @property
    def size(self) -> None:
        """Binary masks have no size of their own to state: draw compares theirs."""
        return None

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """The label, uint8 [height, width]: 0 where no mask is white, else the value of the last class that is.

        Raises:
          UserError: a mask that cannot be read, has another size, or is no binary mask.
        """
        label = np.zeros((height, width), np.uint8)
        for name, path in self.masks:
            values = _read_values(path)
            if values.shape != label.shape:
                rule = (
                    f"the mask is {values.shape[1]}x{values.shape[0]} pixels, its image {self.image} {width}x{height}"
                )
                raise UserError(
                    "unclassified",
                    rule,
                    "resize the mask (nearest neighbor) or the image, or leave the pair out",
                    where=path,
                )
            white, between = split_binary(values, path)
            label[white] = painter.value(name, path)
            if between:
                _say_once(self.build, path, between)
        return label


@register_format("binary", BuildBinaryConfig)
def read_binary(config: BuildBinaryConfig) -> Source:
    """The pairs of a folder of images and of the masks that belong to them; classes in the order of the flag.

    Raises:
      UserError: a pattern that is none or that no file matches, images without masks.
    """
    patterns = parse_class_masks(config.class_masks, config.mask_folder)
    require_folder(config.image_folder, "`image_folder`")
    images = _images(Folder(config.image_folder, IMAGE_EXTENSIONS), patterns)
    present = {name: _masks_of(name, patterns) for name in images}
    _require_use(patterns, present, config.image_folder)
    if config.require_all_masks:
        _require_all(patterns, present, config.image_folder)
    unlabeled = [name for name, masks in present.items() if not masks]
    if unlabeled and not config.skip_unlabeled:
        rule = f"{len(unlabeled)} of {len(present)} images have no mask of any class: {shorten(unlabeled, 10)}"
        example = _path_of(unlabeled[0], next(iter(patterns.values())))
        hint = f"add their masks (as {example}), or `skip_unlabeled=true` leaves them out"
        raise UserError("unclassified", rule, hint, where=config.image_folder)
    if unlabeled:
        console.note(f"{config.image_folder}: left out {len(unlabeled)} images without a mask: {shorten(unlabeled)}")
    build = next(_BUILDS)
    pairs = [
        Pair(name, images[name], ClassMasks(images[name], masks, build)) for name, masks in present.items() if masks
    ]
    return Source(by_subfolder(pairs), class_names=with_background(patterns), drawn=True)


# --- Which files --------------------------------------------------------------------------------------------


def parse_class_masks(text: str, mask_folder: str = "") -> dict[str, str]:
    """`class_masks`: class names and the patterns of their paths, in order.

    Raises:
      UserError: an entry that is not CLASS=PATTERN, lacks {name}, or names a class twice.
    """
    patterns: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, pattern = (part.strip() for part in entry.partition("="))
        if not (name and equals and pattern):
            raise UserError("unclassified", f"{entry!r} is not CLASS=PATTERN", f"e.g. {_EXAMPLE}", field="class_masks")
        if "{name}" not in pattern:
            rule = f"{entry!r} has no {{name}}, so every image would get the same mask"
            raise UserError("unclassified", rule, f"e.g. {_EXAMPLE}", field="class_masks")
        if name in patterns:
            raise UserError("unclassified", f"names {name!r} twice", "give every class one entry", field="class_masks")
        if name == BACKGROUND:
            raise UserError(
                "unclassified", f"{name!r} is what no mask covers", "leave its entry out", field="class_masks"
            )
        patterns[name] = os.path.join(mask_folder, pattern)
    if not patterns:
        raise UserError("unclassified", "names no class", f"e.g. {_EXAMPLE}", field="class_masks")
    return patterns


def _path_of(name: str, pattern: str) -> str:
    return pattern.replace("{name}", name)


def _masks_of(name: str, patterns: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    paths = ((label, _path_of(name, pattern)) for label, pattern in patterns.items())
    return tuple((label, path) for label, path in paths if os.path.isfile(path))


def _images(folder: Folder, patterns: Mapping[str, str]) -> dict[str, str]:
    """Names and files of the images, sorted, without the masks that lie among them."""
    stems = folder.wanted_stems()
    masks = {os.path.abspath(_path_of(name, pattern)) for pattern in patterns.values() for name in stems}
    images: dict[str, str] = {}
    for name in stems:
        files = [path for path in folder.candidates(name) if os.path.abspath(path) not in masks]
        if len(files) > 1:
            rule = f"there are several images of this name: {', '.join(map(os.path.basename, files))}"
            raise UserError("unclassified", rule, "remove all but one", where=folder.path / name)
        if files:
            images[name] = files[0]
    if not images:
        beside = ", or only masks" if stems else ""
        raise UserError(
            "unclassified", f"{folder.path} holds no {' or '.join(folder.extensions)}{beside}", field="image_folder"
        )
    return images


def _require_use(
    patterns: Mapping[str, str], present: Mapping[str, Sequence[tuple[str, str]]], image_folder: str
) -> None:
    """Stops at a pattern that matches nothing: it is misspelled, or the class does not exist."""
    used = {label for masks in present.values() for label, _ in masks}
    for label, pattern in patterns.items():
        if label not in used:
            looked_for = _path_of(next(iter(present)), pattern)
            rule = f"no image of {image_folder} has a mask of class {label!r}: looked for {looked_for} and the like"
            raise UserError(
                "unclassified",
                rule,
                _held(os.path.dirname(looked_for), os.path.basename(next(iter(present)))),
                field="class_masks",
            )


def _held(folder: str, image: str) -> str:
    """What lies where the masks of an image were looked for: what begins with its name first."""
    if not folder:
        return "the pattern is a path from the current folder: `mask_folder=FOLDER` says where the masks lie"
    if not os.path.isdir(folder):
        return f"there is no folder {folder}; give the right one, or `mask_folder`"
    names = sorted(files_of(folder), key=lambda name: not name.startswith(tuple(f"{image}{end}" for end in "._-")))
    return f"{folder} holds {shorten(names, 3) or 'nothing'}; correct the pattern, or leave the class out"


def _require_all(
    patterns: Mapping[str, str], present: Mapping[str, Sequence[tuple[str, str]]], image_folder: str
) -> None:
    missing = [
        _path_of(name, pattern)
        for name, masks in present.items()
        for label, pattern in patterns.items()
        if label not in dict(masks)
    ]
    if missing:
        rule = f"`require_all_masks`: {len(missing)} masks are missing: {shorten(missing, 10)}"
        raise UserError(
            "unclassified",
            rule,
            "add them, or leave the flag out: classes without a file do not occur then",
            where=image_folder,
        )


# --- Which pixels -------------------------------------------------------------------------------------------


def split_binary(values: np.ndarray, where: str) -> tuple[np.ndarray, int]:
    """Which pixels of a binary mask are white.

    Tones between black and white, of JPEG or of smooth edges, are split at half of the highest value.

    Args:
      values: uint8 or uint16 [H, W]; 0 is black, the highest value white.
      where: the file, for messages.

    Returns:
      bool [H, W], and the number of pixels that are neither black nor white.

    Raises:
      UserError: the mask holds more than two classes: small whole numbers, or a tone that fills whole regions.
    """
    high = int(values.max(initial=0))
    odd = (values != 0) & (values != high)
    between = int(np.count_nonzero(odd))
    if between:
        regions = _tones_of_regions(values, odd, high)
        if regions:
            shown = ", ".join(map(str, [0, *regions[:4], high]))
            more = f" and {len(regions) - 4} more" if len(regions) > 4 else ""
            rule = f"is no binary mask: it holds the values {shown}{more}, but one class means black and one other tone"
            raise UserError(
                "unclassified",
                rule,
                "build masks of several classes with format `folder`, with `label_map`",
                where=where,
            )
    return values > high / 2, between


def _tones_of_regions(values: np.ndarray, odd: np.ndarray, high: int) -> list[int]:
    """In-between values that cannot come from smooth edges."""
    if high <= _COARSEST_INDEX:
        return np.unique(values[odd]).tolist()
    wide = values.astype(np.uint16)
    kernel = np.ones((3, 3), np.uint8)
    flat = cv2.erode(wide, kernel) == cv2.dilate(wide, kernel)  # same value as all eight neighbors
    far = (values > high / 8) & (values < high * 7 / 8)  # JPEG leaves flat patches near black and near white
    return np.unique(values[odd & flat & far]).tolist()


def _read_values(path: str) -> np.ndarray:
    """A mask's values, uint8 or uint16 [H, W]: palette indices or gray.

    Raises:
      UserError: unreadable, or colored.
    """
    data = read_file(path)
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        if picture.format == "PNG":
            deque(png_chunks(data), maxlen=0)
    except UNREADABLE as fault:
        raise unreadable(path, fault) from None
    if "A" in picture.getbands() and len(set(picture.getchannel("A").getextrema())) > 1:
        raise UserError(
            "unclassified",
            "is partly transparent, so it is not clear what is black",
            "write it without alpha channel",
            where=path,
        )
    if picture.mode not in ("1", "L", "P") and not picture.mode.startswith(("I", "F")):
        return _gray(np.asarray(picture.convert("RGB")), path)
    pixels = np.asarray(picture)
    values = pixels.astype(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16)
    if not np.array_equal(values, pixels):
        raise UserError(
            "unclassified",
            "holds numbers that are not whole or not from 0 to 65535",
            "write masks as 8-bit PNG",
            where=path,
        )
    return values


def _gray(pixels: np.ndarray, where: str) -> np.ndarray:
    spread = pixels.max(axis=-1) - pixels.min(axis=-1)
    if spread.max(initial=0) > 32:  # the chroma of a damaged JPEG stays below
        hint = "masks in colors are built with format `folder` and `palette`"
        raise UserError("unclassified", "is no binary mask: it has colors", hint, where=where)
    return pixels[..., 1]


_BUILDS = itertools.count()
_SAID: set[int] = set()
_SAYING = threading.Lock()


def _say_once(build: int, path: str, between: int) -> None:
    """One warning a dataset, although masks are read by many threads."""
    with _SAYING:
        if build in _SAID:
            return
        _SAID.add(build)
    console.warning(
        f"{path}: {between} pixels are neither black nor white; they are split at half (other masks may have such, too)"
    )
