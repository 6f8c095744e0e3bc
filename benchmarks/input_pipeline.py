"""Training crops per second of the input pipeline, compared with JPEG decoding alone and with the reference's order.

    python benchmarks/input_pipeline.py [--size 375 500] [--crop 513] [--batch 8] [--images 400] [--rounds 5]

All take turns in one run on the same generated images: by default 375x500 pixels, JPEG of quality 90 and about 90 kB,
as in PASCAL VOC, with 21-class labels. The upper bound only decodes every JPEG at full size. The last pipeline decodes,
resizes and pads the whole image before it cuts the crop out of it, as the reference does.

On two cores of a Zen 4 processor with nothing beside it:

    JPEG decoding alone    1867 images/s    1.03 core-ms per image
    ... and the label      1454             1.35
    none, in memory        1250             1.37
    none, decoded           596             3.13
    light, in memory        863             1.93
    light, decoded          517             3.54
    medium, in memory       503             3.22
    medium, decoded         362             4.95
    strong, in memory       241             7.51
    strong, decoded         201             9.05
    the reference's order   312             6.19

`in memory` is a training after its first epoch whose decoded images stay in memory (`--image_cache`). Batches are
filled in place; copying them together took .9 ms more.
"""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
from PIL import Image

import slim
from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.data import augmentation, decoding, pipeline, records, remapping, transforms
from deeplab.utils import console

CLASSES, IGNORE = 21, 255
IMAGES, SHARDS = 96, 4

PRESETS = ("none", "light", "medium", "strong")
CACHE_BYTES = 1 << 30  # holds all images

