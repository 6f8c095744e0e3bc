"""Where a training starts: what is resumed, what is refused, and which changes are allowed."""

import dataclasses

import numpy as np
import pytest
from support.errors import raises
from support.training_configs import DATASET, make_configs

from deeplab.checkpoint.manager import save_step
from deeplab.config.model_config import ModelConfig
from deeplab.config.training_config import TrainConfig
from deeplab.training import setup
from deeplab.training.setup import Prepared
from deeplab.training.starting_point import find_start, require_initial_weights


@pytest.fixture
def begun(tmp_path):
    """Makes a folder whose training has reached a step."""

    def begin(step=3, configs=None, dataset=DATASET, seed=5):
        save_step(tmp_path, step, {"Conv/weights": np.ones(2, np.float32)})
        setup.save_config(configs or make_configs(tmp_path), Prepared(dataset, [], seed, None))
        return tmp_path

    return begin


class TestStart:
    def test_an_empty_folder_starts_with_the_wanted_seed(self, tmp_path):
        assert find_start(make_configs(tmp_path, random_seed=7), DATASET) == (None, 7, ())
        drawn = {find_start(make_configs(tmp_path), DATASET)[1] for _ in range(5)}
        assert len(drawn) == 5

    def test_the_same_command_resumes_with_the_seed_it_began_with(self, begun):
        resumed, seed, _ = find_start(make_configs(begun()), DATASET)
        assert (resumed.step, seed) == (3, 5)

    def test_another_config_is_refused_and_the_way_to_keep_the_weights_named(self, begun):
        folder = begun()
        configs = make_configs(folder, train_batch_size=4, min_scale_factor=0.75)
        with raises("changed-config", where=folder) as caught:
            find_start(configs, DATASET)
        assert caught.value.value == (
            "`train_batch_size`: was 12, is 4",
            "`min_scale_factor`: was 0.5, is 0.75",
        )
        assert f"`train_logdir=NEW` `tf_initial_checkpoint={folder}`" in caught.value.hint

    def test_what_a_field_declares_resumable_may_change(self, begun):
        configs = make_configs(begun(), training_number_of_steps=99, log_steps=3, tf_initial_checkpoint="other")
        assert find_start(configs, DATASET)[0].step == 3

    def test_another_seed_is_not_ignored(self, begun):
        folder = begun()
        with raises("changed-config", where=folder) as caught:
            find_start(make_configs(folder, random_seed=6), DATASET)
        assert caught.value.value == ("`random_seed`: was 5, is 6",)
        assert find_start(make_configs(folder, random_seed=5), DATASET)[1] == 5

    def test_nothing_is_learned_at_step_0_so_another_config_starts_again(self, begun, capsys):
        folder = begun(step=0)
        assert find_start(make_configs(folder, train_batch_size=2, random_seed=9), DATASET) == (None, 9, ())
        assert "at step 0" in capsys.readouterr().err
        resumed, seed, _ = find_start(make_configs(folder), DATASET)
        assert (resumed.step, seed) == (0, 5)


class TestDataset:
    @pytest.mark.parametrize(
        "changes",
        [
            {"class_names": ("void", "road", "hair")},
            {"class_names": ("ground", "disc")},
            {"ignore_label": 0},
            {"splits": {"train": 13}},
        ],
    )
    def test_another_one_is_refused(self, begun, changes):
        folder, other = begun(), dataclasses.replace(DATASET, **changes)
        before = (folder / "config.yml").read_text()
        with raises("other-dataset", "dataset_dir") as caught:
            find_start(make_configs(folder, data="elsewhere"), other)
        assert f"`tf_initial_checkpoint={folder}`" in caught.value.hint
        assert (folder / "config.yml").read_text() == before

    def test_the_same_one_in_another_place_is_welcome(self, begun):
        moved = dataclasses.replace(DATASET, name="other name", colors=((0, 0, 0),) * 3)
        assert find_start(make_configs(begun(), data="elsewhere"), moved)[0].step == 3
        unknown = dataclasses.replace(DATASET, splits={})
        assert find_start(make_configs(begun(), data="elsewhere"), unknown)[0].step == 3


class TestInitialWeights:
    def test_a_wrong_path_shows_at_once(self):
        with raises("checkpoint-not-found", where="nowhere"):
            require_initial_weights(TrainConfig("run", tf_initial_checkpoint="nowhere/model.ckpt"))

    def test_frozen_statistics_of_random_weights_are_warned_of(self, capsys):
        require_initial_weights(TrainConfig("run", fine_tune_batch_norm=False))
        said = capsys.readouterr().err
        assert "warning" in said and "fine_tune_batch_norm" in said and "tf_initial_checkpoint" in said
        require_initial_weights(TrainConfig("run", fine_tune_batch_norm=False, tf_initial_checkpoint="imagenet"))
        assert capsys.readouterr().err == ""


class TestChangesOnPurpose:
    def test_a_named_setting_may_change_and_is_noted_with_its_step(self, begun, capsys):
        folder = begun()
        configs = make_configs(folder, min_scale_factor=0.75, allow_changes=("--min_scale_factor,train_batch_size",))
        resumed, seed, changes = find_start(configs, DATASET)
        assert changes == ("`min_scale_factor`: was 0.5, is 0.75",) and "changed on purpose" in capsys.readouterr().err
        for _ in range(2):
            setup.save_config(configs, Prepared(DATASET, [], seed, resumed, changes=changes))
        assert (folder / setup.CHANGES).read_text() == 2 * "step 3: `min_scale_factor`: was 0.5, is 0.75\n"
        assert find_start(configs, DATASET)[2] == ()

    def test_the_others_are_still_refused(self, begun):
        configs = make_configs(begun(), min_scale_factor=0.75, train_batch_size=4, allow_changes=("train_batch_size",))
        with raises("changed-config") as caught:
            find_start(configs, DATASET)
        assert caught.value.value == ("`min_scale_factor`: was 0.5, is 0.75",)
        assert "`allow_changes=min_scale_factor`" in caught.value.hint

    def test_what_shapes_the_weights_cannot_change(self, begun):
        configs = make_configs(begun(), allow_changes=("depth_multiplier",))
        with raises("changed-config", "allow_changes"):
            find_start(dataclasses.replace(configs, model=ModelConfig(depth_multiplier=0.5)), DATASET)
