"""Sizes, resizing, padding and crops: the reference's numbers, and 2x2 arrays by hand."""

import ast
import json

import numpy as np
import pytest
import tensorflow as tf

import slim
from deeplab.config.data_config import ResizeConfig
from deeplab.data import transforms


@pytest.fixture(scope="module")
def arrays(golden):
    return dict(np.load(golden / "preprocess.npz"))


@pytest.fixture(scope="module")
def cases(golden):
    return json.loads((golden / "preprocess.json").read_text())


def in_dataset(function, *arguments):
    """The function's result inside a tf.data pipeline, where shapes are unknown."""
    arguments = [np.asarray(argument) for argument in arguments]
    signature = tuple(tf.TensorSpec([None] * argument.ndim, argument.dtype) for argument in arguments)
    dataset = tf.data.Dataset.from_generator(lambda: iter([tuple(arguments)]), output_signature=signature)
    return next(iter(dataset.map(function))).numpy()


def both_ways(function, *arguments):
    """The function's result, which must be the same eagerly and inside a pipeline."""
    eager = np.asarray(function(*arguments))
    np.testing.assert_array_equal(in_dataset(function, *arguments), eager)
    return eager


def settings(arguments):
    return ResizeConfig(arguments["min_size"], arguments["max_size"], arguments.get("factor"))


def test_padding_colors_are_the_reference_s(cases):
    assert len(cases["mean_pixel"]) == 16
    for variant, expected in cases["mean_pixel"].items():
        color = slim.IMAGENET_MEAN if variant == "None" else slim.find(variant).padding_color
        assert color == tuple(expected)


def test_scale_grid_is_the_reference_s(cases):
    for arguments, expected in cases["random_scales"].items():
        np.testing.assert_array_equal(transforms.scale_grid(*ast.literal_eval(arguments)), np.float32(expected))
    assert transforms.scale_grid(0.5, 2.0, 0).size == 0


def test_scaled_size_cuts_to_whole_pixels_and_keeps_one():
    np.testing.assert_array_equal(transforms.scaled_size(np.array([37, 53]), 0.3), [11, 15])
    np.testing.assert_array_equal(transforms.scaled_size(np.array([1, 3]), 0.5), [1, 1])


def test_resized_size_is_the_reference_s(cases):
    assert len(cases["resize_to_range_shapes"]) == 45
    for case in cases["resize_to_range_shapes"]:
        size = transforms.resized_size(tf.constant(case["input"]), settings(case["args"]))
        assert size.numpy().tolist() == case["out"][:2], case


def test_resize_to_range_is_the_reference_s(arrays, cases):
    for case in cases["resize_to_range"]:
        resize, number = settings(case["args"]), case["case"]
        image = both_ways(lambda x, resize=resize: transforms.resize_to_range(x, resize), arrays["img"])
        label = both_ways(lambda x, resize=resize: transforms.resize_label_to_range(x, resize), arrays["lab"])
        np.testing.assert_allclose(image, arrays[f"rtr{number}_img"], atol=1e-4)
        np.testing.assert_array_equal(label, arrays[f"rtr{number}_lab"])


def test_resize_to_range_leaves_alone_what_need_not_change():
    image = np.zeros([3, 4, 3], np.uint8)
    assert transforms.resize_to_range(image, ResizeConfig()) is image
    assert transforms.resize_label_to_range(image[:, :, 0], ResizeConfig()).dtype == np.uint8


@pytest.mark.parametrize("case", [0, 1, 2, 3, 4, 7, 8])
def test_resizes_are_the_reference_s(arrays, case):
    image, label = arrays[f"rs{case}_in"], arrays[f"rs{case}_lin"]
    expected, expected_label = arrays[f"rs{case}_bilinear"], arrays[f"rs{case}_nearest"]
    size = np.int32(expected.shape[:2])
    np.testing.assert_allclose(both_ways(transforms.resize_bilinear, image, size), expected, atol=1e-5)
    np.testing.assert_array_equal(both_ways(transforms.resize_nearest, label, size), expected_label)


def test_bilinear_by_hand():
    image = np.float32([[0, 2], [4, 6]])[:, :, np.newaxis]
    resized = transforms.resize_bilinear(image, [3, 3])[:, :, 0]
    np.testing.assert_array_equal(resized, [[0, 1, 2], [2, 3, 4], [4, 5, 6]])


def test_nearest_rounds_halves_up():
    label = np.uint8([[1, 2], [3, 4]])
    expected = [[1, 2, 2], [3, 4, 4], [3, 4, 4]]  # the middle lies at 0.5
    np.testing.assert_array_equal(transforms.resize_nearest(label, [3, 3]), expected)
    points = tf.constant([0.0, 0.5, 1.0])
    np.testing.assert_array_equal(both_ways(transforms.sample_nearest, label, points, points), expected)