Size = tuple[int, int]


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(375, 500), help="height and width of the images")
    parser.add_argument("--crop", type=int, default=513, help="height and width of the crops")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument("--images", type=int, default=400, help="images a round")
    parser.add_argument("--rounds", type=int, default=5, help="how often each pipeline is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = write_records(folder, tuple(arguments.size))
        shards = records.list_shards(folder, "train")
        pipelines = contenders(shards, arguments.crop, arguments.batch)
        with remapping.one_thread_per_image():  # as training does
            speeds = measure(pipelines, arguments.images // arguments.batch, arguments.batch, arguments.rounds)
    bound = speeds["JPEG decoding alone (bound)"][0]
    rows = [(name, f"{wall:.0f}", f"{wall / bound:.2f}", f"{cpu:.2f}") for name, (wall, cpu) in speeds.items()]
    height, width = arguments.size
    print(f"{IMAGES} images of {height}x{width} pixels and {size / 1000:.0f} kB, crops of {arguments.crop}")
    print(console.table(rows, ("pipeline", "images/s (median)", "of the bound", "core-ms an image")))


def contenders(shards: list[str], crop: int, batch: int) -> dict[str, tf.data.Dataset]:
    """What is measured, by name: endless datasets of batches."""
    common = {"padding_color": slim.MID_GRAY, "ignore_label": IGNORE, "num_classes": CLASSES, "batch_size": batch}
    return {
        "JPEG decoding alone (bound)": decode_only(shards, batch, with_label=False),
        "JPEG and label decoding": decode_only(shards, batch, with_label=True),
        **{
            f"{preset}, {'in memory' if cached else 'decoded'}": train_batches(shards, crop, preset, common, cached)
            for preset in PRESETS
            for cached in (True, False)
        },
        "the reference's order": reference_order(shards, crop, batch),
    }


def train_batches(shards: list[str], crop: int, preset: str, common: dict, cached: bool) -> tf.data.Dataset:
    """Training batches with the operations of a preset; of decoded images in memory, or decoding each each time."""
    common = {**common, "cache_bytes": CACHE_BYTES if cached else 0}
    operations = augmentation.make(AugmentationConfig(augmentation=preset), slim.MID_GRAY, IGNORE)
    return pipeline.train_batches(shards, crop_size=(crop, crop), seed=1, augmentations=operations, **common)


def measure(
    pipelines: dict[str, tf.data.Dataset], steps: int, batch: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """Medians over the rounds: images a second, and milliseconds of one core an image.

    Each pipeline ends before the next one starts: one that fills its buffers would take time from the others.
    """
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
    for _ in console.progress(range(rounds), what="measuring", unit="round"):
        for name, dataset in pipelines.items():
            iterator = iter(dataset)
            epoch = IMAGES // batch + 1 if not speeds[name] else 0  # after it, all decoded images are in memory
            for _ in range(epoch + 6):  # buffers are full then
                next(iterator)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps):
                next(iterator)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            speeds[name].append((steps * batch / wall, 1000 * cpu / (steps * batch)))
            del iterator
            time.sleep(0.5)
    return {
        name: (statistics.median(w for w, _ in s), statistics.median(c for _, c in s)) for name, s in speeds.items()
    }


# --- The peers ----------------------------------------------------------------------------------------------


def decode_only(shards: list[str], batch: int, with_label: bool) -> tf.data.Dataset:
    """Sizes of decoded images; the pixels are thrown away."""

    def decode(serialized: tf.Tensor) -> tf.Tensor:
        example = decoding.parse(serialized)
        size = tf.shape(decoding.decode_image(example[records.IMAGE]))
        return size + tf.shape(tf.io.decode_png(example[records.LABEL])) if with_label else size

    sizes = tf.data.TFRecordDataset(shards).repeat().map(decode, num_parallel_calls=tf.data.AUTOTUNE)
    return sizes.batch(batch).prefetch(2)


def reference_order(shards: list[str], crop: int, batch: int) -> tf.data.Dataset:
    """Decode, scale, pad, crop, mirror, shuffle crops, repeat, batch: the steps of the reference, in their order."""

    def make(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = decoding.parse(serialized)
        image = decoding.decode_image(example[records.IMAGE])
        label = tf.io.decode_png(example[records.LABEL], channels=1)
        scale = tf.random.shuffle(tf.constant(transforms.scale_grid(0.5, 2.0, 0.25)))[0]
        size = tf.cast(tf.cast(tf.shape(image)[:2], tf.float32) * scale, tf.int32)
        image = tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=size, align_corners=True)[0]
        label = transforms.resize_nearest(tf.cast(label[:, :, 0], tf.int32), size)
        padded = tf.maximum(size, crop)
        image = transforms.pad_to(image, padded[0], padded[1], 127.5)
        label = transforms.pad_to(label, padded[0], padded[1], IGNORE)
        return cut_and_mirror(image, label, padded - crop, crop)

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    crops = tf.data.TFRecordDataset(shards).map(make, num_parallel_calls=tf.data.AUTOTUNE)
    return crops.shuffle(100).repeat().batch(batch).prefetch(2).with_options(options)


def cut_and_mirror(image: tf.Tensor, label: tf.Tensor, room: tf.Tensor, crop: int) -> dict[str, tf.Tensor]:
    """A random crop of image and label; `room` says how far it can move down and to the right."""
    y = tf.random.uniform([], maxval=room[0] + 1, dtype=tf.int32)
    x = tf.random.uniform([], maxval=room[1] + 1, dtype=tf.int32)
    image, label = image[y : y + crop, x : x + crop], label[y : y + crop, x : x + crop]
    mirrored = tf.random.uniform([]) <= 0.5
    image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    label = tf.cond(mirrored, lambda: tf.reverse(label, [1]), lambda: label)
    return {"image": tf.ensure_shape(image, [crop, crop, 3]), "label": tf.ensure_shape(label, [crop, crop])}


# --- Generated images -------------------------------------------------------------------------------------


def write_records(folder: str, size: Size) -> float:
    """Fills a folder with shards of generated images, and returns the mean size of a JPEG in bytes."""
    total = 0
    draw = np.random.default_rng(0)
    for index in range(SHARDS):
        with records.ShardWriter(folder, records.shard_name("train", index, SHARDS)) as writer:
            for number in range(IMAGES // SHARDS):
                image = encoded(photo(draw, size), "JPEG", quality=90)
                label = encoded(blobs(draw, size), "PNG")
                writer.write(records.encode_example(image, "jpeg", f"{index}_{number}", *size, label))
                total += len(image)
            writer.publish()
    return total / IMAGES


def photo(draw: np.random.Generator, size: Size) -> np.ndarray:
    """uint8 [H, W, 3] with the statistics of a photograph: contrast falls with frequency, colors vary slowly."""
    light = cloud(draw, size, 1.17)
    color = np.stack([cloud(draw, size, 1.8) for _ in range(3)], -1)
    pixels = 128 + 42 * light[:, :, np.newaxis] + 22 * color
    return np.clip(pixels, 0, 255).astype(np.uint8)


def cloud(draw: np.random.Generator, size: Size, falloff: float) -> np.ndarray:
    """float [H, W] of mean 0 and deviation 1 whose spectrum falls with frequency to the power `falloff`."""
    rows, columns = np.fft.fftfreq(size[0])[:, np.newaxis], np.fft.rfftfreq(size[1])
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(draw.standard_normal(size)) / frequency**falloff
    values = np.fft.irfft2(spectrum, size)
    return (values - values.mean()) / values.std()


def blobs(draw: np.random.Generator, size: Size) -> np.ndarray:
    """uint8 [H, W] label: areas of a few classes."""
    levels = np.digitize(cloud(draw, size, 2.5), [-1, 0, 1])
    return draw.permutation(CLASSES)[levels].astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, **settings: int) -> bytes:
    """The pixels as a file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
