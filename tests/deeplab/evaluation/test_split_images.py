"""A split as prepared batches, the counting of answers, and the pictures drawn of them."""

import dataclasses
import io
import pathlib
import types

import numpy as np
import pytest
from PIL import Image
from support.errors import raises
from support.golden_recipe import require_same_labels

from deeplab import checkpoint
from deeplab.config.data_config import ResizeConfig
from deeplab.config.fields import make
from deeplab.config.model_config import ModelConfig
from deeplab.data import dataset, records
from deeplab.data.dataset import SizeRange
from deeplab.evaluation import ConfusionMatrix, Report, evaluator
from deeplab.evaluation.split_images import Split, labels_of, original_labels, resized_label
from deeplab.inference import checkpoint_model
from deeplab.inference.prediction import PredictionSettings, predict_image
from deeplab.utils.errors import UserError
from deeplab.visualization import prediction_images
from deeplab.visualization.prediction_grid import CELL, GAP, Row, contact_sheet


def by_red(batch):
    """Stands for a network: 1 where red is above 150, 2 where green is."""
    return [np.where(image[..., 0] > 150, 1, np.where(image[..., 1] > 150, 2, 0)) for image in batch.images]


@pytest.fixture(scope="module")
def pairs(disc_records):
    """The images and labels of split val, by name."""
    shard = disc_records / records.shard_name("val", 0, 1)
    return {
        example[records.FILENAME].decode(): tuple(
            np.asarray(Image.open(io.BytesIO(example[key]))) for key in (records.IMAGE, records.LABEL)
        )
        for example in records.read_shard(shard)
    }


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def split(disc_records):
    settings = PredictionSettings(ModelConfig())
    return Split(dataset.find("", str(disc_records)), str(disc_records), "val", settings)


def with_settings(split, **changes):
    settings = dataclasses.replace(split.settings, **changes)
    return dataclasses.replace(split, settings=settings)


def record(folder, split, *pairs):
    """Writes pairs (image, label) of arrays as a split of one shard."""
    with records.ShardWriter(folder, records.shard_name(split, 0, 1)) as writer:
        for index, (image, label) in enumerate(pairs):
            height, width = image.shape[:2]
            writer.write(records.encode_example(png(image), "png", f"image_{index}", height, width, png(label)))
        writer.publish()


class TestBatches:
    def test_native_size(self, split, pairs):
        batches = list(split.batches())
        assert len(batches) == len(split) == 4
        image, label = pairs["pair_101"]
        batch = batches[1]
        assert batch.pixels is None and batch.names == ["pair_101"] and batch.sizes == [(48, 64)]
        np.testing.assert_array_equal(batch.images[0], image)
        np.testing.assert_array_equal(batch.labels[0], label)

    def test_batches_with_a_crop(self, split, pairs):
        four = dataclasses.replace(with_settings(split, crop_size=(50, 70)), batch_size=3)
        batches = list(four.batches())
        assert [batch.pixels.shape for batch in batches] == [(3, 50, 70, 3), (1, 50, 70, 3)]
        image, label = pairs["pair_102"]
        padded = np.full([50, 70, 3], 127.5)
        padded[:48, :64] = image
        np.testing.assert_array_equal(batches[0].pixels[2], padded)
        np.testing.assert_array_equal(batches[0].labels[2], label)

    def test_labels_are_resized_with_the_images(self, split):
        resized = with_settings(split, resize=ResizeConfig(24, 32))
        batch = next(iter(resized.batches()))
        assert batch.sizes == [(24, 32)] and batch.labels[0].shape == batch.images[0].shape[:2] == (48, 64)
        matrix = ConfusionMatrix(3)
        answer = resized_label(batch.labels[0], resized.settings.resize)
        evaluator.count(batch, [answer], resized, matrix)
        assert matrix.counts.sum() == np.trace(matrix.counts) == 24 * 32

    def test_an_image_larger_than_the_crop_is_named(self, split):
        with pytest.raises(UserError, match=r"pair_100: is 48x64 .*`eval_crop_size`=40,64\n.*`eval_crop_size`=49,65"):
            list(with_settings(split, crop_size=(40, 64)).batches())

    def test_dataset_yml_tells_before_anything_is_done(self, split):
        known = dataclasses.replace(split.dataset, size_range={"val": SizeRange(10, 300, 20, 64)})
        small = dataclasses.replace(with_settings(split, crop_size=(65, 65)), dataset=known)
        with pytest.raises(UserError, match=r"images up to 300 pixels high and 64 wide\n.*`eval_crop_size`=305,65"):
            small.require_crop_fits_all()
        with_settings(small, crop_size=None).require_crop_fits_all()
        with_settings(small, crop_size=(305, 65)).require_crop_fits_all()

    def test_damaged_records_are_named(self, split, tmp_path):
        whole = pathlib.Path(split.shards()[0]).read_bytes()
        (tmp_path / "val-00000-of-00001.tfrecord").write_bytes(whole[:200] + b"x" + whole[201:])
        with pytest.raises(UserError, match=r"val-00000-of-00001\.tfrecord: record 0 .* is damaged"):
            list(dataclasses.replace(split, folder=str(tmp_path)).batches())

    def test_labels_outside_the_classes_are_named(self, split, pairs, tmp_path):
        image, label = pairs["pair_100"]
        record(tmp_path, "val", (image, label), (image, np.full_like(label, 7)))
        with raises("label-out-of-range", where="image_1"):
            list(dataclasses.replace(split, folder=str(tmp_path)).batches())


