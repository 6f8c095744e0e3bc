"""Parameters, multiply-adds and seconds per image of every backbone, as Markdown tables.

    python benchmarks/models.py [--size=513] [--output_stride=16] [--head=usual|light|full] [--rounds=5]
    python benchmarks/models.py --variants=mobilenet_v2,keras:EfficientNetV2B0 --rounds=0
    python benchmarks/models.py --published

All variants take about five minutes on two cores; `--rounds=0` counts without running and takes two. The usual head is
image pooling and a 1x1 branch for MobileNets, and for the others ASPP with rates 6, 12, 18 (12, 24, 36 at stride 8)
and a decoder to stride 4. `--published` compares the multiply-adds with those that the model zoo states.

A multiply-add is counted for each weight of a convolution at each position of its output, as in the papers: borders
count like the inside, and batch norm, activations, resizing and pooling do not count. Seconds are the median of
`--rounds` images after a first one, one image at a time, on all processor cores of this machine.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import statistics
import sys
import time
from typing import Any, NamedTuple

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from deeplab.utils import console

CLASSES = 21
OWN_STRIDES = {"nas_hnasnet": 8}  # the only output stride that the variant has
VOC, CITYSCAPES = (513, 513), (1025, 2049)
MOBILE_CITYSCAPES: dict[str, Any] = {
    "output_stride": 32,
    "image_pooling_crop_size": (769, 769),
    "image_pooling_stride": (4, 5),
    "aspp_convs_filters": 128,
    "aspp_with_concat_projection": False,
    "aspp_with_squeeze_and_excitation": True,
    "image_se_uses_qsigmoid": True,
    "decoder_use_sum_merge": True,
    "decoder_filters": 19,
    "decoder_output_is_logits": True,
    "decoder_output_stride": (8,),
}
FULL_HEAD: dict[str, Any] = {"atrous_rates": (6, 12, 18), "decoder_output_stride": (4,)}
CELL = {"dense_prediction_cell_json": "dense_prediction_cell_branch5_top1_cityscapes.json"}


class Published(NamedTuple):
    """A single-scale figure of the model zoo.

    Attributes:
      name: of the checkpoint.
      settings: of the model.
      size: height and width of the image.
      classes: number of classes.
      billions: multiply-adds.
      counts_both: the figure counts multiplication and addition as two, and every other operation as well; that is
        what TensorFlow's profiler gives, and the zoo's MobileNetV3 figures agree with it.
    """

    name: str
    settings: dict[str, Any]
    size: tuple[int, int]
    classes: int
    billions: float
    counts_both: bool = False


PUBLISHED = (
    Published("mobilenetv2_dm05_coco_voc_trainaug", {"depth_multiplier": 0.5}, VOC, 21, 0.88),
    Published("mobilenetv2_dm05_coco_voc_trainval", {"depth_multiplier": 0.5, "output_stride": 8}, VOC, 21, 2.84),
    Published("mobilenetv2_coco_voc_trainaug", {}, VOC, 21, 2.75),
    Published("xception65_coco_voc_trainaug", {"model_variant": "xception_65", **FULL_HEAD}, VOC, 21, 54.17),
    Published("mobilenetv2_coco_cityscapes_trainfine", {}, CITYSCAPES, 19, 21.27),
    Published(
        "mobilenetv3_large_cityscapes_trainfine",
        {"model_variant": "mobilenet_v3_large_seg", **MOBILE_CITYSCAPES},
        CITYSCAPES,
        19,
        15.95,
        counts_both=True,
    ),
    Published(
        "mobilenetv3_small_cityscapes_trainfine",
        {"model_variant": "mobilenet_v3_small_seg", **MOBILE_CITYSCAPES},
        CITYSCAPES,
        19,
        4.63,
        counts_both=True,
    ),
    Published("xception65_cityscapes_trainfine", {"model_variant": "xception_65", **FULL_HEAD}, CITYSCAPES, 19, 418.64),
    Published(
        "xception71_dpc_cityscapes_trainfine",
        {"model_variant": "xception_71", "decoder_output_stride": (4,), **CELL},
        CITYSCAPES,
        19,
        502.07,
    ),
    Published("edgetpu_deeplab (stride 32)", {"model_variant": "mobilenet_edgetpu", "output_stride": 32}, VOC, 19, 5.6),
    Published("edgetpu_deeplab (stride 16)", {"model_variant": "mobilenet_edgetpu"}, VOC, 19, 7.1),
)


PUBLISHED_NOTE = (
    "/ 2: the zoo counts multiplication and addition as two there, and activations, gates and resizing as well, which "
    "is why more is left over than elsewhere. The other figures count biases, which are left out here."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default="", help="names, with commas; empty = all")
    parser.add_argument("--size", type=int, default=513, help="side of the image in pixels")
    parser.add_argument("--output_stride", type=int, default=16, choices=(8, 16, 32))
    parser.add_argument("--head", choices=("usual", "light", "full"), default="usual")
    parser.add_argument("--rounds", type=int, default=5, help="images that are timed; 0 = only count")
    parser.add_argument("--published", action="store_true", help="compare multiply-adds with the model zoo's")
    args = parser.parse_args()
    console.import_tensorflow()
    print(published_table() if args.published else variant_table(args))


def variant_table(args: argparse.Namespace) -> str:
    """The Markdown table of all variants that were asked for."""
    import keras

    import slim
    from deeplab.config.model_config import ModelConfig
    from deeplab.model import build_model

    rows = []
    names = args.variants.split(",") if args.variants else slim.names()
    for name in console.progress(names, what="backbones", unit="model"):
        keras.utils.clear_session()
        config = ModelConfig(**settings(name, args.head, args.output_stride))
        model = build_model(config, CLASSES)
        billions = multiply_adds(model, (args.size, args.size)) / 1e9
        parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables) / 1e6
        seconds = f"{seconds_an_image(model, args.size, args.rounds):.3f}" if args.rounds else "-"
        rows.append((name, config.output_stride, head_name(config), f"{parameters:.2f}", f"{billions:.2f}", seconds))
    header = ("variant", "stride", "head", "parameters, M", f"multiply-adds at {args.size}, B", "seconds")
    return markdown(header, rows)


def settings(name: str, head: str, output_stride: int) -> dict[str, Any]:
    """The config of the model that the table shows for a variant."""
    stride = OWN_STRIDES.get(name, output_stride)
    light = head == "light" or name == "mobilenet_edgetpu" or (head == "usual" and name.startswith("mobilenet"))
    found: dict[str, Any] = {"model_variant": name, "output_stride": stride}
    if not light:
        factor = 16 / stride
        found |= {"atrous_rates": tuple(int(rate * factor) for rate in (6, 12, 18)), "decoder_output_stride": (4,)}
    return found


def head_name(config: Any) -> str:
    return "ASPP, decoder" if config.decoder_output_stride else "image pooling"


def published_table() -> str:
    """The Markdown table of the model zoo's figures beside ours."""
    import keras

    from deeplab.config.model_config import ModelConfig
    from deeplab.model import build_model

    rows = []
    for entry in console.progress(PUBLISHED, what="checkpoints", unit="model"):
        keras.utils.clear_session()
        model = build_model(ModelConfig(**entry.settings), entry.classes)
        ours = multiply_adds(model, entry.size) / 1e9
        zoo = entry.billions / 2 if entry.counts_both else entry.billions
        stated = f"{entry.billions:.2f}" + (" / 2" if entry.counts_both else "")
        difference = f"{100 * (ours / zoo - 1):+.1f} %"
        rows.append((entry.name, "x".join(map(str, entry.size)), f"{ours:.2f}", stated, difference))
    return markdown(("checkpoint", "image", "ours, B", "zoo, B", "difference"), rows) + "\n\n" + PUBLISHED_NOTE


