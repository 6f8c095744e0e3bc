"""Images and masks on disk, and the labels in the records that are built of them."""

import cv2
import numpy as np

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.conversion import local
from deeplab.data.labels import LabelSpec
from deeplab.data.mask_files import decode_label


def write_image(path, pixels):
    """Writes an image file, gray or RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels, np.uint8)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def write_gray(path, height=2, width=2):
    """Writes an image that is gray all over."""
    write_image(path, np.full([height, width, 3], 90))


def names_of(source):
    """The names of a source's pairs by split."""
    return {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()}


def built_labels(source, folder, split):
    """Builds records and returns the labels in those of a split, by image name."""
    local.build(source, folder, LabelConfig(), RecordConfig(num_shards=1))
    described = datasets.load(folder / "dataset.yml")
    spec = LabelSpec(None, described.ignore_label)
    held = [record for path in records.list_shards(folder, split) for record in records.read_shard(path)]
    return {
        record[records.FILENAME].decode(): decode_label(records.label_of(record), "", spec).label.tolist()
        for record in held
    }
