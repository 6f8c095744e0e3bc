"""The estimate of a step's memory, and what lowering a setting saves."""

import dataclasses

import keras
import pytest
from support.small_trainer import make_trainer

from deeplab.config.training_config import TrainConfig
from deeplab.losses.segmentation_loss import SegmentationLoss
from deeplab.training import memory
from deeplab.training.memory import MemoryNeed

CONFIG = TrainConfig("run", train_crop_size=(9, 9), train_batch_size=4)


def test_activations_are_the_outputs_of_all_layers():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(5, 1, strides=2)(keras.layers.Conv2D(7, 3, padding="same")(image)))
    assert memory.activations(model, (9, 11)) == 4 * (7 * 9 * 11 + 5 * 5 * 6)
    assert memory.activations(model, (18, 22)) == pytest.approx(4 * (7 * 18 * 22 + 5 * 9 * 11))


def test_half_precision_counts_half():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        image = keras.Input((None, None, 3))
        model = keras.Model(image, keras.layers.Conv2D(7, 3, padding="same")(image))
    finally:
        keras.config.set_dtype_policy(policy)
    assert memory.activations(model, (9, 9)) == 2 * 7 * 81


def test_a_step_needs_images_and_weights():
    trainer = make_trainer()
    need = memory.estimate(trainer, CONFIG, 3)
    assert need.images == 4 and need.total == 4 * need.image + need.weights
    in_parts = memory.estimate(trainer, dataclasses.replace(CONFIG, accumulate_steps=2), 3)
    assert in_parts.images == 2 and in_parts.image == need.image
    averaged = memory.estimate(make_trainer(ema_decay=0.9), CONFIG, 3)
    parameters = sum(4 * variable.numpy().size for variable in trainer.model.weights)
    assert averaged.weights - need.weights == parameters


def test_advice_names_settings_with_what_they_save():
    need = MemoryNeed(image=10**9, images=4, weights=10**8)
    text = memory.advice(need, CONFIG)
    assert "`accumulate_steps=2` saves about 2.0 GB" in text and "`train_batch_size=2` saves 2.0 GB" in text
    assert "`precision=mixed_bfloat16`" in text and "`train_crop_size=6,6`" in text
    assert memory.need_text(need).startswith("a step needs about 4.1 GB: 1.0 GB for each of 4 images, 100 MB")
    single = dataclasses.replace(CONFIG, train_batch_size=1, precision="mixed_bfloat16")
    assert memory.advice(MemoryNeed(10**9, 1, 0), single).startswith("`train_crop_size=6,6` saves 556 MB")


@pytest.fixture
def groups(tmp_path):
    """A function that makes control groups, and returns the bytes that their limits leave."""

    def left(membership, version, **folders):
        (tmp_path / "cgroup").write_text(membership)
        names = (
            ("memory.max", "memory.current", "inactive_file")
            if version == 2
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        for folder, (limit, usage, cached) in folders.items():
            place = tmp_path / ("fs" if version == 2 else "fs/memory") / folder.replace("_", "/")
            place.mkdir(parents=True, exist_ok=True)
            (place / names[0]).write_text(f"{limit}\n")
            (place / names[1]).write_text(f"{usage}\n")
            (place / "memory.stat").write_text(f"anon 7\n{names[2]} {cached}\n")
        return memory._cgroup(str(tmp_path / "fs"), str(tmp_path / "cgroup"))

    return left


@pytest.mark.parametrize("version, own", [(2, "0::/a/b\n"), (1, "5:cpu:/a\n4:hugetlb,memory:/a/b\n0::/\n")])
def test_the_smallest_limit_of_a_group_and_those_above_it_counts(groups, version, own):
    assert groups(own, version) is None
    no_limit = "max" if version == 2 else 2**63 - 4096
    found = groups(own, version, a_b=(no_limit, 300, 0))
    assert found is None if version == 2 else found > 2**62
    assert groups(own, version, a=(1000, 300, 100)) == 800  # cached files can be given back
    assert groups(own, version, a_b=(500, 300, 0)) == 200
    assert groups(own, version, a_b=(500, 600, 0)) == 0


@pytest.mark.parametrize("version, own", [(2, "0::/../elsewhere\n"), (1, "4:memory:/docker/0123\n")])
def test_a_container_sees_its_own_group_at_the_top(groups, version, own):
    assert groups(own, version, **{"": (1000, 300, 0)}) == 700


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert memory._cgroup(str(tmp_path), str(tmp_path / "missing")) is None


def test_enlarged_logits_of_many_classes():
    """Three copies of 900 classes, at 9x9 pixels instead of the 5x5 of the model's logits."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, {"logits": keras.layers.Conv2D(7, 1, strides=2)(image)})
    trainer = dataclasses.replace(make_trainer(), model=model)
    need = memory.estimate(trainer, CONFIG, 900)
    loss = SegmentationLoss("cross_entropy", upsample_logits=False)
    small = memory.estimate(dataclasses.replace(trainer, loss=loss), CONFIG, 900)
    assert small.enlarged == 0 and need.image - small.image == need.enlarged == 3 * 4 * 900 * (9 * 9 - 5 * 5)
    assert small.image == 4 * 7 * 5 * 5 + 3 * 4 * 900 * 5 * 5
    text = memory.advice(need, CONFIG)
    assert text.startswith("`upsample_logits=false` saves about 2 MB; ") and "`accumulate_steps=2`" in text
    few = memory.estimate(trainer, CONFIG, 3)
    assert "upsample" not in memory.advice(dataclasses.replace(few, enlarged=few.image // 5), CONFIG)
    assert "upsample" not in memory.advice(small, CONFIG)


def test_what_the_system_tells():
    for number in (memory.available(), memory.used()):
        assert number is None or number > 0
