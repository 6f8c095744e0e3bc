"""Shear about the center."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.shear import Shear


def test_rows_and_columns_lean_by_up_to_the_amount():
    for number in range(50):
        matrix = Shear(20.0).matrix(draws(number), LABEL.shape)
        assert np.abs(matrix[[0, 1], [1, 0]]).max() <= np.tan(np.deg2rad(20))
        np.testing.assert_allclose(np.diag(matrix), 1.0)
        np.testing.assert_allclose(matrix @ (10, 10, 1), (10, 10, 1), atol=1e-9)
    assert Shear(20.0).changed(IMAGE, LABEL, draws())[0].shape == IMAGE.shape
