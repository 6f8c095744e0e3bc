"""From a checkpoint into variables: what fits, what does not, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.errors import raises

from deeplab import checkpoint
from deeplab.checkpoint import names, writer
from deeplab.checkpoint.restore import adapt_to_channels, first_kernel, plan, require_finite, restore

KERNEL = "MobilenetV2/Conv/weights"
BACKBONE = {
    KERNEL: (3, 3, 3, 32),
    "MobilenetV2/Conv/BatchNorm/gamma": (32,),
    "MobilenetV2/expanded_conv/project/weights": (1, 1, 32, 16),
    "MobilenetV2/expanded_conv_16/project/weights": (1, 1, 960, 320),
}
HEAD = {
    "aspp0/weights": (1, 1, 320, 256),
    "concat_projection/weights": (1, 1, 256, 256),
    "logits/semantic/weights": (1, 1, 256, 21),
    "logits/semantic/biases": (21,),
}


class Variable:
    """The least that a variable must have."""

    def __init__(self, shape):
        self.shape, self.value = shape, None

    def assign(self, value):
        """Takes a value of the variable's own shape, as real ones do."""
        assert tuple(value.shape) == tuple(self.shape)
        self.value = value


def variables(shapes) -> dict[str, Variable]:
    """Variables that have not been set."""
    return {name: Variable(shape) for name, shape in shapes.items()}


def arrays(shapes) -> dict[str, np.ndarray]:
    """One distinct constant a variable."""
    return {name: np.full(shape, n + 1, np.float32) for n, (name, shape) in enumerate(shapes.items())}


def was_set(model) -> list[str]:
    """Names of the variables that restoring has set."""
    return [name for name, variable in model.items() if variable.value is not None]


def test_everything_fits():
    model = variables(BACKBONE | HEAD)
    tensors = arrays(BACKBONE | HEAD)
    report = restore(model, tensors, require_all=True)
    assert was_set(model) == list(report.restored) == list(BACKBONE | HEAD)
    for name, variable in model.items():
        np.testing.assert_array_equal(variable.value, tensors[name])


@pytest.mark.parametrize("make", [keras.Variable, tf.Variable])
def test_keras_and_tensorflow_variables(make):
    kernel, step = make(np.zeros((2, 3), np.float32), dtype="float32"), make(0, dtype="int64")
    restore(
        {"MobilenetV2/w": kernel, "global_step": step}, {"MobilenetV2/w": np.ones((2, 3)), "global_step": np.int32(9)}
    )
    np.testing.assert_array_equal(np.asarray(kernel), np.ones((2, 3)))
    assert int(step.numpy()) == 9


def test_other_class_count_leaves_the_logits_alone(tmp_path):
    model = variables(BACKBONE | HEAD | {"logits/semantic/weights": (1, 1, 256, 3), "logits/semantic/biases": (3,)})
    report = restore(model, writer.write(str(tmp_path / "model.ckpt"), arrays(BACKBONE | HEAD)))
    assert report.differing == (
        ("logits/semantic/weights", (1, 1, 256, 3), (1, 1, 256, 21)),
        ("logits/semantic/biases", (3,), (21,)),
    )
    assert was_set(model) == [*BACKBONE, "aspp0/weights", "concat_projection/weights"]


def test_same_number_of_values_in_another_shape_does_not_fit():
    report = plan({"MobilenetV2/w": (1, 6)}, checkpoint.open({"MobilenetV2/w": np.zeros((2, 3))}))
    assert report.restored == () and report.differing == (("MobilenetV2/w", (1, 6), (2, 3)),)


def test_report_keeps_slots_and_step_apart():
    model = variables(BACKBONE | HEAD | {f"{KERNEL}/Momentum": (3, 3, 3, 32), "decoder/new/weights": (1, 1, 4, 4)})
    tensors = arrays(BACKBONE | HEAD | {"MobilenetV2/Conv_1/weights": (1, 1, 320, 1280), "beta1_power": ()})
    tensors |= {"MobilenetV2/Conv_1/weights/Adam": np.zeros(1), "global_step": np.int64(4)}
    report = restore(model, tensors)
    assert report.missing == (f"{KERNEL}/Momentum", "decoder/new/weights")
    assert set(report.unused) == {
        "MobilenetV2/Conv_1/weights",
        "MobilenetV2/Conv_1/weights/Adam",
        "beta1_power",
        "global_step",
    }
    assert report.table().splitlines() == [
        "from the given arrays:",
        "outcome        model  optimizer and step",
        "-------------  -----  ------------------",
        "restored           8                   0",
        "shape differs      0                   0",
        "missing            1                   1",
        "unused             1                   3",
        "excluded           0                   0",
        "missing:",
        "  decoder/new/weights",
        "unused:",
        "  MobilenetV2/Conv_1/weights",
    ]


