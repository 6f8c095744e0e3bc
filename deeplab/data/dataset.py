"""What a dataset is: `dataset.yml`, written by the record builders and read by every command.

The smallest file a person can write by hand is

    classes: [background, hair, skin]

Builders add the rest: colors, ignore label, and for every split its images, pixels and sizes. The
repository's `datasets/*.yml` describe published sets, which `dataset` knows by name: pascal_voc_seg, cityscapes ...
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.files import write_atomically

FILE_NAME = "dataset.yml"
DEFAULT_NAME = "pascal_voc_seg"
KNOWN_PACKAGE = "deeplab.known_datasets"  # the repository's datasets/ inside a wheel; see setup.py
KNOWN_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "datasets"

Color = tuple[int, int, int]  # red, green, blue, each 0..255


@dataclass(frozen=True)
class SizeRange:
    """Smallest and largest image sides of a split, in pixels."""

    min_height: int
    max_height: int
    min_width: int
    max_width: int

    def including(self, other: SizeRange) -> SizeRange:
        """The range that spans both."""
        return SizeRange(
            min(self.min_height, other.min_height),
            max(self.max_height, other.max_height),
            min(self.min_width, other.min_width),
            max(self.max_width, other.max_width),
        )


@dataclass(frozen=True)
class Dataset:
    """Contents of `dataset.yml`.

    Attributes:
      name: what the dataset is called in messages.
      class_names: one name a class; the index in this tuple is the label value.
      colors: one RGB triple a class, each 0..255; empty where the dataset has none of its own.
      ignore_label: the label value that neither training nor evaluation looks at.
      splits: number of images of each split.
      pixels: for each split the number of pixels of each class; empty where nobody counted.
      ignored_pixels: for each split the number of pixels that have the ignore label.
      size_range: for each split the range of image sizes.
      image_formats: encodings of the stored images: "jpeg", "png".
      label_format: encoding of the stored labels.
    """

    name: str
    class_names: tuple[str, ...]
    colors: tuple[Color, ...] = ()
    ignore_label: int = 255
    splits: Mapping[str, int] = field(default_factory=dict)
    pixels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ignored_pixels: Mapping[str, int] = field(default_factory=dict)
    size_range: Mapping[str, SizeRange] = field(default_factory=dict)
    image_formats: tuple[str, ...] = ("jpeg",)
    label_format: str = "png"

    @property
    def num_classes(self) -> int:
        """Number of classes: the background counts, the ignore label does not."""
        return len(self.class_names)

    def classes_differ(self, other: Dataset) -> bool:
        """Whether labels of one mean something else in the other: class count or ignore label."""
        return (self.num_classes, self.ignore_label) != (other.num_classes, other.ignore_label)


def load(path: str | os.PathLike) -> Dataset:
    """Reads a `dataset.yml`.

    Raises:
      UserError: no such file, no YAML, or a field that breaks its rule; the message names the field.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "unclassified", "no such file", "the record builders (datasets/build_*_data.py) write one", where=path
        ) from None
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError("unclassified", f"cannot be read: {fault}", where=path) from None
    default_name = path.resolve().parent.name if path.name == FILE_NAME else path.stem
    return parse(text, str(path), default_name)


