"""For every rule of the check, a small dataset that violates it.

`BROKEN` maps the name of a rule to a function that breaks the clean set `DiscFiles` and checks it. A new rule needs one
entry; `tests/deeplab/data/validation/test_rules.py` runs all of them.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from deeplab.config.validation_config import CheckConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from support.disc_files import CLASSES, DiscFiles, change_description, check_records, draw, encoded

Breaks = Callable[[DiscFiles, pathlib.Path], object]
BROKEN: dict[str, Breaks] = {}
PALETTE = "0 0 0 ground\n200 0 0 disc\n0 90 7 bar\n"
COLORS = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 7]], np.uint8)


def breaks(rule: str) -> Callable[[Breaks], Breaks]:
    """A decorator that adds a function to `BROKEN`."""

    def add(function: Breaks) -> Breaks:
        BROKEN[rule] = function
        return function

    return add


def _image(rule: str, make: Callable[[np.ndarray], bytes]) -> None:
    """One image of the training split replaced by another file."""

    @breaks(rule)
    def check(discs: DiscFiles, folder: pathlib.Path) -> object:
        discs.image("a3").write_bytes(make(draw(3)[0]))
        return discs.check()


def _mask(rule: str, make: Callable[[np.ndarray], bytes], **labels) -> None:
    """One mask of the validation split replaced by another file."""

    @breaks(rule)
    def check(discs: DiscFiles, folder: pathlib.Path) -> object:
        discs.mask("b1").write_bytes(make(draw(9)[1]))
        return discs.check(**labels)


def _labels(rule: str, change: Callable[[np.ndarray], np.ndarray], names: tuple[str, ...] = (), **labels) -> None:
    """The values of all labels, or of some, changed."""

    @breaks(rule)
    def check(discs: DiscFiles, folder: pathlib.Path) -> object:
        discs.change_labels(change, names)
        return discs.check(**labels)


def _record(rule: str, **changes) -> None:
    """One record changed."""

    @breaks(rule)
    def check(discs: DiscFiles, folder: pathlib.Path) -> object:
        return check_records(discs.change_record(discs.records(folder / "records"), **changes))


def _config(rule: str, **config) -> None:
    """Settings of a training that do not suit the clean set."""

    @breaks(rule)
    def check(discs: DiscFiles, folder: pathlib.Path) -> object:
        return discs.check(CheckConfig(**config))


# --- Files --------------------------------------------------------------------------------------------------


@breaks("nothing-to-check")
def _nothing(discs: DiscFiles, folder: pathlib.Path) -> object:
    (folder / "empty").mkdir()
    return check_records(folder / "empty")


@breaks("listing-unusable")
def _names_differ(discs: DiscFiles, folder: pathlib.Path) -> object:
    for name in discs.all_names:
        discs.mask(name).rename(discs.folder / "masks" / f"{name}_label.png")
    return discs.check_folders()


@breaks("listed-name-missing")
def _lost(discs: DiscFiles, folder: pathlib.Path) -> object:
    (folder / "train.txt").write_text("a0\na1\nlost\n")
    (folder / "val.txt").write_text("b0\n")
    return discs.check_folders(list_files=f"{folder}/train.txt,{folder}/val.txt")


@breaks("image-without-mask")
def _without_mask(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.mask("a2").unlink()
    return discs.check_folders()


@breaks("mask-without-image")
def _without_image(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.image("a2").unlink()
    return discs.check_folders()


@breaks("name-ambiguous")
def _two_images(discs: DiscFiles, folder: pathlib.Path) -> object:
    (discs.folder / "images" / "a2.png").write_bytes(encoded(draw(2)[0]))
    return discs.check_folders()


@breaks("name-repeated")
def _listed_twice(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.names["train"].append("a3")
    return discs.check()


@breaks("split-empty")
def _empty_split(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.names["test"] = []
    return discs.check()


# --- Images -------------------------------------------------------------------------------------------------


def rotated_photo(image: np.ndarray) -> bytes:
    """A JPEG whose pixels are stored rotated, and whose EXIF data say so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(np.rot90(image), "jpeg", exif=exif)


def with_junk(image: np.ndarray) -> bytes:
    """A JPEG with bytes between segments, which libjpeg skips."""
    data = encoded(image, "jpeg", quality=92)
    start = data.index(b"\xff\xdb")
    return data[:start] + b"\0\0" + data[start:]


def pages(image: np.ndarray) -> bytes:
    """A TIFF of two pages."""
    others = [Image.fromarray(image[::-1])]
    return encoded(Image.fromarray(image), "tiff", save_all=True, append_images=others)


