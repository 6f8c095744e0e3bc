"""Makes `foreign_logits.json.gz`: logits of networks of other projects, computed by their own code.

Run it from this repository's root where those projects can be imported; it adds or replaces the named networks:

    python tests/golden/make_foreign_logits.py --sources=DIR torchvision_resnet50 vainf_deeplabv3plus_resnet50 ...

DIR holds checkouts of VainF/DeepLabV3Plus-Pytorch (4e1087d), jfzhang95/pytorch-deeplab-xception (9135e10),
bonlime/keras-deeplab-v3-plus and david8862/tf-keras-deeplabv3p-model-set (80b77d9, which needs tf_keras,
keras_applications and TF_USE_LEGACY_KERAS=1). Networks get the weights of
`tests/support/foreign_weights.py`; images are normalized as in each project. Stored: names and shapes of the tensors,
the layers' dilation rates where a file has them, and the logits at nine pixels.
"""

import argparse
import gzip
import json
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from tests.support.foreign_weights import GOLDEN, goldens, image, pixels, value

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
ANY_SIZE, ALIGNED_SIZE, EVEN_SIZE = (40, 52), (49, 65), (64, 96)


def run_torch(model, size, mean=IMAGENET[0], std=IMAGENET[1], output=lambda found: found):
    """The state dict's shapes, and logits [H, W, classes] of a PyTorch model with weights by the formula."""
    import torch

    state = {name: torch.from_numpy(value(name, tuple(each.shape))) for name, each in model.state_dict().items()}
    model.load_state_dict(state)
    scaled = (image(*size) / 255.0 - np.array(mean)) / np.array(std)
    with torch.no_grad():
        logits = output(model.eval()(torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)[None]))
    return {name: list(each.shape) for name, each in state.items()}, logits[0].permute(1, 2, 0).numpy()


def without_torchvision_operations():
    """Lets torchvision be imported where its own operations, which are not needed here, are missing."""
    import torch

    real = torch.library.register_fake

    def register_fake(operation, *args, **kwargs):
        is_own = isinstance(operation, str) and operation.startswith("torchvision::")
        return (lambda function: function) if is_own else real(operation, *args, **kwargs)

    torch.library.register_fake = register_fake


def torchvision(name, **options):
    without_torchvision_operations()
    from torchvision.models import segmentation

    model = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=21, **options)
    return run_torch(model, ANY_SIZE, output=lambda found: found["out"])


def huggingface():
    without_torchvision_operations()
    import torch
    from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

    def enlarged(found):  # as the model's `post_process_semantic_segmentation`, but with the corners of its training
        return torch.nn.functional.interpolate(found.logits, ALIGNED_SIZE, mode="bilinear", align_corners=True)

    config = MobileNetV2Config(output_stride=8, num_labels=21, image_size=513)
    half = [0.5] * 3
    return run_torch(MobileNetV2ForSemanticSegmentation(config), ALIGNED_SIZE, half, half, enlarged)


def vainf(sources, name, output_stride):
    sys.path.insert(0, str(sources / "VainF+DeepLabV3Plus-Pytorch"))
    from network import modeling

    model = getattr(modeling, name)(num_classes=21, output_stride=output_stride, pretrained_backbone=False)
    return run_torch(model, ANY_SIZE)


def jfzhang95(sources, backbone, output_stride=16):
    sys.path.insert(0, str(sources / "jfzhang95+pytorch-deeplab-xception"))
    from modeling import deeplab
    from torch.utils import model_zoo

    model_zoo.load_url = lambda _, **__: {"fc.weight": 0, "fc.bias": 0}
    from modeling.backbone.drn import DRN

    DRN.load_state_dict = lambda *_: None  # of the weights that are not downloaded
    model = deeplab.DeepLab(backbone, output_stride, num_classes=21, sync_bn=False)
    del DRN.load_state_dict
    return run_torch(model, ALIGNED_SIZE)


def run_keras(model, size):
    """The weights' shapes, and logits [H, W, classes] of a Keras model with weights by the formula."""
    shapes = {}
    for layer in model.layers:
        for weight in layer.weights:
            name = f"{layer.name}/{weight.path.rpartition('/')[2]}"
            shapes[name] = list(weight.shape)
            weight.assign(value(name, tuple(weight.shape)))
    logits = model(image(*size)[np.newaxis].astype(np.float32) / 127.5 - 1, training=False)
    return shapes, np.asarray(logits)[0]


def aligned_resize(height, width, **_):
    import keras
    import tensorflow as tf

    return keras.layers.Lambda(
        lambda maps: tf.compat.v1.image.resize_bilinear(maps, (height, width), align_corners=True),
        output_shape=lambda shape: (shape[0], height, width, shape[3]),
    )


