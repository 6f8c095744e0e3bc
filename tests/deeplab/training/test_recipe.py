"""The choices of the recipe as tables: facts of data and machine in, values out."""

import dataclasses
import itertools

import pytest

from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.config.durations import Length
from deeplab.config.fields import fields_of, make
from deeplab.config.model_config import ModelConfig
from deeplab.config.recipe_config import RecipeConfig
from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig
from deeplab.training import recipe, schedules
from deeplab.training.recipe import DataFacts, MachineFacts, ModelFacts

GROUPS = (TrainConfig, ModelConfig, LossConfig, OptimizerConfig, AugmentationConfig)
DATA = DataFacts(
    images=400,
    size=(375, 500),
    num_classes=3,
    pixels=(700, 200, 100),
    evaluated_split="val",
    evaluated_images=100,
    evaluated_size=(375, 500),
)
CPU = MachineFacts(0, 16e9, "", 4)
GPU = MachineFacts(1, 24e9, "mixed_bfloat16", 16)


def choices(data=None, machine=CPU, given=None, no_weights="", steps=None, **models):
    facts = dataclasses.replace(DATA, **(data or {}))

    def why_not(model):
        assert set(model) == {"model_variant", "depth_multiplier", "input_channels"}
        return no_weights or ("channels" if model["input_channels"] != 3 else "")

    found = recipe.choose(facts, machine, given or {}, ModelFacts(why_not, **models), steps)
    assert all(choice.reason for choice in found)
    return {choice.name: choice.value for choice in found}


