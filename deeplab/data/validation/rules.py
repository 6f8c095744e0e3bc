"""All rules of the check: severity, why it matters, and what to do; and the registries of functions that look for them.

Errors stop training or spoil it for certain. Warnings let it start, but something is probably wrong. Notes are facts
worth knowing; a dataset with nothing but notes is clean.

A further check is one module: it registers its rule in `RULES` and a function in `PAIR_CHECKS` or `DATASET_CHECKS`.

    RULES.register("mask-empty")(Rule("warning", "A mask shows nothing.", "look at the image"))

    @PAIR_CHECKS.register("mask-empty")
    def empty_mask(pair: SeenPair) -> Iterator[Finding]:
        if pair.label.counts is not None and not pair.label.counts[1:].any():
            yield pair.finding("mask-empty", "holds nothing but class 0")
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from deeplab.data.validation.check_report import Finding, Severity
from deeplab.utils.errors import UserError
from deeplab.utils.registry import Registry

if TYPE_CHECKING:
    from deeplab.data.validation.pair_checks import SeenPair
    from deeplab.data.validation.statistics import Summary

Item = TypeVar("Item")
MAX_LISTED = 20  # findings of one rule that a report lists; further ones are counted


def append_counted(items: list[Item], item: Item) -> None:
    """Appends what a finding will be about. Beyond those that a report lists, the last one stands for all others.

    So a million of them take little memory, and their number is right.
    """
    items.append(item if len(items) < MAX_LISTED else items[-1])


@dataclass(frozen=True)
class Rule:
    """What is known of a rule without any finding.

    Attributes:
      severity: of its findings, unless one says otherwise.
      message: what is wrong and why it matters, one sentence.
      hint: what to do where a finding has nothing more specific to say.
      in_source: the problem is in the files from which records are built, so records have to be built again.
    """

    severity: Severity
    message: str
    hint: str
    in_source: bool = False


RULES: Registry[Rule] = Registry("data check")
PAIR_CHECKS: Registry[Callable[[SeenPair], Iterator[Finding]]] = Registry("check of an image and its label")
DATASET_CHECKS: Registry[Callable[[Summary], Iterator[Finding]]] = Registry("check of a whole dataset")


def finding(
    rule: str,
    where: object,
    text: str,
    *,
    split: str = "",
    hint: str = "",
    severity: Severity | None = None,
    repair: Mapping[str, str] | None = None,
    places: tuple[int, ...] = (),
) -> Finding:
    """A finding, with what its rule says where nothing else is given."""
    known = RULES.get(rule)
    severity = severity or known.severity
    return Finding(rule, severity, str(where), split, text, hint or known.hint, repair or {}, places)


def from_error(rule: str, error: UserError, split: str = "") -> Finding:
    """A finding for what a reader refused."""
    return finding(rule, error.where, error.rule, split=split, hint=error.hint)


def for_records(item: Finding) -> Finding:
    """A finding on records whose cause is in the files before them: the hint says to build the records again."""
    settled = item.severity == "note" or "build" in item.hint or "dataset.yml" in item.hint
    if settled or not RULES.get(item.rule).in_source:
        return item
    return dataclasses.replace(item, hint=f"{item.hint}; then build the records again with `overwrite=true`")


_DRAWN_HINTS = {  # where labels are drawn from shapes, so that there are no mask files
    "nothing-labeled": "check which classes mean ignored pixels, such as 'void', and `classes`",
    "one-class": "check that these are the right annotation files",
    "labels-all-same": "check that each image has shapes of its own",
    "class-absent": "drop it with `classes`, or check that shapes use its name",
    "image-tiny": "leave it out, or enlarge it and scale its shapes",
    "size-differs": "`scale_annotations=true` if the image was resized after annotating, else use the annotated one",
    "mask-transposed": "annotate the image as it is shown, or rotate it back",
    "label-repeated": "look at both, and check the names of the images in the annotations",
}


def for_drawn(item: Finding) -> Finding:
    """A finding on labels that were drawn from shapes: the hint does not speak of mask files."""
    hint = _DRAWN_HINTS.get(item.rule, "")
    return dataclasses.replace(item, hint=hint) if hint and item.hint == RULES.get(item.rule).hint else item


def _register(rules: Mapping[str, tuple[Severity, str, str]], in_source: bool) -> None:
    for name, (severity, message, hint) in rules.items():
        RULES.register(name)(Rule(severity, message, hint, in_source))


_SPOILS_RESULTS = "so results on that split look better than they are"
_BUILD_AGAIN = "build the records again with `overwrite=true`"

# Files and lists.
_register(
    {
        "nothing-to-check": (
            "error",
            "There are no images to check.",
            "check the folder, or build records first with `deeplab build-data`",
        ),
        "listing-unusable": (
            "error",
            "The images and masks cannot be listed, so records cannot be built.",
            "fix what is named, then check again",
        ),
        "listed-name-missing": (
            "error",
            "A list names an image that has no file.",
            "add the file, or remove the name from the list",
        ),
        "image-without-mask": (
            "warning",
            "An image has no mask, so it is left out.",
            "add the mask, or remove the image",
        ),
        "mask-without-image": ("warning", "A mask has no image.", "add the image, or remove the mask"),
        "name-ambiguous": ("error", "A name has two files, so the pair is not clear.", "remove all but one"),
        "name-repeated": (
            "warning",
            "A split lists a name twice, so that image counts twice.",
            "remove one of the two from the list",
        ),
        "split-empty": (
            "error",
            "A split holds no images, so a command that uses it would stop at once.",
            "check its list of images, or remove the split",
        ),
    },
    in_source=True,
)

# Images.
_register(
    {
        "image-unreadable": (
            "error",
            "An image is empty, truncated or damaged, so training would stop at it.",
            "copy the file again",
        ),
        "image-unknown-format": (
            "error",
            "A file is not in a supported image format, whatever its extension says.",
            "convert it to PNG (lossless) or JPEG first",
        ),
        "image-damaged": (
            "warning",
            "An image violates its file format, although TensorFlow can read it.",
            "save or copy the file again",
        ),
        "image-rotated": (
            "note",
            "A photo has an EXIF rotation. The size of its mask decides whether the rotation is applied.",
            "look at the overlay; `exif=turn` or `exif=ignore` decides for all photos",
        ),
        "image-converted": (
            "note",
            "Records store an image in another format than its file has.",
            "nothing to do, if you expect that",
        ),
        "image-alpha": (
            "warning",
            "An image has an alpha channel, which is dropped.",
            "save it as RGB, on the background that you want",
        ),
        "image-16-bit": (
            "warning",
            "An image has 16 bits per channel, of which the upper 8 are kept: dark images may become black.",
            "scale it to 8 bits yourself, so that details stay visible",
        ),
        "image-dark": (
            "warning",
            "An image of more than 8 bits uses only the lowest part of its range, so models see it nearly black.",
            "stretch all images by the same factor before building",
        ),
        "image-pages": (
            "note",
            "A file holds several pages or frames, of which the first is used.",
            "nothing to do, if the first is the right one",
        ),
        "image-cmyk": (
            "warning",
            "An image has print colors (CMYK), which every decoder turns into RGB in its own way.",
            "save it as RGB",
        ),
        "image-gray": ("note", "Images are gray: their channel is used for red, green and blue.", "nothing to do"),
        "image-flat": (
            "warning",
            "An image has one tone everywhere, so it shows nothing.",
            "copy the file again, or leave it out",
        ),
        "image-is-mask": (
            "error",
            "An image is a copy of its own mask, so there is nothing to learn.",
            "replace it with the photo",
        ),
        "image-tiny": (
            "warning",
            "An image is so small that the features of the model are one or two cells.",
            "leave it out, or enlarge it together with its mask",
        ),
    },
    in_source=True,
)

# Masks and labels.
_register(
    {
        "mask-unreadable": (
            "error",
            "A mask is empty, truncated, damaged or not an image.",
            "copy or export the file again",
        ),
        "mask-is-color": (
            "error",
            "A mask is in colors, and nothing says which color is which class.",
            "give `palette=FILE` with a line `R G B name` for each class, in the order of the classes",
        ),
        "mask-color-unknown": (
            "error",
            "A mask has colors that are not in the palette.",
            "add them to the palette, or set `color_tolerance`",
        ),
        "mask-colors-snapped": (
            "note",
            "Pixels of a mask took the nearest color of the palette.",
            "look at the overlay",
        ),
        "mask-palette-disagrees": (
            "error",
            "A palette PNG means one class by its index and another by its color.",
            "leave `palette` out if the indices are right; run datasets/convert_color_masks.py if the colors are right",
        ),
        "mask-kind": (
            "error",
            "The pixels of a mask are no class indices.",
            "write masks as 8-bit PNG without transparency",
        ),
        "mask-lossy": (
            "error",
            "A mask is a JPEG, whose compression leaves wrong values around every edge.",
            "export the masks again as PNG; masks in colors can be repaired with `palette` and `color_tolerance`",
        ),
        "mask-blurred": (
            "warning",
            "Areas of a mask are separated by thin lines of values in between, as JPEG or smooth resizing leaves them, "
            "so labels are wrong there.",
            "export the masks again as PNG, and resize masks by nearest neighbor only",
        ),
        "mask-unusable": ("error", "The label of an image cannot be drawn.", "fix the annotation"),
        "label-out-of-range": (
            "error",
            "A label holds values that are neither a class nor the ignore label, so building, training and evaluation "
            "stop at it.",
            "map the values with `label_map=OLD:NEW`, or correct the number of classes",
        ),
        "size-differs": (
            "error",
            "A mask and its image have different sizes.",
            "resize the mask (nearest neighbor) or the image, or leave the pair out",
        ),
        "mask-transposed": (
            "error",
            "A mask is rotated against its image: its height is the width of the image.",
            "rotate one of the two; photos often store their rotation in EXIF data, which annotation tools apply",
        ),
        "mask-palettes-differ": (
            "error",
            "One color has different indices in different palette masks, as when each mask has a palette of its own: "
            "the indices mean nothing, the colors do.",
            "save the masks as RGB and give `palette=FILE`, or run datasets/convert_color_masks.py on them",
        ),
        "label-one-class": (
            "note",
            "A whole label is one class, while most labels have several, so something may be missing.",
            "look at the image; nothing to do, if it shows nothing else",
        ),
        "label-all-ignored": (
            "warning",
            "Every pixel of a label is ignored, so nothing is learned from the image.",
            "leave the pair out",
        ),
    },
    in_source=True,
)

# The values of all labels together.
_register(
    {
        "foreground-ignored": (
            "error",
            "The masks hold one class and the ignore label, so what is meant as a class would be ignored.",
            "map the value to a class, such as `label_map=255:1`",
        ),
        "labels-are-gray-levels": (
            "error",
            "The masks hold gray levels, not class indices 0, 1, 2 ...",
            "number them with `label_map=OLD:NEW,OLD:NEW`",
        ),
        "labels-start-at-one": (
            "warning",
            "No label holds the value 0. The first class is 0, so it would have no pixels.",
            "shift the values with `label_map`; nothing to do, if class 0 just does not occur",
        ),
    },
    in_source=True,
)
_register(
    {
        "nothing-labeled": (
            "error",
            "Every pixel of every label is ignored.",
            "check `ignore_label` and the values of the masks",
        ),
        "one-class": (
            "error",
            "All labeled pixels have one class, so there is nothing to distinguish.",
            "check that these are the right mask files",
        ),
        "labels-all-same": (
            "error",
            "The labels of all images are identical.",
            "check that the masks belong to their images",
        ),
        "class-names-repeated": (
            "warning",
            "Two classes have the same name, so tables cannot tell them apart.",
            "give each class a name of its own",
        ),
        "class-names-alike": (
            "warning",
            "Two classes have nearly the same name, so they are probably one class that was written in two ways.",
            "merge them with `classes`, or leave them if they are different classes",
        ),
        "class-ignored": (
            "warning",
            "The ignore label is one of the classes, which is then neither learned nor predicted.",
            "leave `ignore_label` out if the class should be learned; name it 'ignored' if not",
        ),
        "ignore-counted-as-class": (
            "warning",
            "The last class has no pixels, and ignored pixels have a label of their own.",
            "`num_classes` counts the background, but not the ignore label",
        ),
        "class-absent": (
            "warning",
            "A class has no pixels in any split.",
            "remove it from the classes, or check the values of the masks",
        ),
        "class-not-trained": (
            "warning",
            "A class has no pixels in the split that is trained, so it cannot be learned.",
            "split the data again with `stratify=true`, or move images with that class into the training split",
        ),
        "class-absent-from-split": (
            "note",
            "A class of the training split has no pixels in another split, whose results say nothing about it.",
            "split the data again with `stratify=true`, or move images into that split",
        ),
        "class-rare": (
            "warning",
            "Classes have less than 0.05 % of the training pixels: without weights, models hardly ever predict them.",
            "set `label_weights` as recommended",
        ),
        "weights-far-apart": (
            "note",
            "Inverse weights would differ by more than a factor of 50: models trained so tend to predict the heavy "
            "class everywhere.",
            "use the recommended weights, which are milder",
        ),
    },
    in_source=False,
)

# Duplicates.
_register(
    {
        "name-in-two-splits": (
            "warning",
            f"An image of the training split is in another split, too, {_SPOILS_RESULTS}.",
            "remove it from one of the two lists",
        ),
        "image-in-two-splits": (
            "warning",
            f"An image of the training split is in another split under another name, {_SPOILS_RESULTS}.",
            "remove one of the two; remove it from the training split, where results must stay comparable",
        ),
        "near-duplicate-in-two-splits": (
            "warning",
            f"An image of the training split has a near-duplicate in another split, {_SPOILS_RESULTS}.",
            "keep such images in one split: remove one, or split by a part of the name with `group_by`",
        ),
        "image-repeated": ("warning", "A split holds the same image under two names.", "remove one of the two"),
        "label-repeated": (
            "warning",
            "Two different images have identical labels, so one of them probably has the mask of the other.",
            "look at both, and give each image its own mask",
        ),
        "same-image-other-label": (
            "warning",
            "The same image has two different labels, which contradict each other.",
            "keep the better one",
        ),
    },
    in_source=True,
)

# Crops and batches.
_register(
    {
        "larger-than-eval-crop": (
            "error",
            "Images are larger than `eval_crop_size`, so evaluation would stop.",
            "leave `eval_crop_size` out (each image at its own size), or enlarge it",
        ),
        "crop-mostly-padding": (
            "warning",
            "Most of a training crop is padding, which costs time and memory for nothing.",
            "use a smaller `train_crop_size`",
        ),
        "crop-larger-than-images": (
            "warning",
            "The training crop is larger than every image, so images are padded where they are not enlarged.",
            "use a smaller `train_crop_size`",
        ),
        "crop-off-stride": (
            "note",
            "The sides of a crop should be multiples of the output stride, plus 1, as the features of the model are.",
            "use the suggested size",
        ),
        "batch-larger-than-split": (
            "warning",
            "A batch holds more images than the training split, so images repeat within a batch.",
            "use a smaller `train_batch_size`, or add images",
        ),
    },
    in_source=False,
)

# Records.
_register(
    {
        "shards-incomplete": (
            "error",
            "Shards of a split are missing, or belong to two builds.",
            "copy the whole folder again",
        ),
        "shard-damaged": (
            "error",
            "A shard is truncated or damaged; the records after the damage were not checked.",
            f"copy the file again, or {_BUILD_AGAIN}",
        ),
        "record-unusable": ("error", "A record holds no image.", _BUILD_AGAIN),
        "record-without-label": (
            "error",
            "A record has no label, so training and evaluation would stop at it.",
            "build the split with masks; `split=NAME` limits the check to splits that have them",
        ),
        "label-not-gray-png": (
            "error",
            "A stored label is no gray PNG of the bits that dataset.yml means, so TensorFlow would read other values.",
            "build the records again with `overwrite=true`; palette and color masks then become class indices",
        ),
        "record-fields-wrong": (
            "warning",
            "A record states a wrong size or format of its image, on which other programs may rely.",
            _BUILD_AGAIN,
        ),
        "description-missing": (
            "warning",
            "There is no dataset.yml beside the records, so commands assume the 21 classes of PASCAL VOC.",
            "write one (at least `classes: [background, ...]`), or set `dataset`",
        ),
        "description-unusable": ("error", "dataset.yml cannot be read.", "fix it, or build the records again"),
        "description-disagrees": (
            "warning",
            "dataset.yml and the records disagree.",
            f"{_BUILD_AGAIN}, or copy the whole folder again",
        ),
    },
    in_source=False,
)
