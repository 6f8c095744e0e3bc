"""The first images of a training as a file and in TensorBoard."""

import numpy as np
from PIL import Image
from support.callback_battery import CallbackBattery, make_state, run

from deeplab.training.callbacks.augmented_samples import FILE_NAME, AugmentedSamples


class TestAugmentedSamples(CallbackBattery):
    name = "augmented_samples"


def test_the_first_images_are_drawn_once(tmp_path):
    run(AugmentedSamples(), make_state(tmp_path))
    image = np.asarray(Image.open(tmp_path / FILE_NAME))
    assert image.ndim == 3 and image.std() > 5
    assert list(tmp_path.glob("events*.samples"))
    (tmp_path / FILE_NAME).unlink()
    run(AugmentedSamples(), make_state(tmp_path, step=3))
    assert not (tmp_path / FILE_NAME).exists()  # a training that resumes
