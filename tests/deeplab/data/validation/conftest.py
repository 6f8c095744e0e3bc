"""A small clean dataset in files, to be broken in one place at a time."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

NAMES = {"train": [f"a{number}" for number in range(8)], "val": [f"b{number}" for number in range(4)]}
COLORS = np.array([[40, 60, 90], [220, 80, 60], [90, 200, 80]], np.float64)


def draw(seed, height=64, width=80):
    """A picture of a disc and a bar on a ground that is unlike any other's, and its label: 0 ground, 1 disc, 2 bar."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    row, column = chance.uniform(0.2, 0.8, 2) * (height, width)
    label = np.zeros((height, width), np.uint8)
    label[np.hypot(rows - row, columns - column) < 14] = 1
    left = int(chance.integers(0, width - 12))
    label[height - 16 :, left : left + 12] = 2
    waves = sum(np.sin(rows * chance.uniform(-0.3, 0.3) + columns * chance.uniform(-0.3, 0.3)) for _ in range(4))
    image = COLORS[label] + 20 * waves[..., None] + chance.normal(0, 3, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8), label


def encoded(pixels, kind="png", **options):
    """Pixels, or a Pillow picture, as the bytes of a file."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


class Discs:
    """Eight pairs for training and four for validation: images/NAME.jpg, masks/NAME.png."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.names = {split: list(names) for split, names in NAMES.items()}
        for kind in ("images", "masks"):
            (folder / kind).mkdir()
        for seed, name in enumerate(self.all_names):
            image, label = draw(seed)
            self.image(name).write_bytes(encoded(image, "jpeg", quality=92))
            self.mask(name).write_bytes(encoded(label))

    @property
    def all_names(self):
        return [name for names in self.names.values() for name in names]

    def image(self, name) -> pathlib.Path:
        return self.folder / "images" / f"{name}.jpg"

    def mask(self, name) -> pathlib.Path:
        return self.folder / "masks" / f"{name}.png"

    def label(self, name):
        return np.asarray(Image.open(self.mask(name)))

    def change_labels(self, change):
        """Every label through a function of uint8 [H, W]."""
        for name in self.all_names:
            self.mask(name).write_bytes(encoded(change(self.label(name).copy())))

    def source(self):
        from deeplab.data.readers.source import Pair, Source

        def pair(name):
            return Pair(name, str(self.image(name)), str(self.mask(name)))

        return Source({split: [pair(name) for name in names] for split, names in self.names.items()})

    def subject(self, findings=(), splits=(), exif="auto", **labels):
        from deeplab.config.conversion_config import LabelConfig
        from deeplab.data.readers.classes import classes_from
        from deeplab.data.validation import subject

        labels = labels or {"class_names": "ground,disc,bar"}
        source = self.source()
        classes = classes_from(LabelConfig(**labels), source)
        return subject.of_source(source, classes, "discs", exif=exif, splits=splits, findings=findings)

    def check(self, config=None, with_pictures=False, **labels):
        from deeplab.data.validation import analysis

        return analysis.check(self.subject(**labels), config, with_pictures=with_pictures)

    def records(self, folder: pathlib.Path, **changes):
        """Records of the set, two shards a split, and dataset.yml; `changes` replace parts of every example."""
        from deeplab.data import dataset, records

        folder.mkdir(parents=True, exist_ok=True)
        for split, names in self.names.items():
            half = len(names) // 2
            for index, members in enumerate((names[:half], names[half:])):
                with records.ShardWriter(folder, records.shard_name(split, index, 2)) as writer:
                    for name in members:
                        writer.write(records.encode_example(**{**self.parts(name), **changes}))
                    writer.publish()
        splits = {split: len(names) for split, names in self.names.items()}
        facts = dataset.Dataset("discs", ("ground", "disc", "bar"), splits=splits)
        dataset.save(facts, folder / dataset.FILE_NAME)
        return folder

    def parts(self, name):
        """Arguments of `encode_example`."""
        height, width = self.label(name).shape
        return {
            "image": self.image(name).read_bytes(),
            "image_format": "jpeg",
            "filename": name,
            "height": height,
            "width": width,
            "label": self.mask(name).read_bytes(),
        }


@pytest.fixture
def discs(tmp_path):
    folder = tmp_path / "discs"
    folder.mkdir()
    return Discs(folder)


@pytest.fixture
def drawn():
    """The function that draws a pair from a seed, and the one that encodes pixels."""
    return draw, encoded


def only(report, rule):
    """The findings of a rule; they must be the only errors and warnings of the report."""
    others = {finding.rule for finding in report.findings if finding.severity != "note" and finding.rule != rule}
    assert not others, f"also found: {others}"
    found = [finding for finding in report.findings if finding.rule == rule]
    assert found, f"{rule} was not found, but {[finding.rule for finding in report.findings]}"
    return found


@pytest.fixture(name="only")
def only_fixture():
    return only
