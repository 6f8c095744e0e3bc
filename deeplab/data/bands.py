"""Images that are not 8-bit RGB: how many bands they have, of which type, and how raw values become model input.

Owns `ImageBands` (what `dataset.yml`, `config.yml` and exports say about the pixels), the scaling of raw values to
0..255, statistics per band, and the RGB image that people look at. Builders, the pipeline, prediction and exports use
it. It never opens a file: that is `images.py`.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplab.config.model_config import ModelConfig
from deeplab.utils.errors import UserError

MAX_CHANNELS = 16
DTYPES = ("uint8", "uint16", "float32")
PERCENTILES = (1.0, 99.0)  # of the training split: values that become 0 and 255 unless `scale_from` is set
_BINS = 65536
_SIGN, _HALF_BIN = 0x80000000, 0x8000
_DIGITS = 6  # of statistics in dataset.yml; those of float32 come from bins that are 0.4 % wide


@dataclass(frozen=True)
class ImageBands:
    """The pixels of the images of a dataset or a model.

    Raw values become 255 * (value - low) / (high - low), cut to 0..255, in each channel; values that are not numbers
    become 0.

    Attributes:
      channels: number of channels.
      dtype: of the raw values: uint8, uint16 or float32.
      bands: which bands of an image file the channels are, from 1, in order; empty = all.
      low, high: raw values that become 0 and 255, one per channel; empty = the values are 0..255 as they are.
      mean, std: of each channel of the training split after that, 0..255; empty = not measured.
    """

    channels: int = 3
    dtype: str = "uint8"
    bands: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def is_rgb(self) -> bool:
        """Whether these are plain images: three channels of 8 bits, as they are in any image file."""
        return self.channels == 3 and self.dtype == "uint8" and not (self.bands or self.low)

    @property
    def is_plain(self) -> bool:
        """Whether values are 0..255 of 8 bits, and nothing is said about bands of files."""
        return self.dtype == "uint8" and not (self.bands or self.low)

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Raw values [H, W, C] as float32 [H, W, C], 0..255."""
        values = pixels.astype(np.float32)
        if not self.low:
            return values
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (values - low) * (np.float32(255) / (high - low))
        return np.where(np.isnan(scaled), np.float32(0), np.clip(scaled, 0, 255))

    def clipped(self, pixels: np.ndarray) -> np.ndarray:
        """Raw values as float32, cut to low..high, as resizing before scaling needs them; no number becomes low."""
        values = pixels.astype(np.float32)
        if not self.low:
            return values
        low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
        return np.where(np.isnan(values), low, np.clip(values, low, high))

    def quick_look(self, pixels: np.ndarray) -> np.ndarray:
        """Raw values [H, W, C] as an image to look at, uint8 [H, W, 3]: the first three channels, or one in gray."""
        shown = pixels[..., :3] if self.channels >= 3 else pixels[..., :1]
        number = shown.shape[-1]
        if self.dtype != "uint8" and not self.low:
            return stretched(shown).quick_look(shown)
        part = ImageBands(number, self.dtype, (), self.low[:number], self.high[:number])
        levels = part.scaled(shown).round().astype(np.uint8)
        return np.repeat(levels, 3, axis=2) if number == 1 else np.ascontiguousarray(levels)

    def require(self, pixels: np.ndarray, where: str) -> None:
        """Refuses pixels of another kind.

        Raises:
          UserError: not [H, W, C] (`unsupported-pixels`), another number of channels (`wrong-channels`) or another type
            (`wrong-dtype`).
        """
        shape = list(pixels.shape)
        if pixels.ndim != 3 or 0 in pixels.shape:
            rule = f"must be [H, W, {self.channels}], not {shape}"
            raise UserError("unsupported-pixels", rule, "give one image, channels last", where=where, value=shape)
        if pixels.shape[2] != self.channels:
            raise wrong_channels(pixels.shape[2], self, where)
        if str(pixels.dtype) != self.dtype:
            raise wrong_dtype(str(pixels.dtype), self, where)


RGB = ImageBands()


def stretched(pixels: np.ndarray) -> ImageBands:
    """Bands to show an image whose dataset has no scaling: from the smallest to the largest value in the image."""
    channels, dtype = pixels.shape[2], str(pixels.dtype)
    if dtype == "uint8":
        return ImageBands(channels, dtype)
    values = pixels.reshape(-1, channels).astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    low, high = [], []
    for band in range(channels):
        finite = values[:, band][~np.isnan(values[:, band])]
        bottom, top = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        low.append(bottom)
        high.append(top if np.float32(top) > np.float32(bottom) else bottom + max(1.0, abs(bottom) * 1e-3))
    return ImageBands(channels, dtype, (), tuple(low), tuple(high))


