"""Quarter turns."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.rot90 import Rot90


def test_all_three_turns_occur_and_are_exact():
    found = set()
    for number in range(20):
        image, label = Rot90(1.0).changed(IMAGE, LABEL, draws(number))
        turn = next(turn for turn in (1, 2, 3) if np.array_equal(label, np.rot90(LABEL, turn)))
        np.testing.assert_allclose(image, np.rot90(IMAGE, turn), atol=1e-2)
        found.add(turn)
    assert found == {1, 2, 3}
