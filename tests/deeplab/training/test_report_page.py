"""The report page without evaluations, and with texts that HTML would take for its own."""

import dataclasses

from support.callback_battery import DATASET, make_state

from deeplab.config.data_config import DatasetConfig, ResizeConfig
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig
from deeplab.training import report_page
from deeplab.training.setup import TrainingConfigs


def state_in(folder, dataset=DATASET):
    state = make_state(folder, step=6)
    state.dataset = dataset
    data = DatasetConfig(dataset_dir="records")
    state.configs = TrainingConfigs(ModelConfig(), ResizeConfig(), data, LossConfig(), OptimizerConfig(), state.config)
    return state


def test_a_training_without_evaluations_has_a_report(tmp_path):
    page = report_page.page(state_in(tmp_path), 90.0, 6)
    assert "The training was not evaluated" in page and "01:30" in page and "images</h2>" not in page


def test_class_names_are_escaped(tmp_path):
    dataset = dataclasses.replace(DATASET, class_names=("<script>alert(1)</script>", "a&b", "ok"))
    page = report_page.page(state_in(tmp_path, dataset), 1.0, 6)
    assert "<script>" not in page and "&lt;script&gt;" in page and "a&amp;b" in page


def test_only_settings_that_differ_are_listed(tmp_path):
    groups = dict(report_page.settings_rows(state_in(tmp_path)))
    assert ("training_number_of_steps", "6") in groups["Train"] and ("dataset_dir", "records") in groups["Dataset"]
    assert "Model" not in groups
