"""Gray."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.gray import Gray


def test_channels_become_equal():
    image, _ = Gray(1.0).changed(IMAGE, LABEL, draws())
    np.testing.assert_allclose(image, np.repeat((IMAGE @ (0.299, 0.587, 0.114))[..., np.newaxis], 3, -1), atol=1e-3)
