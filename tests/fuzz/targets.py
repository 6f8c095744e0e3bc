"""What is fuzzed: one function per kind of input, from a seeded random generator to an attempt to read it.

`prepare` functions run once per process: they make valid inputs to mutate, and import what they need.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import pathlib
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tests.fuzz.harness import Target
from tests.fuzz.mutation import mutate_bytes, mutate_text, mutate_value, pick

Read = Callable[[random.Random], None]
Prepare = Callable[[pathlib.Path], Read]
TARGETS: dict[str, Target] = {}


def target(name: str, weight: float = 1.0) -> Callable[[Prepare], Prepare]:
    """Register a `prepare` function."""

    def add(prepare: Prepare) -> Prepare:
        TARGETS[name] = Target(name, prepare, weight)
        return prepare

    return add


def _encoded(pixels: np.ndarray, kind: str, mode: str = "", **options: Any) -> bytes:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def _image_files() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    return [
        _encoded(pixels, "jpeg"),
        _encoded(pixels, "jpeg", progressive=True, exif=exif),
        _encoded(pixels, "jpeg", "CMYK"),
        _encoded(pixels[..., 0], "jpeg"),
        _encoded(pixels, "png"),
        _encoded(pixels, "png", "P"),
        _encoded(pixels, "png", "RGBA"),
        _encoded(pixels, "png", "LA"),
        _encoded(pixels[..., 0].astype(np.uint16) * 257, "png"),
        _encoded(pixels, "gif"),
        _encoded(pixels, "bmp"),
        _encoded(pixels, "webp"),
        _encoded(pixels, "tiff"),
        _encoded(pixels, "tiff", compression="tiff_lzw"),
        _encoded(pixels, "ppm"),
    ]


@target("images", weight=4)
def images(folder: pathlib.Path) -> Read:
    """Image files on their way into records and into a prediction."""
    from deeplab.data import images

    seeds = _image_files()

    def read(chance: random.Random) -> None:
        data = pick(seeds, mutate_bytes, chance)
        if chance.random() < 0.5:
            images.prepare(data, "image", chance.choice([None, (24, 31), (31, 24)]))
        else:
            images.decode_rgb(data, "image")

    return read


@target("masks", weight=4)
def masks(folder: pathlib.Path) -> Read:
    """Mask files, as indices and in colors."""
    from deeplab.data.labels import LabelSpec
    from deeplab.data.mask_files import decode_label

    label = np.random.default_rng(0).integers(0, 3, (24, 31), dtype=np.uint8)
    palette = Image.fromarray(label)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    colored = io.BytesIO()
    palette.save(colored, "png")
    seeds = [
        colored.getvalue(),
        _encoded(label, "png"),
        _encoded(label.astype(np.uint16), "png"),
        _encoded(label * 127, "png", "1"),
        _encoded(label, "png", "RGB"),
        _encoded(label, "tiff"),
        _encoded(label, "bmp"),
        _encoded(label, "gif"),
    ]
    spec = LabelSpec(num_classes=3)

    def read(chance: random.Random) -> None:
        decode_label(pick(seeds, mutate_bytes, chance), "mask", spec)

    return read


@target("rasters")
def rasters(folder: pathlib.Path) -> Read:
    """Images of any bands: GeoTIFF in tiles, arrays, PNG of 16 bits; whole and in windows."""
    from deeplab.data import images

    values = np.random.default_rng(0).integers(0, 60000, (40, 33, 4)).astype(np.uint16)
    seeds = {
        "a.npy": _saved(np.save, values),
        "b.npy": _saved(np.save, values[..., 0].astype(np.float32)),
        "c.npz": _saved(np.savez_compressed, values),
        "d.png": _encoded(values[..., 0], "png"),
        "e.tif": _encoded(values[..., 0], "tiff"),
    }
    with contextlib.suppress(ImportError):
        import rasterio

        for name, layout in (("f.tif", {"tiled": True, "blockxsize": 16, "blockysize": 16}), ("g.tif", {})):
            size = {"count": 4, "height": 40, "width": 33, "dtype": "uint16", "nodata": 0, "compress": "deflate"}
            with rasterio.open(folder / name, "w", driver="GTiff", crs="EPSG:32632", **size, **layout) as file:
                file.write(values.transpose(2, 0, 1))
            seeds[name] = (folder / name).read_bytes()

    def read(chance: random.Random) -> None:
        name = chance.choice(list(seeds))
        path = folder / f"mutated_{name}"
        path.write_bytes(pick([seeds[name]], mutate_bytes, chance))
        images.raster_size(path)
        images.read_raster(path, chance.choice([(), (1,), (3, 1)]), chance.choice([None, (0, 0, 1, 1), (8, 8, 20, 20)]))

    return read


def _saved(save: Callable[..., Any], *arrays: Any, **named: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


@target("array_masks")
def array_masks(folder: pathlib.Path) -> Read:
    """Masks in NumPy's and MATLAB's files. All of the latter are refused where scipy, which writes them, is missing."""
    from deeplab.data.labels import LabelSpec
    from deeplab.data.mask_files import decode_label, read_mask

    label = np.random.default_rng(0).integers(0, 3, (24, 31), dtype=np.uint8)
    seeds = {
        "a.npy": _saved(np.save, label),
        "b.npy": _saved(np.save, label.astype(np.int64)[..., None]),
        "c.npz": _saved(np.savez_compressed, label),
        "d.mat": b"MATLAB 5.0 MAT-file" + bytes(200),
    }
    with contextlib.suppress(ImportError):
        from scipy import io as matlab

        seeds["d.mat"] = _saved(matlab.savemat, {"mask": label})
        seeds["e.mat"] = _saved(matlab.savemat, {"GTcls": {"Segmentation": label}}, do_compression=True)
    spec = LabelSpec(num_classes=3)

    def read(chance: random.Random) -> None:
        name = chance.choice(list(seeds))
        path = folder / name
        path.write_bytes(pick([seeds[name]], mutate_bytes, chance))
        decode_label(read_mask(str(path)), str(path), spec)

    return read


@target("palettes")
def palettes(folder: pathlib.Path) -> Read:
    """Files that map colors to classes."""
    from deeplab.data.colormaps import read_color_table

    seeds = ["0 0 0 background\n255 0 0 hair\n0 255 0 skin\n", "# c\n0,0,0,background\n255,0,0,hair\n", "1 2 3\n"]
    path = folder / "table.palette"

    def read(chance: random.Random) -> None:
        path.write_bytes(pick(seeds, mutate_text, chance))
        read_color_table(path)

    return read


_DATASET = {
    "name": "small",
    "ignore_label": 255,
    "classes": [{"name": "background", "color": [0, 0, 0]}, {"name": "hair", "color": [255, 0, 0]}],
    "image_formats": ["jpeg"],
    "label_format": "png",
    "splits": {
        "train": {"images": 8, "height": [10, 20], "width": [10, 20], "pixels": [100, 20], "ignored_pixels": 3},
        "val": {"images": 4},
    },
}


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=None)


def _mutated_yaml(value: Any, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        with contextlib.suppress(RecursionError):  # nested too deeply for PyYAML to write
            return _yaml(mutate_value(value, chance)).encode("utf-8", "surrogatepass")
    mutated = mutate_text(_yaml(value), chance)
    if chance.random() < 0.05:  # aliases that grow without bound
        lines = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(12))
        mutated += b"\n" + lines.encode()
    return mutated


@target("dataset_yaml", weight=2)
def dataset_yaml(folder: pathlib.Path) -> Read:
    """`dataset.yml`."""
    from deeplab.data import dataset

    path = folder / "dataset.yml"

    def read(chance: random.Random) -> None:
        path.write_bytes(_mutated_yaml(_DATASET, chance))
        dataset.load(path)

    return read


@target("config_yaml", weight=2)
def config_yaml(folder: pathlib.Path) -> Read:
    """The file of `--config`, and `config.yml` beside a checkpoint."""
    from deeplab.config import run_file
    from deeplab.config.command_line import read_config_file
    from deeplab.config.fields import make
    from deeplab.config.model_config import ModelConfig
    from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig

    groups = (ModelConfig, LossConfig, OptimizerConfig, TrainConfig)
    content = {
        "model": {"model_variant": "xception_65", "atrous_rates": [6, 12, 18], "decoder_output_stride": 4},
        "train_batch_size": 4,
        "train_crop_size": [257, 257],
        "base_learning_rate": 0.007,
        "label_weights": [1, 10.5],
        "random_seed": None,
        "fine_tune_batch_norm": False,
    }
    path = folder / "config.yml"

    def read(chance: random.Random) -> None:
        path.write_bytes(_mutated_yaml(content, chance))
        if chance.random() < 0.3:
            run_file.load(folder)
            return
        given = read_config_file(str(path), groups)
        for group in groups:
            make(group, given)

    return read


@target("flags", weight=2)
def flags(folder: pathlib.Path) -> Read:
    """Command lines, with absl's styles."""
    from deeplab.config.command_line import Command
    from deeplab.config.fields import make
    from deeplab.config.model_config import ModelConfig
    from deeplab.config.training_config import LossConfig, OptimizerConfig, TrainConfig

    groups = (ModelConfig, LossConfig, OptimizerConfig, TrainConfig)
    seeds = [
        ["--train_crop_size=257,257", "--atrous_rates=6", "--atrous_rates=12", "--nofine_tune_batch_norm"],
        ["--train_batch_size", "4", "-base_learning_rate=.007", "--decoder_output_stride=4", "--logtostderr"],
        ["--label_weights=1,10,5", "--min_scale_factor=0.5", "--random_seed=3", "--model_variant=xception_65"],
        ["--train_logdir=x", "--save_interval_secs=60", "--top_k_percent_pixels=.25", "--upsample_logits=false"],
    ]

    def read(chance: random.Random) -> None:
        words = list(chance.choice(seeds))
        at = chance.randrange(len(words))
        words[at] = mutate_text(words[at], chance).decode("utf-8", "replace")
        call = Command("train", lambda given: None, groups, "").parse(words)
        for group in groups if call is not None else ():
            make(group, call[1])

    return read


