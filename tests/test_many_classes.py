"""300 classes, of which a model predicts only those from 256 up: no command lets a label wrap around to another."""

import csv
import importlib
import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image
from support import golden_recipe
from support.small_exports import NARROW, make_network_beyond_a_byte

from deeplab import Segmenter
from deeplab.data import dataset, records
from deeplab.evaluation.confusion import confusion_counts
from deeplab.evaluation.metrics import class_iou
from deeplab.inference.video import VideoWriter

COUNT = 300
NAMES = tuple(f"thing {number}" for number in range(COUNT))
SIZE = (49, 65)
IMAGE = golden_recipe.image(*SIZE)[0].astype(np.uint8)


@pytest.fixture(scope="module")
def wide_run(tmp_path_factory):
    """A training folder of the narrow model."""
    from deeplab.checkpoint import manager
    from deeplab.config import run_file
    from slim.layers import variables_by_name

    folder = tmp_path_factory.mktemp("wide_run")
    network = make_network_beyond_a_byte(IMAGE)
    manager.save_step(folder, 7, {name: v.numpy() for name, v in variables_by_name(network.model).items()})
    run_file.save(folder, [NARROW], {"num_classes": COUNT, "class_names": list(NAMES)})
    return folder


@pytest.fixture(scope="module")
def answer(wide_run):
    """The model's labels of the image."""
    labels = Segmenter(wide_run)(IMAGE).labels
    assert labels.dtype == np.uint16 and labels.min() > 255 and len(np.unique(labels)) > 5
    return labels


@pytest.fixture(scope="module")
def wide_records(answer, tmp_path_factory):
    """Records of two images whose labels are the model's answer to the first, and its mirror image."""
    from deeplab.data.mask_files import encode_label

    folder = tmp_path_factory.mktemp("wide_records")
    for split in ("train", "val"):
        with records.ShardWriter(folder, records.shard_name(split, 0, 1)) as writer:
            for name, label in (("plain", answer), ("changed", changed(answer))):
                example = records.encode_example(png(IMAGE), "png", name, *SIZE, encode_label(label), label_bits=16)
                writer.write(example)
            writer.publish()
    dataset.save(
        dataset.Dataset("wide", NAMES, ignore_label=65535, splits={"train": 2, "val": 2}), folder / "dataset.yml"
    )
    return folder