@pytest.mark.parametrize(
    ("data", "machine", "given", "no_weights", "wanted"),
    [
        # weights and backbone
        (
            {},
            CPU,
            {},
            "",
            {"model_variant": "mobilenet_v2", "tf_initial_checkpoint": "imagenet", "depth_multiplier": None},
        ),
        ({}, CPU, {}, "no network", {"tf_initial_checkpoint": "", "depth_multiplier": 0.5, "decoder_filters": 64}),
        ({}, CPU, {"tf_initial_checkpoint": ""}, "", {"tf_initial_checkpoint": None, "depth_multiplier": 0.5}),
        (
            {},
            CPU,
            {"tf_initial_checkpoint": "zoo:x"},
            "no network",
            {"tf_initial_checkpoint": None, "decoder_filters": 128},
        ),
        ({}, GPU, {}, "", {"model_variant": "xception_65", "decoder_filters": None, "precision": "mixed_bfloat16"}),
        ({}, dataclasses.replace(GPU, memory=6e9), {}, "", {"model_variant": "mobilenet_v2"}),
        ({}, dataclasses.replace(GPU, memory=None), {}, "", {"model_variant": "xception_65"}),
        ({}, GPU, {"model_variant": "resnet_v1_50"}, "", {"model_variant": None, "decoder_output_stride": (4,)}),
        ({}, CPU, {"aspp_with_batch_norm": False}, "", {"decoder_output_stride": None, "aspp_convs_filters": None}),
        # few images for each class
        (
            {"images": 29},
            CPU,
            {},
            "",
            {
                "add_image_level_feature": True,
                "decoder_output_stride": None,
                "optimizer": None,
                "base_learning_rate": 0.007,
                "learning_policy": None,
                "crop_sampling": None,
            },
        ),
        ({"images": 30}, CPU, {}, "", {"decoder_output_stride": (4,), "optimizer": "adamw"}),
        ({"images": 29}, CPU, {"optimizer": "adamw"}, "", {"base_learning_rate": None}),
        ({"images": 29}, CPU, {"train_batch_size": 16}, "", {"base_learning_rate": 0.014}),
        ({"images": 29}, CPU, {}, "no network", {"decoder_output_stride": (4,)}),
        ({"images": 29}, GPU, {}, "", {"decoder_output_stride": (4,)}),
        # crop
        ({}, CPU, {}, "", {"train_crop_size": (257, 257)}),
        ({}, GPU, {}, "", {"train_crop_size": (385, 513)}),
        ({"size": (128, 96)}, CPU, {}, "", {"train_crop_size": (129, 97)}),
        ({"size": (128, 4000)}, CPU, {}, "", {"train_crop_size": (129, 257)}),
        ({"size": (8, 5)}, CPU, {}, "", {"train_crop_size": (33, 33)}),
        ({"size": (128, 96)}, CPU, {"output_stride": 32}, "", {"train_crop_size": (129, 97)}),
        ({}, CPU, {"train_crop_size": (65, 65)}, "", {"train_crop_size": None}),
        # batch
        ({"images": 3}, CPU, {}, "", {"train_batch_size": 3}),
        ({"images": 1}, CPU, {}, "", {"train_batch_size": 1}),
        ({}, dataclasses.replace(CPU, memory=1e9), {}, "", {"train_batch_size": 2}),
        ({}, dataclasses.replace(CPU, memory=None), {}, "", {"train_batch_size": 4}),
        ({"num_classes": 1000, "pixels": ()}, dataclasses.replace(CPU, memory=8e9), {}, "", {"train_batch_size": 2}),
        ({}, dataclasses.replace(GPU, gpus=4, memory=80e9), {}, "", {"train_batch_size": 64, "num_clones": 4}),
        ({}, dataclasses.replace(GPU, gpus=4, memory=80e9), {"num_clones": 1}, "", {"train_batch_size": 16}),
        ({}, dataclasses.replace(GPU, memory=15e9), {}, "", {"train_batch_size": 4}),
        ({}, dataclasses.replace(GPU, memory=15e9, half_precision=""), {}, "", {"train_batch_size": 2}),
        ({"size": (128, 128)}, CPU, {}, "", {"train_batch_size": 8}),
        # optimizer
        ({}, CPU, {}, "", {"optimizer": "adamw", "base_learning_rate": 0.0014, "weight_decay": 0.02}),
        ({}, CPU, {"weight_decay": 0.1}, "", {"optimizer": "adamw", "weight_decay": None}),
        ({}, CPU, {}, "offline", {"optimizer": "momentum", "base_learning_rate": 0.071, "weight_decay": None}),
        ({}, GPU, {}, "", {"optimizer": "momentum", "weight_decay": None}),
        ({}, CPU, {"optimizer": "adam"}, "", {"adam_learning_rate": 0.00035, "learning_policy": None}),
        ({}, CPU, {"optimizer": "nadam"}, "", {"base_learning_rate": None, "learning_policy": "cosine"}),
        ({}, CPU, {"base_learning_rate": 0.5}, "", {"optimizer": None, "base_learning_rate": None, "warmup": "0.05"}),
        ({}, CPU, {"slow_start_step": 10}, "", {"warmup": None}),
        # what the model sees
        (
            {},
            CPU,
            {},
            "",
            {"crop_sampling": "class_centered", "add_image_level_feature": False, "atrous_rates": (6, 12)},
        ),
        ({}, CPU, {}, "offline", {"crop_sampling": None, "add_image_level_feature": None, "atrous_rates": None}),
        ({"size": (200, 256)}, CPU, {}, "", {"crop_sampling": None}),
        (
            {},
            dataclasses.replace(GPU, memory=80e9),
            {},
            "",
            {"add_image_level_feature": None, "atrous_rates": (6, 12, 18)},
        ),
        ({}, GPU, {}, "", {"crop_sampling": None, "train_crop_size": (385, 513)}),
        ({}, CPU, {"max_scale_factor": 4.0}, "", {"max_scale_factor": None, "min_scale_factor": None}),
        ({"images": 20}, CPU, {}, "", {"augmentation": "medium"}),
        ({"images": 5000}, CPU, {}, "", {"augmentation": "light"}),
        ({"is_rgb": False, "channels": 5}, CPU, {}, "", {"saturation": 0.0, "tf_initial_checkpoint": ""}),
        ({"is_rgb": False}, CPU, {"augmentation": "none"}, "", {"saturation": None}),
        # loss
        ({"pixels": ()}, CPU, {}, "", {"class_balance": None}),
        ({"pixels": (0, 0, 0)}, CPU, {}, "", {"class_balance": None}),
        ({"pixels": (10, 10, 9)}, CPU, {}, "", {"class_balance": None}),
        ({"pixels": (100, 10, 1)}, CPU, {}, "", {"class_balance": "sqrt"}),
        ({"pixels": (10**9, 10, 1)}, CPU, {}, "", {"class_balance": "enet"}),
        ({"pixels": (100, 10, 1)}, CPU, {"label_weights": (1.0, 1.0, 2.0)}, "", {"class_balance": None}),
        # length
        ({}, CPU, {}, "", {"training_number_of_steps": 2000, "batch_norm_decay": 0.99}),
        ({"images": 50}, GPU, {}, "", {"training_number_of_steps": 3000}),
        (
            {"images": 2000},
            dataclasses.replace(GPU, memory=80e9),
            {},
            "",
            {"training_number_of_steps": 10000, "batch_norm_decay": None},
        ),
        ({"images": 10**6}, GPU, {}, "", {"training_number_of_steps": 30000}),
        ({}, CPU, {"training_epochs": 2.0}, "", {"training_number_of_steps": None, "batch_norm_decay": 0.99}),
        ({}, CPU, {"training_number_of_steps": 9000}, "", {"batch_norm_decay": None}),
        ({}, CPU, {"normalization": "group"}, "", {"batch_norm_decay": None}),
        # evaluations
        ({"evaluated_split": "", "evaluated_images": 0}, CPU, {}, "", {"eval_every": None, "eval_split": None}),
        ({"evaluated_split": "test"}, CPU, {}, "", {"eval_split": "test"}),
        ({"evaluated_images": 10**6}, CPU, {}, "", {"eval_every": "2000"}),
        ({"evaluated_images": 4}, CPU, {}, "", {"eval_every": "200"}),
    ],
)
def test_choices(data, machine, given, no_weights, wanted):
    found = choices(data, machine, given, no_weights)
    assert {name: found.get(name) for name in wanted} == wanted