def test_nearest_does_not_round_up_just_below_a_half():
    points = tf.constant([np.nextafter(np.float32(0.5), np.float32(0))])
    assert transforms.sample_nearest(np.uint8([[1, 2]]), tf.constant([0.0]), points).numpy() == [[1]]


# --- Padding ------------------------------------------------------------------------------------------------


def test_pad_to_by_hand():
    label = np.uint8([[1, 2]])
    pad = both_ways(lambda x: transforms.pad_to(x, 2, 3, 255), label)
    np.testing.assert_array_equal(pad, [[1, 2, 255], [255, 255, 255]])
    assert pad.dtype == np.uint8
    mirrored = transforms.pad_to(label, 2, 3, 255, at_left=tf.constant(True))
    np.testing.assert_array_equal(mirrored, [[255, 1, 2], [255, 255, 255]])


@pytest.mark.parametrize("at_left", [False, True])
def test_pad_to_with_a_value_for_each_channel(at_left):
    image = np.full([2, 2, 3], 7, np.float32)
    padded = both_ways(lambda x: transforms.pad_to(x, 3, 4, slim.IMAGENET_MEAN, at_left), image)
    expected = np.broadcast_to(np.float32(slim.IMAGENET_MEAN), [3, 4, 3]).copy()
    expected[:2, 2:] = 7
    np.testing.assert_array_equal(padded, expected if at_left else expected[:, ::-1])


def test_pad_to_a_size_it_has():
    image = np.float32(np.arange(12).reshape(2, 2, 3))
    for value in (1.0, (1.0, 2.0, 3.0)):
        np.testing.assert_array_equal(transforms.pad_to(image, 2, 2, value), image)


# --- Crops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [0, 7])
def test_scaling_is_the_reference_s(arrays, cases, case):
    image, label = arrays["img"], arrays["lab"]
    height, width = transforms.scaled_size(np.array([37, 53]), cases["scale"][str(case)])
    rows, columns = transforms.crop_points(0, height, 37, height), transforms.crop_points(0, width, 53, width)
    scaled = both_ways(transforms.sample_bilinear, image, rows, columns)
    np.testing.assert_allclose(scaled, arrays[f"scale{case}_img"], atol=1e-4)
    scaled = both_ways(transforms.sample_nearest, label, rows, columns)
    np.testing.assert_array_equal(scaled, arrays[f"scale{case}_lab"])


def test_crop_points_by_hand():
    np.testing.assert_array_equal(transforms.crop_points(1, 3, 3, 5), [0.5, 1, 1.5])
    np.testing.assert_array_equal(transforms.crop_points(1, 3, 3, 5, mirrored=True), [1.5, 1, 0.5])
    np.testing.assert_array_equal(transforms.crop_points(0, 1, 9, 1), [0])  # a side of one pixel shows the first
    np.testing.assert_array_equal(transforms.crop_points(2, 2, 1, 4), [0, 0])


def test_covered_by_hand():
    assert [int(x) for x in transforms.covered(np.float32([0.5, 1.0, 1.5]), 5)] == [0, 3]
    assert [int(x) for x in transforms.covered(np.float32([3.5, 2.0]), 5)] == [2, 3]
    assert [int(x) for x in transforms.covered(np.float32([4.0]), 5)] == [4, 1]  # nothing lies beyond the edge


@pytest.mark.parametrize("seed", range(8))
def test_a_sampled_crop_equals_the_crop_of_the_resized_image(seed):
    draw = np.random.default_rng(seed)
    height, width, tall, wide = (int(n) for n in draw.integers(1, [40, 40, 90, 90]))
    image = draw.integers(0, 255, [height, width, 3]).astype(np.uint8)
    label = draw.integers(0, 255, [height, width]).astype(np.uint8)
    top, left = int(draw.integers(tall)), int(draw.integers(wide))
    rows = transforms.crop_points(top, tall - top, height, tall)
    columns = transforms.crop_points(left, wide - left, width, wide, mirrored=True)
    resized, resized_label = (
        transforms.resize_bilinear(image, [tall, wide]),
        transforms.resize_nearest(label, [tall, wide]),
    )
    crop = transforms.sample_bilinear(image, rows, columns)
    np.testing.assert_array_equal(crop, resized[top:, left:][:, ::-1])
    np.testing.assert_array_equal(transforms.sample_nearest(label, rows, columns), resized_label[top:, left:][:, ::-1])
    first, count = (int(number) for number in transforms.covered(rows, height))
    part = transforms.sample_bilinear(image[first : first + count], rows - first, columns)
    np.testing.assert_array_equal(part, crop)