def wrong_channels(found: int, expected: ImageBands, where: str) -> UserError:
    """The error for an image with another number of channels."""
    rule = f"has {found} channels, where {expected.channels} are expected"
    hint = "give images with the bands of the training, in the same order"
    if found > expected.channels:
        hint += f"; `bands` chooses {expected.channels} of them when records are built"
    return UserError("wrong-channels", rule, hint, field="input_channels", where=where, value=found)


def wrong_dtype(found: str, expected: ImageBands, where: str) -> UserError:
    """The error for an image whose values have another type."""
    rule = f"has values of type {found}, where {expected.dtype} is expected"
    hint = f"give the values as they were in training: image.astype('{expected.dtype}') only where their range is equal"
    return UserError("wrong-dtype", rule, hint, field="input_dtype", where=where, value=found)


def require_same_bands(dataset: ImageBands, model: ImageBands, source: str, name: str) -> None:
    """Stop if a dataset's images have other channels or another type than a model takes.

    Raises:
      UserError: with both (`wrong-channels`, `wrong-dtype`).
    """
    hint = "give the dataset that it was trained on, or one that was built with the same `bands`"
    if dataset.channels != model.channels:
        rule = f"images of {name} have {dataset.channels} channels, the model in {source} takes {model.channels}"
        raise UserError("wrong-channels", rule, hint, field="dataset", value=dataset.channels)
    if dataset.dtype != model.dtype:
        rule = f"images of {name} have values of type {dataset.dtype}, the model in {source} takes {model.dtype}"
        raise UserError("wrong-dtype", rule, hint, field="dataset", value=dataset.dtype)


# --- The model's config -------------------------------------------------------------------------------------


def bands_of(model: ModelConfig) -> ImageBands:
    """What images a model takes."""
    channels = model.input_channels
    low, high = model.input_range[::2], model.input_range[1::2]
    if len(low) == 1:
        low, high = low * channels, high * channels
    return ImageBands(channels, model.input_dtype, model.input_bands, low, high, model.input_mean, model.input_std)


def model_settings(bands: ImageBands) -> dict[str, Any]:
    """The settings of `ModelConfig` for images like these, by name."""
    pairs = zip(bands.low, bands.high, strict=True)
    return {
        "input_channels": bands.channels,
        "input_dtype": bands.dtype,
        "input_bands": bands.bands,
        "input_range": tuple(value for pair in pairs for value in pair),
        "input_mean": bands.mean,
        "input_std": bands.std,
    }


# --- Settings of the builder --------------------------------------------------------------------------------


def parse_bands(text: str) -> tuple[int, ...] | None:
    """`bands`: "4,3,2" as (4, 3, 2), "all" as (), "" as None.

    Raises:
      UserError: not whole numbers from 1, a repeated one, or too many (`invalid-bands`).
    """
    if not text.strip():
        return None
    if text.strip().lower() == "all":
        return ()
    words = [word.strip() for word in text.split(",")]
    numbers = tuple(int(word) for word in words if word.isascii() and word.isdigit())
    if len(numbers) != len(words) or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        rule = f"must be numbers of bands, counted from 1 and each once, or all, not {text!r}"
        raise UserError("invalid-bands", rule, "e.g. `bands=4,3,2` or `bands=all`", field="bands", value=text)
    if len(numbers) > MAX_CHANNELS:
        rule = f"names {len(numbers)} bands, but models take at most {MAX_CHANNELS}"
        raise UserError("invalid-bands", rule, "leave some out", field="bands", value=text)
    return numbers