@target("label_map")
def label_map(folder: pathlib.Path) -> Read:
    """The text of `--label_map`."""
    from deeplab.data.labels import parse_label_map

    def read(chance: random.Random) -> None:
        text = mutate_text(chance.choice(["255:1", "0:0,128:1,255:255", "1-5:2"]), chance)
        parse_label_map(text.decode("utf-8", "replace"))

    return read


@target("archives", weight=2)
def archives(folder: pathlib.Path) -> Read:
    """.zip and .tar files."""
    from support.packing import tarred, zipped

    from deeplab.utils import archive

    contents = {"x/model.ckpt.index": b"abc" * 99, "x/checkpoint": b"text", "b.zip": zipped({"c": b"d"})}
    seeds = [zipped(contents), tarred(contents), tarred(contents, "w"), tarred(contents, "w:xz")]
    path, target = folder / "archive", folder / "unpacked"

    def read(chance: random.Random) -> None:
        path.write_bytes(pick(seeds, mutate_bytes, chance))
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        archive.unpack(str(path), str(target), nested=True)

    return read


@target("catalog_addresses")
def catalog_addresses(folder: pathlib.Path) -> Read:
    """A user's file of download addresses."""
    from deeplab.data import catalog

    entry = {"address": "http://x/y", "bytes": 3, "checksum": "md5:" + "0" * 32, "expected": {"a/*.jpg": 2}}
    content = {"voc2012": {"archives": {"VOCtrainval_11-May-2012.tar": entry}}}
    path = folder / "own.yml"

    def read(chance: random.Random) -> None:
        path.write_bytes(_mutated_yaml(content, chance))
        catalog.find("voc2012", path)

    return read