_image("image-unreadable", lambda image: b"")
_image("image-unknown-format", lambda image: b"<html>404</html>")
_image("image-damaged", with_junk)
_image("image-rotated", rotated_photo)
_image("image-converted", lambda image: encoded(image, "tiff"))
_image("image-alpha", lambda image: encoded(np.dstack([image, image[..., 0]])))
_image("image-16-bit", lambda image: encoded(Image.fromarray(image[..., 0].astype(np.uint16) * 257)))
_image("image-dark", lambda image: encoded(Image.fromarray(image[..., 0].astype(np.uint16) * 8)))
_image("image-pages", pages)
_image("image-cmyk", lambda image: encoded(Image.fromarray(image).convert("CMYK"), "jpeg"))
_image("image-gray", lambda image: encoded(image[..., 0], "jpeg"))
_image("image-flat", lambda image: encoded(np.full_like(image, 90), "jpeg"))


@breaks("image-is-mask")
def _image_is_mask(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.image("a3").write_bytes(discs.mask("a3").read_bytes())
    return discs.check()


@breaks("image-tiny")
def _tiny(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.write("a3", *draw(50, 40, 30))
    return discs.check()


# --- Masks --------------------------------------------------------------------------------------------------


def with_palette(label: np.ndarray, colors) -> bytes:
    """A label as palette PNG."""
    image = Image.fromarray(label)
    image.putpalette(np.array(colors, np.uint8).tobytes())
    return encoded(image)


_mask("mask-unreadable", lambda label: b"")
_mask("mask-is-color", lambda label: encoded(COLORS[label]))
_mask("mask-kind", lambda label: encoded(np.dstack([label, label, label, 255 - label])))
_mask("mask-lossy", lambda label: encoded(label, "jpeg", quality=100))
_mask("mask-blurred", lambda label: encoded(cv2.GaussianBlur(label * 120, (5, 5), 0)))
_mask("label-out-of-range", lambda label: encoded(np.where(label == 2, 7, label).astype(np.uint8)))
_mask("label-one-class", lambda label: encoded(np.zeros_like(label)))
_mask("label-all-ignored", lambda label: encoded(np.full_like(label, 255)))
_mask("size-differs", lambda label: encoded(label[:, 8:]))
_mask("mask-transposed", lambda label: encoded(label.T))


def _in_colors(discs: DiscFiles, folder: pathlib.Path, odd: np.ndarray, **labels) -> object:
    """All masks in the colors of a palette file, except one, in other colors."""
    (folder / "palette").write_text(PALETTE)
    discs.change_labels(lambda label: COLORS[label])
    discs.mask("a5").write_bytes(encoded(odd[draw(5)[1]]))
    return discs.check(palette=str(folder / "palette"), **labels)


NEARLY = np.array([[0, 0, 0], [200, 0, 0], [0, 90, 9]], np.uint8)
BROKEN["mask-color-unknown"] = lambda discs, folder: _in_colors(discs, folder, NEARLY)
BROKEN["mask-colors-snapped"] = lambda discs, folder: _in_colors(discs, folder, NEARLY, color_tolerance=3.0)


@breaks("mask-palette-disagrees")
def _palette_disagrees(discs: DiscFiles, folder: pathlib.Path) -> object:
    (folder / "palette").write_text(PALETTE)
    discs.mask("a5").write_bytes(with_palette(draw(5)[1], COLORS[[0, 2, 1]]))
    return discs.check(palette=str(folder / "palette"))


@breaks("mask-palettes-differ")
def _palettes_differ(discs: DiscFiles, folder: pathlib.Path) -> object:
    for name in discs.all_names:
        discs.mask(name).write_bytes(with_palette(discs.label(name), COLORS))
    swapped = np.array([0, 2, 1], np.uint8)
    discs.mask("a5").write_bytes(with_palette(swapped[draw(5)[1]], COLORS[swapped]))
    return discs.check()


class UnusableMask:
    """An annotation that cannot be drawn."""

    where = "shapes.json"
    size = None

    def draw(self, painter, height, width):
        from deeplab.utils.errors import UserError

        raise UserError("unknown-class", "'hat' is not a class of this dataset", "name it", where=self.where)


@breaks("mask-unusable")
def _unusable(discs: DiscFiles, folder: pathlib.Path) -> object:
    from deeplab.data.readers.source import Pair
    from deeplab.data.validation import analysis, subject

    source = discs.source()
    source.splits["train"][2] = Pair("a2", str(discs.image("a2")), UnusableMask())
    return analysis.check(subject.of_source(source, discs.subject().classes, "discs"))


# --- Values and classes -------------------------------------------------------------------------------------


def with_ignored_row(label: np.ndarray) -> np.ndarray:
    label[0] = 255
    return label


def with_few_bars(label: np.ndarray, pixels: int = 2) -> np.ndarray:
    label[label == 2] = 0
    label[-1, -pixels:] = 2
    return label


TRAIN, VAL = tuple(f"a{number}" for number in range(8)), tuple(f"b{number}" for number in range(4))
without_bar = lambda label: np.where(label == 2, 0, label).astype(np.uint8)  # noqa: E731

_labels("nothing-labeled", lambda label: np.full_like(label, 255))
_labels("one-class", np.zeros_like)
_labels("foreground-ignored", lambda label: np.where(label > 0, 255, 0).astype(np.uint8), num_classes=2)
_labels("labels-are-gray-levels", lambda label: np.array([0, 150, 250], np.uint8)[label], label_map="")
_labels("labels-start-at-one", lambda label: label + 1, num_classes=4)
_labels("labels-all-same", lambda label: draw(0)[1])
_labels("ignore-counted-as-class", with_ignored_row, num_classes=4)
_labels("class-absent", lambda label: label, class_names=f"{CLASSES},hat")
_labels("class-ignored", lambda label: label, class_names=CLASSES, ignore_label=0)
_labels("class-not-trained", without_bar, TRAIN)
_labels("class-absent-from-split", without_bar, VAL)
_labels("class-rare", with_few_bars)
_labels("weights-far-apart", lambda label: with_few_bars(label, 4))


@breaks("class-names-repeated")
def _names_repeated(discs: DiscFiles, folder: pathlib.Path) -> object:
    change_description(discs.records(folder / "records"), class_names=("ground", "disc", "disc"))
    return check_records(folder / "records")


@breaks("class-names-alike")
def _names_alike(discs: DiscFiles, folder: pathlib.Path) -> object:
    change_description(discs.records(folder / "records"), class_names=("ground", "Disc", "discs"))
    return check_records(folder / "records")


# --- Duplicates ---------------------------------------------------------------------------------------------


@breaks("name-in-two-splits")
def _name_in_two_splits(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.names["val"].append("a3")
    return discs.check()


def _copied(discs: DiscFiles, target: str) -> object:
    discs.image(target).write_bytes(discs.image("a3").read_bytes())
    discs.mask(target).write_bytes(discs.mask("a3").read_bytes())
    return discs.check()


BROKEN["image-in-two-splits"] = lambda discs, folder: _copied(discs, "b1")
BROKEN["image-repeated"] = lambda discs, folder: _copied(discs, "a6")


@breaks("near-duplicate-in-two-splits")
def _near_duplicate(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.image("b1").write_bytes(encoded(draw(3)[0], "jpeg", quality=60))
    return discs.check()


@breaks("same-image-other-label")
def _other_label(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.image("a6").write_bytes(discs.image("a3").read_bytes())
    return discs.check()


@breaks("label-repeated")
def _label_repeated(discs: DiscFiles, folder: pathlib.Path) -> object:
    discs.mask("b1").write_bytes(discs.mask("a3").read_bytes())
    return discs.check()


# --- Crops and batches --------------------------------------------------------------------------------------


_config("larger-than-eval-crop", eval_crop_size=(49, 65))
_config("crop-mostly-padding", train_crop_size=(513, 513))
_config("crop-larger-than-images", train_crop_size=(81, 97))
_config("crop-off-stride", train_crop_size=(64, 80))
_config("batch-larger-than-split", train_batch_size=9)


# --- Records ------------------------------------------------------------------------------------------------


_record("record-unusable", image=b"")
_record("record-without-label", label=b"")
_record("label-not-gray-png", label=encoded(np.zeros((64, 80, 3), np.uint8)))
_record("record-fields-wrong", height=80, width=64)


@breaks("shards-incomplete")
def _missing_shard(discs: DiscFiles, folder: pathlib.Path) -> object:
    os.remove(discs.records(folder / "records") / records.shard_name("train", 0, 2))
    return check_records(folder / "records")


@breaks("shard-damaged")
def _cut_shard(discs: DiscFiles, folder: pathlib.Path) -> object:
    shard = discs.records(folder / "records") / records.shard_name("train", 1, 2)
    shard.write_bytes(shard.read_bytes()[:-100])
    return check_records(folder / "records")


@breaks("description-missing")
def _no_description(discs: DiscFiles, folder: pathlib.Path) -> object:
    os.remove(discs.records(folder / "records") / datasets.FILE_NAME)
    return check_records(folder / "records")


@breaks("description-unusable")
def _bad_description(discs: DiscFiles, folder: pathlib.Path) -> object:
    (discs.records(folder / "records") / datasets.FILE_NAME).write_text("classes: 3\n")
    return check_records(folder / "records")


@breaks("description-disagrees")
def _wrong_description(discs: DiscFiles, folder: pathlib.Path) -> object:
    change_description(discs.records(folder / "records"), splits={"train": 8, "val": 5})
    return check_records(folder / "records")
