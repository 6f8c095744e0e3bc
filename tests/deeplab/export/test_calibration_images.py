"""The choice of calibration images: every class from records, a seeded choice from folders."""

import io

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.export_config import ExportConfig
from deeplab.data import records
from deeplab.data.bands import RGB, ImageBands
from deeplab.data.mask_files import encode_label
from deeplab.export import calibration_images

RARE = 40  # the only image with class 2


def classes() -> list[set[int]]:
    """50 images of class 0, of which five have class 1 and one has class 2."""
    return [{0} | ({1} if index % 10 == 3 else set()) | ({2} if index == RARE else set()) for index in range(50)]


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(5))
def test_rare_classes_are_chosen_first(seed):
    chosen = calibration_images.stratified(classes(), 9, np.random.default_rng(seed))
    assert len(chosen) == len(set(chosen)) == 9 and RARE in chosen
    assert sum(1 in classes()[index] for index in chosen) >= 4
    assert calibration_images.stratified(classes(), 9, np.random.default_rng(seed)) == chosen


def test_all_are_taken_where_there_are_not_more():
    assert calibration_images.stratified(classes(), 80, np.random.default_rng(0)) == list(range(50))
    assert calibration_images.stratified([set(), set()], 1, np.random.default_rng(0))[0] in (0, 1)


@pytest.fixture
def record_folder(tmp_path):
    with records.ShardWriter(tmp_path, records.shard_name("train", 0, 1)) as writer:
        for index, members in enumerate(classes()):
            label = np.zeros((8, 12), np.uint8)
            for each in members:
                label[each] = each
            image = np.full((8, 12, 3), index, np.uint8)
            writer.write(records.encode_example(encoded(image), "png", str(index), 8, 12, encode_label(label)))
        writer.publish()
    return tmp_path


def test_records_are_spread_over_their_classes(record_folder, capsys):
    config = ExportConfig(checkpoint_path="c", export_path="e", dataset_dir=str(record_folder), calibration_count=5)
    chosen = calibration_images.choose(config, (6, 6), ImageBands(4))
    assert [image.shape for image in chosen] == [(4, 6, 4)] * 5
    numbers = [int(image[0, 0, 0]) for image in chosen]
    assert RARE in numbers and sum(number % 10 == 3 for number in numbers) >= 1
    assert "only 5 images for calibration" in capsys.readouterr().err


def test_folders_give_a_seeded_choice(tmp_path):
    for index in range(12):
        Image.fromarray(np.full((5, 5, 3), index, np.uint8)).save(tmp_path / f"{index}.png")

    def numbers(seed):
        config = ExportConfig(
            checkpoint_path="c",
            export_path="e",
            calibration_images=str(tmp_path),
            calibration_count=4,
            calibration_seed=seed,
        )
        return [int(image[0, 0, 0]) for image in calibration_images.choose(config, (9, 9), RGB)]

    assert len(set(numbers(0))) == 4 and numbers(0) == numbers(0)
    assert any(numbers(seed) != numbers(0) for seed in (1, 2, 3))


def test_without_images_there_is_no_calibration(tmp_path):
    config = ExportConfig(checkpoint_path="c", export_path="e", dataset_dir=str(tmp_path / "gone"))
    assert not calibration_images.is_given(config)
    with raises("missing-setting", field="calibration_images"):
        calibration_images.choose(config, (9, 9), RGB)
    with raises("folder-not-found", field="calibration_images"):
        calibration_images.choose(
            ExportConfig(checkpoint_path="c", export_path="e", calibration_images=str(tmp_path / "gone")), (9, 9), RGB
        )
