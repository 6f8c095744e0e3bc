"""The names that `deeplab.__all__` promises, and the functions behind them."""

import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from PIL import Image
from support import golden_recipe
from support.errors import raises

import deeplab
from slim.layers import variables_by_name

ROOT = pathlib.Path(deeplab.__file__).parents[1]
SMALL = {"depth_multiplier": 0.25, "atrous_rates": (2,), "aspp_convs_filters": 16}


@pytest.fixture(scope="module")
def model():
    """A small model with golden weights and three classes."""
    model = deeplab.create_model("mobilenet_v2", 3, class_names=("ground", "disc", "square"), **SMALL)
    for name, variable in variables_by_name(model).items():
        variable.assign(golden_recipe.weight(name, tuple(variable.shape)))
    return model


# ---- the package ---------------------------------------------------------------------------------------


def test_importing_it_imports_neither_tensorflow_nor_keras():
    code = "import sys, deeplab; dir(deeplab); print([n for n in ('tensorflow', 'keras', 'numpy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", deeplab.__all__)
def test_every_promised_name_exists_and_is_explained(name):
    value = getattr(deeplab, name)
    assert name in dir(deeplab)
    assert isinstance(value, str) or value.__doc__


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="segmenter"):
        deeplab.segmenter  # noqa: B018


# ---- create_model --------------------------------------------------------------------------------------


def test_a_model_has_one_output_of_logits_at_the_images_size(model):
    assert isinstance(model, keras.Model) and isinstance(model, deeplab.SegmentationModel)
    assert model.input_shape == (None, None, None, 3) and model.output_shape == (None, None, None, 3)
    assert model(np.zeros((1, 50, 70, 3), np.float32)).shape == (1, 50, 70, 3)
    assert model.config.atrous_rates == (2,) and model.config.model_variant == "mobilenet_v2"


def test_settings_are_checked_by_name_and_value():
    with raises("unknown-name") as error:
        deeplab.create_model("mobilenet_v2", 3, atrous_rate=(6,))
    assert "'atrous_rates'" in error.value.hint and error.value.value == "atrous_rate"
    with pytest.raises(deeplab.UserError) as error:
        deeplab.create_model("mobilenet_v9", 3)
    assert error.value.field == "model_variant"


def test_weights_come_from_a_checkpoint_and_a_table_tells_what_fits(small_run, capsys):
    settings = {"depth_multiplier": 0.25, "aspp_convs_filters": 32, "add_image_level_feature": False}
    model = deeplab.create_model("mobilenet_v2", 5, weights=small_run, **settings)
    variables = variables_by_name(model)
    name = "MobilenetV2/Conv/weights"
    np.testing.assert_array_equal(variables[name], golden_recipe.weight(name, tuple(variables[name].shape)))
    printed = capsys.readouterr().err
    assert "shape differs" in printed and "logits/semantic/weights: model 1x1x32x5, checkpoint 1x1x32x3" in printed
    with raises("checkpoint-mismatch", where=small_run):
        deeplab.create_model("xception_41", 3, weights=small_run)


def test_imagenet_weights_are_found_by_backbone_and_width(monkeypatch, tmp_path):
    from deeplab.checkpoint import manager, zoo

    names = variables_by_name(deeplab.create_model("mobilenet_v2", 3, **SMALL))
    values = {n: golden_recipe.weight(n, tuple(v.shape)) for n, v in names.items() if n.startswith("MobilenetV2")}
    prefix = manager.save_step(tmp_path, 0, values)
    flags = {"model_variant": "mobilenet_v2", "depth_multiplier": 0.25}
    entry = zoo.Entry("narrow", "", "ImageNet", "", flags)
    monkeypatch.setattr(zoo, "entries", lambda: {"narrow": entry})
    monkeypatch.setattr(zoo, "fetch", {"zoo:narrow": prefix}.__getitem__)
    model = deeplab.create_model("mobilenet_v2", 3, weights="imagenet", **SMALL)
    for name, value in values.items():
        np.testing.assert_array_equal(variables_by_name(model)[name], value)
    with raises("no-imagenet-weights"):
        deeplab.create_model("mobilenet_v2", 3, weights="imagenet", depth_multiplier=0.5)


# ---- load_dataset --------------------------------------------------------------------------------------


def test_a_dataset_is_a_folder_with_a_description(disc_records, tmp_path):
    data = deeplab.load_dataset(disc_records)
    assert data.class_names == ("ground", "disc", "square") and data.splits["val"] == 4
    with raises("file-not-found", where=tmp_path / "dataset.yml"):
        deeplab.load_dataset(tmp_path)


# ---- export --------------------------------------------------------------------------------------------


def test_a_model_is_exported_and_its_files_predict_the_same(model, tmp_path):
    exported = deeplab.export(model, tmp_path, formats=["frozen_graph"], crop_size=65, parity_images=1)
    assert exported.paths[0] == str(tmp_path / "frozen_inference_graph.pb")
    assert all(one.holds for one in exported.parity["frozen_inference_graph.pb"])
    assert deeplab.Segmenter(tmp_path).class_names == model.class_names


