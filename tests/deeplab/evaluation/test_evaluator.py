"""Predictors measured on a split, and what is said about the result."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from support.errors import raises
from support.small_graphs import freeze
from support.threshold_predictor import ByRed

import deeplab
from deeplab.data import records
from deeplab.evaluation import ConfusionMatrix, Report
from deeplab.evaluation.evaluator import Evaluator, warn_of_other_names
from deeplab.inference.load import load


class TestEvaluator:
    def test_every_pixel_counts_once(self, disc_images):
        report = Evaluator(ByRed(), disc_images).evaluate({"eval_scales": (1.0,)})
        assert report.counts.sum() == 4 * 48 * 64 and report.num_images == 4 and report.step == 7
        # The drawn colors differ by more than their noise, so that colors tell the class exactly.
        np.testing.assert_array_equal(report.counts, np.diag(report.counts.diagonal()))
        assert (report.counts.diagonal() > 0).all()
        assert len(report.images.names) == 4 and report.image_mean_iou == 1.0
        np.testing.assert_array_equal(np.sum(report.images.sums, axis=0)[1], report.counts.sum(axis=1))

    def test_an_exported_file(self, disc_images, tmp_path):
        path = freeze(tmp_path / "graph.pb", with_probabilities=False)
        report = Evaluator(load(path), dataclasses.replace(disc_images, settings=None)).evaluate()
        assert report.counts.sum() == 4 * 48 * 64 and report.counts[:, 2].sum() == 0 and report.counts[1, 1] > 0

    def test_other_number_of_classes(self, disc_images):
        with raises("class-count-mismatch", "dataset") as caught:
            Evaluator(ByRed(num_classes=21), disc_images)
        assert caught.value.value == 3 and "21" in caught.value.rule

    def test_no_labels(self, disc_images, disc_pairs, tmp_path):
        buffer = io.BytesIO()
        Image.fromarray(disc_pairs["pair_100"][0]).save(buffer, "png")
        with records.ShardWriter(tmp_path, records.shard_name("val", 0, 1)) as writer:
            writer.write(records.encode_example(buffer.getvalue(), "png", "bare", 48, 64, b""))
            writer.publish()
        with raises("missing-label", where="val"):
            Evaluator(ByRed(), dataclasses.replace(disc_images, folder=str(tmp_path))).evaluate()


class TestEvaluate:
    def test_a_checkpoint_on_a_folder_of_records(self, small_run, disc_records, tmp_path):
        report = deeplab.evaluate(small_run, disc_records)
        assert report.split == "val" and report.num_images == 4 and report.step == 7
        assert report.mean_iou == report.overall()["mean_iou"] > 0
        paths = report.save(tmp_path / "out")
        assert [path.name for path in paths] == [
            "metrics.json",
            "confusion_matrix.png",
            "class_iou.png",
            "per_image.csv",
        ]

    def test_batches_and_settings(self, small_run, disc_records):
        data = deeplab.load_dataset(disc_records)
        one = deeplab.evaluate(small_run, data, crop_size=(49, 65))
        four = deeplab.evaluate(small_run, data, crop_size=(49, 65), batch_size=4)
        assert abs(one.counts - four.counts).sum() < 20
        with raises("unknown-name") as caught:
            deeplab.evaluate(small_run, data, eval_scale=1.0)
        assert caught.value.value == "eval_scale"


class TestWords:
    NAMES = ("ground", "disc", "square")

    def test_mean_without(self):
        counts = np.array([[8, 2, 0], [0, 4, 0], [0, 0, 0]])
        report = Report(ConfusionMatrix(3, counts=counts), self.NAMES, "c", 1, "val", 1, excluded=[0])
        # disc: 4 hits of 4 labeled + 6 predicted - 4; ground's two errors still count against it.
        assert report.without() == pytest.approx({"mean_iou": 4 / 6, "mean_accuracy": 1, "mean_dice": 8 / 10})
        assert "\nmean IoU without ground: 0.6667\n" in report.text()
        assert Report(ConfusionMatrix(3, counts=counts), self.NAMES, "c", 1, "val", 1).without() == {}

    def test_other_class_names_are_said(self, capsys):
        warn_of_other_names(("a", "b"), ("a", "b"), "set")
        assert capsys.readouterr().err == ""
        warn_of_other_names(("a", "skin"), ("a", "hair"), "set")
        assert "skin / hair" in capsys.readouterr().err
