"""Models of other projects, rebuilt from their weights, give their logits."""

import pathlib
import re

import numpy as np
import pytest
from support.errors import raises
from support.foreign_weights import goldens, image, pixels, tensors, write_safetensors
from support.golden_models import zeros_for_random_values

import deeplab
from deeplab import checkpoint
from deeplab.checkpoint.foreign.sources import ImportedCheckpoint, markdown, recognize, sources
from deeplab.checkpoint.restore import restore
from deeplab.config.fields import coerce, fields_of, make
from deeplab.config.model_config import ModelConfig
from deeplab.data import dataset as datasets
from deeplab.model import MERGED_LOGITS, build_model
from deeplab.model.resize import fitting_size, size_stride
from slim import kernels
from slim.layers import variables_by_name


class TensorsInMemory:
    """Tensors of a model as a file would give them."""

    path = "weights.pth"

    def __init__(self, shapes, dilation_rates=None):
        self.dilation_rates = dilation_rates or {}
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.has_our_axes = any("/" in name for name in shapes)  # Keras' names
        self._values = tensors(self.shapes)

    def array(self, name):
        return self._values[name]


def config_of(imported: ImportedCheckpoint) -> ModelConfig:
    fields = fields_of([ModelConfig])
    own = {name: coerce(fields[name][0], ModelConfig, v) for name, v in imported.config.items() if name in fields}
    return make(ModelConfig, own)


@pytest.mark.parametrize("name", sorted(goldens()))
def test_logits_equal_those_of_the_original(name):
    golden = goldens()[name]
    file = TensorsInMemory(golden["shapes"], golden.get("dilation_rates"))
    imported = ImportedCheckpoint(file, recognize(file.shapes, file.path))
    assert name == imported.source.name or name.startswith(f"{imported.source.name}_")
    config = config_of(imported)
    height, width = golden["size"]
    assert fitting_size((height, width), size_stride(config)) == (height, width)
    with zeros_for_random_values():
        model = build_model(config, imported.shapes["logits/semantic/weights"][-1], train_batch_norm=False)
    report = restore(variables_by_name(model), imported, require_all=True)
    assert not report.unused
    logits = model(image(height, width)[np.newaxis].astype(np.float32))[MERGED_LOGITS]
    ours = pixels(np.asarray(kernels.resize_bilinear(logits, height, width, config.align_corners)[0]))
    theirs = np.array(golden["logits"])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * theirs.std())


def test_settings_and_classes_come_with_the_weights(tmp_path):
    shapes = goldens()["torchvision_mobilenet_v3_large"]["shapes"]
    path = tmp_path / "deeplabv3_mobilenet_v3_large.safetensors"
    write_safetensors(path, tensors(shapes))
    opened = checkpoint.open(path)
    assert opened.config["class_names"] == list(datasets.find("pascal_voc_seg").class_names)
    assert opened.config["model_variant"] == "mobilenet_v3_large" and opened.config["dilation"] == "with"
    assert "`align_corners=false`" in opened.setting_texts() and "MobileNetV3" in opened.remark
    kernel = opened.array("aspp1/weights")
    assert kernel.shape == opened.shapes["aspp1/weights"] == (3, 3, 960, 256)
    original = tensors(shapes)["classifier.0.convs.1.0.weight"]
    np.testing.assert_array_equal(kernel, original.transpose(2, 3, 1, 0))


@pytest.fixture(scope="module")
def huggingface_folder(tmp_path_factory):
    """A repository of the Hugging Face hub, as it is after a download."""
    folder = tmp_path_factory.mktemp("deeplabv3_mobilenet_v2_1.0_513")
    shapes = goldens()["huggingface_mobilenet_v2"]["shapes"]
    write_safetensors(folder / "model.safetensors", tensors(shapes))
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_of_weights_predicts_with_the_logits_and_classes_of_the_original(huggingface_folder, capsys):
    golden = goldens()["huggingface_mobilenet_v2"]
    segmenter = deeplab.Segmenter(huggingface_folder)
    assert segmenter.class_names[:2] == ("background", "aeroplane")
    said = capsys.readouterr().err
    assert "Hugging Face" in said and "output_stride" in said
    labels = segmenter(image(*golden["size"])).labels
    np.testing.assert_array_equal(pixels(labels[..., np.newaxis])[..., 0], np.argmax(golden["logits"], -1))


