"""Bits of labels by classes and ignore label; many classes from masks to predictions, where none wraps around."""

import base64
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image
from support.errors import raises

import deeplab
from deeplab import build_data, check_data, checkpoint, export_model, predict, train, vis
from deeplab import eval as evaluate
from deeplab.checkpoint import manager
from deeplab.data.label_bits import as_label, bits_of, usual_ignore_label
from deeplab.inference.predictor import Prediction, Predictor
from deeplab.serving import segmentation_json


@pytest.mark.parametrize(
    ("num_classes", "ignore_label", "bits"),
    [(2, 255, 8), (256, 255, 8), (257, 0, 16), (1203, 65535, 16), (21, 256, 16), (None, 255, 8), (None, 65535, 16)],
)
def test_bits(num_classes, ignore_label, bits):
    assert bits_of(num_classes, ignore_label) == bits


def test_usual_ignore_labels():
    assert [usual_ignore_label(number) for number in (None, 2, 256, 257, 3000)] == [255, 255, 255, 65535, 65535]


def test_labels_have_the_type_that_the_classes_need():
    low, high = np.array([[0, 255]]), np.array([[0, 300]])
    assert as_label(low).dtype == as_label(low, 256).dtype == np.uint8
    assert as_label(low, 257).dtype == as_label(high).dtype == as_label(high, 1000).dtype == np.uint16
    assert as_label(high, 1000).tolist() == as_label(high.astype(np.uint16), 1000).tolist() == [[0, 300]]
    assert as_label(low.astype(np.uint8), 300).dtype == np.uint16
    same = low.astype(np.uint8)
    assert as_label(same, 3) is same
    assert as_label(np.zeros((0, 3), np.int64)).dtype == np.uint8


@pytest.mark.parametrize(
    ("values", "num_classes"), [([256], 256), ([-1], 3), ([-1], None), ([65536], None), ([65536], 999)]
)
def test_no_class_becomes_another_one(values, num_classes):
    with raises("label-out-of-range", where="label") as caught:
        as_label(np.array([values]), num_classes)
    assert caught.value.value == values[0]


# --- From masks to predictions ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[300, 1000])
def trained(request, tmp_path_factory):
    """A model of so many classes after two steps: number, masks by name, folder of images, of records, of training."""
    root, number, draw = tmp_path_factory.mktemp("many"), request.param, np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "masks").mkdir()
    masks = {}
    for index in range(5):
        mask = np.kron(draw.integers(257, number, (5, 6)), np.ones((8, 8), int)).astype(np.uint16)
        mask[:8, :8], mask[32:, :8], mask[:8, 40:] = 255, 65535, number - 1
        masks[f"{index}"] = mask
        cv2.imwrite(str(root / "masks" / f"{index}.png"), mask)
        cv2.imwrite(str(root / "images" / f"{index}.png"), draw.integers(0, 255, (40, 48, 3), np.uint8))
    folders = [f"--image_folder={root}/images", f"--mask_folder={root}/masks"]
    words = ["folder", *folders, f"--num_classes={number}", f"--output_dir={root}/records", "--num_shards=1"]
    assert build_data.COMMAND.main(words) == 0
    words = [f"--dataset_dir={root}/records", f"--train_logdir={root}/log", "--training_number_of_steps=2"]
    words += ["--train_crop_size=33,33", "--train_batch_size=2", "--depth_multiplier=0.25"]
    words += ["--rotation=10", "--class_mix=0.5", f"--label_weights={','.join(['1'] * number)}"]
    assert train.COMMAND.main(words) == 0
    opened = checkpoint.open(root / "log")
    tensors = opened.arrays()
    tensors["logits/semantic/biases"][:256] -= 100  # so that only classes are predicted that 8 bits would not hold
    manager.save_step(root / "log", opened.step, tensors)
    return number, masks, root


def test_records_hold_the_masks_of_many_classes(trained):
    number, masks, root = trained
    data = deeplab.load_dataset(root / "records")
    assert (data.num_classes, data.ignore_label, data.label_bits) == (number, 65535, 16)
    found = {}
    for split in data.splits:
        for one in data.images(split, as_dict=True):
            found[one["image_name"].numpy().decode()] = one["label"].numpy()
    assert found.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask)
    _, label = next(iter(data.train_batches(crop_size=49, batch_size=2, augmentation="strong", seed=1)))
    values = set(np.unique(label).tolist())
    assert values <= {255, 65535, *range(257, number)} and len(values) > 5


