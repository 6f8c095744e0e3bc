"""One record: from its bytes to pixels, with checks whose messages name the image.

The checks run inside TensorFlow graphs, which can only fail with a TensorFlow error. `checked` writes the parts of a
UserError into the error's text, and `reported` reads them out of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from deeplab.data import records
from deeplab.data.bands import ImageBands
from deeplab.data.labels import LabelSpec
from deeplab.utils import console
from deeplab.utils.errors import UserError

Tensor = Any
Example = dict[str, Tensor]

_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE_AT, _PNG_KIND_AT = 16, 24  # width and height; bit depth and color type
_GRAY = b"\x00"  # color type
_JPEG_MARGIN = 8  # pixels: next to the edge of a partly decoded JPEG, colors lack their neighbors


def parse(serialized: Tensor) -> Example:
    """The features of a serialized `tf.train.Example`, under the keys of `records`."""
    return tf.io.parse_single_example(serialized, records.feature_spec())


# --- Images -------------------------------------------------------------------------------------------------


def image_size(example: Example) -> Tensor:
    """Height and width that the header of an encoded image states: int32 [2]. The record's own fields may be wrong."""
    encoded = example[records.IMAGE]
    is_jpeg = _starts_with(encoded, _JPEG_START)
    known = is_jpeg | _starts_with(encoded, _PNG_START)
    hint = "convert it to one of them and build the records again"
    encoded = checked(encoded, known, example[records.FILENAME], "unsupported-format", "is neither JPEG nor PNG", hint)

    def png_size() -> Tensor:
        return tf.io.decode_raw(tf.strings.substr(encoded, _PNG_SIZE_AT, 8), tf.int32, little_endian=False)[::-1]

    return tf.ensure_shape(tf.cond(is_jpeg, lambda: tf.io.extract_jpeg_shape(encoded)[:2], png_size), [2])


def _starts_with(encoded: Tensor, start: bytes) -> Tensor:
    return tf.strings.substr(encoded, 0, len(start)) == start


def decode_image(encoded: Tensor) -> Tensor:
    """uint8 [H, W, 3], RGB, of a JPEG or PNG; gray becomes RGB, transparency is dropped."""
    # decode_jpeg reads PNG too. Its default way of decoding is the one of TensorFlow 1.15; Pillow and OpenCV differ
    # from it by up to 19 levels.
    return tf.io.decode_jpeg(encoded, channels=3)


def values_size(example: Example, bands: ImageBands) -> Tensor:
    """Height and width of an image in the format `records.VALUES`: int32 [2].

    The op fails, naming the image, unless it has the channels and the type of `bands`, which `decode_values` relies on.
    """
    name, size = example[records.FILENAME], tf.stack([example[records.HEIGHT], example[records.WIDTH]])
    channels, dtype, form = (example[key] for key in (records.CHANNELS, records.DTYPE, records.IMAGE_FORMAT))
    again = "build the records again, dataset.yml among them"
    rule = "is an ordinary image, where dataset.yml describes `image_bands`"
    size = checked(size, tf.equal(form, records.VALUES), name, "unsupported-format", rule, again)

    def other(found: Tensor, expected: str) -> Callable[[], Tensor]:
        return lambda: words("has", found, "where", expected, "is described")

    same = tf.equal(channels, bands.channels)
    rule_of_channels = other(words(tf.strings.as_string(channels), "channels"), str(bands.channels))
    size = checked(size, same, name, "wrong-channels", rule_of_channels, again)
    rule_of_dtype = other(words("values of type", dtype), bands.dtype)
    return tf.cast(checked(size, tf.equal(dtype, bands.dtype), name, "wrong-dtype", rule_of_dtype, again), tf.int32)


def decode_values(example: Example, size: Tensor, bands: ImageBands) -> Tensor:
    """The raw values of an image whose size `values_size` gave: [H, W, C] of the type of `bands`."""
    content = tf.io.decode_compressed(example[records.IMAGE], compression_type="ZLIB")
    whole = tf.cast(tf.strings.length(content), tf.int64)
    expected = tf.reduce_prod(tf.cast(size, tf.int64)) * bands.channels * np.dtype(bands.dtype).itemsize
    rule = "is not of the size that its fields state"
    hint = "build the records again"
    content = checked(content, tf.equal(whole, expected), example[records.FILENAME], "bad-record", rule, hint)
    values = tf.io.decode_raw(content, tf.as_dtype(bands.dtype), little_endian=True)
    return tf.reshape(values, [size[0], size[1], bands.channels])


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; int32 scalars."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def widened(self, margin: int, size: Tensor) -> Box:
        """The box with a margin on all sides, as far as there is an image."""
        top, left = tf.maximum(self.top - margin, 0), tf.maximum(self.left - margin, 0)
        bottom = tf.minimum(self.top + self.height + margin, size[0])
        right = tf.minimum(self.left + self.width + margin, size[1])
        return Box(top, left, bottom - top, right - left)

    def cut(self, image: Tensor, top: Tensor = 0, left: Tensor = 0) -> Tensor:
        """The box's part of an image [H, W, ...] whose first pixel is at (top, left)."""
        y, x = self.top - top, self.left - left
        return image[y : y + self.height, x : x + self.width]