def parse_scale(values: Sequence[float], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`scale_from` as low and high of each channel: LOW,HIGH for all, or LOW,HIGH of one after the other.

    Raises:
      UserError: another number of values, or a low that is not below its high (`invalid-scale`).
    """
    if len(values) not in (2, 2 * channels):
        rule = f"has {len(values)} numbers, where 2 or {2 * channels} (LOW,HIGH of each of {channels} bands) are needed"
        raise UserError("invalid-scale", rule, "e.g. `scale_from=0,10000`", field="scale_from", value=tuple(values))
    low, high = tuple(values[::2]), tuple(values[1::2])
    for one, other in zip(low, high, strict=True):
        if not np.float32(one) < np.float32(other):
            rule = f"must be LOW,HIGH with LOW below HIGH, not {one:g},{other:g}"
            raise UserError("invalid-scale", rule, "e.g. `scale_from=0,10000`", field="scale_from", value=tuple(values))
    return (low, high) if len(low) == channels else (low * channels, high * channels)


# --- Statistics ---------------------------------------------------------------------------------------------


class BandHistogram:
    """How often each value occurs in each band; of float32 values, the upper 16 bits count: bins 0.4 % wide.

    Sums over parts of a dataset are exact, in whatever order they are merged.

    Args:
      channels: number of bands.
      dtype: type of the values: uint8, uint16 or float32.
    """

    def __init__(self, channels: int, dtype: str):
        self.channels, self.dtype = channels, dtype
        self.counts = np.zeros((channels, _BINS), np.int64)

    def add(self, pixels: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Counts an image's values, [H, W, C]; only where `valid`, bool [H, W], and only finite ones."""
        for band in range(self.channels):
            values = pixels[..., band] if valid is None else pixels[..., band][valid]
            self.counts[band] += np.bincount(_bins(values.ravel()), minlength=_BINS)

    def merge(self, other: BandHistogram) -> None:
        """Adds the counts of other images."""
        self.counts += other.counts

    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The values of each band at `PERCENTILES`, the upper one above the lower one."""
        values = _bin_values(self.dtype)
        low, high = [], []
        for counts in self.counts:
            ends = np.cumsum(counts)
            first, last = (int(np.searchsorted(ends, max(1, ends[-1] * part / 100))) for part in PERCENTILES)
            bottom, top = (_rounded(float(values[min(place, _BINS - 1)])) for place in (first, last))
            low.append(bottom)
            high.append(top if np.float32(top) > np.float32(bottom) else bottom + max(1.0, abs(bottom) * 1e-3))
        return tuple(low), tuple(high)

    def moments(self, bands: ImageBands) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel after scaling, 0..255; the latter is at least 1."""
        values = np.repeat(_bin_values(self.dtype)[:, np.newaxis], bands.channels, axis=1)
        scaled = bands.scaled(values[np.newaxis])[0].astype(np.float64).T
        number = np.maximum(1, self.counts.sum(1))
        mean = (self.counts * scaled).sum(1) / number
        std = np.sqrt((self.counts * (scaled - mean[:, np.newaxis]) ** 2).sum(1) / number)
        return tuple(map(_rounded, mean.tolist())), tuple(_rounded(max(1.0, one)) for one in std.tolist())

    def to_text(self) -> str:
        """The counts as text, for the results of pipelines."""
        return base64.b64encode(zlib.compress(self.counts.tobytes(), 1)).decode()

    @classmethod
    def from_text(cls, channels: int, dtype: str, text: str) -> BandHistogram:
        """Reads `to_text`'s text."""
        histogram = cls(channels, dtype)
        counts = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.int64)
        histogram.counts = counts.reshape(channels, _BINS).copy()
        return histogram


def _bins(values: np.ndarray) -> np.ndarray:
    if values.dtype != np.float32:
        return values
    bits = values[np.isfinite(values)].view(np.uint32)
    ordered = np.where(bits & _SIGN, ~bits, bits | np.uint32(_SIGN))  # sorts like the floats
    return (ordered >> 16).astype(np.uint16)


def _bin_values(dtype: str) -> np.ndarray:
    """The value of each bin: [65536] of the type."""
    if dtype != "float32":
        return np.arange(_BINS, dtype=np.uint16)
    ordered = (np.arange(_BINS, dtype=np.uint32) << 16) | np.uint32(_HALF_BIN)
    bits = np.where(ordered & _SIGN, ordered ^ np.uint32(_SIGN), ~ordered)
    values = bits.astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(values), values, np.float32(0))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def describe_bands(bands: ImageBands, histogram: BandHistogram, scale_from: Sequence[float]) -> ImageBands:
    """The bands with their scaling (`scale_from`, or from percentiles; 8-bit values stay) and their statistics."""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    if scale_from:
        low, high = parse_scale(scale_from, bands.channels)
    elif bands.dtype != "uint8":
        low, high = histogram.bounds()
    scaled = ImageBands(bands.channels, bands.dtype, bands.bands, low, high)
    return ImageBands(bands.channels, bands.dtype, bands.bands, low, high, *histogram.moments(scaled))