def test_many_classes_are_checked_and_evaluated(trained, capsys):
    number, masks, root = trained
    page, listing = root / "check.html", root / "check.json"
    assert check_data.COMMAND.main([f"--dataset_dir={root}/records", f"--html={page}", f"--json={listing}"]) == 0
    assert len(capsys.readouterr().out.splitlines()) < 200  # not a row for each class
    assert "rarer classes" in page.read_text() or number < 1000
    for folded in (page, root / "log" / "report.html"):
        assert f"<details><summary>All {number} classes</summary>" in folded.read_text()
    words = [f"--dataset_dir={root}/records", f"--checkpoint_dir={root}/log", f"--eval_logdir={root}/eval"]
    assert evaluate.COMMAND.main(words) == 0
    assert len(capsys.readouterr().out.splitlines()) < 100
    content = json.loads((root / "eval" / "metrics.json").read_text())
    assert "confusion_matrix" not in content
    row, column, pixels = np.array(content["confusion_cells"]).T
    counts = np.zeros((number, number), int)
    np.add.at(counts, (row, column), pixels)
    assert len(pixels) == np.count_nonzero(counts) and (pixels > 0).all()
    split = deeplab.load_dataset(root / "records").images("val", as_dict=True)
    labels = np.concatenate([masks[one["image_name"].numpy().decode()].ravel() for one in split])
    assert len(content["classes"]) == number
    np.testing.assert_array_equal(counts.sum(1), np.bincount(labels[labels != 65535], minlength=number))
    assert max(Image.open(root / "eval" / "confusion_matrix.png").size) < 3000
    assert max(Image.open(root / "eval" / "class_iou.png").size) < 3000


def test_predictions_of_many_classes_are_the_same_everywhere(trained):
    number, _, root = trained
    words = [f"--dataset_dir={root}/records", f"--checkpoint_dir={root}/log", f"--vis_logdir={root}/vis"]
    assert vis.COMMAND.main([*words, "--also_save_raw_predictions"]) == 0
    words = [f"--checkpoint_path={root}/log", f"--export_path={root}/export", "--crop_size=65,65"]
    assert export_model.COMMAND.main(words) == 0
    with deeplab.Segmenter(root / "log") as segmenter:
        for path in sorted((root / "vis" / "raw_segmentation_results").iterdir()):
            result = segmenter(root / "images" / path.name)
            assert result.labels.dtype == np.uint16 and result.probabilities.shape[-1] == number
            np.testing.assert_array_equal(result.labels, result.probabilities.argmax(-1))
            assert result.labels.min() > 255
            image = Image.open(path)
            assert image.mode == "I;16"
            np.testing.assert_array_equal(np.asarray(image), result.labels)
            names = [f"class_{index}" if index else "background" for index in range(number)]
            assert {name for name, part in result.fractions().items() if part} <= set(names)
    padded = deeplab.Segmenter(root / "log", crop_size=65)(root / "images" / path.name)
    frozen = deeplab.Segmenter(root / "export" / "frozen_inference_graph.pb")(root / "images" / path.name)
    assert (frozen.labels != padded.labels).mean() < 0.01 and frozen.labels.dtype == np.uint16
    words = [f"--model={root}/export", f"--input={root}/images", f"--output_dir={root}/out", "--overlay_legend"]
    assert predict.COMMAND.main(words) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(root / "out" / "mask" / path.name)), frozen.labels)


class Silent(Predictor):
    """A Predictor that has classes, and is not asked."""

    def _predict(self, image, probabilities):
        raise NotImplementedError


def test_answers_of_a_server_hold_classes_beyond_255():
    labels = np.array([[0, 43, 299]], np.int32)
    answer = segmentation_json.content("m", Silent("m", 300), Prediction(labels, None), False)
    images = {name: Image.open(io.BytesIO(base64.b64decode(answer[name]))) for name in ("labels_png", "labels_rgb_png")}
    assert np.asarray(images["labels_png"]).tolist() == labels.tolist()
    low, high, _ = np.moveaxis(np.asarray(images["labels_rgb_png"]).astype(int), -1, 0)
    assert (low + 256 * high).tolist() == labels.tolist()
    assert answer["classes"][299]["fraction"] == pytest.approx(1 / 3)
    assert "labels_rgb_png" not in segmentation_json.content("m", Silent("m", 44), Prediction(labels % 44, None), False)