def parse(text: str, where: str, default_name: str = "") -> Dataset:
    """A `Dataset` from the text of a `dataset.yml`; `where` names the file in messages."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        raise UserError("unclassified", f"is no YAML: {' '.join(str(fault).split())}", where=where) from None
    if not isinstance(content, dict):
        raise UserError(
            "unclassified", "must hold `name: value` lines", "the least is `classes: [background, ...]`", where=where
        )
    return _Reader(where).dataset(content, default_name)


class _Reader:
    """Checks the fields of a `dataset.yml`, one method a kind of field."""

    KEYS = ("name", "classes", "num_classes", "ignore_label", "image_formats", "label_format", "splits")

    def __init__(self, where: str):
        self.where = where

    def fault(self, name: str, rule: str, value: Any, hint: str = "") -> UserError:
        return UserError("unclassified", f"{name} {rule}, not {value!r}", hint, where=self.where)

    def dataset(self, content: dict[Any, Any], default_name: str) -> Dataset:
        for key in content:
            if key not in self.KEYS:
                raise UserError(
                    "unclassified", f"unknown field {key!r}", nearest(str(key), list(self.KEYS)), where=self.where
                )
        names, colors = self.classes(content)
        splits = content.get("splits") or {}
        if not isinstance(splits, dict):
            raise self.fault("splits", "must map a split's name to its facts", splits, "e.g. `splits: {train: 160}`")
        facts = {str(name): self.split(str(name), value, len(names)) for name, value in splits.items()}
        formats = content.get("image_formats", ["jpeg"])
        if not isinstance(formats, list) or not all(word in ("jpeg", "png") for word in formats):
            raise self.fault("image_formats", "must be a list of jpeg and png", formats)
        return Dataset(
            name=str(content.get("name") or default_name),
            class_names=names,
            colors=colors,
            ignore_label=self.whole("ignore_label", content.get("ignore_label", 255), most=255),
            splits={name: fact["images"] for name, fact in facts.items()},
            pixels={name: fact["pixels"] for name, fact in facts.items() if "pixels" in fact},
            ignored_pixels={name: fact["ignored_pixels"] for name, fact in facts.items() if "ignored_pixels" in fact},
            size_range={name: fact["size"] for name, fact in facts.items() if "size" in fact},
            image_formats=tuple(formats),
            label_format=str(content.get("label_format", "png")),
        )

    def whole(self, name: str, value: Any, most: int | None = None) -> int:
        bounds = f"from 0 to {most}" if most is not None else "of 0 or more"
        if isinstance(value, bool) or not isinstance(value, int) or value < 0 or (most is not None and value > most):
            raise self.fault(name, f"must be a whole number {bounds}", value)
        return value

    def classes(self, content: dict[Any, Any]) -> tuple[tuple[str, ...], tuple[Color, ...]]:
        """Names and colors; a bare `num_classes` stands for class_0, class_1 ..."""
        count = content.get("num_classes")
        entries = content.get("classes")
        if entries is None and count is not None:
            entries = [f"class_{index}" for index in range(self.whole("num_classes", count, most=65535))]
        if not isinstance(entries, list) or not entries:
            raise self.fault("classes", "must be a list of names", entries, "e.g. `classes: [background, hair, skin]`")
        pairs = [self.one_class(f"classes[{index}]", entry) for index, entry in enumerate(entries)]
        if count is not None and count != len(pairs):
            rule = f"is {count}, but classes lists {len(pairs)} names"
            raise UserError(
                "unclassified",
                f"num_classes {rule}",
                "leave num_classes out: it is counted from classes",
                where=self.where,
            )
        names = tuple(name for name, _ in pairs)
        colors = tuple(color for _, color in pairs if color is not None)
        if colors and len(colors) != len(names):
            without = ", ".join(name for name, color in pairs if color is None)
            raise UserError(
                "unclassified",
                f"classes: no color for {without}",
                "give every class a color, or none",
                where=self.where,
            )
        return names, colors

    def one_class(self, where: str, entry: Any) -> tuple[str, Color | None]:
        if isinstance(entry, dict):
            if "name" not in entry or set(entry) - {"name", "color", "colour"}:
                raise self.fault(where, "must hold name and color only", entry)
            color = entry.get("color", entry.get("colour"))  # the second spelling: files written before version 0.2
            return str(entry["name"]), None if color is None else self.color(f"{where}.color", color)
        if isinstance(entry, (list, bool)) or entry is None:
            rule = "must be a name, or {name: ..., color: [r, g, b]}"
            raise self.fault(where, rule, entry, "put names such as yes, no, on in quotes")
        return str(entry), None

    def color(self, where: str, value: Any) -> Color:
        if not isinstance(value, list) or len(value) != 3:
            raise self.fault(where, "must be three whole numbers from 0 to 255", value)
        red, green, blue = (self.whole(where, part, most=255) for part in value)
        return red, green, blue

    def split(self, name: str, value: Any, num_classes: int) -> dict[str, Any]:
        """Facts of one split: a number of images, or a mapping with `images` and what was measured."""
        where = f"splits.{name}"
        if not isinstance(value, dict):
            return {"images": self.whole(where, value)}
        unknown = set(value) - {"images", "height", "width", "pixels", "ignored_pixels"}
        if unknown or "images" not in value:
            raise self.fault(where, "must hold images, and may hold height, width, pixels, ignored_pixels", value)
        facts: dict[str, Any] = {"images": self.whole(f"{where}.images", value["images"])}
        if "pixels" in value:
            facts["pixels"] = self.whole_list(f"{where}.pixels", value["pixels"], num_classes)
        if "ignored_pixels" in value:
            facts["ignored_pixels"] = self.whole(f"{where}.ignored_pixels", value["ignored_pixels"])
        if "height" in value and "width" in value:
            heights = self.whole_list(f"{where}.height", value["height"], 2)
            facts["size"] = SizeRange(*heights, *self.whole_list(f"{where}.width", value["width"], 2))
        return facts

    def whole_list(self, where: str, value: Any, length: int) -> tuple[int, ...]:
        if not isinstance(value, list) or len(value) != length:
            raise self.fault(where, f"must list {length} whole numbers", value)
        return tuple(self.whole(where, part) for part in value)


def save(dataset: Dataset, path: str | os.PathLike) -> None:
    """Writes a `dataset.yml`, whole or not at all."""
    write_atomically(path, as_text(dataset).encode("utf-8"))


def as_text(dataset: Dataset) -> str:
    """The dataset as YAML that `parse` reads back to an equal `Dataset`."""
    lines = ["# What this dataset is. The label value of a class is its place in the list, from 0."]
    classes: list[Any] = list(dataset.class_names)
    if dataset.colors:
        pairs = zip(dataset.class_names, dataset.colors, strict=True)
        classes = [{"name": name, "color": list(color)} for name, color in pairs]
    head = {"name": dataset.name, "ignore_label": dataset.ignore_label}
    tail = {"image_formats": list(dataset.image_formats), "label_format": dataset.label_format}
    splits = {name: _split_facts(dataset, name) for name in dataset.splits}
    lines += [_yaml_block(head), "classes:"]
    lines += ["- " + _yaml_line(entry) for entry in classes]
    lines += [_yaml_block(tail), "splits:" if splits else "splits: {}"]
    for name, facts in splits.items():
        if list(facts) == ["images"]:
            lines.append(f"  {_yaml_line(name)}: {facts['images']}")
            continue
        lines.append("  " + _yaml_line(name) + ":")
        lines += [f"    {key}: {_yaml_line(value)}" for key, value in facts.items()]
    return "\n".join(lines) + "\n"


def _split_facts(dataset: Dataset, split: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"images": dataset.splits[split]}
    if split in dataset.size_range:
        size = dataset.size_range[split]
        facts |= {"height": [size.min_height, size.max_height], "width": [size.min_width, size.max_width]}
    if split in dataset.pixels:
        facts["pixels"] = list(dataset.pixels[split])
    if split in dataset.ignored_pixels:
        facts["ignored_pixels"] = dataset.ignored_pixels[split]
    return facts


def _yaml_line(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _yaml_block(values: dict[str, Any]) -> str:
    return "\n".join(f"{key}: {_yaml_line(value)}" for key, value in values.items())


def find(dataset: str, dataset_dir: str | os.PathLike = "") -> Dataset:
    """The dataset that `dataset` and `dataset_dir` mean.

    Args:
      dataset: a known name, a `dataset.yml` (or a folder that holds one), or empty: then the `dataset.yml` in
        `dataset_dir`, or, where there is none, pascal_voc_seg as in the reference.
      dataset_dir: folder of the records; may be empty.

    Returns:
      The descriptor. Where `dataset_dir` holds a `dataset.yml` that agrees with the name, that one, because it
      counts the images that are really there.

    Raises:
      UserError: unknown name, missing or malformed file, or a name whose classes are not those of `dataset_dir`.
    """
    if _looks_like_path(dataset):
        path = pathlib.Path(dataset)
        return load(path / FILE_NAME if path.is_dir() else path)
    own_path = pathlib.Path(dataset_dir) / FILE_NAME if dataset_dir else None
    own = load(own_path) if own_path and own_path.is_file() else None
    if not dataset:
        if own is None:
            console.note(f"no {FILE_NAME} in {dataset_dir or 'any folder'}: taking the classes of {DEFAULT_NAME}")
        return own or load_known(DEFAULT_NAME)
    if own is not None and dataset == own.name:
        return own
    if dataset not in known_names():
        raise _unknown_name(dataset, own, own_path)
    return _agreed(load_known(dataset), own, own_path)


def _looks_like_path(dataset: str) -> bool:
    return dataset.endswith((".yml", ".yaml")) or os.sep in dataset or os.path.isdir(dataset)


def _unknown_name(dataset: str, own: Dataset | None, own_path: pathlib.Path | None) -> UserError:
    hint = nearest(dataset, known_names())
    if own is not None:
        hint += f"; or leave `dataset` out: {own_path} describes {own.name!r}"
    else:
        hint += f"; or give the path of a {FILE_NAME}, which the record builders write beside the records"
    return UserError("unclassified", f"no dataset is known as {dataset!r}", hint, field="dataset")


def _agreed(known: Dataset, own: Dataset | None, own_path: pathlib.Path | None) -> Dataset:
    """The folder's own descriptor if it agrees with the known one on what labels mean."""
    if own is None:
        return known
    if known.classes_differ(own):
        rule = (
            f"{known.name} has {known.num_classes} classes and ignore label {known.ignore_label}, "
            f"but {own_path} says {own.num_classes} classes and ignore label {own.ignore_label}"
        )
        raise UserError(
            "unclassified", rule, "leave `dataset` out to take the records' own description", field="dataset"
        )
    return own


