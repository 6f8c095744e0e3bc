"""The quality of formats with reduced precision: on labels where there are some, else beside the model."""

import io

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.config.export_config import ExportConfig
from deeplab.data import records
from deeplab.data.bands import RGB
from deeplab.data.mask_files import encode_label
from deeplab.export import quality
from deeplab.inference.predictor import Prediction


@pytest.fixture
def folder(tmp_path):
    """Six images whose left half is class 0 and whose right half is class 1; the first row is ignored."""
    (tmp_path / "dataset.yml").write_text("classes: [ground, thing]\n")
    label = np.repeat([[0, 1]], 4, axis=0).repeat(6, axis=1).astype(np.uint8)
    label[0] = 255
    with records.ShardWriter(tmp_path, records.shard_name("val", 0, 1)) as writer:
        for index in range(6):
            buffer = io.BytesIO()
            Image.fromarray(np.full((4, 12, 3), index, np.uint8)).save(buffer, "png")
            writer.write(records.encode_example(buffer.getvalue(), "png", str(index), 4, 12, encode_label(label)))
        writer.publish()
    return tmp_path


def config(folder, **others) -> ExportConfig:
    return ExportConfig(checkpoint_path="c", export_path="e", dataset_dir=str(folder), **others)


def test_mean_iou_is_that_of_the_labels(folder):
    images = quality.labeled_images(config(folder, quality_images=3), 2, (4, 12), RGB)
    assert images is not None and [int(image[0, 0, 0]) for image, _ in images.pairs] == [0, 2, 5]

    def half(image):
        return Prediction(np.arange(12)[np.newaxis].repeat(len(image), 0) // 6, None)

    assert images.mean_iou(half, "a file") == 1
    # All of class 0: its IoU is 1/2, that of class 1 is 0.
    assert images.mean_iou(lambda image: Prediction(np.zeros(image.shape[:2], int), None), "a file") == 0.25


def test_larger_images_are_shrunk_with_their_labels(folder):
    images = quality.labeled_images(config(folder), 2, (6, 6), RGB)
    assert images is not None and len(images.pairs) == 6
    image, label = images.pairs[0]
    assert image.shape == (2, 6, 3) and label.shape == (2, 6) and label[-1].tolist() == [0, 0, 0, 1, 1, 1]


def test_without_labels_there_is_a_note(folder, tmp_path, capsys):
    for given in (
        ExportConfig(checkpoint_path="c", export_path="e"),
        config(folder, quality_split="test"),
        config(tmp_path / "gone"),
    ):
        assert quality.labeled_images(given, 2, (4, 12), RGB) is None
        assert "compared with the model" in capsys.readouterr().err


def test_another_number_of_classes_is_refused(folder):
    with raises("class-count-mismatch", field="dataset_dir"):
        quality.labeled_images(config(folder), 3, (4, 12), RGB)


@pytest.mark.parametrize(("loss", "agreement"), [(0.01, 0.1), (-0.02, 0.5), (None, 0.9)])
def test_what_is_good_enough(loss, agreement):
    quality.require_enough("f", loss, agreement, ExportConfig(checkpoint_path="c", export_path="e"))


@pytest.mark.parametrize(
    ("loss", "agreement", "field", "value"),
    [
        (0.0123, 1.0, "max_miou_drop", 0.0123),
        (float("nan"), 1.0, "max_miou_drop", None),
        (None, 0.89, "min_label_agreement", 0.89),
    ],
)
def test_what_is_not(loss, agreement, field, value):
    with raises("export-loses-quality", field=field, where="f") as caught:
        quality.require_enough("f", loss, agreement, ExportConfig(checkpoint_path="c", export_path="e"))
    assert value is None or (caught.value.value == value and str(value) in str(caught.value))
