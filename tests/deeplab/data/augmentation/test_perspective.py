"""Views at an angle."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.perspective import Perspective


def test_corners_move_by_up_to_the_amount():
    corners = np.array([[0, 0, 1], [20, 0, 1], [20, 20, 1], [0, 20, 1]])
    for number in range(20):
        places = corners @ Perspective(0.2).matrix(draws(number), LABEL.shape).T
        assert np.abs(places[:, :2] / places[:, 2:] - corners[:, :2]).max() <= 0.2 * 20 + 1e-3
    assert Perspective(0.2).changed(IMAGE, LABEL, draws())[0].shape == IMAGE.shape


def test_an_image_of_one_row_stays():
    np.testing.assert_array_equal(Perspective(0.2).matrix(draws(), (1, 9)), np.eye(3))
