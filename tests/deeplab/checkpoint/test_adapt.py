"""The first convolution of an RGB network, for images of other channels."""

import numpy as np
import pytest

from deeplab.checkpoint import adapt
from deeplab.checkpoint.restore import restore
from deeplab.utils.errors import UserError

KERNEL = np.array([[[[1.0, 10.0], [2.0, 20.0], [6.0, 30.0]]]], np.float32)  # 1x1, R, G, B, two outputs


class Variable:
    """The least that a variable must have."""

    def __init__(self, *shape):
        self.shape, self.value = shape, None

    def assign(self, value):
        """Takes a value of its own shape."""
        assert value.shape == self.shape
        self.value = value


def test_one_channel_gets_the_sum():
    np.testing.assert_array_equal(adapt.to_channels(KERNEL, 1), [[[[9.0, 60.0]]]])


def test_two_channels_share_the_sum():
    np.testing.assert_array_equal(adapt.to_channels(KERNEL, 2), [[[[4.5, 30.0], [4.5, 30.0]]]])


def test_four_channels_keep_red_green_blue_scaled_and_add_their_mean():
    np.testing.assert_array_equal(
        adapt.to_channels(KERNEL, 4), [[[[0.75, 7.5], [1.5, 15.0], [4.5, 22.5], [2.25, 15.0]]]]
    )


@pytest.mark.parametrize("channels", [1, 2, 4, 7, 13])
def test_equal_channels_get_the_same_answer(channels):
    adapted = adapt.to_channels(KERNEL, channels)
    assert adapted.dtype == np.float32 and adapted.shape == (1, 1, channels, 2)
    np.testing.assert_allclose(adapted.sum(axis=2), KERNEL.sum(axis=2), rtol=1e-6)


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
    assert adapt.first_kernel({name: model}, {name: checkpoint}) == (name if is_first else None)


def test_two_candidates_are_none():
    shapes = {"a/weights": (3, 3, 4, 8), "b/weights": (3, 3, 4, 8)}
    assert adapt.first_kernel(shapes, dict.fromkeys(shapes, (3, 3, 3, 8))) is None


def test_restoring_adapts_and_says_so():
    name = "MobilenetV2/Conv/weights"
    model = {name: Variable(1, 1, 4, 2), "MobilenetV2/Conv/BatchNorm/gamma": Variable(2)}
    tensors = {name: KERNEL, "MobilenetV2/Conv/BatchNorm/gamma": np.ones(2, np.float32)}
    report = restore(model, tensors)
    assert report.adapted == ((name, (1, 1, 4, 2), (1, 1, 3, 2)),) and report.differing == ()
    np.testing.assert_array_equal(model[name].value, adapt.to_channels(KERNEL, 4))
    lines = report.table().splitlines()
    assert any(line.split() == ["adapted", "to", "the", "input", "channels", "1", "0"] for line in lines)
    assert f"  {name}: model 1x1x4x2, checkpoint 1x1x3x2" in lines


def test_what_must_be_whole_is_not_adapted():
    model = {"MobilenetV2/Conv/weights": Variable(1, 1, 4, 2), "MobilenetV2/b": Variable(2)}
    tensors = {"MobilenetV2/Conv/weights": KERNEL, "MobilenetV2/b": np.ones(2, np.float32)}
    with pytest.raises(UserError, match="does not hold the whole model"):
        restore(model, tensors, require_all=True)
