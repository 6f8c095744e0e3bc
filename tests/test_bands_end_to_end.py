"""Images of four bands of 16 bits the whole way: files, records, training, metrics, exports, masks; GeoTIFF to GeoTIFF.

The commands run in this process, one after the other, on scenes that take seconds.
"""

import importlib.util
import io
import json

import numpy as np
import pytest
from PIL import Image
from support import band_scenes
from support.errors import raises

from deeplab import Segmenter, build_data, eval, export_model, predict, train, vis
from deeplab.config import run_file
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.export.formats import FORMATS
from deeplab.inference.load import load

HAS_RASTERIO = importlib.util.find_spec("rasterio") is not None  # then images and masks are GeoTIFF, else arrays
OPTIONAL = ("onnx", "onnx_dynamic", "openvino", "mnn")  # what extras bring
MISSING = {name: ", ".join(FORMATS.get(name).missing()) for name in OPTIONAL}
AVAILABLE = [name for name in OPTIONAL if not MISSING[name]]
EXPORTS = (
    *("frozen_inference_graph.pb", "saved_model", "model.tflite", "model.keras"),
    *(
        pytest.param(
            FORMATS.get(name).usual_name,
            marks=pytest.mark.skipif(name not in AVAILABLE, reason=f"an extra is not installed: {MISSING[name]}"),
        )
        for name in OPTIONAL
    ),
)

pytestmark = pytest.mark.slow  # one training serves all tests