@target("records", weight=2)
def records(folder: pathlib.Path) -> Read:
    """TFRecord shards."""
    from deeplab.data import records

    with records.ShardWriter(folder, records.shard_name("train", 0, 1)) as writer:
        for number in range(3):
            data = _encoded(np.full((9, 9, 3), number, np.uint8), "png")
            label = _encoded(np.full((9, 9), number, np.uint8), "png")
            writer.write(records.encode_example(data, "png", f"pair_{number}", 9, 9, label))
        writer.publish()
    path = next(folder.glob("train-*"))
    whole = path.read_bytes()

    def read(chance: random.Random) -> None:
        path.write_bytes(pick([whole], mutate_bytes, chance))
        for _ in records.read_shard(path):
            pass
        records.count_records(path)

    return read


@target("checkpoints")
def checkpoints(folder: pathlib.Path) -> Read:
    """The files of a checkpoint, and the `checkpoint` state file."""
    from deeplab import checkpoint
    from deeplab.checkpoint import manager

    manager.save_step(str(folder), 7, {"a/weights": np.ones((3, 4), np.float32), "global_step": np.int64(7)})
    whole = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def read(chance: random.Random) -> None:
        spoilt = chance.choice(list(whole))
        for path, content in whole.items():
            path.write_bytes(pick([content], mutate_bytes, chance) if path == spoilt else content)
        opened = checkpoint.open(str(folder))
        for name in opened.shapes:
            opened.array(name)

    return read