def changed(answer):
    """A label with a block of another class, and ignored pixels."""
    label = answer.copy()
    label[5:25, 10:40], label[40:] = COUNT - 1, 65535
    return label


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a command with flags; gives its exit code."""

    def run(name, **flags):
        words = [f"--{key}={value}" for key, value in flags.items()]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        return importlib.import_module(f"deeplab.{name}").main()

    return run


def mask(path):
    return np.asarray(Image.open(path))


def test_masks_annotations_and_areas(run, wide_run, answer, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "in" / "one.png")
    flags = {"model": wide_run, "input": tmp_path / "in", "output_dir": tmp_path / "out", "save_areas": "true"}
    assert run("predict", **flags, save_polygons="coco,cvat,labelme,yolo", save_color="true") == 0
    np.testing.assert_array_equal(mask(tmp_path / "out" / "mask" / "one.png"), answer)
    (row,) = csv.DictReader((tmp_path / "out" / "areas.csv").open())
    areas = {int(name.split()[1]): int(value) for name, value in row.items() if name.startswith("thing") and value}
    expected = dict(zip(*np.unique(answer, return_counts=True), strict=True))
    assert {number: area for number, area in areas.items() if area} == expected
    content = json.loads((tmp_path / "out" / "coco.json").read_text())
    name_of = {one["id"]: one["name"] for one in content["categories"]}
    assert {name_of[one["category_id"]] for one in content["annotations"]} <= {NAMES[value] for value in expected}


@pytest.mark.parametrize(
    "flags",
    [
        {"tile_size": 33, "tile_overlap": 8},
        {"eval_scales": "0.75,1", "add_flipped_images": "true"},
        {"postprocess": "min_area:4,guided_filter:2,largest_component,fill_holes"},
        {"postprocess": "crf"},
    ],
)
def test_tiles_scales_and_postprocessing(run, wide_run, tmp_path, flags):
    (tmp_path / "in").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "in" / "one.png")
    assert run("predict", model=wide_run, input=tmp_path / "in", output_dir=tmp_path / "out", **flags) == 0
    found = mask(tmp_path / "out" / "mask" / "one.png")
    assert found.dtype == np.uint16 and found.min() > 255 and found.max() < COUNT


def test_evaluation_and_pictures(run, wide_run, wide_records, answer, tmp_path):
    flags = {"checkpoint_dir": wide_run, "dataset_dir": wide_records}
    metrics = "boundary_iou,trimap_iou,object_size"
    assert run("eval", **flags, eval_logdir=tmp_path / "eval", extra_metrics=metrics) == 0
    content = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    label = np.concatenate([answer, changed(answer)])
    counts = confusion_counts(label, np.concatenate([answer, answer]), COUNT, 65535)
    np.testing.assert_allclose(content["mean_iou"], np.nanmean(class_iou(counts)), atol=1e-6)
    scales = {"eval_scales": "0.75,1", "add_flipped_images": "true"}
    assert run("eval", **flags, **scales, eval_logdir=tmp_path / "scales") == 0
    assert run("vis", **flags, **scales, vis_logdir=tmp_path / "vis", also_save_raw_predictions="true") == 0
    found = mask(tmp_path / "vis" / "raw_segmentation_results" / "plain.png")
    assert found.min() > 255 and found.max() < COUNT


def test_label_errors(run, wide_run, wide_records, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(IMAGE).save(folder / "one.png")
    flags = {"model": wide_run, "dataset_dir": wide_records, "split": "val", "output_dir": tmp_path / "out"}
    assert run("find_label_errors", **flags, overlays=1) == 0
    named = (tmp_path / "out" / "images.csv").read_text() + (tmp_path / "out" / "regions.csv").read_text()
    assert f"thing {COUNT - 1}" in named
    assert not set(re.findall(r"thing (\d+)", named)) & {str(number) for number in range(256)}
    assert run("rank_unlabeled", model=wide_run, input=folder, output_dir=tmp_path / "ranking") == 0


def test_video(run, wide_run, tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", 5.0) as writer:
        for _ in range(2):
            writer.write(IMAGE)
    out = tmp_path / "out"
    assert run("predict", model=wide_run, input=tmp_path / "clip.mp4", output_dir=out, temporal_smoothing=0.5) == 0
    for number in range(2):
        found = mask(out / "mask" / "clip" / f"00000{number}.png")
        assert found.dtype == np.uint16 and found.min() > 255 and found.max() < COUNT


def test_geotiff(run, wide_run, tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="the extra `geo` is not installed")
    profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 3, "dtype": "uint8", "nodata": 0}
    values = np.maximum(IMAGE, 1)
    values[:9, :7] = 0
    with rasterio.open(tmp_path / "a.tif", "w", crs="EPSG:4326", **profile) as file:
        file.write(np.moveaxis(values, -1, 0))
    flags = {"model": wide_run, "input": tmp_path / "a.tif", "output_dir": tmp_path / "out"}
    assert run("predict", **flags, tile_size=33, tile_overlap=8) == 0
    (path,) = (tmp_path / "out" / "mask").iterdir()
    with rasterio.open(path) as file:
        found, nodata = file.read(1), file.nodata
    assert found.dtype == np.uint16 and nodata == 65535 and (found[:9, :7] == 65535).all()
    rest = found[found != 65535]
    assert rest.size == found.size - 63 and rest.min() > 255 and rest.max() < COUNT


def test_a_training_with_everything_on(run, wide_run, wide_records, tmp_path):
    """Pruning, then fake quantization, and a teacher."""
    flags = {
        "dataset_dir": wide_records,
        "train_split": "train",
        "train_crop_size": "33,33",
        "train_batch_size": 2,
        "fine_tune_batch_norm": "false",
        "training_number_of_steps": 2,
        "initialize_last_layer": "true",
        "tf_initial_checkpoint": f"{wide_run}/model.ckpt-7",
        "distill_from": wide_run,
        "prune_sparsity": 0.5,
        "quantize_delay_step": 0,
        "train_logdir": tmp_path / "run",
        "depth_multiplier": 0.25,
        "atrous_rates": 2,
        "decoder_output_stride": 4,
        "aspp_convs_filters": 32,
        "decoder_filters": 32,
        "base_learning_rate": 1e-6,
    }
    assert run("train", **flags) == 0
    found = Segmenter(tmp_path / "run")(IMAGE).labels
    assert found.dtype == np.uint16 and found.min() > 255
