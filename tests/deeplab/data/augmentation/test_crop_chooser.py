"""Crops around a pixel of some class, and crops that no class fills."""

import numpy as np

from deeplab.data.augmentation.crop_chooser import CropChooser

LABEL = np.zeros((60, 80), np.uint8)
LABEL[40:44, 60:63] = 1
LABEL[:10, :10] = 255


def chosen(way, position, label=LABEL, scale=2, count=(20, 30), start=(0, 0)):
    scaled = scale * np.array(label.shape)
    (found,) = CropChooser(way, 255).choose(label, scaled, np.array(count), np.array(start, np.int32), (1, position))
    assert found.dtype == np.int32 and np.all(found >= 0) and np.all(found + count <= scaled)
    return found


def test_every_class_is_in_the_middle_equally_often():
    corners = np.array([chosen("class_centered", number) for number in range(200)])
    around_one = (np.abs(np.add(corners, (9.5, 14.5)) / 2 - (42, 61.5)) < (4, 4)).all(1)
    assert 70 < around_one.sum() < 130


def test_the_crop_stays_in_the_image():
    for number in range(30):
        assert np.all(chosen("class_centered", number, scale=1, count=(60, 80)) == 0)


def test_a_crop_with_one_class_is_drawn_again():
    found = [chosen("max_one_class_0.9", number, scale=1, count=(8, 8), start=(15, 15)) for number in range(60)]
    mixed = [1 - (LABEL[y : y + 8, x : x + 8] == 0).mean() > 0.1 for y, x in found]
    assert sum(mixed) > 3  # without another try there would be none
    kept = chosen("max_one_class_0.9", 0, scale=1, count=(8, 8), start=(38, 58))
    assert tuple(kept) == (38, 58)


def test_labels_without_a_class():
    empty = np.full((60, 80), 255, np.uint8)
    assert tuple(chosen("class_centered", 0, empty, start=(7, 9))) == (7, 9)
    assert tuple(chosen("max_one_class_0.75", 0, empty, start=(7, 9))) != (7, 9)  # drawn again: labels may be elsewhere
