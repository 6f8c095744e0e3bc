"""A small dataset, and configs of a training on it."""

from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig
from deeplab.data.dataset import Dataset
from deeplab.training.setup import TrainingConfigs

DATASET = Dataset("discs", ("ground", "disc", "square"), splits={"train": 12, "val": 4})


def make_configs(folder="run", *, loss=None, data="records", **train):
    train = {"train_crop_size": (33, 33), "train_batch_size": 12, **train}
    return TrainingConfigs(
        ModelConfig(),
        ResizeConfig(),
        DatasetConfig("", str(data)),
        loss or LossConfig(),
        OptimizerConfig(),
        TrainConfig(str(folder), **train),
    )
