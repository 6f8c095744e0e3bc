"""Black-and-white masks of one class each: every image has a file for every class that occurs in it."""

from __future__ import annotations

import glob
import io
import itertools
import os
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from deeplab.config.fields import Config, setting, split_words
from deeplab.data.class_names import is_background, with_background
from deeplab.data.image_files import IMAGE_EXTENSIONS, UNREADABLE, unreadable
from deeplab.data.png_files import png_chunks
from deeplab.data.readers import register_format
from deeplab.data.readers.folder import by_subfolder
from deeplab.data.readers.folder_files import Folder
from deeplab.data.readers.name_lists import existing_file
from deeplab.data.readers.name_patterns import NamePattern
from deeplab.data.readers.source import Painter, Pair, Source
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import files_of, read_file, require_folder
from deeplab.utils.text import counted, shorten

_EXAMPLE = "write it like `class_masks=lesion=masks/{name}_segmentation.png`"
_MAX_INDEX = 32  # masks whose highest value is no higher contain indices, which have no tones in between


@dataclass(frozen=True)
class BuildBinaryConfig(Config):
    """Where the images are, and how the masks of each class are named."""

    image_folder: str = setting("", "Folder of the images; subfolders count.", required=True)
    class_masks: str = setting(
        "",
        "Classes and their masks, with commas: lesion=masks/{name}_segmentation.png, where {name} is the image's name "
        "without extension, and * is any text, for several masks per image. Later classes cover earlier ones.",
        required=True,
    )
    image_pattern: str = setting(
        "", "How images are named, if {name} is only a part of it: {name}_image.png, or {name}/images/*.png."
    )
    mask_folder: str = setting(
        "", "Folder to which the paths of `class_masks` are relative (unset: the current folder)."
    )
    require_all_masks: bool = setting(False, "Every image must have a mask of every class, even if it is black.")
    skip_unlabeled: bool = setting(False, "Leave out images that have no mask of any class.")