def multiply_adds(model: Any, size: tuple[int, int]) -> int:
    """Multiply-adds of a Keras model with one input, for one image of a height and width."""
    import keras

    given = keras.KerasTensor((1, *size, model.inputs[0].shape[-1]))
    return _multiply_adds(model, given)


def _multiply_adds(model: Any, given: Any) -> int:
    import keras

    nodes = [operation._inbound_nodes[-1] for operation in model.operations]
    outputs = [node.output_tensors[0] for node in nodes]
    shapes = keras.Model(model.inputs, outputs).compute_output_spec(given)
    by_operation = dict(zip(model.operations, shapes, strict=True))
    total = 0
    for operation, node in zip(model.operations, nodes, strict=True):
        if isinstance(operation, keras.Model):
            total += _multiply_adds(operation, by_operation[node.parent_nodes[0].operation])
        elif isinstance(operation, keras.Layer):
            total += _kernel_sizes(operation) * math.prod(by_operation[operation].shape[1:-1])
    return total


def _kernel_sizes(layer: Any) -> int:
    """Weights of a layer that are multiplied at every position: all but biases and statistics."""
    return sum(math.prod(variable.shape) for variable in layer.weights if len(variable.shape) > 1)


def seconds_an_image(model: Any, size: int, rounds: int) -> float:
    """Median time of a forward pass of one image, compiled as a graph."""
    import numpy as np
    import tensorflow as tf

    run = tf.function(lambda image: model(image, training=False))
    image = tf.constant(np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32))
    run(image)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        next(iter(run(image).values())).numpy()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def markdown(header: tuple, rows: list[tuple]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


if __name__ == "__main__":
    main()