def _with_pickle(path: pathlib.Path, data: bytes) -> bytes:
    """A PyTorch zip archive with another pickle, with right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "w") as whole:
        for entry in source.infolist():
            whole.writestr(entry.filename, data if entry.filename.endswith("data.pkl") else source.read(entry))
    return buffer.getvalue()


@target("foreign_weights")
def foreign_weights(folder: pathlib.Path) -> Read:
    """PyTorch, safetensors and Keras HDF5 files of other projects."""
    import h5py

    from deeplab.checkpoint.foreign.sources import READERS
    from deeplab.checkpoint.foreign.torch_file import TorchFile

    golden = pathlib.Path(__file__).parents[1] / "golden" / "torch_files"
    archives = [golden / "zip.pth", golden / "training.pth"]
    header = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    text = json.dumps(header)
    with h5py.File(folder / "whole.h5", "w") as file:
        file["aspp0/aspp0/kernel:0"] = np.ones((1, 1, 3, 4), np.float32)
        file["aspp0_BN/aspp0_BN/gamma:0"] = np.ones(4, np.float32)
    seeds = {
        ".pth": [path.read_bytes() for path in (*archives, golden / "legacy.pth", golden / "legacy_training.pth.tar")],
        ".h5": [(folder / "whole.h5").read_bytes()],
    }
    pickles = [zipfile.ZipFile(path).read(f"{path.stem}/data.pkl") for path in archives]

    def content(kind: str, chance: random.Random) -> bytes:
        if kind == ".safetensors":
            changed = pick([text], mutate_text, chance) if chance.random() < 0.9 else text.encode()
            return struct.pack("<Q", len(changed)) + changed + bytes(24)
        if kind == ".pth" and chance.random() < 0.6:
            number = chance.randrange(len(pickles))
            return _with_pickle(archives[number], pick([pickles[number]], mutate_bytes, chance))
        return pick(seeds[kind], mutate_bytes, chance)

    def read(chance: random.Random) -> None:
        kind = chance.choice([".pth", ".pth", ".safetensors", ".h5"])
        path = folder / f"weights{kind}"
        path.write_bytes(content(kind, chance))
        opened = READERS.get(kind, TorchFile)(str(path))
        for name in opened.shapes:
            opened.array(name)

    return read


@target("json_state")
def json_state(folder: pathlib.Path) -> Read:
    """`.downloaded.json`, which a user may have edited."""
    from deeplab.data import catalog_download

    path = folder / catalog_download.STAMP
    content = {"archives": {"a.tar": {"bytes": 3}}}

    def read(chance: random.Random) -> None:
        path.write_bytes(pick([json.dumps(content)], mutate_text, chance))
        catalog_download._stamps(folder)

    return read


def annotation_files() -> list[tuple[Any, tuple[str, ...]]]:
    """The datasets of the readers' battery, and the files of each that are mutated."""
    from tests.deeplab.data.readers.test_reader_battery import CASES, VARIANTS

    return [(case, case.annotations) for case in (*CASES, *VARIANTS)]