def run(command, *words, **flags):
    """Runs a command on its words; it must succeed."""
    line = [*words, *(f"--{name}={value}" for name, value in flags.items())]
    name, given = command.COMMAND.parse(line)
    assert not (command.COMMAND.run(name, given) if command.COMMAND.word else command.COMMAND.run(given))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with records, a training and its exports."""
    folder = tmp_path_factory.mktemp("bands")
    images, masks = band_scenes.write_arrays(folder, 10)
    data = {"class_names": ",".join(band_scenes.CLASSES), "bands": "all", "num_shards": 1}
    if HAS_RASTERIO:
        images, masks = band_scenes.write_geotiffs(folder, 6)
        data |= {"tile_size": 49, "tile_overlap": 8, "group_by": "^(scene[0-9]+)_"}
    run(build_data, "folder", image_folder=images, mask_folder=masks, output_dir=folder / "records", **data)
    run(
        train,
        dataset_dir=folder / "records",
        train_logdir=folder / "run",
        depth_multiplier=0.25,
        decoder_output_stride=4,
        output_stride=8,
        train_crop_size="49,49",
        train_batch_size=4,
        training_number_of_steps=40,
        base_learning_rate=0.05,
        random_seed=1,
    )
    run(
        export_model,
        checkpoint_path=folder / "run",
        export_path=folder / "export",
        crop_size="49,57",
        formats=",".join(["frozen_graph,saved_model,litert,keras", *AVAILABLE]),
        dataset_dir=folder / "records",
    )
    return folder


@pytest.mark.skipif(not HAS_RASTERIO, reason="the extra `geo` is not installed")
def test_records_hold_the_tiles_of_geotiffs(work):
    """Values and labels are those of the files, window by window; all scenes of a group are in one split."""
    groups = {}
    for split, number in datasets.load(work / "records" / "dataset.yml").splits.items():
        shards = records.list_shards(work / "records", split)
        tiles = [record for shard in shards for record in records.read_shard(shard)]
        assert len(tiles) == number
        for tile in tiles:
            name, top, left = tile[records.FILENAME].decode().rsplit("_", 2)
            groups.setdefault(name.partition("_")[0], set()).add(split)
            pixels, label = band_scenes.large_scene(2 * int(name[5]) + int(name[7]))
            label[:6, :9] = 255
            window = np.s_[int(top) : int(top) + 49, int(left) : int(left) + 49]
            np.testing.assert_array_equal(records.decode_values(tile), pixels[window])
            held = np.asarray(Image.open(io.BytesIO(tile[records.LABEL])))
            np.testing.assert_array_equal(held, label[window])
    assert sorted(groups) == ["scene0", "scene1", "scene2"] and all(len(splits) == 1 for splits in groups.values())


def test_the_training_knows_the_bands_of_the_records(work):
    bands = datasets.load(work / "records" / "dataset.yml").image_bands
    saved = run_file.load(work / "run")
    assert (bands.channels, bands.dtype) == (4, "uint16") == (saved["input_channels"], saved["input_dtype"])
    assert saved["input_mean"] == list(bands.mean) and saved["input_range"][::2] == list(bands.low)
    assert load(work / "run").bands == bands


def test_it_learns_what_no_band_alone_tells(work):
    run(eval, model=work / "run", dataset_dir=work / "records", eval_logdir=work / "eval")
    assert json.loads((work / "eval" / "metrics.json").read_text())["mean_iou"] > 0.6


def test_drawings_show_the_bands_as_colors(work):
    run(vis, model=work / "run", dataset_dir=work / "records", vis_logdir=work / "vis")
    shown = np.asarray(Image.open(next((work / "vis" / "segmentation_results").glob("*_image.png"))))
    assert shown.shape == ((49, 49, 3) if HAS_RASTERIO else (48, 56, 3)) and shown.std() > 20


@pytest.mark.parametrize("file", EXPORTS)
def test_exports_scale_raw_values_themselves(work, file):
    pixels, _ = band_scenes.scene(49, 57, 99)
    expected, found = (Segmenter(work / path)(pixels) for path in ("run", f"export/{file}"))
    assert (expected.labels != found.labels).mean() < 0.001
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-3)
    assert found.image.shape == (49, 57, 3)
    assert load(work / "export" / file).bands.dtype == "uint16"


@pytest.mark.parametrize("file", ["run", "export/frozen_inference_graph.pb", "export/model.tflite"])
def test_other_images_are_refused_with_the_setting(work, file, tmp_path):
    segmenter = Segmenter(work / file)
    pixels, _ = band_scenes.scene(40, 40, 99)
    with raises("wrong-channels", "input_channels"):
        segmenter(pixels[..., :3])
    with raises("wrong-dtype", "input_dtype"):
        segmenter(pixels.astype(np.float32))
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "rgb.png")
    with raises("wrong-channels", "input_channels", "rgb.png"):
        segmenter(tmp_path / "rgb.png")


def test_predict_reads_the_same_files(work):
    run(predict, model=work / "export", input=work / "images", output_dir=work / "masks_of_arrays")
    mask = np.asarray(Image.open(work / "masks_of_arrays" / "mask" / "s03.png"))
    expected = Segmenter(work / "export")(np.load(work / "images" / "s03.npy")).labels
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("model", ["run", "export/frozen_inference_graph.pb"])
def test_a_geotiff_becomes_a_geotiff_of_the_same_place(work, tmp_path, model):
    rasterio = pytest.importorskip("rasterio", reason="the extra `geo` is not installed")
    pixels, label = band_scenes.scene(150, 130, 77)
    pixels[:10, :10] = 0
    place = {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(500000, 5200000, 10, 10)}
    size = {"height": 150, "width": 130, "count": 4, "dtype": "uint16", "nodata": 0}
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", **place, **size) as file:
        file.write(pixels.transpose(2, 0, 1))
    out = tmp_path / "out"
    flags = {"model": work / model, "input": tmp_path / "scene.tif", "tile_size": 65, "tile_overlap": 16}
    run(predict, **flags, output_dir=out)
    with rasterio.open(out / "mask" / "scene.tif") as file:
        mask = file.read(1)
        assert (file.crs, file.transform, file.nodata) == (rasterio.CRS.from_epsg(32632), place["transform"], 255)
    whole = Segmenter(work / model, tile_size=65, tile_overlap=16)(pixels).labels
    np.testing.assert_array_equal(mask[10:], whole[10:])
    assert (mask[:10, :10] == 255).all() and (mask == label)[10:].mean() > 0.8
    assert (out / "overlay" / "scene.png").exists()
    with raises("would-overwrite", where=str(out)):
        run(predict, **flags, output_dir=out)


def test_the_report_shows_bands_as_colors(work):
    run(eval, model=work / "run", dataset_dir=work / "records", eval_logdir=work / "report")
    assert "data:image" in (work / "report" / "report.html").read_text()


def test_an_rgb_model_refuses_the_records(work):
    from deeplab import create_model
    from deeplab.evaluation.evaluator import evaluate

    with raises("wrong-channels", "dataset"):
        evaluate(create_model("mobilenet_v2", 3, depth_multiplier=0.25), str(work / "records"))
