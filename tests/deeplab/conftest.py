"""A small trained model, for all tests that start from a checkpoint."""

import pathlib

import pytest
from support import golden_recipe

CLASSES = ("ground", "disc", "square")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> pathlib.Path:
    """A training folder for `disc_records`: config.yml, and model.ckpt-7 of a narrow MobileNetV2, golden weights."""
    from deeplab.checkpoint import manager
    from deeplab.config import run_file
    from deeplab.config.model_config import ModelConfig
    from deeplab.model import build_model
    from slim.layers import variables_by_name

    folder = tmp_path_factory.mktemp("small_run")
    # Without image pooling and with 32 filters, these weights happen to predict all three classes.
    config = ModelConfig(depth_multiplier=0.25, aspp_convs_filters=32, add_image_level_feature=False)
    names = {name: tuple(v.shape) for name, v in variables_by_name(build_model(config, len(CLASSES))).items()}
    manager.save_step(folder, 7, {name: golden_recipe.weight(name, shape) for name, shape in names.items()})
    colors = [[0, 0, 0], [255, 0, 0], [0, 200, 0]]
    run_file.save(folder, [config], {"num_classes": 3, "class_names": list(CLASSES), "colors": colors})
    return folder


@pytest.fixture(scope="session")
def disc_pairs(disc_records) -> dict:
    """The images and labels of split val of `disc_records`, by name."""
    import io

    import numpy as np
    from PIL import Image

    from deeplab.data import records

    def pixels(data):
        return np.asarray(Image.open(io.BytesIO(data)))

    return {
        example[records.FILENAME].decode(): (pixels(example[records.IMAGE]), pixels(example[records.LABEL]))
        for example in records.read_shard(disc_records / records.shard_name("val", 0, 1))
    }


@pytest.fixture
def disc_images(disc_records):
    """Split val of `disc_records` for evaluation, each image at its own size."""
    from deeplab.config.model_config import ModelConfig
    from deeplab.data import dataset
    from deeplab.evaluation.split_images import SplitImages
    from deeplab.inference.prediction import PredictionSettings

    settings = PredictionSettings(ModelConfig(), crop_field="eval_crop_size")
    return SplitImages(dataset.find("", str(disc_records)), str(disc_records), "val", settings)