@target("readers", weight=2)
def readers(folder: pathlib.Path) -> Read:
    """The annotation files of every reader's minimal datasets: names and shapes, drawn on a small image."""
    from support import reader_battery

    datasets = []
    for case, names in annotation_files():
        root = folder / case.name
        root.mkdir()
        settings = case.write(root)
        datasets += [(case, settings, root / name, (root / name).read_bytes()) for name in names]

    def read(chance: random.Random) -> None:
        case, settings, path, whole = chance.choice(datasets)  # the first thing drawn, so that others can count
        path.write_bytes(pick([whole.decode()], _mutated_annotation(path.suffix), chance))
        try:
            source = case.read(settings)
            if source.drawn:
                reader_battery.drawn(source)
        finally:
            path.write_bytes(whole)

    return read


def _nifti(values: np.ndarray, code: int, dimensions: int = 3) -> bytes:
    """A NIfTI-1 file, header and values; https://nifti.nimh.nih.gov/nifti-1/ gives the places of its fields."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, dimensions, *values.shape, *[1] * (7 - values.ndim))
    struct.pack_into("<hh", header, 70, code, values.itemsize * 8)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<3f", header, 108, 352.0, 1.0, 0.0)  # where the values begin; slope and intercept
    struct.pack_into("<hh", header, 252, 0, 1)  # the matrix below holds
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    return bytes(header) + values.tobytes("F")


@target("volumes")
def volumes(folder: pathlib.Path) -> Read:
    """NIfTI volumes, plain and compressed: their slices as images. All are refused where nibabel is missing."""
    from deeplab.data import containers, images

    values = np.random.default_rng(0).integers(0, 200, (9, 7, 4))
    seeds = [_nifti(values.astype("<i2"), 4), _nifti(values.astype("u1"), 2), _nifti(values.astype("<f4"), 16)]
    plain, packed = folder / "a.nii", folder / "b.nii.gz"

    def read(chance: random.Random) -> None:
        whole = chance.choice(seeds)
        if chance.random() < 0.5:  # of the header, where all that is dangerous is told
            content = mutate_bytes(whole[:352], chance) + whole[352:]
        else:
            content = mutate_bytes(whole, chance)
        path = plain
        if chance.random() < 0.4:
            path = packed
            data = gzip.compress(content, 1)
            packed.write_bytes(mutate_bytes(data, chance) if chance.random() < 0.5 else data)
        else:
            plain.write_bytes(content)
        plane = chance.choice(list(containers.PLANES))
        if containers.volume_slices(str(path), plane) < 100_000:
            images.read_raster(f"{path}#{plane}/0")

    return read


@target("tables")
def tables(folder: pathlib.Path) -> Read:
    """Parquet and Arrow files: which rows there are, and the image in one. All are refused where pyarrow is missing."""
    from deeplab.data import containers
    from deeplab.data.readers.parquet import BuildParquetConfig, read_parquet

    data = _encoded(np.zeros((5, 6), np.uint8), "png")
    seeds = {"a.parquet": b"PAR1", "b.arrow": b"", "c.arrow": b"ARROW1"}
    with contextlib.suppress(ImportError):
        import pyarrow
        from pyarrow import parquet

        cells = [{"bytes": data, "path": f"{name}.png"} for name in "abc"]
        table = pyarrow.table({"image": cells, "label": [data] * 3})
        parquet.write_table(table, folder / "a.parquet")
        for name, opened in (("b.arrow", pyarrow.ipc.new_stream), ("c.arrow", pyarrow.ipc.new_file)):
            with opened(str(folder / name), table.schema) as writer:
                writer.write_table(table)
        seeds = {name: (folder / name).read_bytes() for name in seeds}

    def read(chance: random.Random) -> None:
        name = chance.choice(list(seeds))
        path = folder / f"{chance.randrange(10**9)}_{name}"  # a file of its own: open ones are kept by their name
        path.write_bytes(pick([seeds[name]], mutate_bytes, chance))
        try:
            source = read_parquet(BuildParquetConfig(tables=str(path), image_column="image", mask_column="label"))
            for pair in source.pairs()[:3]:
                containers.read_content(pair.image)
                containers.read_content(str(pair.mask))
        finally:
            path.unlink()

    return read


@target("dicom")
def dicom(folder: pathlib.Path) -> Read:
    """DICOM images. All are refused where pydicom is missing."""
    from support.dicom_files import dicom_bytes

    from deeplab.data import images

    path, whole = folder / "a.dcm", bytes(128) + b"DICM"
    with contextlib.suppress(ImportError):
        whole = dicom_bytes(np.arange(63, dtype=np.uint16).reshape(9, 7), slope=2.0, intercept=-5.0)

    def read(chance: random.Random) -> None:
        path.write_bytes(whole[:132] + mutate_bytes(whole[132:], chance))  # what makes it DICOM stays
        images.read_raster(path)

    return read


def _mutated_annotation(suffix: str) -> Callable[[str, random.Random], bytes]:
    def mutate(text: str, chance: random.Random) -> bytes:
        if suffix == ".json" and chance.random() < 0.7:
            with contextlib.suppress(RecursionError, ValueError):  # what JSON cannot hold
                return json.dumps(mutate_value(json.loads(text), chance)).encode("utf-8", "surrogatepass")
        return mutate_text(text, chance)

    return mutate


@target("graphs")
def graphs(folder: pathlib.Path) -> Read:
    """Frozen graphs: damaged files, and graphs that do something else."""
    from support import small_graphs

    from deeplab.inference.load import load

    path = folder / "frozen_inference_graph.pb"
    whole = small_graphs.threshold_graph(assert_within=20).SerializeToString()
    image = np.zeros((9, 9, 3), np.uint8)

    def read(chance: random.Random) -> None:
        path.write_bytes(pick([whole], mutate_bytes, chance))
        load(str(path)).predict(image, False)

    return read


@target("graph_nodes")
def graph_nodes(folder: pathlib.Path) -> Read:
    """Frozen graphs that are whole, with other operations, inputs and attributes: tried as the commands try them.

    Only children of this process use TensorFlow, so a crash of its native code must become an error.
    """
    from support import small_graphs

    from deeplab.inference.runtimes import RUNTIMES, LoadOptions, probe
    from deeplab.utils.errors import UserError

    assert probe.can_fork()
    probe.SECONDS_TO_LOAD = 5.0
    path, note = folder / "frozen_inference_graph.pb", folder / "traceback"
    whole = small_graphs.threshold_graph(assert_within=20)
    load = RUNTIMES.get("frozen_graph").load

    def predictor() -> Any:
        try:
            loaded = load(str(path), LoadOptions())
            loaded.predict(np.zeros((9, 9, 3), np.uint8), False)
        except UserError as error:
            note.write_text(error.code)
            raise
        except Exception as problem:
            note.write_text(f"traceback: {problem!r}")
            raise
        return loaded

    def read(chance: random.Random) -> None:
        note.unlink(missing_ok=True)
        path.write_bytes(_mutated_graph(whole, chance).SerializeToString())
        probe.require_survival(predictor, str(path))
        told = note.read_text() if note.exists() else ""
        assert not told.startswith("traceback"), told
        if told:
            raise UserError(told, "is refused", where=path)

    return read


_OPERATIONS = (
    "Identity",
    "Cast",
    "ArgMax",
    "Pack",
    "Placeholder",
    "Const",
    "Reshape",
    "Tile",
    "Fill",
    "While",
    "Greater",
)


def _mutated_graph(whole: Any, chance: random.Random) -> Any:
    """A copy of a GraphDef after one to three changes of its nodes."""
    graph = type(whole)()
    graph.CopyFrom(whole)
    for _ in range(chance.randint(1, 3)):
        node, other = chance.choice(graph.node), chance.choice(graph.node)
        kind = chance.randrange(7)
        if kind == 0:
            node.op = chance.choice(_OPERATIONS)
        elif kind == 1:
            node.op = other.op
        elif kind == 2 and node.input:
            node.input[chance.randrange(len(node.input))] = chance.choice(
                [other.name, node.name, f"{other.name}:9", "^x"]
            )
        elif kind == 3 and node.attr:
            name = chance.choice(sorted(node.attr))
            source = chance.choice([each for each in graph.node if each.attr])
            node.attr[name].CopyFrom(source.attr[chance.choice(sorted(source.attr))])
        elif kind == 4 and node.attr:
            node.attr[chance.choice(sorted(node.attr))].type = chance.choice([0, 1, 3, 4, 7, 9, 14, 20, 999])
        elif kind == 5 and node.op == "Const":
            tensor = node.attr["value"].tensor
            tensor.tensor_shape.dim.add().size = chance.choice([0, -1, 3, 2**20, 2**40])
        else:
            node.name = other.name
    return graph


@target("onnx_files")
def onnx_files(folder: pathlib.Path) -> Read:
    """ONNX files before a library reads them."""
    from deeplab.inference.runtimes import onnx
    from deeplab.utils.errors import UserError

    def message(*fields: tuple[int, bytes]) -> bytes:
        return b"".join(bytes([number << 3 | 2, len(content)]) + content for number, content in fields)

    weights = message((8, b"w"), (9, bytes(20)))
    node = message((1, b"x"), (2, b"y"), (4, b"Conv"), (5, message((1, b"group"), (5, weights))))
    graph = message((1, node), (5, weights), (12, message((1, b"SemanticPredictions"))))
    whole = b"\x08\x0a" + message((7, graph), (14, message((1, b"deeplab"), (2, b"{}"))))

    def read(chance: random.Random) -> None:
        content = pick([whole], mutate_bytes, chance)
        try:
            onnx.read_properties(content)
            onnx.require_safe(content, "m.onnx")
        except ValueError as error:  # what `load` makes of it
            raise UserError("damaged-model", str(error) or "is damaged") from None

    return read


@target("arrays", weight=2)
def arrays(folder: pathlib.Path) -> Read:
    """What a program gives to a Segmenter: arrays of any type, shape and values, and things that are no arrays."""
    from deeplab.data.given_images import to_rgb

    types = ["u1", "i1", "u2", "i4", "i8", "f2", "f4", "f8", "c8", "?", "O", "U3", "S2", "M8[s]", "V2"]
    others: list[Any] = [
        None,
        "",
        "none.png",
        b"",
        b"x",
        3,
        2.5,
        [],
        {},
        [[1, 2], [3]],
        ["a"],
        object(),
        [None],
        {1: 2},
        "\0",
    ]

    def read(chance: random.Random) -> None:
        if chance.random() < 0.2:
            to_rgb(chance.choice(others))
            return
        shape = [chance.choice([0, 1, 2, 3, 4, 5, 9]) for _ in range(chance.randrange(6))]
        array = np.frombuffer(chance.randbytes(int(np.prod(shape))), np.uint8).reshape(shape)
        kind = chance.choice(types)
        if chance.random() < 0.3 and kind.startswith("f"):
            array = array / chance.choice([1.0, 255.0, 0.001]) - chance.choice([0.0, 0.5, np.inf])
        with np.errstate(all="ignore"):
            made = array.astype("u2").view(kind) if kind == "V2" else array.astype(kind)
        to_rgb(chance.choice([made, np.asfortranarray(made), made[::-1] if made.ndim else made]))

    return read