@dataclass(frozen=True)
class ClassMasks:
    """The masks of one image, combined; implements `source.Mask`.

    Attributes:
      image: path of the image, for messages.
      masks: class names and paths, in the order in which they cover each other.
      build: number of the dataset in this process, so that oddities are reported once per dataset.
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
        """Not known before the files are read; `draw` compares their sizes."""
        return None

    def draw(self, painter: Painter, height: int, width: int) -> np.ndarray:
        """Draws the label, [height, width]: where no mask is white the background, else the last class that is.

        Raises:
          UserError: a mask that cannot be read, has another size, or is not binary.
        """
        label = np.full((height, width), painter.background, painter.rule.dtype)
        for name, path in self.masks:
            values = _read_values(path)
            if values.shape != label.shape:
                rule = (
                    f"the mask is {values.shape[1]}x{values.shape[0]} pixels, its image {self.image} {width}x{height}"
                )
                hint = "resize the mask (nearest neighbor) or the image, or leave the pair out"
                raise UserError("size-mismatch", rule, hint, where=path, value=values.shape)
            white, between = split_binary(values, path)
            label[white] = painter.value(name, path)
            if between:
                _warn_once(self.build, path, between)
        return label


@register_format("binary", BuildBinaryConfig)
def read_binary(config: BuildBinaryConfig) -> Source:
    """Reads a folder of images and the masks that belong to them; classes are in the order of `class_masks`.

    Raises:
      UserError: an invalid pattern or one that no file matches, or images without masks.
    """
    patterns = parse_class_masks(config.class_masks, config.mask_folder)
    require_folder(config.image_folder, "image_folder")
    found = _images(Folder(config.image_folder, IMAGE_EXTENSIONS), config.image_pattern, patterns)
    images = {name: path for name, (path, _) in found.items()}
    present = {name: masks for name, (_, masks) in found.items()}
    _require_use(patterns, present, config.image_folder)
    if config.require_all_masks:
        _require_all(patterns, present, config.image_folder)
    unlabeled = [name for name, masks in present.items() if not masks]
    if unlabeled and not config.skip_unlabeled:
        rule = f"{len(unlabeled)} of {len(present)} images have no mask of any class: {shorten(unlabeled, 10)}"
        example = _path_of(unlabeled[0], next(iter(patterns.values())))
        hint = f"add their masks (such as {example}), or leave these images out with `skip_unlabeled=true`"
        raise UserError("files-missing", rule, hint, where=config.image_folder, value=tuple(unlabeled))
    if unlabeled:
        number = counted(len(unlabeled), "image")
        console.note(f"{config.image_folder}: left out {number} without a mask: {shorten(unlabeled)}")
    build = next(_BUILDS)
    pairs = [
        Pair(name, images[name], ClassMasks(images[name], masks, build)) for name, masks in present.items() if masks
    ]
    return Source(by_subfolder(pairs), class_names=with_background(patterns), drawn=True)


# --- Which files --------------------------------------------------------------------------------------------


def parse_class_masks(text: str, mask_folder: str = "") -> dict[str, str]:
    """Parses `class_masks`: class names and the patterns of their paths, in order.

    Raises:
      UserError: an entry that is not CLASS=PATTERN, lacks {name}, or names a class twice.
    """
    patterns: dict[str, str] = {}
    for entry in split_words(text):
        name, equals, pattern = (part.strip() for part in entry.partition("="))
        if not (name and equals and pattern):
            rule = f"{entry!r} is not CLASS=PATTERN"
            raise UserError("invalid-pattern", rule, _EXAMPLE, field="class_masks", value=entry)
        if "{name}" not in pattern:
            rule = f"{entry!r} has no {{name}}, so every image would get the same mask"
            raise UserError("invalid-pattern", rule, _EXAMPLE, field="class_masks", value=entry)
        if name in patterns:
            rule, hint = f"names {name!r} twice", "give every class one entry"
            raise UserError("duplicate-name", rule, hint, field="class_masks", value=name)
        if is_background(name):
            rule, hint = f"{name!r} is what no mask covers", "leave its entry out"
            raise UserError("invalid-pattern", rule, hint, field="class_masks", value=name)
        patterns[name] = os.path.join(mask_folder, pattern)
    if not patterns:
        raise UserError("missing-class-names", "names no class", _EXAMPLE, field="class_masks")
    return patterns


def _path_of(name: str, pattern: str) -> str:
    return pattern.replace("{name}", name)


_Masks = tuple[tuple[str, str], ...]  # class names and paths


def _masks_of(name: str, patterns: Mapping[str, str]) -> _Masks:
    found: list[tuple[str, str]] = []
    for label, pattern in patterns.items():
        if "*" in pattern:
            escaped = pattern.replace("*", "\0").replace("{name}", name)
            paths = sorted(glob.glob(glob.escape(escaped).replace("\0", "*")))
        else:
            paths = [existing_file(_path_of(name, pattern))]
        found += ((label, path) for path in paths if path)
    return tuple(found)


def _images(folder: Folder, image_pattern: str, patterns: Mapping[str, str]) -> dict[str, tuple[str, _Masks]]:
    """Returns path and masks of the images by name, sorted, without the masks among them."""
    of_images = NamePattern(image_pattern, "image_pattern") if image_pattern else None
    stems = folder.wanted_stems()
    files: dict[str, list[str]] = {}
    masks: dict[str, _Masks] = {}
    for stem in stems:
        for path in folder.candidates(stem):
            name = of_images.name(os.path.relpath(path, folder.path)) if of_images else stem
            if name is not None:
                files.setdefault(stem, []).append(path)
                masks[stem] = _masks_of(name, patterns)
    are_masks = {os.path.abspath(path) for members in masks.values() for _, path in members}
    images: dict[str, tuple[str, _Masks]] = {}
    for stem, paths in files.items():
        paths = [path for path in paths if os.path.abspath(path) not in are_masks]
        if len(paths) > 1:
            rule = f"there are several images of this name: {', '.join(map(os.path.basename, paths))}"
            raise UserError("ambiguous-name", rule, "remove all but one", where=folder.path / stem)
        if paths:
            images[stem] = (paths[0], masks[stem])
    if not images:
        beside = ", or only masks" if stems else ""
        rule = f"{folder.path} contains no {' or '.join(folder.extensions)}{beside}"
        raise UserError("no-files", rule, "set the folder of the images", field="image_folder", value=str(folder.path))
    return images


def _require_use(patterns: Mapping[str, str], present: Mapping[str, _Masks], image_folder: str) -> None:
    """Stops at a pattern that matches nothing: it is misspelled, or the class does not occur."""
    used = {label for masks in present.values() for label, _ in masks}
    for label, pattern in patterns.items():
        if label not in used:
            looked_for = _path_of(next(iter(present)), pattern)
            rule = f"no image in {image_folder} has a mask of class {label!r}, such as {looked_for}"
            hint = _contents(os.path.dirname(looked_for), os.path.basename(next(iter(present))))
            raise UserError("no-matching-names", rule, hint, field="class_masks", value=label)


def _contents(folder: str, image: str) -> str:
    """Describes the folder of an image's masks: first the files that begin with the image's name."""
    if not folder:
        return "the pattern is relative to the current folder: set `mask_folder`"
    if not os.path.isdir(folder):
        return f"there is no folder {folder}; correct the pattern, or set `mask_folder`"
    names = sorted(files_of(folder), key=lambda name: not name.startswith(tuple(f"{image}{end}" for end in "._-")))
    return f"{folder} contains {shorten(names, 3) or 'nothing'}; correct the pattern, or leave the class out"


def _require_all(patterns: Mapping[str, str], present: Mapping[str, _Masks], image_folder: str) -> None:
    missing = [
        _path_of(name, pattern)
        for name, masks in present.items()
        for label, pattern in patterns.items()
        if label not in dict(masks)
    ]
    if missing:
        rule = f"{counted(len(missing), 'mask')} missing: {shorten(missing, 10)}"
        hint = "add them, or leave `require_all_masks` out: classes without a file do not occur then"
        raise UserError("files-missing", rule, hint, where=image_folder, value=tuple(missing))


# --- Which pixels -------------------------------------------------------------------------------------------


def split_binary(values: np.ndarray, where: str) -> tuple[np.ndarray, int]:
    """Finds the white pixels of a binary mask.

    Tones between black and white, of JPEG or of smooth edges, are split at half of the highest value.

    Args:
      values: uint8 or uint16 [H, W]; 0 is black, the highest value white.
      where: the file, for messages.

    Returns:
      bool [H, W], and the number of pixels that are neither black nor white.

    Raises:
      UserError: the mask has more than two classes: small whole numbers, or a tone that fills whole regions.
    """
    high = int(values.max(initial=0))
    odd = (values != 0) & (values != high)
    between = int(np.count_nonzero(odd))
    if between:
        regions = _tones_of_regions(values, odd, high)
        if regions:
            shown = shorten(sorted([0, high, *regions]), 6)
            rule = f"is not a binary mask: it has the values {shown}, instead of black and one other tone"
            hint = "build masks of several classes with format 'folder' and `label_map`"
            raise UserError("not-binary", rule, hint, where=where, value=(0, *regions, high))
    return values > high / 2, between


def _tones_of_regions(values: np.ndarray, odd: np.ndarray, high: int) -> list[int]:
    """Returns the values in between that cannot come from smooth edges."""
    if high <= _MAX_INDEX:
        return np.unique(values[odd]).tolist()
    wide = values.astype(np.uint16)
    kernel = np.ones((3, 3), np.uint8)
    flat = cv2.erode(wide, kernel) == cv2.dilate(wide, kernel)  # same value as all eight neighbors
    far = (values > high / 8) & (values < high * 7 / 8)  # JPEG leaves flat patches near black and near white
    return np.unique(values[odd & flat & far]).tolist()


def _read_values(path: str) -> np.ndarray:
    """Reads a mask's values, uint8 or uint16 [H, W]: palette indices or gray.

    Raises:
      UserError: unreadable, or colored.
    """
    data = read_file(path)
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        if image.format == "PNG":
            deque(png_chunks(data), maxlen=0)
    except UNREADABLE as error:
        raise unreadable(path, error) from None
    if "A" in image.getbands() and len(set(image.getchannel("A").getextrema())) > 1:
        return _transparent(image, path)
    if image.mode not in ("1", "L", "P") and not image.mode.startswith(("I", "F")):
        return _gray(np.asarray(image.convert("RGB")), path)
    pixels = np.asarray(image)
    values = pixels.astype(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16)
    if not np.array_equal(values, pixels):
        rule = "contains numbers that are not whole or not from 0 to 65535"
        raise UserError("out-of-range", rule, "save masks as 8-bit PNG", where=path)
    return values


def _transparent(image: Image.Image, where: str) -> np.ndarray:
    """Returns the alpha channel of an image whose alpha is the mask: all that can be seen has the same color.

    Raises:
      UserError: colors and transparency differ, so that it is not clear which of the two is the mask.
    """
    pixels = np.asarray(image.convert("RGBA"))
    seen = pixels[pixels[..., 3] > 0][:, :3]
    if (seen != seen[:1]).any():
        rule, hint = "is partly transparent, so it is not clear what is black", "save it without alpha channel"
        raise UserError("partly-transparent", rule, hint, where=where)
    return pixels[..., 3]


def _gray(pixels: np.ndarray, where: str) -> np.ndarray:
    spread = pixels.max(axis=-1) - pixels.min(axis=-1)
    if spread.max(initial=0) > 32:  # the chroma of a damaged JPEG stays below
        hint = "build masks in colors with format 'folder' and `palette`"
        raise UserError("not-binary", "is not a binary mask: it has colors", hint, where=where)
    return pixels[..., 1]


_BUILDS = itertools.count()
_WARNED: set[int] = set()
_WARNING = threading.Lock()


def _warn_once(build: int, path: str, between: int) -> None:
    """Prints one warning per dataset, although masks are read by many threads."""
    with _WARNING:
        if build in _WARNED:
            return
        _WARNED.add(build)
    console.warning(
        f"{path}: {between} pixels are neither black nor white; they are split at half of the highest value (other "
        "masks may have such pixels too)"
    )