def test_long_lists_are_cut_short_and_summed_up_by_scope():
    new = {f"decoder/layer_{n}/weights": (1,) for n in range(10)} | {"logits/semantic/weights": (1,)}
    table = restore(variables(BACKBONE | new), arrays(BACKBONE)).table(lines=2)
    assert table.endswith(
        "missing:\n  decoder/layer_0/weights\n  decoder/layer_1/weights\n  and more: decoder 8, logits 1"
    )


# ---- excluding the head ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "all_head", "logits_only"),
    [
        ("logits/semantic/weights", True, True),
        ("logits/semantic_1/biases", True, True),
        ("logits/semantic/weights/Momentum", True, True),
        ("image_pooling/BatchNorm/beta", True, False),
        ("aspp0/weights", True, False),
        ("aspp3_depthwise/depthwise_weights", True, False),
        ("concat_projection/weights", True, False),
        ("decoder/feature_projection0/weights", True, False),
        ("meta_architecture/branch0_pointwise/weights", True, False),
        ("MobilenetV2/Logits/Conv2d_1c_1x1/weights", False, False),
        ("resnet_v1_50/logits/weights", False, False),
        ("global_step", True, True),
    ],
)
def test_head_exclusion_is_by_the_beginning_of_the_name(name, all_head, logits_only):
    assert names.initial_exclusion(False, False)(name) == all_head
    assert names.initial_exclusion(False, True)(name) == logits_only
    assert names.initial_exclusion(True, False)(name) == (name == "global_step")


def test_excluded_names_are_not_set_and_not_missed():
    model = variables(BACKBONE | HEAD)
    report = restore(model, arrays(BACKBONE | HEAD), names.initial_exclusion(initialize_last_layer=False))
    assert was_set(model) == list(BACKBONE)
    assert report.excluded == tuple(HEAD) and report.missing == ()


# ---- refusing ----------------------------------------------------------------------------------------


def test_another_architecture_is_refused_with_the_flags_that_fit(tmp_path):
    model = variables(BACKBONE | HEAD)
    xception = {
        "xception_65/entry_flow/conv1_1/weights": (3, 3, 3, 32),
        "aspp0/weights": (1, 1, 2048, 256),
        "aspp1_depthwise/depthwise_weights": (3, 3, 2048, 1),
        "aspp1_pointwise/weights": (1, 1, 2048, 256),
        "concat_projection/weights": (1, 1, 512, 256),
        "decoder/feature_projection0/weights": (1, 1, 256, 48),
        "decoder/decoder_conv0_pointwise/weights": (1, 1, 304, 256),
        "logits/semantic/weights": (1, 1, 256, 19),
        "logits/semantic/biases": (19,),
    }
    path = writer.write(str(tmp_path / "model.ckpt"), arrays(xception))
    with raises("checkpoint-mismatch", where=path) as caught:
        restore(model, path)
    rule, hint = caught.value.rule, caught.value.hint
    assert "is of another model: only 0 of the 4 variables of the backbone fit" in rule
    assert "It looks like xception_65, ASPP with 1 atrous rate, no image pooling, decoder, 19 classes" in rule
    assert "the model is mobilenet_v2, no atrous ASPP branches, no image pooling, no decoder, 21 classes" in rule
    assert "`model_variant=xception_65` `atrous_rates=6` `decoder_output_stride=4`" in hint
    assert "it has 19 classes: use the dataset it was trained on, or `num_classes=19`" in hint
    assert was_set(model) == [], "a refused restore sets nothing"