class TestAnswers:
    def test_one_image_and_a_batch_agree(self, split, small_run):
        trained = checkpoint_model.build(*build_arguments(small_run))
        one = with_settings(split, model=trained.config, crop_size=(49, 65))
        three = dataclasses.replace(one, batch_size=3)
        run = labels_of(trained, one.settings)
        singly = [answer for batch in one.batches() for answer in run(batch)]
        together = [answer for batch in three.batches() for answer in run(batch)]
        assert [answer.shape for answer in singly] == [(48, 64)] * 4
        images = [image for batch in one.batches() for image in batch.images]
        for alone, beside, image in zip(singly, together, images, strict=True):
            probabilities = predict_image(trained.logits_of, image, one.settings).probabilities
            require_same_labels(alone, beside, probabilities, 1e-6)

    def test_back_to_the_stored_size(self):
        labels = np.array([[0, 1], [2, 3]], np.int32)
        resized = original_labels(labels, (2, 4), ResizeConfig(2))
        np.testing.assert_array_equal(resized, [[0, 0, 1, 1], [2, 2, 3, 3]])
        assert original_labels(labels, (2, 2), ResizeConfig()) is labels


def build_arguments(folder):
    opened = checkpoint.open(folder / "model.ckpt-7")
    return make(ModelConfig, checkpoint_model.resolve({}, opened, [ModelConfig])), opened


OPENED = types.SimpleNamespace(prefix="runs/model.ckpt-7", step=7)  # stands for an opened checkpoint


@dataclasses.dataclass
class StandIn:
    """A network as the evaluator wants it, without one."""

    num_classes: int = 3
    checkpoint: str = "runs/model.ckpt-7"
    step: int = 7


class TestEvaluator:
    def test_every_pixel_counts_once(self, split, monkeypatch):
        monkeypatch.setattr(evaluator, "labels_of", lambda network, settings: by_red)
        report = evaluator.Evaluator(StandIn(), split).evaluate(OPENED, {"eval_scales": (1.0,)})
        assert report.counts.sum() == 4 * 48 * 64 and report.num_images == 4 and report.step == 7
        # The drawn colors differ by more than their noise, so that colors tell the class exactly.
        np.testing.assert_array_equal(report.counts, np.diag(report.counts.diagonal()))
        assert (report.counts.diagonal() > 0).all()

    def test_other_number_of_classes(self, split):
        with pytest.raises(UserError, match=r"discs has 3 classes, the network in runs/model\.ckpt-7 21"):
            evaluator.Evaluator(StandIn(num_classes=21), split)

    def test_no_labels(self, split, pairs, tmp_path, monkeypatch):
        image, _ = pairs["pair_100"]
        with records.ShardWriter(tmp_path, records.shard_name("val", 0, 1)) as writer:
            writer.write(records.encode_example(png(image), "png", "bare", 48, 64, b""))
            writer.publish()
        monkeypatch.setattr(evaluator, "labels_of", lambda network, settings: by_red)
        bare = dataclasses.replace(split, folder=str(tmp_path))
        with pytest.raises(UserError, match="no labels to compare with"):
            evaluator.Evaluator(StandIn(), bare).evaluate(OPENED, {})