def decode_box(encoded: Tensor, box: Box, size: Tensor) -> Tensor:
    """`box.cut(decode_image(encoded))`, bit for bit, without decoding more of a JPEG than that takes."""

    def jpeg() -> Tensor:
        wide = box.widened(_JPEG_MARGIN, size)
        window = tf.stack([wide.top, wide.left, wide.height, wide.width])
        return box.cut(tf.io.decode_and_crop_jpeg(encoded, window, channels=3), wide.top, wide.left)

    return tf.cond(_starts_with(encoded, _JPEG_START), jpeg, lambda: box.cut(decode_image(encoded)))


# --- Labels -------------------------------------------------------------------------------------------------


def decode_label(example: Example, size: Tensor, spec: LabelSpec) -> Tensor:
    """The label of a record: [H, W] of the type of `spec`, uint8 or uint16, class indices.

    The op fails, naming the image, if there is no label of these bits, if it is no gray PNG of these bits (TensorFlow
    would turn a palette into shades of gray, and 16 bits into their high bytes), if its size differs from the image's,
    or if it holds values outside the classes.

    Args:
      example: the parsed record.
      size: int32 [2], height and width of its image.
      spec: which values are allowed; with `num_classes=None` they are not checked.
    """
    keys = (records.LABEL, records.LABEL_16) if spec.bits == 8 else (records.LABEL_16, records.LABEL)
    (encoded, other), name = (example.get(key, b"") for key in keys), example[records.FILENAME]

    def either(without: str, of_other_bits: str) -> Callable[[], Tensor]:
        return lambda: tf.where(tf.strings.length(other) > 0, of_other_bits, without)

    code = either("missing-label", "wrong-dtype")
    missing = either("has no label", f"its label has {24 - spec.bits} bits, not {spec.bits}")
    hint_of_missing = either(
        "train and evaluate on a split that was built with masks",
        "more than 256 classes, or an ignore label above 255, need labels of 16 bits: use the dataset.yml "
        "that was built with the records, or build both again",
    )
    encoded = checked(encoded, tf.strings.length(encoded) > 0, name, code, missing, hint_of_missing)
    hint = "build the records again; the builders turn palette and color masks into class indices"
    rule = f"its label is no {spec.bits}-bit gray PNG"
    encoded = checked(encoded, _is_index_png(encoded, spec.bits), name, "not-a-mask", rule, hint)
    label = tf.io.decode_png(encoded, channels=1, dtype=spec.dtype)[:, :, 0]
    same_size = tf.reduce_all(tf.shape(label) == size)

    def mismatch() -> Tensor:
        return words("the image is", by(size), "pixels, its label", by(tf.shape(label)))

    hint = "give image and mask the same size, then build the records again"
    label = checked(label, same_size, name, "size-mismatch", mismatch, hint)
    if spec.limit >= spec.num_values:
        return label
    return checked(label, ~tf.reduce_any(spec.is_outside(label)), name, _LABEL_VALUES, lambda: _counts(label), spec)


def _counts(label: Tensor) -> Tensor:
    """`0:25 3:1` for a label with 25 pixels of value 0 and one of value 3."""
    values, _, pixels = tf.unique_with_counts(tf.reshape(tf.cast(label, tf.int32), [-1]))
    pairs = tf.strings.join([tf.strings.as_string(values), tf.strings.as_string(pixels)], separator=":")
    return tf.strings.reduce_join(pairs, separator=" ")


def _is_index_png(encoded: Tensor, bits: int) -> Tensor:
    header = tf.strings.join([encoded, b"\0" * (_PNG_KIND_AT + 2)])  # long enough, however short the label
    return _starts_with(encoded, _PNG_START) & (tf.strings.substr(header, _PNG_KIND_AT, 2) == bytes([bits]) + _GRAY)


# --- Checks inside a graph ----------------------------------------------------------------------------------

