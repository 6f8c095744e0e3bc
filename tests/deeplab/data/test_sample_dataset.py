"""The drawn portraits."""

import numpy as np
from PIL import Image
from support.errors import raises

from deeplab.data import sample_dataset


def test_a_portrait_has_its_size_and_its_classes():
    image, label = sample_dataset.draw_portrait(np.random.default_rng(3), 96, 120)
    assert image.shape == (96, 120, 3) and image.dtype == np.uint8
    assert label.shape == (96, 120) and set(np.unique(label)) <= {0, 1, 2}


def test_portraits_are_mostly_background_and_hold_hair_and_skin():
    labels = [sample_dataset.draw_portrait(np.random.default_rng(seed), 128, 128)[1] for seed in range(12)]
    shares = np.bincount(np.concatenate([label.ravel() for label in labels]), minlength=3) / (12 * 128 * 128)
    assert shares[0] > 0.5 and shares[1] > 0.04 and shares[2] > 0.06


def test_the_same_seed_draws_the_same():
    one, two = (sample_dataset.draw_portrait(np.random.default_rng(5), 80, 90) for _ in range(2))
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()
    assert (sample_dataset.draw_portrait(np.random.default_rng(6), 80, 90)[0] != one[0]).any()


def test_the_set_has_images_color_masks_and_split_lists(tmp_path):
    sample_dataset.write_sample_set(tmp_path / "set", 5)
    train = (tmp_path / "set" / "lists" / "train.txt").read_text().split()
    val = (tmp_path / "set" / "lists" / "val.txt").read_text().split()
    assert len(train) == 4 and len(val) == 1 and not set(train) & set(val)
    for name in train + val:
        image = Image.open(tmp_path / "set" / "images" / f"{name}.jpg")
        mask = np.array(Image.open(tmp_path / "set" / "color_masks" / f"{name}.png"))
        assert image.size == mask.shape[1::-1]
        assert {tuple(color) for color in mask.reshape(-1, 3)} <= {(0, 0, 255), (255, 0, 0), (0, 255, 0)}


def test_a_set_that_is_there_is_not_overwritten(tmp_path):
    sample_dataset.write_sample_set(tmp_path, 2)
    with raises("would-overwrite", where=tmp_path):
        sample_dataset.write_sample_set(tmp_path, 2)
