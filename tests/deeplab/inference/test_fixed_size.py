"""How images are prepared for files of one size: as `prediction.prepare` does it inside other exports."""

import numpy as np
import pytest
from support.golden_recipe import image

from deeplab.config.data_config import ResizeConfig
from deeplab.data import transforms
from deeplab.data.bands import ImageBands
from deeplab.inference.fixed_size import FixedInput


@pytest.mark.parametrize("size", [(65, 97), (40, 97), (65, 30), (12, 9)])
@pytest.mark.parametrize("color", [(127.5, 127.5, 127.5), (123.68, 116.78, 103.94), (0.0,)])
def test_padding_is_that_of_other_exports(size, color):
    pixels = image(*size)[0]
    padded, inner = FixedInput((65, 97), color, ResizeConfig()).prepare(pixels)
    expected = transforms.pad_to(pixels.astype(np.float32), 65, 97, color)
    assert padded.dtype == np.float32 and inner == size
    np.testing.assert_array_equal(padded, expected)


@pytest.mark.parametrize("color", [(), (1.0, 2.0), (1.0, 1.0, 1.0, 1.0)])
def test_a_color_for_another_number_of_channels_is_refused(color):
    with pytest.raises(ValueError, match=f"{len(color)} colors"):
        FixedInput((65, 97), color, ResizeConfig())
    FixedInput((65, 97), (1.0,) * 5, ResizeConfig(), bands=ImageBands(5))
