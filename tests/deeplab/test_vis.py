"""The `vis` command, from its flags to the images that it draws."""

import io
import sys

import numpy as np
import pytest
from PIL import Image
from support.golden_recipe import require_same_labels

import deeplab.vis as command
from deeplab import Segmenter
from deeplab.data import records


@pytest.fixture
def run(monkeypatch, small_run, disc_records, tmp_path):
    """Runs the command on the small model and dataset; further flags are added. Gives the exit code."""

    def run(*flags):
        given = [f"--checkpoint_dir={small_run}", f"--dataset_dir={disc_records}", f"--vis_logdir={tmp_path}/vis"]
        monkeypatch.setattr(sys, "argv", ["vis.py", *given, *flags])
        return command.main()

    return run


def test_every_image_is_drawn(run, small_run, disc_records, tmp_path):
    assert run("--also_save_raw_predictions", "--sheet_images=2") == 0
    results = tmp_path / "vis" / "segmentation_results"
    assert len(list(results.iterdir())) == 4 * 3
    segmenter = Segmenter(small_run)
    shard = disc_records / records.shard_name("val", 0, 1)
    for number, example in enumerate(records.read_shard(shard)):
        image = np.asarray(Image.open(io.BytesIO(example[records.IMAGE])))
        answer = segmenter(image)
        np.testing.assert_array_equal(np.asarray(Image.open(results / f"{number:06d}_image.png")), image)
        mask = Image.open(tmp_path / "vis" / "raw_segmentation_results" / f"{example[records.FILENAME].decode()}.png")
        labels = np.asarray(mask)
        require_same_labels(labels, answer.labels, answer.probabilities, 2e-6)
        # discs.yml has no colors: PASCAL's stand in, as in the reference.
        pascal = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
        drawn = np.asarray(Image.open(results / f"{number:06d}_prediction.png"))
        np.testing.assert_array_equal(drawn, pascal[labels])
    assert (tmp_path / "vis" / "image_grid.png").exists()


def test_crop_resize_and_folder_of_masks(run, tmp_path):
    flags = ("--min_resize_value=24", "--max_resize_value=33", "--vis_crop_size=33,33", "--vis_batch_size=2")
    raw = tmp_path / "raw"
    assert run(*flags, "--also_save_raw_predictions", f"--raw_save_dir={raw}", "--sheet_images=0") == 0
    assert sorted(path.name for path in raw.iterdir()) == [f"pair_{number}.png" for number in range(100, 104)]
    assert Image.open(raw / "pair_100.png").size == (64, 48)
    assert not (tmp_path / "vis" / "image_grid.png").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--vis_crop_size=33"], "--vis_crop_size=49,65"),
        (["--vis_batch_size=2"], "add --vis_crop_size"),
        (["--overlay_opacity=50"], "--overlay_opacity: must be at least 0 and at most 1, not 50.0 [out-of-range]"),
        (["--colormap_type=rainbow"], "must be one of"),
    ],
)
def test_bad_flags_are_refused(run, capsys, flags, words):
    assert run(*flags) == 1
    assert words in capsys.readouterr().err