def test_training_for_other_classes_takes_all_but_the_classifier(huggingface_folder, capsys):
    path = huggingface_folder / "model.safetensors"
    with zeros_for_random_values():
        model = deeplab.create_model("mobilenet_v2", 4, weights=path, output_stride=8)
    said = capsys.readouterr().err
    assert "logits/semantic/weights: model 1x1x256x4, checkpoint 1x1x256x21" in said
    kernel = variables_by_name(model)["image_pooling/weights"]
    np.testing.assert_array_equal(kernel, checkpoint.open(path).array("image_pooling/weights"))


def test_weights_of_another_network_are_refused():
    with raises("unknown-weights", where="other.pth") as info:
        recognize({"encoder.weight": (3, 3), "head.bias": (3,)}, "other.pth")
    assert "encoder.weight" in info.value.rule and "torchvision" in info.value.hint


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["subpixel/kernel", "concat_projection/kernel"], "use_subpixel"),
        (["bbn_features_stemblock_stem1_conv/kernel", "conv_upsample/kernel"], "PeleeNet"),
        (["blocks_0_0_ghost1_primary_conv_0/kernel", "conv_upsample/kernel"], "GhostNet"),
        (["transformer_0_LN1/gamma", "conv_upsample/kernel"], "MobileViT"),
        (["layers/0"], "names of their layers"),
    ],
    ids=["subpixel", "PeleeNet", "GhostNet", "MobileViT", "nameless"],
)
def test_models_that_cannot_be_built_here_are_refused_with_the_reason(names, reason):
    with raises("unsupported-weights", where="weights.h5") as info:
        recognize(dict.fromkeys(names, (1,)), "weights.h5")
    assert reason in info.value.rule


def test_the_output_stride_comes_from_the_dilation_where_the_file_tells_it():
    golden = goldens()["david8862_resnet50_os8"]
    settings = [
        (imported.config["output_stride"], imported.config["atrous_rates"])
        for rates in (golden["dilation_rates"], {"res5c_branch2b": 1}, {})
        for file in [TensorsInMemory(golden["shapes"], rates)]
        for imported in [ImportedCheckpoint(file, recognize(file.shapes, file.path))]
    ]
    assert settings == [(8, [12, 24, 36]), (32, [3, 6, 9]), (16, [6, 12, 18])]


def test_the_hint_for_a_model_of_other_settings_names_those_of_the_weights():
    file = TensorsInMemory(goldens()["torchvision_mobilenet_v3_large"]["shapes"])
    imported = ImportedCheckpoint(file, recognize(file.shapes, file.path))
    variables = {"xception_65/entry_flow/conv1_1/weights": np.zeros((3, 3, 3, 32))}
    with raises("checkpoint-mismatch", where=file.path) as info:
        restore(variables, imported)
    assert "`model_variant=mobilenet_v3_large`" in info.value.hint and "`dilation=with`" in info.value.hint


@pytest.mark.parametrize("source", sources().values(), ids=lambda source: source.name)
def test_every_source_is_described_by_valid_data(source):
    fields = fields_of([ModelConfig])
    make(ModelConfig, {name: coerce(fields[name][0], ModelConfig, v) for name, v in source.settings.items()})
    assert all(datasets.find(name).num_classes == number for number, name in source.classes.items())
    for pattern in (*source.has, *source.lacks, *source.maps, *source.rolled, *source.scaled):
        re.compile(pattern.replace("{scope}", source.scope))
    assert source.scope == "" or any("{scope}" in target for target in source.maps.values())


def test_the_docs_show_every_source_with_its_flags():
    assert markdown() in (pathlib.Path(__file__).parents[4] / "docs" / "starting_points.md").read_text(encoding="utf-8")
