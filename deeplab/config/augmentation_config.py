"""Config of augmentation, and of how often images and crops are sampled."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deeplab.config.fields import Config, setting
from deeplab.utils.errors import UserError

PROBABILITY: dict[str, Any] = {"min": 0, "max": 1, "unit": "fraction of the images"}

PRESETS: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "light": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
    "medium": {
        "rotation": 10.0,
        "brightness": 0.3,
        "contrast": 0.3,
        "saturation": 0.3,
        "hue": 10.0,
        "gamma": 0.3,
        "gray": 0.05,
        "gaussian_blur": 1.0,
    },
    "strong": {
        "rotation": 20.0,
        "shear": 10.0,
        "translation": 0.1,
        "perspective": 0.1,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.5,
        "hue": 20.0,
        "gamma": 0.5,
        "gray": 0.1,
        "gaussian_blur": 2.0,
        "noise": 12.0,
        "jpeg_quality": 40.0,
        "cutout": 0.25,
        "class_mix": 0.25,
    },
}
"""Operations of each preset with their amounts, in addition to scale, crop and mirroring; docs/augmentation.md."""


def _operation(help: str, **limits: Any) -> Any:
    return setting(None, f"{help} (unset: as the preset says).", **limits)


@dataclass(frozen=True)
class AugmentationConfig(Config):
    """Augmentation and sampling, in addition to scale, crop and mirroring."""

    augmentation: str = setting(
        "none",
        "Preset of operations: none = scale, crop and mirroring alone. The settings below replace single values; 0 "
        "turns an operation off.",
        choices=tuple(PRESETS),
    )
    augmentation_probability: float = setting(
        0.5,
        "How often each of these operations changes an image, where its value is not a probability itself.",
        **PROBABILITY,
    )
    vertical_flip: float | None = _operation("Probability of flipping an image upside down", **PROBABILITY)
    rot90: float | None = _operation("Probability of rotating an image by 90, 180 or 270 degrees", **PROBABILITY)
    rotation: float | None = _operation(
        "Maximum rotation in either direction", min=0, max=180, because="that is half a turn", unit="degrees"
    )
    shear: float | None = _operation(
        "Maximum shear of rows and of columns", min=0, max=45, because="images would be lines", unit="degrees"
    )
    translation: float | None = _operation(
        "Maximum shift in each direction", min=0, max=1, unit="fraction of the crop's side"
    )
    perspective: float | None = _operation(
        "Maximum displacement of the corners of a crop",
        min=0,
        max=0.3,
        because="the corners could meet",
        unit="fraction of the crop's side",
    )
    elastic: float | None = _operation(
        "Maximum displacement of pixels by a smooth distortion",
        min=0,
        max=512,
        because="crops are rarely larger",
        unit="pixels",
    )
    gamma: float | None = _operation(
        "Maximum change of the gamma: it is between 1 / (1 + value) and 1 + value",
        min=0,
        max=9,
        because="images would be black or white",
        unit="fraction",
    )
    brightness: float | None = _operation("Maximum change of the brightness", min=0, max=1, unit="fraction")
    contrast: float | None = _operation("Maximum change of the contrast", min=0, max=1, unit="fraction")
    saturation: float | None = _operation("Maximum change of the saturation", min=0, max=1, unit="fraction")
    hue: float | None = _operation(
        "Maximum change of the hue", min=0, max=180, because="that is half a turn", unit="degrees"
    )
    gray: float | None = _operation("Probability of converting an image to gray", **PROBABILITY)
    channel_shuffle: float | None = _operation("Probability of shuffling red, green and blue", **PROBABILITY)
    equalize: float | None = _operation("Probability of equalizing the histogram", **PROBABILITY)
    clahe: float | None = _operation("Probability of equalizing the histogram locally (CLAHE)", **PROBABILITY)
    gaussian_blur: float | None = _operation(
        "Maximum standard deviation of a Gaussian filter",
        min=0,
        max=100,
        because="nothing would be left of the image",
        unit="pixels of the stored image",
    )
    noise: float | None = _operation(
        "Maximum standard deviation of Gaussian noise",
        min=0,
        max=255,
        because="images have 256 levels",
        unit="levels of 255",
    )
    jpeg_quality: float | None = _operation(
        "Lowest quality of JPEG compression; 0 = no compression",
        min=0,
        max=100,
        because="that is the best quality",
        unit="JPEG quality",
    )
    cutout: float | None = _operation(
        "Side of a square that is covered and ignored", min=0, max=1, unit="fraction of the crop's shorter side"
    )
    grid_mask: float | None = _operation("Probability of covering and ignoring a grid of squares", **PROBABILITY)
    mosaic: float | None = _operation("Probability of joining parts of four images of the batch", **PROBABILITY)
    cutmix: float | None = _operation(
        "Probability of replacing a rectangle by that of another image of the batch", **PROBABILITY
    )
    class_mix: float | None = _operation(
        "Probability of pasting half of the classes of another image of the batch", **PROBABILITY
    )
    copy_paste: float | None = _operation(
        "Probability of pasting the rare classes of another image of the batch", **PROBABILITY
    )
    sampling: str = setting(
        "uniform",
        "How often images come: uniform = once per epoch; repeat_factor = images with rare classes more often.",
        choices=("uniform", "repeat_factor"),
    )
    repeat_threshold: float = setting(
        0.1,
        "Fraction of the images with a class below which images with it are repeated by `sampling=repeat_factor`.",
        above=0,
        max=1,
        rare=True,
    )
    crop_sampling: str = setting(
        "uniform",
        "Where crops are cut: uniform = anywhere; class_centered = around a pixel of a class that the image holds, "
        "each class equally often; max_one_class_0.75 = where possible, no class has more than 0.75 of the pixels (any "
        "fraction can be given).",
    )

    def validate(self) -> None:
        largest_class(self.crop_sampling)

    def amounts(self) -> dict[str, float]:
        """The amount of every operation that is on, in the order in which they take effect within their kind."""
        preset = PRESETS[self.augmentation]
        values = {name: getattr(self, name) for name in OPERATIONS}
        values = {name: preset.get(name, 0.0) if value is None else value for name, value in values.items()}
        return {name: value for name, value in values.items() if value}


OPERATIONS = tuple(field.name for field in dataclasses.fields(AugmentationConfig) if field.default is None)


def largest_class(crop_sampling: str) -> float | None:
    """The fraction in `max_one_class_FRACTION`; None for the other ways.

    Raises:
      UserError: there is no such way, or the fraction is not between 0 and 1.
    """
    if crop_sampling in ("uniform", "class_centered"):
        return None
    found = re.fullmatch(r"max_one_class_(\d*\.?\d+)", crop_sampling)
    if found and 0.0 < float(found[1]) < 1.0:
        return float(found[1])
    rule = f"must be uniform, class_centered or max_one_class_0.75 (or another fraction), not {crop_sampling!r}"
    raise UserError("unknown-name", rule, field="crop_sampling", value=crop_sampling)
