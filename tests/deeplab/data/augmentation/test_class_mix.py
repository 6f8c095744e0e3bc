"""Half of the classes of other images."""

import numpy as np

from deeplab.data.augmentation.class_mix import ClassMix

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, (3, 20, 30)).astype(np.int32)


def test_half_of_the_classes_and_never_ignored_pixels_are_pasted():
    labels = LABELS.copy()
    labels[:, :5] = 255
    for number in range(20):
        ((donor, _, where),) = ClassMix(1.0).pasted(labels, 0, np.random.default_rng(number))
        pasted = np.unique(labels[donor][where])
        assert donor in (1, 2) and len(pasted) == 2 and 255 not in pasted
        assert not np.isin(labels[donor][~where], pasted).any()


def test_an_image_without_a_labeled_pixel_gives_nothing():
    ((_, _, where),) = ClassMix(1.0).pasted(np.full_like(LABELS, 255), 0, RNG)
    assert not where.any()