def test_another_width_is_refused():
    narrow = {name: (*shape[:-1], shape[-1] // 2) for name, shape in BACKBONE.items()}
    with raises("checkpoint-mismatch") as caught:
        restore(variables(BACKBONE), arrays(narrow))
    assert caught.value.hint == "settings that fit it: `depth_multiplier=0.5`"


def test_group_norm_does_not_start_from_batch_norm():
    group = {name.replace("BatchNorm/", "GroupNorm/"): shape for name, shape in BACKBONE.items()}
    assert group != BACKBONE
    for model, stored, kind in ((group, BACKBONE, "batch"), (BACKBONE, group, "group")):
        with raises("checkpoint-mismatch") as caught:
            restore(variables(model), arrays(stored), require_all=True)
        assert caught.value.hint == f"settings that fit it: `normalization={kind}`"
        assert "group norm" in caught.value.rule


def test_half_of_the_backbone_is_enough_and_less_is_not():
    tensors = arrays(BACKBONE)
    tensors.pop(KERNEL)
    tensors.pop("MobilenetV2/Conv/BatchNorm/gamma")
    assert len(restore(variables(BACKBONE), tensors).restored) == 2
    tensors.pop("MobilenetV2/expanded_conv/project/weights")
    with raises("checkpoint-mismatch") as caught:
        restore(variables(BACKBONE), tensors)
    assert "only 1 of the 4" in caught.value.rule


def test_slots_and_head_do_not_count_as_backbone():
    model = variables(BACKBONE | {f"{name}/Momentum": shape for name, shape in BACKBONE.items()} | HEAD)
    assert len(restore(model, arrays(BACKBONE)).restored) == 4
    assert len(restore(variables(HEAD), arrays(HEAD)).restored) == 4


def test_evaluation_needs_every_variable():
    model = variables(BACKBONE | HEAD)
    with raises("checkpoint-mismatch") as caught:
        restore(model, arrays(BACKBONE), require_all=True)
    assert "aspp0/weights is missing; concat_projection/weights is missing" in caught.value.rule
    assert "it has no segmentation head: train from it first" in caught.value.hint
    assert was_set(model) == []


def test_evaluation_with_another_class_count_names_it():
    model = variables(BACKBONE | HEAD | {"logits/semantic/weights": (1, 1, 256, 3), "logits/semantic/biases": (3,)})
    with raises("checkpoint-mismatch") as caught:
        restore(model, arrays(BACKBONE | HEAD), require_all=True)
    assert "logits/semantic/biases is 21, the model's 3" in caught.value.rule
    assert "it has 21 classes: use the dataset it was trained on, or `num_classes=21`" in caught.value.hint


def test_damaged_data_set_nothing(tmp_path, damage):
    path = writer.write(str(tmp_path / "model.ckpt"), arrays(BACKBONE))
    damage(f"{path}.data-00000-of-00001", position=-1)
    model = variables(BACKBONE)
    with raises("damaged-checkpoint"):
        restore(model, path)
    assert was_set(model) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    tensors = arrays(BACKBONE)
    tensors["MobilenetV2/Conv/BatchNorm/gamma"][3:5] = bad
    model = variables(BACKBONE)
    with raises("not-finite", where="the given arrays") as caught:
        restore(model, tensors)
    assert caught.value.value == "MobilenetV2/Conv/BatchNorm/gamma" and caught.value.rule.startswith("2 values")
    assert was_set(model) == []


def test_finite_values_of_any_kind():
    tensors = {"step": np.int64(3), "name": np.array(["a"]), "kernel": np.ones(2), "mask": np.array([True])}
    require_finite(tensors, "x")
    with raises("not-finite", where="x") as caught:
        require_finite(tensors | {"kernel": np.array([1.0, np.nan])}, "x")
    assert caught.value.value == "kernel"


# ---- other input channels ----------------------------------------------------------------------------

RGB_KERNEL = np.array([[[[1.0, 10.0], [2.0, 20.0], [6.0, 30.0]]]], np.float32)  # 1x1, R, G, B, two outputs


def test_one_channel_gets_the_sum():
    np.testing.assert_array_equal(adapt_to_channels(RGB_KERNEL, 1), [[[[9.0, 60.0]]]])


def test_two_channels_share_the_sum():
    np.testing.assert_array_equal(adapt_to_channels(RGB_KERNEL, 2), [[[[4.5, 30.0], [4.5, 30.0]]]])


def test_four_channels_keep_red_green_blue_scaled_and_add_their_mean():
    np.testing.assert_array_equal(
        adapt_to_channels(RGB_KERNEL, 4), [[[[0.75, 7.5], [1.5, 15.0], [4.5, 22.5], [2.25, 15.0]]]]
    )


@pytest.mark.parametrize("channels", [1, 2, 4, 7, 13])
def test_equal_channels_get_the_same_output(channels):
    adapted = adapt_to_channels(RGB_KERNEL, channels)
    assert adapted.dtype == np.float32 and adapted.shape == (1, 1, channels, 2)
    np.testing.assert_allclose(adapted.sum(axis=2), RGB_KERNEL.sum(axis=2), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "model", "checkpoint", "is_first"),
    [
        ("MobilenetV2/Conv/weights", (3, 3, 4, 32), (3, 3, 3, 32), True),
        ("resnet_v1_50/conv1/weights", (7, 7, 1, 64), (7, 7, 3, 64), True),
        ("MobilenetV2/Conv/weights", (3, 3, 4, 16), (3, 3, 3, 32), False),  # another width besides
        ("MobilenetV2/Conv/weights", (3, 3, 3, 32), (3, 3, 4, 32), False),  # an RGB model of a 4-channel checkpoint
        ("decoder/feature_projection0/weights", (1, 1, 4, 48), (1, 1, 3, 48), False),
        ("MobilenetV2/Conv/weights/Momentum", (3, 3, 4, 32), (3, 3, 3, 32), False),
        ("MobilenetV2/Conv/BatchNorm/gamma", (4,), (3,), False),
    ],
)
def test_which_kernel_is_the_first(name, model, checkpoint, is_first):
    assert first_kernel({name: model}, {name: checkpoint}) == (name if is_first else None)


def test_two_candidates_are_none():
    shapes = {"a/weights": (3, 3, 4, 8), "b/weights": (3, 3, 4, 8)}
    assert first_kernel(shapes, dict.fromkeys(shapes, (3, 3, 3, 8))) is None


def test_restoring_adapts_and_says_so():
    name = "MobilenetV2/Conv/weights"
    model = {name: Variable((1, 1, 4, 2)), "MobilenetV2/Conv/BatchNorm/gamma": Variable((2,))}
    tensors = {name: RGB_KERNEL, "MobilenetV2/Conv/BatchNorm/gamma": np.ones(2, np.float32)}
    report = restore(model, tensors)
    assert report.adapted == ((name, (1, 1, 4, 2), (1, 1, 3, 2)),) and report.differing == ()
    np.testing.assert_array_equal(model[name].value, adapt_to_channels(RGB_KERNEL, 4))
    lines = report.table().splitlines()
    assert any(line.split() == ["adapted", "to", "the", "input", "channels", "1", "0"] for line in lines)
    assert f"  {name}: model 1x1x4x2, checkpoint 1x1x3x2" in lines


def test_what_must_be_whole_is_not_adapted():
    model = {"MobilenetV2/Conv/weights": Variable((1, 1, 4, 2)), "MobilenetV2/b": Variable((2,))}
    tensors = {"MobilenetV2/Conv/weights": RGB_KERNEL, "MobilenetV2/b": np.ones(2, np.float32)}
    with raises("checkpoint-mismatch"):
        restore(model, tensors, require_all=True)


def test_running_averages_are_taken_in_place_of_weights_where_there_are_some():
    stored = {
        "Net/a/weights": np.zeros(2, np.float32),
        "Net/a/weights/ExponentialMovingAverage": np.full(2, 3.0, np.float32),
        "Net/b/weights": np.full(2, 5.0, np.float32),
    }
    for averages, expected in ((True, [3.0, 5.0]), (False, [0.0, 5.0])):
        variables = {name: tf.Variable(np.full(2, -1.0, np.float32)) for name in ("Net/a/weights", "Net/b/weights")}
        restore(variables, stored, require_all=True, averages=averages)
        assert [float(variable[0]) for variable in variables.values()] == expected
