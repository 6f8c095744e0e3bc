"""The settings of one training, all groups together."""

from __future__ import annotations

from dataclasses import dataclass

from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig


@dataclass(frozen=True)
class Settings:
    """Everything that one training is told, group by group."""

    model: ModelConfig
    resize: ResizeConfig
    dataset: DatasetConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    train: TrainConfig

    def groups(self) -> tuple:
        """The groups in the order of the help page."""
        return (self.train, self.dataset, self.model, self.loss, self.optimizer, self.resize)