def test_a_checkpoint_is_exported(small_run, tmp_path):
    exported = deeplab.export(small_run, tmp_path / "small.pb", ["frozen_graph"], crop_size=(65, 65), parity_images=1)
    assert exported.paths[0] == str(tmp_path / "small.pb")
    assert (tmp_path / "labels.txt").read_text() == "ground\ndisc\nsquare\n"


def test_export_settings_are_checked(model, tmp_path):
    with raises("unknown-name", field="formats"):
        deeplab.export(model, tmp_path, ["frozen_grpah"])
    with raises("unknown-name") as error:
        deeplab.export(model, tmp_path, output_stride=8)  # the model has one already
    assert error.value.value == "output_stride"


# ---- load_model, evaluate ------------------------------------------------------------------------------


def test_a_checkpoint_is_loaded_as_a_keras_model_that_predicts_the_same(small_run):
    model = deeplab.load_model(small_run)
    assert isinstance(model, deeplab.SegmentationModel)
    assert (model.class_names, model.colors[1]) == (("ground", "disc", "square"), (255, 0, 0))
    pixels = golden_recipe.image(48, 64)[0]
    expected, found = (deeplab.Segmenter(one)(pixels) for one in (small_run, model))
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert found.labels.max() > 0


def test_keras_files_are_loaded_and_exported_graphs_are_not(model, tmp_path):
    model.save(tmp_path / "m.keras")
    loaded = deeplab.load_model(tmp_path / "m.keras")
    pixels = golden_recipe.image(33, 49).astype(np.float32)
    np.testing.assert_array_equal(loaded(pixels), model(pixels))
    deeplab.export(model, tmp_path / "m.pb", ["frozen_graph"], crop_size=65, parity_images=1)
    with raises("not-a-keras-model", where=tmp_path / "m.pb"):
        deeplab.load_model(tmp_path / "m.pb")


def test_a_model_and_its_checkpoint_have_the_same_report(small_run, disc_records, tmp_path):
    data = deeplab.load_dataset(disc_records)
    live, stored = (deeplab.evaluate(one, data) for one in (deeplab.load_model(small_run), small_run))
    np.testing.assert_array_equal(live.counts, stored.counts)
    assert live.num_images == 4 and 0 < live.mean_iou < 1 and live.mean_iou == live.overall()["mean_iou"]
    live.save(tmp_path / "report")
    assert (tmp_path / "report" / "metrics.json").is_file()
    padded = deeplab.evaluate(small_run, disc_records, "train", crop_size=(65, 65), eval_scales=(0.5, 1.0))
    assert padded.num_images == 12 and padded.passes == "0.5_1.0"


# ---- the examples --------------------------------------------------------------------------------------


@pytest.fixture
def user_folder(disc_records, small_run, tmp_path, monkeypatch):
    """A folder with the files that the examples use, in small, and the model zoo's checkpoint."""
    from deeplab.checkpoint import manager, zoo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPLAB_CACHE", str(tmp_path / "cache"))
    shutil.copytree(disc_records, "data/tfrecord")
    shutil.copytree(small_run, "runs/mine/train")
    Image.fromarray(golden_recipe.image(48, 64)[0]).save("photo.jpg")
    entry = zoo.find("mobilenetv2_dm05_coco_voc_trainaug")
    published = variables_by_name(deeplab.create_model("mobilenet_v2", 21, depth_multiplier=0.5))
    folder = pathlib.Path(zoo.cache_folder(), entry.name)
    values = {name: golden_recipe.weight(name, tuple(variable.shape)) for name, variable in published.items()}
    manager.save_step(folder, 0, values)
    (folder / "config.yml").write_text(zoo.settings_text(entry))
    deeplab.export(small_run, "runs/mine/export", ["frozen_graph"], crop_size=65, parity_images=1)


def small(code: str) -> str:
    """An example with smaller images and models, and one step."""
    replaced = {
        "257": "65",
        "depth_multiplier=0.5": "depth_multiplier=0.5, aspp_convs_filters=16, decoder_filters=16",
        'data.splits["train"] // 4': "1",
        '["frozen_graph"])': '["frozen_graph"], crop_size=65)',
    }
    for text, other in replaced.items():
        code = code.replace(text, other)
    return code


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/python_api.md", "README.md"])
def test_examples_run(page, user_folder, capsys):
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) or [
        textwrap.dedent(re.search(r"## From Python\n\n((?:    .*\n|\n)+)", text)[1])
    ]
    variables: dict = {}
    for block in blocks:
        exec(compile(small(block), page, "exec"), variables)
    result = variables["result"]
    assert result.labels.shape == (48, 64) and result.overlay().shape == (48, 64, 3)
    assert pathlib.Path("masks" if page.startswith("docs") else "masks_out", "mask", "photo.png").is_file()
    if page.startswith("docs"):
        assert variables["logits"].shape == (4, 65, 65, 3)
        assert "output_stride 5" in capsys.readouterr().out
