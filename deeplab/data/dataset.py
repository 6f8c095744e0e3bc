"""Datasets: the descriptor `dataset.yml`, which builders write and every command reads, and the records beside it.

The smallest descriptor a person can write by hand is

    classes: [background, hair, skin]

Builders add the rest: colors, ignore label, and for every split its images, pixels and sizes. The files
`datasets/*.yml` of the repository describe published datasets, which are found by name: pascal_voc_seg, cityscapes ...
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from deeplab.config.model_config import ModelConfig
from deeplab.data.bands import DTYPES, MAX_CHANNELS, RGB, ImageBands, model_settings
from deeplab.data.label_bits import IGNORE_16_BIT, MAX_CLASSES, bits_of, usual_ignore_label
from deeplab.utils import console
from deeplab.utils.errors import UserError, nearest
from deeplab.utils.files import recover, write_atomically
from deeplab.utils.paths import read_text
from deeplab.utils.remote_files import local_copy
from deeplab.utils.yaml_files import parse_mapping

if TYPE_CHECKING:
    import tensorflow as tf

    from deeplab.config.augmentation_config import AugmentationConfig

FILE_NAME = "dataset.yml"
DEFAULT_NAME = "pascal_voc_seg"
KNOWN_PACKAGE = "deeplab.known_datasets"  # the repository's datasets/ inside a wheel; see setup.py
KNOWN_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "datasets"

_MAX_FLOAT32 = 3.4028234e38

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
    """The content of a `dataset.yml`, and access to the records in its folder as `tf.data`.

    Attributes:
      name: name of the dataset in messages.
      class_names: one name per class; the index in this tuple is the label value.
      colors: one RGB triple per class, each 0..255; empty where the dataset has none of its own.
      ignore_label: the label value of pixels that count neither in training nor in evaluation.
      splits: number of images of each split.
      pixels: for each split the number of pixels of each class; empty where they were not counted.
      ignored_pixels: for each split the number of pixels with the ignore label.
      size_range: for each split the range of image sizes.
      errors: for each split the rules that the check found violated so that training must not start;
        a split that was not checked has no entry.
      drawn: for each split whether its labels were drawn from shapes; splits of mask files are left out.
      image_formats: encodings of the stored images: "jpeg", "png", or "zlib" of other images than 8-bit RGB.
      image_bands: channels, type, scaling and statistics of images that are not 8-bit RGB.
      label_format: encoding of the stored labels: "png" of 8 bits, "png16" of 16; see `label_bits`.
      folder: folder of the TFRecord shards; empty where none is known. Not part of `dataset.yml`.

    Example:
      import deeplab

      data = deeplab.load_dataset("data/tfrecord")
      data.class_names                        # ("background", "hair", "skin")
      data.splits                             # {"train": 160, "val": 40}
      batches = data.train_batches(crop_size=257, batch_size=4)
      model.fit(batches, steps_per_epoch=data.splits["train"] // 4, epochs=10)
      for image, label in data.images("val"):
          ...                                 # uint8 [H, W, 3] and int32 [H, W]
    """

    name: str
    class_names: tuple[str, ...]
    colors: tuple[Color, ...] = ()
    ignore_label: int = 255
    splits: Mapping[str, int] = field(default_factory=dict)
    pixels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ignored_pixels: Mapping[str, int] = field(default_factory=dict)
    size_range: Mapping[str, SizeRange] = field(default_factory=dict)
    errors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    drawn: Mapping[str, bool] = field(default_factory=dict)
    image_formats: tuple[str, ...] = ("jpeg",)
    label_format: str = "png"
    image_bands: ImageBands = RGB
    folder: str = field(default="", compare=False)

    @property
    def num_classes(self) -> int:
        """Number of classes: the background counts, the ignore label does not."""
        return len(self.class_names)

    @property
    def label_bits(self) -> int:
        """Bits per pixel of labels: 8, or 16 beyond 256 classes or with a higher ignore label than 255."""
        return bits_of(self.num_classes, self.ignore_label)

    def classes_differ(self, other: Dataset) -> bool:
        """Whether labels mean something else in the other dataset: the class count or the ignore label differs."""
        return (self.num_classes, self.ignore_label) != (other.num_classes, other.ignore_label)

    # --- Records --------------------------------------------------------------------------------------------

    def shards(self, split: str) -> list[str]:
        """Paths of the TFRecord files of a split.

        Raises:
          UserError: no folder of records is known (`missing-records`), or as `records.list_shards`.
        """
        from deeplab.data import records

        if not self.folder:
            rule = "is described, but no folder of records is known"
            hint = "give the folder of the .tfrecord files to load_dataset"
            raise UserError("missing-records", rule, hint, where=self.name)
        return records.list_shards(self.folder, split)

    def train_batches(
        self,
        *,
        crop_size: int | tuple[int, int] = 513,
        batch_size: int = 8,
        split: str = "train",
        backbone: str = "mobilenet_v2",
        augmentation: str | AugmentationConfig = "none",
        seed: int | None = None,
        as_dict: bool = False,
        **settings: Any,
    ) -> tf.data.Dataset:
        """Endless batches of randomly scaled, cropped and mirrored images, as `deeplab train` uses them.

        Args:
          crop_size: height and width of the crops in pixels; one number for both.
          batch_size: images per batch.
          split: split to train on.
          backbone: its padding color fills crops that are larger than their image.
          augmentation: operations in addition to scale, crop and mirroring: `light`, `medium`, `strong`, or an
            `AugmentationConfig` (its `sampling` is for `deeplab train`).
          seed: the same seed gives the same batches; None = a random one.
          as_dict: yield dicts with `image_name`, `height` and `width` as well.
          **settings: further arguments of `pipeline.train_batches`, such as `min_scale_factor=0.75`.

        Returns:
          Dataset of pairs: image float32 [B, H, W, C], 0..255, RGB if C is 3, and label int32 [B, H, W]
          with the ignore label.

        Raises:
          UserError: there is no such split or backbone, or its records are damaged.
        """
        import slim
        from deeplab.config.augmentation_config import AugmentationConfig
        from deeplab.data import pipeline
        from deeplab.data.augmentation import make
        from deeplab.data.augmentation.copy_paste import rare_classes
        from deeplab.model import padding_color

        config = AugmentationConfig(augmentation) if isinstance(augmentation, str) else augmentation
        try:
            slim.find(backbone)
        except KeyError as error:
            raise UserError("unknown-name", str(error.args[0]), field="backbone", value=backbone) from None
        height, width = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
        color = padding_color(ModelConfig(model_variant=backbone, **model_settings(self.image_bands)))
        batches = pipeline.train_batches(
            self.shards(split),
            crop_size=(height, width),
            batch_size=batch_size,
            padding_color=color,
            ignore_label=self.ignore_label,
            num_classes=self.num_classes,
            augmentations=make(config, color, self.ignore_label, rare_classes(self.pixels.get(split, ()))),
            crop_sampling=config.crop_sampling,
            seed=seed,
            bands=self.image_bands,
            **settings,
        )
        return batches if as_dict else batches.map(_image_and_label)

    def images(self, split: str = "val", *, as_dict: bool = False) -> tf.data.Dataset:
        """Every image of a split once, in the order of its files, as it is stored.

        Args:
          split: split to read.
          as_dict: yield dicts with `image_name`, `height` and `width` as well; the only way for splits without labels.

        Returns:
          Dataset of pairs: image uint8 [H, W, 3], RGB, or raw values [H, W, C] as `image_bands` describes them, and
          label int32 [H, W] with the ignore label.

        Raises:
          UserError: there is no such split, or its records are damaged.
        """
        from deeplab.data import pipeline

        spec: dict[str, Any] = {"ignore_label": self.ignore_label, "num_classes": self.num_classes}
        images = pipeline.eval_images(self.shards(split), **spec, bands=self.image_bands)
        return images if as_dict else images.map(_image_and_label)


def _image_and_label(example: dict[str, Any]) -> tuple[Any, Any]:
    return example["image"], example["label"]


def load_dataset(path: str | os.PathLike, dataset: str = "") -> Dataset:
    """The dataset in a folder of TFRecords; see `Dataset` for what it offers.

    Args:
      path: folder of the .tfrecord files, or the `dataset.yml` in it; of a remote one (`gs://...`) a copy is used.
      dataset: known name, or a `dataset.yml` elsewhere, for a folder without one.

    Raises:
      UserError: the folder or its `dataset.yml` does not exist, or the file is malformed.
    """
    folder = pathlib.Path(local_copy(path))
    if folder.suffix in (".yml", ".yaml"):
        dataset, folder = dataset or str(folder), folder.parent
    if not folder.is_dir():
        raise UserError("folder-not-found", "there is no such folder of records", "check the path", where=folder)
    described = find(dataset, folder) if dataset else load(folder / FILE_NAME)
    return dataclasses.replace(described, folder=str(folder))


def load(path: str | os.PathLike) -> Dataset:
    """Read a `dataset.yml`.

    Raises:
      UserError: no such file (`file-not-found`), not YAML (`unreadable-yaml`), or a field that breaks its rule
        (`invalid-descriptor`); the message names the field.
    """
    path = pathlib.Path(path)
    if path.name == FILE_NAME:
        recover(path.parent)
    default_name = path.resolve().parent.name if path.name == FILE_NAME else path.stem
    described = parse(read_text(path), str(path), default_name)
    return dataclasses.replace(described, folder=str(path.parent)) if path.name == FILE_NAME else described


def parse(text: str, where: str, default_name: str = "") -> Dataset:
    """A `Dataset` from the text of a `dataset.yml`; `where` names the file in messages."""
    return _DescriptorReader(where).dataset(parse_mapping(text, where), default_name)


class _DescriptorReader:
    """Checks the fields of a `dataset.yml`, one method per kind of field."""

    KEYS = ("name", "classes", "num_classes", "ignore_label", "image_formats", "label_format", "image_bands", "splits")

    def __init__(self, where: str):
        self.where = where

    def error(self, name: str, rule: str, value: Any, hint: str = "") -> UserError:
        return UserError("invalid-descriptor", f"{name} {rule}, not {value!r}", hint, where=self.where, value=name)

    def dataset(self, content: dict[Any, Any], default_name: str) -> Dataset:
        for key in content:
            if key not in self.KEYS:
                rule, hint = f"there is no field {key!r}", nearest(str(key), self.KEYS)
                raise UserError("invalid-descriptor", rule, hint, where=self.where, value=str(key))
        names, colors = self.classes(content)
        splits = content.get("splits") or {}
        if not isinstance(splits, dict):
            raise self.error("splits", "must map a split's name to its facts", splits, "e.g. `splits: {train: 160}`")
        facts = {str(name): self.split(str(name), value, len(names)) for name, value in splits.items()}
        formats = content.get("image_formats", ["jpeg"])
        if not isinstance(formats, list) or not all(word in ("jpeg", "png", "zlib") for word in formats):
            raise self.error("image_formats", "must be a list of jpeg, png and zlib", formats)
        usual = usual_ignore_label(len(names))
        ignore_label = self.whole("ignore_label", content.get("ignore_label", usual), max_value=IGNORE_16_BIT)
        return Dataset(
            name=str(content.get("name") or default_name),
            class_names=names,
            colors=colors,
            ignore_label=ignore_label,
            splits={name: fact["images"] for name, fact in facts.items()},
            pixels={name: fact["pixels"] for name, fact in facts.items() if "pixels" in fact},
            ignored_pixels={name: fact["ignored_pixels"] for name, fact in facts.items() if "ignored_pixels" in fact},
            size_range={name: fact["size"] for name, fact in facts.items() if "size" in fact},
            errors={name: fact["errors"] for name, fact in facts.items() if "errors" in fact},
            drawn={name: True for name, fact in facts.items() if fact.get("drawn")},
            image_formats=tuple(formats),
            label_format=self.label_format(content.get("label_format"), bits_of(len(names), ignore_label)),
            image_bands=self.image_bands(content["image_bands"]) if content.get("image_bands") else RGB,
        )

    def label_format(self, value: Any, bits: int) -> str:
        """png or png16; it must agree with the bits that the classes and the ignore label need."""
        wanted = "png" if bits == 8 else "png16"
        if value not in (None, wanted):
            hint = "more than 256 classes, or an ignore label above 255, need labels of 16 bits (png16), others have 8"
            raise self.error("label_format", f"must be {wanted}", value, hint)
        return wanted

    def image_bands(self, value: Any) -> ImageBands:
        """Channels, dtype, bands, scaling and statistics of images that are not 8-bit RGB."""
        known = {"channels", "dtype", "bands", "scale_from", "mean", "std"}
        if not isinstance(value, dict) or not {"channels", "dtype"} <= set(value) <= known:
            rule = f"must hold channels and dtype, and may hold {', '.join(sorted(known - {'channels', 'dtype'}))}"
            raise self.error("image_bands", rule, value)
        channels = self.whole("image_bands.channels", value["channels"], max_value=MAX_CHANNELS)
        if not channels:
            raise self.error("image_bands.channels", f"must be from 1 to {MAX_CHANNELS}", channels)
        if value["dtype"] not in DTYPES:
            raise self.error("image_bands.dtype", f"must be {', '.join(DTYPES)}", value["dtype"])
        bands = value.get("bands") or []
        if bands:
            bands = self.whole_list("image_bands.bands", bands, channels)
            if min(bands) < 1 or len(set(bands)) < channels:
                raise self.error("image_bands.bands", "must be numbers from 1, each once", list(bands))
        scale = value.get("scale_from") or []
        pairs = scale if isinstance(scale, list) else [scale]
        if pairs and len(pairs) != channels:
            raise self.error("image_bands.scale_from", f"must list {channels} pairs [low, high]", scale)
        ends = [self.numbers("image_bands.scale_from", pair, 2) for pair in pairs]
        if any(low >= high for low, high in ends):
            raise self.error("image_bands.scale_from", "must have each low below its high", scale)
        if value["dtype"] != "uint8" and not ends:
            raise self.error("image_bands.scale_from", f"must be given for {value['dtype']}", scale)
        mean, std = (
            self.numbers(f"image_bands.{key}", value[key], channels) if value.get(key) else ()
            for key in ("mean", "std")
        )
        if bool(mean) != bool(std) or (std and min(std) <= 0):
            raise self.error("image_bands.std", "must be given with mean, and be above 0", list(std))
        low, high = tuple(low for low, _ in ends), tuple(high for _, high in ends)
        return ImageBands(channels, value["dtype"], tuple(bands), low, high, mean, std)

    def numbers(self, where: str, value: Any, length: int) -> tuple[float, ...]:
        """Finite numbers, as many as stated."""
        if not isinstance(value, list) or len(value) != length:
            raise self.error(where, f"must list {length} numbers", value)
        if not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value):
            raise self.error(where, f"must list {length} numbers", value)
        if not all(abs(one) <= _MAX_FLOAT32 for one in value):  # also false for NaN
            raise self.error(where, "must hold finite numbers", value)
        return tuple(map(float, value))

    def whole(self, name: str, value: Any, max_value: int | None = None) -> int:
        limit = math.inf if max_value is None else max_value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
            bounds = "of 0 or more" if max_value is None else f"from 0 to {max_value}"
            raise self.error(name, f"must be a whole number {bounds}", value)
        return value

    def classes(self, content: dict[Any, Any]) -> tuple[tuple[str, ...], tuple[Color, ...]]:
        """Names and colors; a bare `num_classes` stands for class_0, class_1 ..."""
        count = content.get("num_classes")
        entries = content.get("classes")
        if entries is None and count is not None:
            entries = [f"class_{index}" for index in range(self.whole("num_classes", count, max_value=MAX_CLASSES))]
        if not isinstance(entries, list) or not entries:
            raise self.error("classes", "must be a list of names", entries, "e.g. `classes: [background, hair, skin]`")
        if len(entries) > MAX_CLASSES:
            raise self.error("classes", f"must list at most {MAX_CLASSES} names (labels have 16 bits)", len(entries))
        pairs = [self.one_class(f"classes[{index}]", entry) for index, entry in enumerate(entries)]
        if count is not None and count != len(pairs):
            rule = f"num_classes is {count}, but classes lists {len(pairs)} names"
            hint = "leave num_classes out: it is counted from classes"
            raise UserError("invalid-descriptor", rule, hint, where=self.where, value="num_classes")
        names = tuple(name for name, _ in pairs)
        colors = tuple(color for _, color in pairs if color is not None)
        if colors and len(colors) != len(names):
            without = ", ".join(name for name, color in pairs if color is None)
            rule, hint = f"classes: no color for {without}", "give every class a color, or none"
            raise UserError("invalid-descriptor", rule, hint, where=self.where, value="classes")
        return names, colors

    def one_class(self, where: str, entry: Any) -> tuple[str, Color | None]:
        if isinstance(entry, dict):
            if "name" not in entry or set(entry) - {"name", "color", "colour"}:
                raise self.error(where, "must hold name and color only", entry)
            color = entry.get("color", entry.get("colour"))  # the second spelling: files written before version 0.2
            name = self.class_name(f"{where}.name", entry["name"], "must be a name")
            return name, None if color is None else self.color(f"{where}.color", color)
        return self.class_name(where, entry, "must be a name, or {name: ..., color: [r, g, b]}"), None

    def class_name(self, where: str, value: Any, rule: str) -> str:
        """A name; numbers and dates count, because YAML reads such names as that."""
        if isinstance(value, (list, dict, bool)) or value is None:
            raise self.error(where, rule, value, "put names such as yes, no, on in quotes")
        return str(value)

    def color(self, where: str, value: Any) -> Color:
        if not isinstance(value, list) or len(value) != 3:
            raise self.error(where, "must be three whole numbers from 0 to 255", value)
        red, green, blue = (self.whole(where, part, max_value=255) for part in value)
        return red, green, blue

    def split(self, name: str, value: Any, num_classes: int) -> dict[str, Any]:
        """Facts of one split: a number of images, or a mapping with `images` and what was measured."""
        where = f"splits.{name}"
        if not isinstance(value, dict):
            return {"images": self.whole(where, value)}
        unknown = set(value) - {"images", "height", "width", "pixels", "ignored_pixels", "errors", "drawn"}
        if unknown or "images" not in value:
            rule = "must hold images, and may hold height, width, pixels, ignored_pixels, errors, drawn"
            raise self.error(where, rule, value)
        facts: dict[str, Any] = {"images": self.whole(f"{where}.images", value["images"])}
        if "pixels" in value:
            facts["pixels"] = self.whole_list(f"{where}.pixels", value["pixels"], num_classes)
        if "ignored_pixels" in value:
            facts["ignored_pixels"] = self.whole(f"{where}.ignored_pixels", value["ignored_pixels"])
        if "errors" in value:
            if not isinstance(value["errors"], list) or not all(isinstance(rule, str) for rule in value["errors"]):
                raise self.error(f"{where}.errors", "must be a list of names of rules", value["errors"])
            facts["errors"] = tuple(value["errors"])
        if value.get("drawn"):
            if value["drawn"] is not True:
                raise self.error(f"{where}.drawn", "must be true or false", value["drawn"])
            facts["drawn"] = True
        if "height" in value and "width" in value:
            heights = self.whole_list(f"{where}.height", value["height"], 2)
            facts["size"] = SizeRange(*heights, *self.whole_list(f"{where}.width", value["width"], 2))
        return facts

    def whole_list(self, where: str, value: Any, length: int) -> tuple[int, ...]:
        if not isinstance(value, list) or len(value) != length:
            raise self.error(where, f"must list {length} whole numbers", value)
        return tuple(self.whole(where, part) for part in value)


def save(dataset: Dataset, path: str | os.PathLike) -> None:
    """Write a `dataset.yml`, whole or not at all."""
    write_atomically(path, as_text(dataset).encode("utf-8"))


def note_errors(folder: str | os.PathLike, errors: Mapping[str, tuple[str, ...]]) -> None:
    """Write into a folder's `dataset.yml` that splits were checked.

    Args:
      folder: of the records.
      errors: for each checked split the rules that it violates so that training must not start; mostly none.
    """
    path = pathlib.Path(folder) / FILE_NAME
    described = load(path)
    save(dataclasses.replace(described, errors={**described.errors, **errors}), path)


def as_text(dataset: Dataset) -> str:
    """The dataset as YAML that `parse` reads back to an equal `Dataset`."""
    lines = ["# What this dataset is. The label value of a class is its place in the list, from 0."]
    classes: list[Any] = list(dataset.class_names)
    if dataset.colors:
        pairs = zip(dataset.class_names, dataset.colors, strict=True)
        classes = [{"name": name, "color": list(color)} for name, color in pairs]
    head = {"name": dataset.name, "ignore_label": dataset.ignore_label}
    label_format = "png" if dataset.label_bits == 8 else "png16"
    tail: dict[str, Any] = {"image_formats": list(dataset.image_formats), "label_format": label_format}
    if not dataset.image_bands.is_rgb:
        tail["image_bands"] = _bands_facts(dataset.image_bands)
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


def _bands_facts(bands: ImageBands) -> dict[str, Any]:
    scale = [list(ends) for ends in zip(bands.low, bands.high, strict=True)]
    facts = {"bands": list(bands.bands), "scale_from": scale, "mean": list(bands.mean), "std": list(bands.std)}
    return {"channels": bands.channels, "dtype": bands.dtype, **{key: value for key, value in facts.items() if value}}


def _split_facts(dataset: Dataset, split: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"images": dataset.splits[split]}
    if split in dataset.size_range:
        size = dataset.size_range[split]
        facts |= {"height": [size.min_height, size.max_height], "width": [size.min_width, size.max_width]}
    if split in dataset.pixels:
        facts["pixels"] = list(dataset.pixels[split])
    if split in dataset.ignored_pixels:
        facts["ignored_pixels"] = dataset.ignored_pixels[split]
    if split in dataset.errors:
        facts["errors"] = list(dataset.errors[split])
    if dataset.drawn.get(split):
        facts["drawn"] = True
    return facts


def _yaml_line(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _yaml_block(values: dict[str, Any]) -> str:
    return "\n".join(f"{key}: {_yaml_line(value)}" for key, value in values.items())


def find(dataset: str, dataset_dir: str | os.PathLike = "") -> Dataset:
    """Find the dataset that `dataset` and `dataset_dir` name.

    Args:
      dataset: a known name, a `dataset.yml` (or a folder that holds one; a folder without one is none where it has a
        known name), or empty: then the `dataset.yml` in
        `dataset_dir`, or, where there is none, pascal_voc_seg as in the reference.
      dataset_dir: folder of the records; may be empty.

    Returns:
      The descriptor. Where `dataset_dir` holds a `dataset.yml` that agrees with the name, that one, because it
      counts the images of these records.

    Raises:
      UserError: unknown name (`unknown-name`), missing or malformed file, or a name whose classes are not those of
        `dataset_dir` (`dataset-mismatch`).
    """
    if _looks_like_path(dataset):
        path = pathlib.Path(dataset)
        return load(path / FILE_NAME if path.is_dir() else path)
    own_path = pathlib.Path(dataset_dir) / FILE_NAME if dataset_dir else None
    own = load(own_path) if own_path and own_path.is_file() else None
    if not dataset:
        if own is None:
            console.note(f"no {FILE_NAME} in {dataset_dir or 'any folder'}: using the classes of {DEFAULT_NAME}")
        return own or load_known(DEFAULT_NAME)
    if own is not None and dataset == own.name:
        return own
    if dataset not in known_names():
        raise _unknown_name(dataset, own, own_path)
    return _agreed(load_known(dataset), own, own_path)


def require_records(dataset: str, dataset_dir: str | os.PathLike, *splits: str) -> Dataset:
    """Find a dataset and the shards of its splits; called before TensorFlow is imported.

    Args:
      dataset, dataset_dir: as for `find`.
      splits: names of the splits that are needed.

    Raises:
      UserError: as `find` and `records.list_shards`.
    """
    from deeplab.data import records

    if not os.path.isdir(dataset_dir):
        records.list_shards(dataset_dir, *splits[:1] or ("train",))  # says that there is no such folder
    found = find(dataset, dataset_dir)
    for split in splits:
        records.list_shards(dataset_dir, split)
    return found


def _looks_like_path(dataset: str) -> bool:
    if dataset.endswith((".yml", ".yaml")) or os.sep in dataset:
        return True
    # A folder of a downloaded dataset often has its name.
    return os.path.isdir(dataset) and (dataset not in known_names() or os.path.isfile(os.path.join(dataset, FILE_NAME)))


def _unknown_name(dataset: str, own: Dataset | None, own_path: pathlib.Path | None) -> UserError:
    hint = nearest(dataset, known_names())
    if own is not None:
        hint += f"; or leave `dataset` out: {own_path} describes {own.name!r}"
    else:
        hint += f"; or give the path of a {FILE_NAME}, which `deeplab build-data` writes beside the records"
    rule = f"there is no dataset called {dataset!r}"
    return UserError("unknown-name", rule, hint, field="dataset", value=dataset)


def _agreed(known: Dataset, own: Dataset | None, own_path: pathlib.Path | None) -> Dataset:
    """The folder's own descriptor if labels mean the same in it as in the known one."""
    if own is None:
        return known
    if known.classes_differ(own):
        rule = (
            f"{known.name} has {known.num_classes} classes and ignore label {known.ignore_label}, "
            f"but {own_path} says {own.num_classes} classes and ignore label {own.ignore_label}"
        )
        hint = "leave `dataset` out to use the records' own descriptor"
        raise UserError("dataset-mismatch", rule, hint, field="dataset", value=known.name)
    return own


def known_names() -> list[str]:
    """Names of the published datasets whose descriptors are known."""
    return sorted(entry.name.removesuffix(".yml") for entry in known_folder().iterdir() if entry.name.endswith(".yml"))


def load_known(name: str) -> Dataset:
    """The descriptor of a known dataset, without pixels and sizes."""
    entry = known_folder() / f"{name}.yml"
    return parse(entry.read_text(encoding="utf-8"), str(entry), name)


def are_known_classes(class_names: Sequence[str]) -> bool:
    """Whether these are the classes of a known dataset, in its order.

    Only descriptors that contain all names are parsed: parsing all takes as long as checking fifty images.
    """
    texts = ((name, (known_folder() / f"{name}.yml").read_text(encoding="utf-8")) for name in known_names())
    likely = (name for name, text in texts if all(each in text for each in class_names))
    return any(load_known(name).class_names == tuple(class_names) for name in likely)


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
    kept = {split: rules for split, rules in others.errors.items() if split not in dataset.splits}
    drawn = {split: True for split in others.drawn if split not in dataset.splits}
    return dataclasses.replace(
        dataset,
        splits=merged("splits"),
        pixels=merged("pixels"),
        ignored_pixels=merged("ignored_pixels"),
        size_range=merged("size_range"),
        errors={**kept, **dataset.errors},
        drawn={**drawn, **dataset.drawn},
        image_formats=formats,
    )
