"""JPEG artifacts."""

import numpy as np
from support.augmentations import IMAGE, LABEL, draws

from deeplab.data.augmentation.jpeg_quality import JpegQuality


def test_lower_qualities_change_more():
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.float32)[:, np.newaxis, np.newaxis], (1, 64, 3))
    smooth[..., 0] = 200  # a reddish image must stay reddish: red and blue are not exchanged
    low, high = (JpegQuality(amount).changed(smooth, LABEL, draws(5))[0] for amount in (1.0, 95.0))
    assert np.abs(high - smooth).mean() < np.abs(low - smooth).mean()
    assert np.abs(high - smooth).mean() < 3 and IMAGE.dtype == high.dtype
