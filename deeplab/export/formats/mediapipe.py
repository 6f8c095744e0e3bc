"""LiteRT files for MediaPipe's ImageSegmenter and the Android Task Library: logits, and metadata that describes them.

    image                    float32 [1, h, w, 3], RGB, 0..255; these programs stretch every image to that size
    SemanticLogits           float32 [1, h, w, classes], at the image's size; a softmax makes probabilities of them

The metadata is a FlatBuffer inside the file (the buffer TFLITE_METADATA, schema version 1.5.0): kind of the input and
how to normalize it, which is mean 0 and deviation 1, as the file normalizes by itself; the softmax; and the name of the
list of classes. The list, `labels.txt`, is in the zip archive behind the model, with `deeplab.json` of other LiteRT
files. Written with the library flatbuffers, which TensorFlow needs anyway: mediapipe itself would replace OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import tensorflow as tf

from deeplab.data.bands import RGB, bands_of
from deeplab.data.label_bits import MAX_CLASSES_8_BIT, bits_of
from deeplab.export.formats import FORMATS, ExportFormat, TensorInfo, litert
from deeplab.export.freeze import FrozenModel, describe
from deeplab.inference.file_predictor import LABELS_FILE
from deeplab.inference.fixed_size import has_appended_description
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.tensor_names import IMAGE, LOGITS
from slim import kernels

METADATA, SEGMENTER = "TFLITE_METADATA", "SEGMENTER_METADATA"
_METADATA_FILE, _SEGMENTER_FILE, _MODEL_FILE = b"M001", b"V001", b"TFL3"
PARSER_VERSION = "1.5.0"  # of programs that read the metadata, at least
# Numbers of the schema's unions and enumerations.
_FEATURES, _IMAGE, _RGB, _NORMALIZATION, _AXIS_LABELS, _SOFTMAX = 1, 2, 1, 1, 2, 2


def write(model: FrozenModel, path: str) -> list[TensorInfo]:
    """Writes the file of a model that `unfit` accepts."""
    settings = model.settings
    assert settings.crop_size is not None
    height, width = settings.crop_size
    enlarges, align = settings.model.prediction_with_upsampled_logits, settings.model.align_corners

    @tf.function(input_signature=[tf.TensorSpec([1, height, width, 3], tf.float32, IMAGE)])
    def logits(image):
        small = model.in_this_graph()(image)
        return {LOGITS: kernels.resize_bilinear(small, height, width, align) if enlarges else small}

    content = with_metadata(litert.converted({"logits": logits}), model.class_names)
    return litert.write_file(model, path, describe(model, upsample_logits=enlarges), content)


def unfit(settings: PredictionSettings, num_classes: int) -> str:
    """Why the format cannot hold such a model; empty if it can."""
    if bands_of(settings.model) != RGB:
        return "MediaPipe gives 8-bit RGB images alone"
    if bits_of(num_classes) == 16:
        return f"its tasks give masks of 8 bits, which hold {MAX_CLASSES_8_BIT} classes"
    return "" if settings.one_pass else "the average over scales or mirrored images has probabilities, not logits"


def with_metadata(content: bytes, class_names: Sequence[str]) -> bytes:
    """A LiteRT model with metadata in place of what it may hold already."""
    schema = litert.flatbuffers_schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = METADATA, len(model.buffers)
    buffer.data = list(metadata(f"segmentation into {len(class_names)} classes: {', '.join(class_names)}"))
    model.buffers.append(buffer)
    kept = [one for one in model.metadata or [] if one.name not in (METADATA, METADATA.encode())]
    model.metadata = [*kept, entry]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), _MODEL_FILE)
    return bytes(builder.Output())


# ---- the metadata ------------------------------------------------------------------------------------------


def metadata(description: str) -> bytes:
    """The FlatBuffer `ModelMetadata` of a model with one image and one map of logits."""
    builder = flatbuffers.Builder(1024)
    # Tables are written before those that refer to them.
    mean, deviation = _floats(builder, [0.0]), _floats(builder, [1.0])
    normalization = _table(builder, 2, offsets={0: mean, 1: deviation})
    unit = _table(builder, 2, numbers={0: _NORMALIZATION}, offsets={1: normalization})
    units = _vector(builder, [unit])
    image = _table(builder, 2, numbers={0: _RGB})
    content = _table(builder, 3, numbers={0: _IMAGE}, offsets={1: image})
    largest, smallest = _floats(builder, [255.0]), _floats(builder, [0.0])
    stats = _table(builder, 2, offsets={0: largest, 1: smallest})
    texts = {0: _text(builder, IMAGE), 1: _text(builder, "RGB image, 0..255, stretched to the input's size")}
    inputs = _vector(builder, [_table(builder, 7, offsets={**texts, 3: content, 4: units, 5: stats})])

    texts = {0: _text(builder, LABELS_FILE), 1: _text(builder, "one class per line")}
    files = _vector(builder, [_table(builder, 5, numbers={2: _AXIS_LABELS}, offsets=texts)])
    features = _table(builder, 3, numbers={0: _FEATURES}, offsets={1: _table(builder, 0)})
    texts = {0: _text(builder, LOGITS), 1: _text(builder, "logits of every pixel, one channel per class")}
    outputs = _vector(builder, [_table(builder, 7, offsets={**texts, 3: features, 6: files})])

    options = _bytes(builder, _segmenter_options())
    custom = _vector(builder, [_table(builder, 2, offsets={0: _text(builder, SEGMENTER), 1: options})])
    graph = _vector(builder, [_table(builder, 10, offsets={2: inputs, 3: outputs, 9: custom})])
    texts = {0: _text(builder, "DeepLab"), 1: _text(builder, description), 7: _text(builder, PARSER_VERSION)}
    builder.Finish(_table(builder, 8, offsets={**texts, 3: graph}), _METADATA_FILE)
    return bytes(builder.Output())


def _segmenter_options() -> bytes:
    """The FlatBuffer `ImageSegmenterOptions`: the logits become probabilities by a softmax."""
    builder = flatbuffers.Builder(64)
    builder.Finish(_table(builder, 2, numbers={0: _SOFTMAX}), _SEGMENTER_FILE)
    return bytes(builder.Output())


def _table(
    builder: flatbuffers.Builder,
    slots: int,
    *,
    numbers: dict[int, int] | None = None,
    offsets: dict[int, int] | None = None,
) -> int:
    """A table of so many fields: small numbers, and offsets of what was written before, by their places."""
    builder.StartObject(slots)
    for place, offset in (offsets or {}).items():
        builder.PrependUOffsetTRelativeSlot(place, offset, 0)
    for place, number in (numbers or {}).items():
        builder.PrependInt8Slot(place, number, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()


def _bytes(builder: flatbuffers.Builder, content: bytes) -> int:
    """Bytes at a multiple of 16, because they are a FlatBuffer themselves."""
    builder.StartVector(1, len(content), 16)
    for value in reversed(content):
        builder.PrependByte(value)
    return builder.EndVector()


def _text(builder: flatbuffers.Builder, text: str) -> int:
    return builder.CreateString(text)


FORMATS.register("mediapipe")(
    ExportFormat(
        "model_mediapipe.tflite",
        "_mediapipe.tflite",
        write,
        has_appended_description,
        prepares_inside=False,
        unfit=unfit,
    )
)
