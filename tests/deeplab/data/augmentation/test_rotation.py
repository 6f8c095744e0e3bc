"""Rotation about the center."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.rotation import Rotation


def test_angles_are_evenly_distributed_up_to_the_amount():
    draw = draws()
    matrices = [Rotation(30.0).matrix(draw, (11, 21)) for _ in range(1000)]
    angles = np.rad2deg([np.arctan2(matrix[1, 0], matrix[0, 0]) for matrix in matrices])
    assert -30 <= angles.min() < -27 and 27 < angles.max() <= 30 and abs(angles.mean()) < 2
    np.testing.assert_allclose([matrix @ (10, 5, 1) for matrix in matrices], [(10, 5, 1)] * 1000, atol=1e-9)


def test_what_turns_in_is_padding():
    image, label = Rotation(45.0, padding_color=(1.0, 2.0, 3.0), ignore_label=9).changed(IMAGE, LABEL, draws(3))
    assert label[0, 0] == 9 and tuple(image[0, 0]) == (1.0, 2.0, 3.0)
    assert label[10, 10] == LABEL[10, 10]
