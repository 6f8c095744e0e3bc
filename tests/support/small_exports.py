"""A narrow model with golden weights, and functions that export it and run the graph."""

import dataclasses

import numpy as np
import tensorflow as tf

from deeplab.config.export_config import ExportConfig
from deeplab.config.model_config import ModelConfig
from deeplab.export.formats import frozen_graph
from deeplab.export.freeze import freeze
from deeplab.inference.prediction import PredictionSettings
from deeplab.inference.predictor import ModelPredictor
from deeplab.inference.simulated_int8 import calibrate
from deeplab.model import build_model
from slim.layers import variables_by_name
from support import golden_recipe
from support.golden_models import zeros_for_random_values

NARROW = ModelConfig(
    depth_multiplier=0.25, atrous_rates=(2,), decoder_output_stride=(4,), aspp_convs_filters=32, decoder_filters=32
)


def make_network(config: ModelConfig = NARROW, num_classes: int = 4) -> ModelPredictor:
    """A model whose weights are those of the golden recipe."""
    with zeros_for_random_values():
        model = build_model(config, num_classes)
    live_model = ModelPredictor(model, PredictionSettings(config), num_classes, "made/model.ckpt-3", 3)
    for name, variable in variables_by_name(live_model.model).items():
        variable.assign(golden_recipe.weight(name, tuple(variable.shape)))
    return live_model


def make_quantized_network(pixels: np.ndarray) -> ModelPredictor:
    """The narrow model with fake quantization, its ranges from an image, uint8 [H, W, C]; several classes."""
    config = dataclasses.replace(NARROW, quantize_delay_step=0, quantize_weights="per_channel")
    live_model = make_network(config)
    calibrate(live_model.model, [pixels], make_settings(config))
    logits = np.asarray(live_model.logits_of(pixels[np.newaxis].astype(np.float32)))
    biases = variables_by_name(live_model.model)["logits/semantic/biases"]
    biases.assign(np.asarray(biases) - np.median(logits, axis=(0, 1, 2)))
    calibrate(live_model.model, [pixels], make_settings(config))
    return live_model


def make_balanced_network(pixels: np.ndarray) -> ModelPredictor:
    """The narrow model with biases by which it predicts several classes on an image, uint8 [H, W, C]."""
    live_model = make_network()
    logits = np.asarray(live_model.logits_of(pixels[np.newaxis].astype(np.float32)))
    biases = variables_by_name(live_model.model)["logits/semantic/biases"]
    biases.assign(np.asarray(biases) - np.median(logits, axis=(0, 1, 2)))
    return live_model


def make_network_beyond_a_byte(pixels: np.ndarray) -> ModelPredictor:
    """The narrow network with 300 classes, which predicts several from 256 up on an image, uint8 [H, W, C]."""
    network = make_network(num_classes=300)
    logits = np.asarray(network.logits_of(pixels[np.newaxis].astype(np.float32)))
    biases = variables_by_name(network.model)["logits/semantic/biases"]
    chosen = np.asarray(biases) - np.median(logits, axis=(0, 1, 2))
    chosen[:256] -= 100
    biases.assign(chosen)
    return network


def make_settings(config: ModelConfig = NARROW, crop=(65, 97), **others) -> PredictionSettings:
    return PredictionSettings(config, crop_size=crop, may_outgrow_crop=True, **others)


def make_graph(
    live_model: ModelPredictor, settings: PredictionSettings, folded: bool = True, **config
) -> tf.compat.v1.GraphDef:
    with zeros_for_random_values():
        frozen = freeze(live_model, settings, folded)
    config = ExportConfig(checkpoint_path="made/model.ckpt-3", export_path="made", **config)
    return frozen_graph.graph_definition(dataclasses.replace(frozen, config=config))


# Operations of graphs whose sizes are only known when they run, or that pad, cut or choose.
DYNAMIC = {
    *("Shape", "ShapeN", "Size", "Rank", "Slice", "Pad", "PadV2", "MirrorPad", "Fill", "BroadcastTo", "Range"),
    *("Assert", "Select", "SelectV2", "Where", "Switch", "Merge", "GreaterEqual", "LessEqual", "FloorMod"),
}


def run_graph(definition, image, names=frozen_graph.OUTPUTS) -> dict[str, np.ndarray]:
    """Answers of a graph, by name, to uint8 [1, H, W, C], in a session of TensorFlow 1's kind."""
    copy = tf.compat.v1.GraphDef.FromString(definition.SerializeToString())
    with tf.Graph().as_default() as graph:
        tf.compat.v1.import_graph_def(copy, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return session.run({name: f"{name}:0" for name in names}, {"ImageTensor:0": image})
