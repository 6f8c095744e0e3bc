"""The images from which int8 formats get the ranges of their activations.

Owns the choice of images: from records, so that each class occurs in about equally many; from a folder, at random. Used
by the exporter before it writes such formats. It does not depend on how a format uses the images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from deeplab.config.export_config import ExportConfig
from deeplab.config.fields import Size
from deeplab.data import image_files, images, mask_files, records
from deeplab.data.bands import ImageBands
from deeplab.data.labels import LabelSpec
from deeplab.export.parity_images import fitting, read_for, with_channels
from deeplab.utils import console
from deeplab.utils.errors import UserError

ENOUGH = 100  # images; with fewer, the ranges depend strongly on the choice
_CANDIDATES = 20  # candidates per wanted image: reading the labels of all records of a large split would take long
_SPLIT = "train"


def is_given(config: ExportConfig) -> bool:
    """Whether there is a folder to take images from."""
    return bool(config.calibration_images) or _has_records(config.dataset_dir)


def choose(config: ExportConfig, crop: Size, bands: ImageBands) -> list[np.ndarray]:
    """Return images as a model of these bands takes them, [H, W, C], at most as large as the crop.

    Args:
      config: `calibration_images` or `dataset_dir`, `calibration_count`, `calibration_seed`.
      crop: height, width; larger images are shrunk to fit.
      bands: what the model takes.

    Raises:
      UserError: no folder is known, it does not exist, or it holds no image.
    """
    random = np.random.default_rng(config.calibration_seed)
    source = config.calibration_images or config.dataset_dir
    if not is_given(config):
        rule = "int8 formats need images of the kind that the model will see"
        hint = "give a folder of images or of records, 100 images or more"
        raise UserError("missing-setting", rule, hint, field="calibration_images")
    if not os.path.isdir(source):
        rule = "there is no such folder of images or records"
        raise UserError("folder-not-found", rule, "check the path", field="calibration_images", value=source)
    take = _from_records if _has_records(source) else _from_folder
    taken = take(source, config.calibration_count, random, bands)
    chosen = [with_channels(fitting(image, crop), bands) for image in taken]
    if len(chosen) < ENOUGH:
        console.warning(f"only {len(chosen)} images for calibration; {ENOUGH} or more give more reliable ranges")
    return chosen


def _has_records(folder: str) -> bool:
    return bool(folder) and os.path.isdir(folder) and bool(records.shards_by_split(folder))


def _from_folder(folder: str, count: int, random: np.random.Generator, bands: ImageBands) -> list[np.ndarray]:
    files = image_files.find_images([folder], recursive=True)
    picked = sorted(random.permutation(len(files))[:count])
    running = console.progress(picked, what="reading", unit="image")
    return [read_for(files[index].path, bands) for index in running]


def _from_records(folder: str, count: int, random: np.random.Generator, bands: ImageBands) -> list[np.ndarray]:
    splits = records.shards_by_split(folder)
    split = _SPLIT if _SPLIT in splits else sorted(splits)[0]
    shards = records.list_shards(folder, split)
    total = records.count(shards)
    candidates = set(random.permutation(total)[: count * _CANDIDATES].tolist())

    def examples() -> Iterator[tuple[int, dict]]:
        return enumerate(example for shard in shards for example in records.read_shard(shard))

    classes = {number: _classes_of(example) for number, example in examples() if number in candidates}
    numbers = list(classes)
    wanted = {numbers[index] for index in stratified(list(classes.values()), count, random)}
    chosen = []
    for number, example in examples():
        if number in wanted:
            name = example[records.FILENAME].decode("utf-8", "replace")
            chosen.append(images.decode_record(example, bands, name))
    return chosen


def _classes_of(example: dict) -> set[int]:
    label = records.label_of(example)
    if not label:
        return set()
    return set(np.unique(mask_files.decode_values(label, "the label", LabelSpec(None))).tolist())


def stratified(classes: Sequence[set[int]], count: int, random: np.random.Generator) -> list[int]:
    """Choose images so that each class occurs in about equally many, as far as there are that many.

    One image after the other is taken: a random one of those with the class that occurs least so far.

    Args:
      classes: of every image; an ignore label counts as one.
      count: how many images to choose; all if there are not more.

    Returns:
      Indices of the chosen images, sorted.
    """
    order = random.permutation(len(classes)).tolist()
    unused = {each: [index for index in order if each in classes[index]] for each in set().union(*classes)}
    occurrences = dict.fromkeys(unused, 0)
    chosen: dict[int, None] = {}
    while len(chosen) < min(count, len(classes)):
        open_classes = [each for each in occurrences if any(index not in chosen for index in unused[each])]
        if open_classes:
            rarest = min(open_classes, key=lambda each: (occurrences[each], len(unused[each])))
            index = next(index for index in unused[rarest] if index not in chosen)
        else:
            index = next(index for index in order if index not in chosen)
        chosen[index] = None
        for each in classes[index]:
            occurrences[each] += 1
    return sorted(chosen)
