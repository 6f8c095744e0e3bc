"""Sampling by OpenCV equals sampling in TensorFlow, for any number of channels."""

import gc

import cv2
import numpy as np
import pytest

from deeplab.data import remapping, transforms

RNG = np.random.default_rng(0)
needs_exact = pytest.mark.skipif(not remapping.is_exact(), reason="the installed OpenCV rounds points to 1/32 pixel")


def case(number, channels):
    """An image, its label, and the points of a random crop of a random scale."""
    draw = np.random.default_rng(number)
    height, width = draw.integers(1, 90, 2)
    image = draw.integers(0, 256, (height, width, channels), np.uint8)
    label = draw.integers(0, 9, (height, width), np.uint8)
    points = []
    for source, crop in zip((height, width), (70, 80), strict=True):
        scaled = max(1, int(source * draw.uniform(0.4, 2.2)))
        count = min(scaled, crop)
        start = draw.integers(scaled - count + 1)
        points.append(transforms.crop_points(start, count, source, scaled, bool(number % 2)))
    return image, label, *points, bool(number % 2)


@needs_exact
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 10])
def test_equals_sampling_in_tensorflow(channels):
    color = RNG.uniform(0, 255, channels).tolist()
    for number in range(8):
        image, label, rows, columns, at_left = case(number, channels)
        expected = transforms.sample_bilinear(image, rows, columns)
        expected = transforms.pad_to(expected, 70, 80, color, at_left)
        labels = transforms.pad_to(transforms.sample_nearest(label, rows, columns), 70, 80, 255, at_left)
        found = remapping.at_points(image, label, rows, columns, (70, 80), color, 255, at_left)
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=remapping.TOLERANCE)
        np.testing.assert_array_equal(found[1], labels)


@needs_exact
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_fills_given_arrays_with_labels_of_any_size(dtype):
    image, label, rows, columns, at_left = case(3, 3)
    label = label.astype(dtype) * (np.iinfo(dtype).max // 9)
    arguments = (rows, columns, (70, 80), (1.0, 2.0, 3.0), int(np.iinfo(dtype).max), at_left)
    crop, labels = remapping.at_points(image, label, *arguments)
    assert labels.dtype == dtype
    images, all_labels = np.full((3, 70, 80, 3), -1, np.float32), np.full((3, 70, 80), -1, np.int32)
    remapping.at_points(image, label, *arguments, target=(images[1], all_labels[1]))
    np.testing.assert_array_equal(images[1], crop)
    np.testing.assert_array_equal(all_labels[1], labels)
    assert np.all(images[::2] == -1) and np.all(all_labels[::2] == -1)
    motion = remapping.Motion(np.array([[1.0, 0.1, 2.0], [0.0, 1.0, -1.0], [0.0, 0.0, 1.0]]))
    moved, moved_labels = remapping.moved(image, label, motion, (70, 80), (1.0, 2.0, 3.0), 0)
    remapping.moved(image, label, motion, (70, 80), (1.0, 2.0, 3.0), 0, target=(images[1], all_labels[1]))
    np.testing.assert_array_equal(images[1], moved)
    np.testing.assert_array_equal(all_labels[1], moved_labels)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("mirrored", [False, True])
def test_whole_pixels_are_copied(channels, mirrored):
    """At scale 1 nothing is sampled."""
    image, label = RNG.integers(0, 256, (30, 40, channels), np.uint8), RNG.integers(0, 9, (30, 40), np.uint8)
    rows = transforms.crop_points(3, 20, 30, 30)
    columns = transforms.crop_points(5, 25, 40, 40, mirrored)
    found = remapping.at_points(image, label, rows, columns, (20, 25), [0.0] * channels, 255, mirrored)
    for given, crop in zip((image, label), found, strict=True):
        part = given[3:23, 5:30]
        np.testing.assert_array_equal(crop, part[:, ::-1] if mirrored else part)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_motions_move_image_and_label_and_pad_the_rest(channels):
    image, label = RNG.integers(0, 256, (8, 9, channels), np.uint8), RNG.integers(0, 4, (8, 9), np.uint8)
    shift = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0], [0.0, 0.0, 1.0]])  # two to the right, one up
    moved, labels = remapping.moved(image, label, remapping.Motion(shift), (8, 9), range(channels), 255)
    np.testing.assert_allclose(moved[1:, :-2], image[:-1, 2:], atol=1e-3)
    np.testing.assert_array_equal(labels[1:, :-2], label[:-1, 2:])
    assert np.all(labels[0] == 255) and np.all(labels[:, -2:] == 255)
    assert np.all(moved[0] == np.arange(channels)) and np.all(moved[:, -2:] == np.arange(channels))


def test_reach_holds_all_points():
    tilted = np.array([[0.9, 0.2, 3.0], [-0.1, 1.1, 2.0], [0.001, 0.002, 1.0]])
    motion = remapping.Motion(tilted, RNG.uniform(-2, 2, (20, 30, 2)).astype(np.float32))
    across, down = motion.points(slice(0, 20), 30)
    (left, top), (right, bottom) = motion.reach((20, 30))
    assert left <= across.min() and across.max() <= right
    assert top <= down.min() and down.max() <= bottom


@pytest.mark.parametrize("rows_at_once", [1, 7, 20])
def test_strips_of_rows_make_no_difference(monkeypatch, rows_at_once):
    image = RNG.integers(0, 256, (23, 31, 3)).astype(np.uint8)
    label = RNG.integers(0, 9, (23, 31)).astype(np.uint8)
    tilted = np.array([[0.9, 0.2, 3.0], [-0.1, 1.1, 2.0], [0.001, 0.002, 1.0]])
    motion = remapping.Motion(tilted, RNG.uniform(-2, 2, (20, 30, 2)).astype(np.float32))
    rows, columns = np.linspace(0, 22, 18, dtype=np.float32), np.linspace(1, 29, 27, dtype=np.float32)

    def crops():
        moved = remapping.moved(image, label, motion, (20, 30), (1, 2, 3), 255)
        return [*moved, *remapping.at_points(image, label, rows, columns, (20, 30), (1, 2, 3), 255, True)]

    whole = crops()
    monkeypatch.setattr(remapping, "_STRIP", rows_at_once)
    for found, expected in zip(crops(), whole, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_opencv_has_its_threads_again_after_the_block():
    before = cv2.getNumThreads()
    with pytest.raises(KeyError), remapping.one_thread_per_image():
        assert cv2.getNumThreads() == 1
        raise KeyError
    assert cv2.getNumThreads() == before


def test_memory_is_used_again_only_when_nothing_refers_to_it():
    shape = (31, 17)
    first = remapping.empty(shape, np.float32)
    second = remapping.empty(shape, np.float32)
    part = first[3:]
    places = {first.ctypes.data, second.ctypes.data}
    assert len(places) == 2 and all(place % 64 == 0 for place in places)
    address = first.ctypes.data
    del first
    gc.collect()
    assert remapping.empty(shape, np.float32).ctypes.data != address  # `part` still refers to it
    del part
    gc.collect()
    assert remapping.empty(shape, np.float32).ctypes.data == address