def known_names() -> list[str]:
    """Names of the datasets that `dataset` knows without a file."""
    return sorted(entry.name.removesuffix(".yml") for entry in known_folder().iterdir() if entry.name.endswith(".yml"))


def load_known(name: str) -> Dataset:
    """The descriptor of a known dataset; pixels and sizes are not in it."""
    entry = known_folder() / f"{name}.yml"
    return parse(entry.read_text(encoding="utf-8"), str(entry), name)


def known_folder() -> Any:
    """Folder of the descriptors and palettes of known datasets, in the repository or in the installed package."""
    if (KNOWN_FOLDER / f"{DEFAULT_NAME}.yml").is_file():
        return KNOWN_FOLDER
    return importlib.resources.files(KNOWN_PACKAGE)


def replace_splits(dataset: Dataset, others: Dataset) -> Dataset:
    """`dataset` with the splits of `others` that it does not have itself; both must have the same classes."""

    def merged(name: str) -> dict[str, Any]:
        return {**getattr(others, name), **getattr(dataset, name)}

    formats = tuple(sorted({*dataset.image_formats, *others.image_formats}))
    return dataclasses.replace(
        dataset,
        splits=merged("splits"),
        pixels=merged("pixels"),
        ignored_pixels=merged("ignored_pixels"),
        size_range=merged("size_range"),
        image_formats=formats,
    )
