"""Rare classes of other images."""

import numpy as np

from deeplab.data.augmentation.copy_paste import CopyPaste, rare_classes

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (3, 20, 30)).astype(np.int32)


def test_images_with_a_rare_class_give_it():
    labels = np.zeros((3, 20, 30), np.int32)
    labels[2, 3:6, 4:9] = 3
    ((donor, _, where),) = CopyPaste(1.0, rare_classes=(3,)).pasted(labels, 0, RNG)
    assert donor == 2 and where.sum() == 15
    assert CopyPaste(1.0, rare_classes=(3,)).pasted(labels, 2, RNG) == []  # it is the only one that has it


def test_classes_with_few_pixels_are_rare():
    assert rare_classes((900, 60, 40, 0)) == (1, 2)  # a third each would be 333, a quarter of which is 83
    assert rare_classes((10, 10)) == () and rare_classes(()) == ()
