"""The images drawn of a split's predictions."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.threshold_predictor import ByRed

from deeplab.evaluation.split_images import predicted_images
from deeplab.visualization import prediction_images
from deeplab.visualization.image_grid import CELL, GAP
from deeplab.visualization.prediction_images import DrawnPrediction, prediction_grid


class TestDrawing:
    @pytest.fixture
    def plan(self, tmp_path):
        colors = np.zeros([256, 3], np.uint8)
        colors[1], colors[2], colors[255] = (255, 0, 0), (0, 200, 0), (9, 9, 9)
        return prediction_images.Drawing(tmp_path, colors, raw_folder=tmp_path / "raw", grid_images=2)

    def test_files(self, disc_images, disc_pairs, plan):
        for folder in (plan.folder / "segmentation_results", plan.folder / "raw"):
            folder.mkdir()
            (folder / ".000000_image.png.999999999.partial").touch()  # of a killed process
        prediction_images.draw(predicted_images(disc_images, ByRed()), disc_images.dataset.class_names, plan)
        assert (plan.folder / "image_grid.png").exists()
        names = sorted(path.name for path in (plan.folder / "segmentation_results").iterdir())
        kinds = ("image", "overlay", "prediction")
        assert names == [f"{number:06d}_{kind}.png" for number in range(4) for kind in kinds]
        assert len(list((plan.folder / "raw").iterdir())) == 4
        image, label = disc_pairs["pair_102"]
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
        given = ("2007_000033", "a/b/ADE_val.jpg", "other/ADE_val.png", "frame.v2", "", "x_000007", "x", "x.png")
        found = [names.of(prediction_images.PredictedImage(n, name, empty, empty)) for n, name in enumerate(given)]
        assert found[:5] == ["2007_000033", "ADE_val", "ADE_val_000002", "frame.v2", "image_000004"]
        assert found[5:] == ["x_000007", "x", "x_000007_000007"]  # the number alone would make it an earlier name
        assert "has the name of another" in capsys.readouterr().err

    def test_grid(self):
        red, green = np.full([10, 20, 3], (255, 0, 0), np.uint8), np.full([10, 20, 3], (0, 255, 0), np.uint8)
        drawn = [
            DrawnPrediction("a", red, green, red, label=green, pixels={1: 150, 255: 50}),
            DrawnPrediction("b", red, green, red),
        ]
        grid = prediction_grid(drawn, ("ground", "disc"), np.full([256, 3], 77, np.uint8))
        assert grid.shape[1] == 4 * (CELL + GAP) + GAP
        first_row = grid[60, GAP + CELL // 2 :: CELL + GAP]
        np.testing.assert_array_equal(first_row[:4], [red[0, 0], green[0, 0], green[0, 0], red[0, 0]])
        assert (grid == 77).all(-1).any()  # the square of the legend

    def test_of_many_classes_the_legend_has_the_most_frequent_and_counts_the_others(self, plan, monkeypatch):
        """300 classes, of which 100 occur, the higher the number the more often, and 10 others in one label."""
        drawn = []
        for low in (0, 100):
            prediction = np.repeat(np.arange(200, 300), np.arange(1, 101) + low)[None].astype(np.int32)
            label = np.where(prediction < 210, prediction - 100, prediction) if low else prediction
            image = np.zeros((*prediction.shape, 3), np.uint8)
            one = prediction_images.PredictedImage(len(drawn), f"{low}", image, prediction, label)
            drawn.append(one.drawn(dataclasses.replace(plan, colors=np.zeros((65536, 3), np.uint8))))
        assert drawn[0].pixels[200] == 2 and drawn[1].pixels[100] == drawn[1].pixels[200] == 101
        legends = []

        def draw(grid):
            legends.append([key.text for key in grid.legend])

        monkeypatch.setattr(prediction_images.ImageGrid, "draw", draw)
        prediction_grid(drawn, [f"c{index}" for index in range(300)], np.zeros((65536, 3), np.uint8))
        assert legends == [[*(f"c{index}" for index in range(240, 300)), "50 rarer classes"]]


def test_a_kill_at_any_step_leaves_whole_files_and_the_next_run_nothing_else(tmp_path):
    command = [sys.executable, "-m", "support.killed_results", "drawing", str(tmp_path / "out")]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=True)
    results = [
        f"segmentation_results/00000{n}_{kind}.png" for n in (0, 1) for kind in ("image", "overlay", "prediction")
    ]
    expected = ["image_grid.png", "raw/0.png", "raw/1.png", *results]
    outcomes = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(outcomes) > 18 and {len(damaged) for damaged, *_ in outcomes} == {0}
    assert [files for _, files, _ in outcomes] == [expected] * len(outcomes)
