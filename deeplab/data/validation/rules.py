"""What is checked: every rule with its severity, one sentence on why it matters, and what to do when it is broken.

Errors stop training, or spoil it for certain. Warnings let it start, but most likely something is not as it was meant.
Notes are facts worth knowing; a dataset with notes alone is clean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from deeplab.data.validation.check_report import Finding, Severity

MOST_SHOWN = 20  # findings of one rule that a report lists; further ones are counted


@dataclass(frozen=True)
class Rule:
    """What is known of a rule without any finding.

    Attributes:
      severity: of its findings, unless one says otherwise.
      sentence: what is wrong and why it matters.
      hint: what to do where a finding has nothing better to say.
    """

    severity: Severity
    sentence: str
    hint: str


_REBUILD = "mend the file, then build the records anew with `overwrite=true`"

_FILES: Mapping[str, Rule] = {
    "nothing-to-check": Rule(
        "error", "There is not a single image.", "build records first: `deeplab build-data `help`"
    ),
    "listing-unusable": Rule(
        "error",
        "The dataset cannot be listed as it is, so building records would stop.",
        "mend what is named, then check again",
    ),
    "listed-name-missing": Rule(
        "error", "A list names an image that has no file.", "add the file, or take the name off the list"
    ),
    "image-without-mask": Rule(
        "warning", "An image has no mask, so nothing is learned from it.", "add the mask, or remove the image"
    ),
    "mask-without-image": Rule("warning", "A mask has no image.", "add the image, or remove the mask"),
    "name-ambiguous": Rule(
        "error", "A name has two files, and nobody has said which one counts.", "remove all but one"
    ),
    "name-repeated": Rule(
        "warning", "A name stands twice in one split, so that image counts double.", "take it off the list once"
    ),
    "split-empty": Rule(
        "error", "A split holds no image: training on it would end at once.", "check its list of images, or remove it"
    ),
}

_IMAGES: Mapping[str, Rule] = {
    "image-unreadable": Rule(
        "error", "An image is empty, cut off or damaged; training would stop at it.", "copy the file again"
    ),
    "image-unknown-format": Rule(
        "error",
        "A file is none of the kinds of picture that are read, whatever its extension.",
        "convert it to PNG (lossless) or JPEG first",
    ),
    "image-damaged": Rule(
        "warning", "An image breaks the rules of its format, yet TensorFlow reads it.", "save or copy the file again"
    ),
    "image-turned": Rule(
        "note",
        "The EXIF data of a photo turn it; whether its mask lies the same way is decided by their sizes.",
        "look at the overlay; `exif=turn` or `exif=ignore` decides for all photos",
    ),
    "image-converted": Rule(
        "note", "An image is stored in another form than it has now.", "nothing, if that is what you expect"
    ),
    "image-alpha": Rule(
        "warning", "An image has an alpha channel, which is dropped.", "save it as RGB, over the ground you want to see"
    ),
    "image-16-bit": Rule(
        "warning",
        "An image has 16 bits a channel, of which the upper 8 are kept: dark pictures may become black.",
        "scale it to 8 bits yourself, so that what matters stays visible",
    ),
    "image-dark": Rule(
        "warning",
        "A picture of more than 8 bits uses their lower part only, so that networks see it nearly black.",
        "stretch all pictures by the same factor before building",
    ),
    "image-pages": Rule(
        "note", "A file holds several pages or frames, of which the first is taken.", "nothing, if that is the one"
    ),
    "image-cmyk": Rule(
        "warning",
        "An image is stored in printing colors, which decoders turn into RGB each in its own way.",
        "save it as RGB",
    ),
    "image-gray": Rule("note", "Images are gray: their one channel is read as red, green and blue.", "nothing to do"),
    "image-flat": Rule(
        "warning",
        "An image is one tone all over: there is nothing to see on it.",
        "copy the file again, or leave it out",
    ),
    "image-is-mask": Rule(
        "error", "An image is its own mask: what is to be found is given away.", "put the photo in its place"
    ),
    "image-tiny": Rule(
        "warning",
        "An image is so small that the network's features are one or two cells.",
        "leave it out, or enlarge it together with its mask",
    ),
}

_MASKS: Mapping[str, Rule] = {
    "mask-unreadable": Rule(
        "error", "A mask is empty, cut off, damaged or no picture.", "copy or export the file again"
    ),
    "mask-is-color": Rule(
        "error",
        "A mask is in colors, and nobody has said which color is which class.",
        "`palette=FILE` with a line `R G B name` for each class, in the order of the classes",
    ),
    "mask-color-unknown": Rule(
        "error",
        "A mask has colors that are not in the palette.",
        "add them to the palette, or give `color_tolerance`",
    ),
    "mask-colors-snapped": Rule(
        "note", "Pixels of a mask took the nearest color of the palette.", "look at the overlay"
    ),
    "mask-palette-disagrees": Rule(
        "error",
        "A palette PNG says one class by its index and another by its color.",
        "leave `palette` out if the indices are right; run convert_color_masks if the colors are",
    ),
    "mask-kind": Rule(
        "error", "The pixels of a mask are no class indices.", "write masks as 8-bit PNG without transparency"
    ),
    "mask-lossy": Rule(
        "error",
        "A mask is a JPEG: around every edge it holds values that nobody drew.",
        "export the masks again as PNG; colors in JPEG can be saved with `palette` and `color_tolerance`",
    ),
    "mask-blurred": Rule(
        "warning",
        "Between the areas of a mask lie thin lines of values in between, as after JPEG or smooth resizing: there, "
        "labels are wrong.",
        "export the masks again, as PNG; resize them by nearest neighbor alone",
    ),
    "mask-unusable": Rule("error", "The label of an image cannot be drawn.", "mend the annotation"),
    "label-out-of-range": Rule(
        "error",
        "A label holds values that are neither a class nor the ignore label: their pixels would teach nothing, and "
        "evaluation would stop.",
        "map the values with `label_map=OLD:NEW`, or mend the number of classes",
    ),
    "size-differs": Rule(
        "error",
        "A mask has another size than its image.",
        "resize the mask (nearest neighbor) or the image, or leave the pair out",
    ),
    "mask-transposed": Rule(
        "error",
        "A mask lies on its side: its height is the image's width.",
        "turn one of the two; photos often carry their rotation in EXIF data that annotation tools apply",
    ),
    "mask-mirrored": Rule(
        "warning",
        "The outlines of a mask lie on the edges of its picture when it is mirrored or turned, but not as it is.",
        "look at the overlay; mirror the mask or the image (EXIF data that were dropped can be the cause)",
    ),
    "mask-off-edges": Rule(
        "note",
        "The outlines of a mask follow no edges of its picture, unlike those of most masks.",
        "look at the overlay: the mask may be that of another image, or roughly drawn",
    ),
    "mask-palettes-differ": Rule(
        "error",
        "One color stands for different indices in different palette masks, as when each was given a palette of its "
        "own: the indices mean nothing, the colors do.",
        "save the masks as RGB and give `palette=FILE`, or run datasets/convert_color_masks.py on them",
    ),
    "label-one-class": Rule(
        "note",
        "A whole label is one class, while most have several: there is nothing else on the image, or it was forgotten.",
        "look at the image; nothing, if that is all there is on it",
    ),
    "label-all-ignored": Rule(
        "warning", "Every pixel of a label is ignored, so the image teaches nothing.", "leave the pair out"
    ),
}

_CLASSES: Mapping[str, Rule] = {
    "nothing-labeled": Rule(
        "error", "Every pixel of every label is ignored.", "check `ignore_label` and the values of the masks"
    ),
    "foreground-ignored": Rule(
        "error",
        "The masks hold one class and the ignore label: what was meant as a class would be ignored.",
        "`label_map=255:1`",
    ),
    "one-class": Rule(
        "error", "All labeled pixels are one class: there is nothing to tell apart.", "check the mask files"
    ),
    "labels-are-gray-levels": Rule(
        "error",
        "The masks hold tones of gray, not class indices 0, 1, 2 ...",
        "number them with `label_map=OLD:NEW`,OLD:NEW",
    ),
    "class-names-repeated": Rule(
        "warning", "Two classes have one name: in tables, nobody can tell them apart.", "give each class its own name"
    ),
    "class-ignored": Rule(
        "warning",
        "The ignore label is one of the classes, which is never learned and never found.",
        "leave `ignore_label` out if the class is meant to be learned; call it `ignored` if it is not",
    ),
    "labels-start-at-one": Rule(
        "warning",
        "No label holds the value 0: the first class is 0, so one class would have no pixel.",
        "`label_map` moves them down by one, unless class 0 merely does not occur",
    ),
    "ignore-counted-as-class": Rule(
        "warning",
        "The highest class has not one pixel, and ignored pixels have a label of their own.",
        "num_classes counts the background, but never the ignore label",
    ),
    "class-absent": Rule(
        "warning", "A class has no pixel anywhere.", "take it off the list of classes, or check the masks' values"
    ),
    "class-not-trained": Rule(
        "warning",
        "A class occurs in another split, but not in the one for training: it cannot be learned.",
        "divide anew with `stratify=true`, or move images into the training split",
    ),
    "class-absent-from-split": Rule(
        "note",
        "A class that is trained has no pixel in another split, whose figures say nothing of it.",
        "divide anew with `stratify=true`, or move images into that split",
    ),
    "class-rare": Rule(
        "warning",
        "Classes have less than 0.05 % of the training pixels: without weights they are hardly ever found.",
        "weigh the classes: `label_weights` as suggested below",
    ),
    "weights-far-apart": Rule(
        "note",
        "Weights in full proportion would differ by more than a factor of 50: such trainings tend to see the heavy "
        "class everywhere.",
        "take a milder scheme, such as the square root",
    ),
    "labels-all-same": Rule(
        "error", "The labels of all images are one and the same.", "check that masks belong to their images"
    ),
}

_LEAKS: Mapping[str, Rule] = {
    "name-in-two-splits": Rule(
        "warning",
        "An image of the training split is in another split, too: its figures will look better than they are.",
        "take it off one of the two lists",
    ),
    "picture-in-two-splits": Rule(
        "warning",
        "The same picture is in the training split and in another one under two names: figures there will look better "
        "than they are.",
        "take one of the two off its list: the one for training, where figures must stay comparable",
    ),
    "near-picture-in-two-splits": Rule(
        "warning",
        "Almost the same picture is in the training split and in another one: figures there will look better than "
        "they are.",
        "keep such pictures in one split: take one off its list, or let `group_by` divide by a part of the name",
    ),
    "picture-repeated": Rule(
        "warning", "The same picture stands in a split twice under two names.", "leave one of the two out"
    ),
    "label-repeated": Rule(
        "warning",
        "Two different pictures have one and the same label: one of them got the mask of the other.",
        "look at both; give each picture its own mask",
    ),
    "same-picture-other-label": Rule(
        "warning", "The same picture has two different labels, which contradict each other.", "keep the better one"
    ),
}

_SIZES: Mapping[str, Rule] = {
    "larger-than-eval-crop": Rule(
        "error",
        "Images are larger than `eval_crop_size`, so evaluation would stop.",
        "leave `eval_crop_size` out (each image at its own size), or enlarge it",
    ),
    "crop-mostly-padding": Rule(
        "warning",
        "Most of a training crop would be padding, which costs time and memory and teaches nothing.",
        "take a smaller `train_crop_size`",
    ),
    "crop-off-stride": Rule(
        "note",
        "Crops fit the network's feature cells when their sides are multiples of the output stride, plus one.",
        "take the side that is suggested",
    ),
}

_RECORDS: Mapping[str, Rule] = {
    "shards-incomplete": Rule(
        "error", "Shards of a split are missing, or stem from two builds.", "copy the whole folder again"
    ),
    "shard-damaged": Rule(
        "error",
        "A shard is cut off or damaged; the records behind that place were not looked at.",
        "copy the file again, or build the records anew with `overwrite=true`",
    ),
    "record-unusable": Rule("error", "A record holds no image.", "build the records anew with `overwrite=true`"),
    "record-without-label": Rule(
        "error",
        "A record has no label: training and evaluation would stop at it.",
        "build the split with masks; `split=NAME` checks those that have them",
    ),
    "label-not-gray-png": Rule(
        "error",
        "A stored label is no 8-bit gray PNG: TensorFlow would read colors, not indices.",
        "build the records anew; the builders turn palette and color masks into class indices",
    ),
    "record-fields-wrong": Rule(
        "warning",
        "What a record says of its image is not so; other programs may trust it.",
        _REBUILD,
    ),
    "description-missing": Rule(
        "warning",
        "Beside the records lies no dataset.yml, so commands would take the 21 classes of PASCAL VOC.",
        "write one (the least is `classes: [background, ...]`), or give `dataset`",
    ),
    "description-unusable": Rule("error", "dataset.yml cannot be read.", "mend it, or build the records anew"),
    "description-disagrees": Rule(
        "warning",
        "dataset.yml says something else than the records hold.",
        "build the records anew with `overwrite=true`, or copy the whole folder again",
    ),
}

RULES: Mapping[str, Rule] = {**_FILES, **_IMAGES, **_MASKS, **_CLASSES, **_LEAKS, **_SIZES, **_RECORDS}


def finding(
    rule: str,
    where: object,
    text: str,
    *,
    split: str = "",
    hint: str = "",
    severity: Severity | None = None,
    fix: str = "",
) -> Finding:
    """A finding with what its rule says where nothing else is given."""
    known = RULES[rule]
    return Finding(rule, severity or known.severity, str(where), split, text, hint or known.hint, fix)


ABOUT_FILES = frozenset(_FILES) | {"shards-incomplete"}  # rules of lists and folders: no pair is at fault

_MENDED_BEFORE_BUILDING = {
    *(_FILES.keys() | _IMAGES.keys() | _MASKS.keys() | _LEAKS.keys()),
    *("foreground-ignored", "labels-are-gray-levels", "labels-start-at-one"),
}


def for_records(item: Finding) -> Finding:
    """A finding on records: what must be mended lies in front of them, and they must be built again."""
    if item.rule not in _MENDED_BEFORE_BUILDING or item.severity == "note" or item.hint.startswith("build"):
        return item
    return dataclasses.replace(item, hint=f"{item.hint}; then build the records anew with `overwrite=true`")
