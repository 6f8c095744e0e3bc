"""A small clean dataset in files, to be broken in one place at a time, and what tests need to break it."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

NAMES = {"train": [f"a{number}" for number in range(8)], "val": [f"b{number}" for number in range(4)]}
CLASSES = "ground,disc,bar"
COLORS = np.array([[40, 60, 90], [220, 80, 60], [90, 200, 80]], np.float64)


def draw(seed: int, height: int = 64, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """An image of a disc and a bar on a ground that is unlike any other's, and its label: 0 ground, 1 disc, 2 bar."""
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


def encoded(pixels: np.ndarray | Image.Image, kind: str = "png", **options) -> bytes:
    """Pixels, or a Pillow image, as the bytes of a file."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class DiscFiles:
    """Eight pairs for training and four for validation: images/NAME.jpg, masks/NAME.png."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.names = {split: list(names) for split, names in NAMES.items()}
        for kind in ("images", "masks"):
            (folder / kind).mkdir()
        for seed, name in enumerate(self.all_names):
            self.write(name, *draw(seed))

    @property
    def all_names(self) -> list[str]:
        return [name for names in self.names.values() for name in names]

    def image(self, name: str) -> pathlib.Path:
        return self.folder / "images" / f"{name}.jpg"

    def mask(self, name: str) -> pathlib.Path:
        return self.folder / "masks" / f"{name}.png"

    def label(self, name: str) -> np.ndarray:
        return np.asarray(Image.open(self.mask(name)))

    def write(self, name: str, image: np.ndarray, label: np.ndarray) -> None:
        self.image(name).write_bytes(encoded(image, "jpeg", quality=92))
        self.mask(name).write_bytes(encoded(label))

    def write_label(self, name: str, label: np.ndarray) -> None:
        self.mask(name).write_bytes(encoded(label))

    def change_labels(self, change: Callable[[np.ndarray], np.ndarray], names: Sequence[str] = ()) -> None:
        """Every label, or those of some names, through a function of uint8 [H, W]."""
        for name in names or self.all_names:
            self.write_label(name, change(self.label(name).copy()))

    def source(self):
        from deeplab.data.readers.source import Pair, Source

        def pair(name):
            return Pair(name, str(self.image(name)), str(self.mask(name)))

        return Source({split: [pair(name) for name in names] for split, names in self.names.items()})

    def subject(self, findings=(), splits=(), exif="auto", **labels):
        from deeplab.config.conversion_config import LabelConfig
        from deeplab.data.readers.classes import classes_from
        from deeplab.data.validation import subject

        source = self.source()
        classes = classes_from(LabelConfig(**(labels or {"class_names": CLASSES})), source)
        return subject.of_source(source, classes, "discs", exif=exif, splits=splits, findings=findings)

    def check(self, config=None, with_previews=False, **labels):
        from deeplab.data.validation import analysis

        return analysis.check(self.subject(**labels), config, with_previews=with_previews)

    def check_folders(self, config=None, **splits):
        """As `check-data --image_folder --mask_folder` lists and checks the files."""
        from deeplab.config.conversion_config import LabelConfig, SplitConfig
        from deeplab.data.readers.folder import BuildFolderConfig
        from deeplab.data.validation import analysis, subject
        from deeplab.data.validation.listing import listed

        folders = BuildFolderConfig(image_folder=str(self.folder / "images"), mask_folder=str(self.folder / "masks"))
        labels = LabelConfig(class_names=CLASSES)
        source, met = listed("folder", folders, labels, SplitConfig(**splits))
        if source is None:
            return analysis.check(subject.of_nothing("discs", met), config)
        from deeplab.data.readers.classes import classes_from

        classes = classes_from(labels, source)
        return analysis.check(subject.of_source(source, classes, "discs", findings=met), config)

    def records(self, folder: pathlib.Path, **changes) -> pathlib.Path:
        """Records of the set, two shards per split, and dataset.yml; `changes` replace parts of every example."""
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

    def parts(self, name: str) -> dict:
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

    def change_record(self, folder: pathlib.Path, name: str = "b0", **changes) -> pathlib.Path:
        """Writes a shard of val again, in which one record is changed."""
        from deeplab.data import records

        with records.ShardWriter(folder, records.shard_name("val", 0, 2)) as writer:
            for member in ("b0", "b1"):
                parts = {**self.parts(member), **(changes if member == name else {})}
                writer.write(records.encode_example(**parts))
            writer.publish()
        return folder


def check_records(folder: pathlib.Path, config=None, **more):
    """The report on a folder of records."""
    from deeplab.data.validation import analysis, subject

    return analysis.check(subject.of_records(folder, **more), config)


def change_description(folder: pathlib.Path, **changes) -> None:
    """Writes dataset.yml again with other fields."""
    import dataclasses

    from deeplab.data import dataset

    path = folder / dataset.FILE_NAME
    dataset.save(dataclasses.replace(dataset.load(path), **changes), path)


def only(report, rule: str) -> list:
    """The findings of a rule; they must be the only errors and warnings of the report."""
    others = {finding.rule for finding in report.findings if finding.severity != "note" and finding.rule != rule}
    assert not others, f"also found: {others}"
    found = [finding for finding in report.findings if finding.rule == rule]
    assert found, f"{rule} was not found, but {[finding.rule for finding in report.findings]}"
    return found


@pytest.fixture(name="discs")
def discs_fixture(tmp_path) -> DiscFiles:
    folder = tmp_path / "discs"
    folder.mkdir()
    return DiscFiles(folder)
