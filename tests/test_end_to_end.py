"""The whole workflow of a user: drawn portraits, records, training, metrics, images, frozen graph, masks.

The commands are those that users of the research DeepLab have in their notes, run from the repository's root.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.xdist_group("pipeline")  # its one run serves all tests, so they stay in one process

ROOT = pathlib.Path(__file__).resolve().parents[1]


def command(script, **flags):
    """Runs a script of the repository; repeated flags are given as lists."""
    words = [sys.executable, script, "--logtostderr"]
    for name, value in flags.items():
        words += [f"--{name}={one}" for one in (value if isinstance(value, list) else [value])]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)


def done(*args, **flags):
    run = command(*args, **flags)
    assert run.returncode == 0, run.stderr[-3000:]
    return run


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder in which every step has been run."""
    folder = tmp_path_factory.mktemp("pipeline")
    subprocess.run(
        [sys.executable, "-m", "deeplab.data.sample_dataset", f"--output_dir={folder}", "--count=12"],
        cwd=ROOT,
        check=True,
    )
    done(
        "datasets/convert_color_masks.py",
        mask_folder=folder / "color_masks",
        palette="datasets/lfw_parts.palette",
        output_dir=folder / "masks",
    )
    done(
        "datasets/build_voc2012_data.py",
        image_folder=folder / "images",
        semantic_segmentation_folder=folder / "masks",
        list_folder=folder / "lists",
        image_format="jpg",
        output_dir=folder / "tfrecord",
    )
    done(
        "deeplab/train.py",
        training_number_of_steps=3,
        train_split="train",
        model_variant="mobilenet_v2",
        depth_multiplier=0.25,
        output_stride=16,
        train_crop_size="65,65",
        train_batch_size=2,
        label_weights=[1, 10, 5],
        train_logdir=folder / "train",
        dataset_dir=folder / "tfrecord",
    )
    (folder / "eval.txt").write_text(
        done(
            "deeplab/eval.py",
            eval_split="val",
            model_variant="mobilenet_v2",
            eval_crop_size="337,337",
            checkpoint_dir=folder / "train",
            eval_logdir=folder / "eval",
            dataset_dir=folder / "tfrecord",
            max_number_of_evaluations=1,
        ).stdout
    )
    done(
        "deeplab/vis.py",
        vis_split="val",
        checkpoint_dir=folder / "train",
        vis_logdir=folder / "vis",
        dataset_dir=folder / "tfrecord",
        max_number_of_iterations=1,
        also_save_raw_predictions="true",
    )
    done(
        "deeplab/export_model.py",
        checkpoint_path=folder / "train" / "model.ckpt-3",
        export_path=folder / "export" / "frozen_inference_graph.pb",
        model_variant="mobilenet_v2",
        num_classes=3,
        crop_size=[337, 337],
        inference_scales=[1.0],
    )
    done(
        "deeplab/predict.py",
        model=folder / "export" / "frozen_inference_graph.pb",
        input=folder / "images" / "portrait_0000.jpg",
        output_dir=folder / "predicted",
    )
    return folder


@pytest.mark.slow
def test_evaluation_prints_the_references_lines_and_writes_metrics(work):
    metrics = json.loads((work / "eval" / "metrics.json").read_text())
    text = (work / "eval.txt").read_text()
    assert "eval/miou_1.0_overall[" in text and "eval/miou_1.0_class_2[" in text
    assert np.sum(metrics["confusion_matrix"]) == sum(
        np.prod(Image.open(work / "masks" / f"{name}.png").size)
        for name in (work / "lists" / "val.txt").read_text().split()
    )
    assert (work / "eval" / "confusion_matrix.png").stat().st_size > 1000


@pytest.mark.slow
def test_raw_predictions_equal_the_frozen_graphs(work):
    """vis.py used the checkpoint, predict.py the exported graph: the same image, the same mask."""
    name = (work / "lists" / "val.txt").read_text().split()[0]
    done(
        "deeplab/predict.py",
        model=work / "export" / "frozen_inference_graph.pb",
        input=work / "images" / f"{name}.jpg",
        output_dir=work / "again",
    )
    done(
        "deeplab/vis.py",
        checkpoint_dir=work / "train",
        vis_logdir=work / "vis_crop",
        dataset_dir=work / "tfrecord",
        vis_crop_size="337,337",
        also_save_raw_predictions="true",
    )
    drawn = np.array(Image.open(work / "vis_crop" / "raw_segmentation_results" / f"{name}.png"))
    exported = np.array(Image.open(work / "again" / "mask" / f"{name}.png"))
    assert drawn.shape == Image.open(work / "images" / f"{name}.jpg").size[::-1]
    assert (drawn == exported).mean() > 0.9999  # rounding may decide between two classes that are level


@pytest.mark.slow
def test_every_image_is_drawn(work):
    val = (work / "lists" / "val.txt").read_text().split()
    for kind in ("image", "prediction", "overlay"):
        assert len(list((work / "vis" / "segmentation_results").glob(f"*_{kind}.png"))) == len(val)
    assert sorted(path.stem for path in (work / "vis" / "raw_segmentation_results").iterdir()) == sorted(val)
    assert (work / "vis" / "image_grid.png").exists()


@pytest.mark.slow
def test_a_flag_that_contradicts_the_training_stops(work):
    run = command(
        "deeplab/eval.py",
        depth_multiplier=0.5,
        checkpoint_dir=work / "train",
        eval_logdir=work / "eval2",
        dataset_dir=work / "tfrecord",
    )
    assert run.returncode == 1
    assert "--depth_multiplier=0.5, trained with 0.25" in run.stderr
    assert not (work / "eval2" / "metrics.json").exists()