class TestWords:
    NAMES = ("ground", "disc", "square")

    def test_classes_by_name_and_number(self):
        assert evaluator.class_numbers(("square,0", "square"), self.NAMES) == [0, 2]
        for wrong in ("squares", "3", "-1"):
            with pytest.raises(UserError, match=f"no class is called {wrong!r}"):
                evaluator.class_numbers((wrong,), self.NAMES)

    def test_mean_without(self):
        counts = np.array([[8, 2, 0], [0, 4, 0], [0, 0, 0]])
        report = Report(ConfusionMatrix(3, counts=counts), self.NAMES, "c", 1, "val", 1)
        # disc: 4 hits of 4 labeled + 6 predicted - 4; ground's two errors still count against it.
        assert evaluator.mean_without(report, [0]) == "mean IoU without ground: 0.6667 over 1 classes"

    def test_other_class_names_are_said(self, capsys):
        evaluator.warn_of_other_names(("a", "b"), ("a", "b"), "set")
        assert capsys.readouterr().err == ""
        evaluator.warn_of_other_names(("a", "skin"), ("a", "hair"), "set")
        assert "skin / hair" in capsys.readouterr().err


class TestDrawing:
    @pytest.fixture
    def plan(self, tmp_path):
        colors = np.zeros([256, 3], np.uint8)
        colors[1], colors[2], colors[255] = (255, 0, 0), (0, 200, 0), (9, 9, 9)
        return prediction_images.Drawing(tmp_path, colors, raw_folder=tmp_path / "raw", sheet_images=2)

    def test_files(self, split, pairs, plan):
        prediction_images.draw(split, by_red, plan)
        names = sorted(path.name for path in (plan.folder / "segmentation_results").iterdir())
        kinds = ("image", "overlay", "prediction")
        assert names == [f"{number:06d}_{kind}.png" for number in range(4) for kind in kinds]
        image, label = pairs["pair_102"]
        results = plan.folder / "segmentation_results"
        np.testing.assert_array_equal(np.asarray(Image.open(results / "000002_image.png")), image)
        prediction = np.asarray(Image.open(results / "000002_prediction.png"))
        np.testing.assert_array_equal(prediction, plan.colors[label])
        mask = Image.open(plan.folder / "raw" / "pair_102.png")
        assert mask.mode == "P" and mask.getpalette()[3:6] == [255, 0, 0]
        np.testing.assert_array_equal(np.asarray(mask), label)

    def test_label_ids_of_cityscapes(self, plan, tmp_path):
        other = dataclasses.replace(plan, ids=prediction_images.CITYSCAPES_IDS)
        prediction_images.write_index_mask(tmp_path / "a.png", np.array([[0, 1, 2, 18]]), other)
        mask = Image.open(tmp_path / "a.png")
        np.testing.assert_array_equal(np.asarray(mask), [[7, 8, 11, 33]])
        assert mask.getpalette()[3 * 8 : 3 * 9] == [255, 0, 0]

    def test_names_of_index_masks(self, capsys):
        names, empty = prediction_images.RawNames(), np.zeros([1, 1, 3], np.uint8)
        given = ("2007_000033", "a/b/ADE_val.jpg", "other/ADE_val.png", "frame.v2", "")
        found = [names.of(prediction_images.Answer(n, name, empty, empty)) for n, name in enumerate(given)]
        assert found == ["2007_000033", "ADE_val", "ADE_val_000002", "frame.v2", "image_000004"]
        assert "shares its name" in capsys.readouterr().err

    def test_sheet(self):
        red, green = np.full([10, 20, 3], (255, 0, 0), np.uint8), np.full([10, 20, 3], (0, 255, 0), np.uint8)
        rows = [Row("a", red, green, red, label=green, classes=frozenset({1, 255})), Row("b", red, green, red)]
        sheet = contact_sheet(rows, ("ground", "disc"), np.full([256, 3], 77, np.uint8))
        assert sheet.shape[1] == 4 * (CELL + GAP) + GAP
        first_row = sheet[60, GAP + CELL // 2 :: CELL + GAP]
        np.testing.assert_array_equal(first_row[:4], [red[0, 0], green[0, 0], green[0, 0], red[0, 0]])
        assert (sheet == 77).all(-1).any()  # the square of the legend

    def test_a_failed_write_is_not_lost(self, tmp_path):
        def fail():
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"), prediction_images.WriteBehind() as writer:
            writer.submit(fail)