def bonlime(sources, backbone):
    """Its resizing as in the releases that the weights belong to: with aligned corners."""
    import keras

    text = (sources / "bonlime+keras-deeplab-v3-plus" / "model.py").read_text()
    text = "\n".join(line for line in text.splitlines() if "keras.utils" not in line and "imagenet_utils" not in line)
    for old, new in (
        ("tensorflow.python.keras", "keras"),
        (".shape[-1].value", ".shape[-1]"),
        ("shape_before = tf.shape(x)", ""),
        ("tf.keras.backend.int_shape(", "tuple_of("),
        ("tf.keras.layers.experimental.preprocessing.Resizing", "aligned_resize"),
    ):
        text = text.replace(old, new)
    names = {"aligned_resize": aligned_resize, "tuple_of": lambda tensor: tuple(tensor.shape), "keras": keras}
    exec(compile(text, "model.py", "exec"), names)  # the project's own code, made to run in Keras 3
    return run_keras(names["Deeplabv3"](None, input_shape=(*ALIGNED_SIZE, 3), backbone=backbone), ALIGNED_SIZE)


def david8862(sources, kind, output_stride=16):
    """The model before its softmax, built for one size as its training does, without weights from the internet."""
    import functools

    import tensorflow as tf

    sys.path.insert(0, str(sources / "david8862+tf-keras-deeplabv3p-model-set"))
    from deeplabv3p import model as project

    project.deeplab_model_map[kind] = functools.partial(project.deeplab_model_map[kind], weights=None)
    whole = project.get_deeplabv3p_model(kind, 21, EVEN_SIZE, output_stride, training=False)
    weights = {
        f"{layer.name}/{each.name.rpartition('/')[2][:-2]}": each for layer in whole.layers for each in layer.weights
    }
    for name, each in weights.items():
        each.assign(value(name, tuple(each.shape)))
    model = tf.keras.Model(whole.input, whole.layers[-2].output)
    logits = model(image(*EVEN_SIZE)[np.newaxis].astype(np.float32) / 127.5 - 1, training=False)
    dilated = {layer.name: int(layer.dilation_rate[0]) for layer in whole.layers if hasattr(layer, "dilation_rate")}
    return {name: list(each.shape) for name, each in weights.items()}, np.asarray(logits)[0], dilated


NETWORKS = {
    "david8862_mobilenetv2": lambda sources: david8862(sources, "mobilenetv2"),
    "david8862_mobilenetv2_lite": lambda sources: david8862(sources, "mobilenetv2_lite"),
    "david8862_mobilenetv3large": lambda sources: david8862(sources, "mobilenetv3large"),
    "david8862_mobilenetv3large_lite_os8": lambda sources: david8862(sources, "mobilenetv3large_lite", 8),
    "david8862_mobilenetv3small": lambda sources: david8862(sources, "mobilenetv3small"),
    "david8862_mobilenetv3small_lite": lambda sources: david8862(sources, "mobilenetv3small_lite"),
    "david8862_xception": lambda sources: david8862(sources, "xception"),
    "david8862_resnet50_os8": lambda sources: david8862(sources, "resnet50", 8),
    "bonlime_xception": lambda sources: bonlime(sources, "xception"),
    "bonlime_mobilenetv2": lambda sources: bonlime(sources, "mobilenetv2"),
    "torchvision_resnet50": lambda _: torchvision("deeplabv3_resnet50", aux_loss=True),
    "torchvision_mobilenet_v3_large": lambda _: torchvision("deeplabv3_mobilenet_v3_large", aux_loss=True),
    "huggingface_mobilenet_v2": lambda _: huggingface(),
    "vainf_deeplabv3_resnet50": lambda sources: vainf(sources, "deeplabv3_resnet50", 16),
    "vainf_deeplabv3plus_resnet101": lambda sources: vainf(sources, "deeplabv3plus_resnet101", 16),
    "vainf_deeplabv3_mobilenet": lambda sources: vainf(sources, "deeplabv3_mobilenet", 16),
    "vainf_deeplabv3plus_mobilenet": lambda sources: vainf(sources, "deeplabv3plus_mobilenet", 16),
    "jfzhang95_resnet101": lambda sources: jfzhang95(sources, "resnet"),
    "jfzhang95_mobilenet": lambda sources: jfzhang95(sources, "mobilenet"),
    "jfzhang95_drn": lambda sources: jfzhang95(sources, "drn"),
    "jfzhang95_xception": lambda sources: jfzhang95(sources, "xception"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sources", type=pathlib.Path)
    parser.add_argument("networks", nargs="+", choices=NETWORKS)
    arguments = parser.parse_args()
    for name in arguments.networks:
        shapes, logits, *dilated = NETWORKS[name](arguments.sources)
        found = goldens() if GOLDEN.exists() else {}
        size = list(logits.shape[:2])
        found[name] = {"shapes": shapes, "size": size, "logits": np.round(pixels(logits), 5).tolist()}
        if dilated:
            found[name]["dilation_rates"] = {layer: rate for layer, rate in dilated[0].items() if rate > 1}
        GOLDEN.write_bytes(gzip.compress(json.dumps(found, sort_keys=True).encode(), mtime=0))
        print(f"{name}: {len(shapes)} tensors, {logits.shape}, standard deviation {logits.std():.3f}")


if __name__ == "__main__":
    main()
