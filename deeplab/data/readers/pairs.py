"""Which image belongs to which mask, and which pair to which split."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from deeplab.data.readers.source import Pair
from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.paths import files_of, read_text, require_folder, shorten, walk

JPEG_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif")
IMAGE_EXTENSIONS = (
    *(*JPEG_EXTENSIONS, ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".webp")


# --- Lists of names -----------------------------------------------------------------------------------------


def read_list(path: str | os.PathLike) -> list[str]:
    """Names in a split list, one a line; blank lines do not count, nor does white space around names.

    Raises:
      UserError: no such file, none in UTF-8, or no name in it.
    """
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise UserError(
            "unclassified",
            "the list is empty",
            "write the image names of the split into it, one a line, or remove it",
            where=path,
        )
    _warn_of_repeated(path, names)
    return names


def _warn_of_repeated(path: str | os.PathLike, names: Sequence[str]) -> None:
    seen: set[str] = set()
    repeated = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if repeated:
        rule = "names that stand there more than once, whose images count as often"
        console.warning(f"{path}: {rule}: {shorten(repeated)}")


def find_lists(folder: str | os.PathLike, splits: Sequence[str] = ()) -> dict[str, pathlib.Path]:
    """The lists in a folder by split name: `train.txt` gives split "train".

    Args:
      folder: where the *.txt files lie.
      splits: the wanted ones; none = all.

    Raises:
      UserError: no such folder, no list in it, or a wanted one is not among them.
    """
    folder = pathlib.Path(folder)
    require_folder(folder, "`list_folder`")
    lists = {path.stem: path for path in sorted(folder.glob("[!.]*.txt"))}
    if not lists:
        raise UserError(
            "unclassified",
            "holds no list of a split",
            "write train.txt and val.txt there, one image name a line",
            where=folder,
        )
    for split in splits:
        if split not in lists:
            raise UserError(
                "unclassified", f"has no list {split}.txt", f"the lists there are {', '.join(lists)}", where=folder
            )
    return {split: lists[split] for split in (splits or lists)}


def warn_of_leaks(splits: Mapping[str, Sequence[Pair]]) -> None:
    """Says which images a training split shares with a validation or test split."""

    def is_training(split: str) -> bool:
        return "train" in split and not is_other(split)

    def is_other(split: str) -> bool:
        return "val" in split or "test" in split

    for training in filter(is_training, splits):
        for other in filter(is_other, splits):
            trained = {pair.image for pair in splits[training]}
            shared = sorted({pair.name for pair in splits[other] if pair.image in trained})
            if shared and "train" not in other:  # trainval holds train on purpose
                rule = f"{len(shared)} images are in split {training!r} and in {other!r} ({shorten(shared)})"
                console.warning(f"{rule}: figures on {other!r} will look better than they are")


# --- Folders ------------------------------------------------------------------------------------------------


class Folder:
    """Files of a folder by stem, for any of the wanted extensions, upper or lower case.

    Names with a slash are looked for in subfolders. Every folder is listed once, when first asked for; what is hidden
    does not count.
    """

    def __init__(self, folder: str | os.PathLike, extensions: Sequence[str], format_flag: str = ""):
        self.path = pathlib.Path(folder)
        self.extensions = extensions
        self.format_flag = format_flag  # the flag that chooses among extensions, if the builder has one
        self._listed: dict[str, dict[str, list[str]]] = {}

    def stems(self, inside: str = "") -> dict[str, list[str]]:
        """File names by stem, all extensions."""
        if inside not in self._listed:
            self._listed[inside] = _by_stem(files_of(self.path / inside))
        return self._listed[inside]

    def candidates(self, name: str) -> list[str]:
        """Paths of the files of that stem with a wanted extension."""
        inside, stem = os.path.split(name)
        return [str(self.path / inside / file) for file in self.stems(inside).get(stem, []) if self._wanted(file)]

    def find(self, name: str) -> str:
        """The stem under which a listed name is found: the name itself, or without its extension; else empty."""
        return next((stem for stem in (name, os.path.splitext(name)[0]) if self.candidates(stem)), "")

    def others(self, name: str) -> list[str]:
        """Extensions in which the stem exists, wanted or not."""
        inside, stem = os.path.split(name)
        return [os.path.splitext(file)[1] for file in self.stems(inside).get(stem, [])]

    def wanted_stems(self, leave_out: str | os.PathLike = "") -> list[str]:
        """Stems that have a file with a wanted extension, sorted; those in subfolders as `subfolder/stem`.

        Args:
          leave_out: a subfolder that is not looked into: that of the masks where it lies among the images.
        """
        found: list[str] = []
        without = pathlib.Path(leave_out).resolve() if leave_out else None
        below = without is not None and without.is_relative_to(self.path.resolve())
        for inside, names in walk(self.path):
            if without is None or not (below and (self.path / inside).resolve().is_relative_to(without)):
                self._listed[inside] = _by_stem(names)
                stems = (stem for stem, files in self._listed[inside].items() if self._has(files))
                found += (os.path.join(inside, stem) for stem in stems)
        return sorted(found)

    def _has(self, files: Sequence[str]) -> bool:
        return any(map(self._wanted, files))

    def _wanted(self, file: str) -> bool:
        return os.path.splitext(file)[1].lower() in self.extensions


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for name in names:
        stem, extension = os.path.splitext(name)
        if extension:
            files.setdefault(stem, []).append(name)
    return files


def pair_by_names(names: Iterable[str], images: Folder, masks: Folder, mask_suffix: str, where: str) -> list[Pair]:
    """Pairs for a list of names, in the list's order.

    Args:
      names: image names without extension; an extension is let pass when the file exists without it.
      images, masks: the folders.
      mask_suffix: what stands between a mask's stem and its extension: `_segmentation` in ISIC.
      where: the list, for messages.

    Raises:
      UserError: files are missing or ambiguous; the first ten are named, the rest counted.
    """
    pairs, faults = [], []
    for name in names:
        stem = images.find(name) or os.path.splitext(name)[0]
        image, image_fault = _only(images, stem, name)
        mask, mask_fault = _only(masks, stem + mask_suffix, stem + mask_suffix)
        faults += [fault for fault in (image_fault, mask_fault) if fault]
        pairs.append(Pair(stem, image, mask))
    if faults:
        raise UserError(
            "unclassified", f"{len(faults)} files cannot be found:\n    " + "\n    ".join(_first(faults)), where=where
        )
    return pairs


def _only(folder: Folder, stem: str, name: str) -> tuple[str, str]:
    """The one file of a stem and no fault, or an empty path and what is wrong."""
    found = folder.candidates(stem)
    if len(found) == 1:
        return found[0], ""
    if found:
        kinds = ", ".join(os.path.splitext(path)[1] for path in found)
        choose = f"choose with {folder.format_flag}" if folder.format_flag else "remove all but one"
        return "", f"{folder.path / stem}: there are several ({kinds}); {choose}"
    wanted, others = " or ".join(folder.extensions), folder.others(stem)
    fault = f"{folder.path / name}: no such file ({wanted})" + (f", but {', '.join(others)}" if others else "")
    if others and folder.format_flag and others[0].lower() in IMAGE_EXTENSIONS:
        fault += f"; give {folder.format_flag}={others[0].lower()[1:]}"
    return "", fault


def pair_folders(images: Folder, masks: Folder, mask_suffix: str) -> list[Pair]:
    """All pairs of two parallel folders, sorted by name; files without a partner are named in a warning.

    Where both are the same folder, `mask_suffix` tells masks from images, or else their extensions do.

    Raises:
      UserError: a folder holds no picture, nothing matches, or a stem has two files.
    """
    together = images.path.resolve() == masks.path.resolve()
    image_stems = images.wanted_stems("" if together else masks.path)
    mask_stems = masks.wanted_stems("" if together else images.path)
    if together and mask_suffix:
        image_stems = [stem for stem in image_stems if not stem.endswith(mask_suffix)]
        mask_stems = [stem for stem in mask_stems if stem.endswith(mask_suffix)]
    _require_pictures(images, image_stems, together)
    _require_pictures(masks, mask_stems, together)
    wanted, set_of_masks = {stem + mask_suffix for stem in image_stems}, set(mask_stems)
    with_mask = {stem for stem in image_stems if stem + mask_suffix in set_of_masks}
    common = [stem for stem in image_stems if stem in with_mask]
    if not common:
        raise _nothing_matches(images, masks, image_stems, mask_stems, mask_suffix)
    _warn_of_unmatched(images.path, [stem for stem in image_stems if stem not in with_mask], "images without a mask")
    _warn_of_unmatched(masks.path, [stem for stem in mask_stems if stem not in wanted], "masks without an image")
    return pair_by_names(common, images, masks, mask_suffix, str(images.path))


def _require_pictures(folder: Folder, stems: Sequence[str], together: bool) -> None:
    """Stops where a folder holds nothing that could be paired, with what it does hold."""
    if stems:
        return
    rule = f"holds no file with {', '.join(folder.extensions)}"
    if together:
        hint = "images and masks lie together here: `mask_suffix=_mask` if masks are called NAME_mask.png"
        raise UserError("unclassified", rule, hint, where=folder.path)
    held = sorted({os.path.splitext(name)[1].lower() for _, names in walk(folder.path) for name in names} - {""})
    hint = f"what it holds ends in {shorten(held)}" if held else "it holds no file at all"
    raise UserError("unclassified", rule, hint, where=folder.path)


def _nothing_matches(
    images: Folder, masks: Folder, image_stems: Sequence[str], mask_stems: Sequence[str], suffix: str
) -> UserError:
    rule = f"no mask has an image's name: images are like {image_stems[0]!r}, masks like {mask_stems[0]!r}"
    endings = {
        mask[len(image) :] for image, mask in zip(image_stems, mask_stems, strict=False) if mask.startswith(image)
    }
    ending = next(iter(endings)) if len(endings) == 1 else ""
    if ending and ending != suffix:
        return UserError("unclassified", rule, f"`mask_suffix={ending}`", where=masks.path)
    return UserError(
        "unclassified",
        rule,
        f"give masks the names of their images in {images.path}, or write list files",
        where=masks.path,
    )


def _warn_of_unmatched(folder: pathlib.Path, stems: Sequence[str], what: str) -> None:
    if stems:
        console.warning(f"{folder}: {len(stems)} {what}, left out: {shorten(stems, 10)}")


def _first(lines: Sequence[str], most: int = 10) -> list[str]:
    return [*lines[:most], *([f"... and {len(lines) - most} more"] if len(lines) > most else [])]