def test_what_is_given_is_never_chosen():
    everything = choices()
    assert choices(given=everything) == {}
    for name, value in everything.items():
        assert name not in choices(given={name: value})


def test_a_backbone_without_features_of_stride_4_gets_no_decoder():
    found = choices(given={"model_variant": "mobilenet_v3_small"}, has_decoder=lambda name: False)
    assert "aspp_convs_filters" in found and not {"decoder_output_stride", "decoder_filters"} & set(found)


def test_an_initial_checkpoint_with_a_head_keeps_its_model():
    initial = {"model_variant": "resnet_v1_50", "aspp_convs_filters": 32, "decoder_filters": 256}
    found = choices(given={"tf_initial_checkpoint": "runs/a"}, initial=initial, keeps_head=True)
    assert (found["model_variant"], found["aspp_convs_filters"]) == ("resnet_v1_50", 32)
    assert not {"decoder_output_stride", "decoder_filters"} & set(found)
    assert "model_variant" not in choices(given={"tf_initial_checkpoint": "runs/a"}, machine=GPU, keeps_head=True)
    given = {"tf_initial_checkpoint": "runs/a", "aspp_convs_filters": 16}
    assert "aspp_convs_filters" not in choices(given=given, initial=initial, keeps_head=True)


def test_a_known_number_of_steps_is_kept():
    assert choices(steps=77)["training_number_of_steps"] == 77
    assert int(choices(steps=77)["eval_every"]) <= 77


@pytest.mark.parametrize(
    "machine", [CPU, GPU, MachineFacts(8, 80e9, "mixed_bfloat16", 64), MachineFacts(0, None, "", 1)]
)
@pytest.mark.parametrize("images", [1, 7, 100_000])
def test_every_combination_is_a_config_that_is_accepted(machine, images):
    """Facts of all kinds, with and without weights: values of the right type, in their bounds, that fit together."""
    sizes = [(1, 1), (37, 2000), (512, 512), (9000, 7000)]
    for size, classes, weights, split in itertools.product(sizes, (2, 21, 1000), ("", "offline"), ("", "val", "test")):
        facts = {"images": images, "size": size, "num_classes": classes, "pixels": tuple(range(classes))}
        facts |= {"evaluated_split": split, "evaluated_images": 3 if split else 0, "evaluated_size": size}
        values = choices(facts, machine, no_weights=weights)
        assert set(values) <= set(fields_of(GROUPS)) and not set(values) & set(fields_of([RecipeConfig]))
        train, _, _, optimizer, _ = (make(group, {**values, "train_logdir": "x"}) for group in GROUPS)
        steps = train.training_number_of_steps
        assert schedules.learning_rate(schedules.resolved(optimizer, Length(steps)), 0, steps) >= 0
        assert train.train_batch_size <= max(1, images) * train.num_clones
        crop = train.train_crop_size
        assert all(side % 16 == 1 and side <= 513 for side in crop)


@pytest.mark.parametrize(
    ("optimizer", "batch", "model_variant", "from_scratch", "rate"),
    [
        ("momentum", 8, "mobilenet_v2", True, 0.1),
        ("momentum", 2, "mobilenet_v2", True, 0.05),
        ("adamw", 4, "mobilenet_v2", False, 0.0014),
        ("momentum", 16, "xception_65", False, 0.0071),
        ("adam", 32, "xception_65", True, 0.004),
        ("nadam", 8, "mobilenet_v2", False, None),
    ],
)
def test_learning_rates(optimizer, batch, model_variant, from_scratch, rate):
    assert recipe.learning_rate(optimizer, batch, model_variant, from_scratch) == rate


@pytest.mark.parametrize(
    ("images", "steps", "recalibrates", "count"),
    [
        (0, 1000, False, 10),
        (24, 1000, False, 10),  # a step has 8 crops of the images' size, so 24 images cost one step
        (240, 1000, False, 10),
        (480, 1000, False, 5),
        (480, 1000, True, 2),
        (10**6, 1000, False, 1),
    ],
)
def test_evaluations_cost_a_tenth_at_most(images, steps, recalibrates, count):
    data = dataclasses.replace(DATA, evaluated_images=images, evaluated_size=(257, 257))
    assert recipe.evaluations(data, steps, 8, (257, 257), recalibrates) == count


def test_facts_and_choices_in_words():
    assert DATA.text() == "400 images of about 375x500 pixels, 3 classes"
    assert "5 channels" in dataclasses.replace(DATA, channels=5).text()
    assert CPU.text() == "4 processor cores, no GPU, 16.0 GB of memory" and GPU.text().startswith("1 GPU")
    rows = recipe.table([recipe.Choice("train_crop_size", (257, 257), "why")])
    assert rows == [("`train_crop_size=257,257`", "why")]