_OPEN, _NEXT, _CLOSE = "<@|", "|@|", "|@>"
_REPORT = re.compile(r"<@\|(.*?)\|@\|(.*?)\|@\|(.*?)\|@\|(.*?)\|@>", re.DOTALL)
_LABEL_VALUES = "label-out-of-range"  # its report holds counts (`0:25 3:1`) and the spec (`3 255`) instead of texts
_COUNTS = re.compile(r"(\d+:\d+ ?)+")


def checked(
    value: Tensor,
    holds: Tensor,
    where: Tensor,
    code: str | Callable[[], Tensor],
    rule: str | Callable[[], Tensor],
    hint: str | Callable[[], Tensor] | LabelSpec,
) -> Tensor:
    """The value; if the rule does not hold, an error that `reported` can read.

    Args:
      value: a tensor or a dict of them: what later operations need, so that they wait for the check.
      holds: bool scalar.
      where: string scalar, the image's name.
      code, rule, hint: text, or functions that make it; they run on failure only. The code is that of the error.
    """

    def fail() -> Tensor:
        if isinstance(hint, LabelSpec):
            advice = f"{hint.num_classes} {hint.ignore_label}"
        else:
            advice = hint() if callable(hint) else hint
        text, kind = (part() if callable(part) else part for part in (rule, code))
        report = tf.strings.join([_OPEN, kind, _NEXT, where, _NEXT, text, _NEXT, advice, _CLOSE])
        with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[report], summarize=1)]):
            return tf.nest.map_structure(tf.identity, value)

    return tf.cond(holds, lambda: tf.nest.map_structure(tf.identity, value), fail)


def as_report(error: UserError) -> str:
    """A UserError as the text of a TensorFlow assertion, for `reported` to read."""
    return _OPEN + _NEXT.join([error.code, error.where, error.rule, error.hint]) + _CLOSE


def words(*parts: Tensor) -> Tensor:
    """Texts with a space between them."""
    return tf.strings.join(parts, separator=" ")


def by(size: Tensor) -> Tensor:
    """`375x500` for a size of height 375 and width 500."""
    return tf.strings.reduce_join(tf.strings.as_string(size), separator="x")


def reported(error: Exception) -> UserError | None:
    """The UserError whose parts `checked` wrote into a TensorFlow error; None if it is another error."""
    report = _REPORT.search(str(error))
    if not report:
        return None
    code, where, rule, hint = map(_unescape, report.groups())
    if code == _LABEL_VALUES and _COUNTS.fullmatch(rule):
        num_classes, ignore_label = map(int, hint.split())
        counts = {int(value): int(pixels) for value, _, pixels in (pair.partition(":") for pair in rule.split())}
        return LabelSpec(num_classes, ignore_label).error(counts, where, in_records=True)
    return UserError(code, rule, hint, where=where)


def _unescape(text: str) -> str:
    r"""The text as it was; TensorFlow writes some characters with a backslash, others as \303\244."""
    code = re.compile(rb"\\([0-7]{3})|\\(.)", re.DOTALL)
    plain = code.sub(lambda match: bytes([int(match[1], 8)]) if match[1] else match[2], text.encode())
    return plain.decode("utf-8", "replace")


def find_undecodable(shards: Sequence[str]) -> UserError | None:
    """The first record whose image or label cannot be decoded; TensorFlow's own errors do not name it."""
    of_bands: dict[str, Any] = {}
    for path in console.progress(shards, what="looking for the damaged image", unit="shard"):
        for index, record in enumerate(records.read_shard(path)):
            if record.get(records.IMAGE_FORMAT) == records.VALUES.encode():
                try:
                    records.decode_values(record)
                except ValueError as error:
                    name = record.get(records.FILENAME, b"").decode("utf-8", "replace")
                    hint = "build the records again"
                    return UserError("unreadable-image", f"{error} (record {index} of {path})", hint, where=name)
                of_bands = of_bands or record
                continue
            for key, what in ((records.IMAGE, "image"), (records.LABEL, "label"), (records.LABEL_16, "label")):
                if record.get(key) and not _decodes(record[key]):
                    name = record.get(records.FILENAME, b"").decode("utf-8", "replace")
                    rule = f"its {what} cannot be decoded (record {index} of {path})"
                    hint = "replace or remove the file and build the records again"
                    return UserError("unreadable-image", rule, hint, where=name)
    if of_bands:
        name = of_bands.get(records.FILENAME, b"").decode("utf-8", "replace")
        rule = "is not 8-bit RGB, but dataset.yml describes no `image_bands`"
        hint = "use the dataset.yml that was built with the records, or build both again"
        return UserError("unsupported-format", rule, hint, where=name)
    return None


def _decodes(encoded: bytes) -> bool:
    try:
        tf.io.decode_jpeg(encoded, channels=3)
    except tf.errors.InvalidArgumentError:
        return False
    return True
