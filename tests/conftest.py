"""What all tests share: the golden numbers' folder and quiet TensorFlow."""

import collections
import contextlib
import ctypes
import gc
import io
import os
import pathlib
import sys

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="many kills and random combinations instead of a few")


def pytest_collection_modifyitems(config, items):
    """Parallel runs begin with the files of slow tests, so that none of these is the only one left at the end."""
    if hasattr(config, "workerinput"):
        slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What imports and collection make lives to the end, so the garbage collector need not look at it.

    With it, full collections are slow and therefore rare, and models and graphs, which are garbage of cycles, pile up.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
        gc.collect()  # its threshold follows the number of objects that it last saw


@pytest.fixture(autouse=True, scope="module")
def memory_given_back():
    """After a module, the memory of its models and arrays is free for other processes.

    Fixtures that drop what a module has kept depend on this one, so that they come before it.
    """
    yield
    gc.collect()
    if "tensorflow" in sys.modules:
        from tensorflow.python.eager import context

        context.context().clear_kernel_cache()  # one kernel for each operation and setting that has ever run eagerly
    with contextlib.suppress(AttributeError, OSError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)


GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden() -> pathlib.Path:
    """Folder of small numbers measured on the reference (TensorFlow 1.15)."""
    return GOLDEN


def disc_pair(number: int, height: int = 48, width: int = 64):
    """An image of one disc or square on a plain ground, and its label: 0 ground, 1 disc, 2 square."""
    draw = np.random.default_rng(number)
    rows, columns = np.mgrid[0:height, 0:width]
    row, column = draw.integers(12, height - 12), draw.integers(12, width - 12)
    radius = draw.integers(8, 12)
    is_disc = number % 2 == 0
    distance = np.hypot(rows - row, columns - column) if is_disc else np.maximum(abs(rows - row), abs(columns - column))
    label = np.where(distance < radius, 1 if is_disc else 2, 0).astype(np.uint8)
    colors = np.array([[40, 60, 90], [220, 80, 60], [90, 200, 80]])
    image = colors[label] + draw.integers(-20, 20, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8), label


def png(pixels: np.ndarray) -> bytes:
    """Pixels as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def disc_records(tmp_path_factory) -> pathlib.Path:
    """A folder of records (12 train, 4 val) with dataset.yml: discs and squares, three classes."""
    from deeplab.data import dataset, records

    folder = tmp_path_factory.mktemp("discs")
    for split, numbers in (("train", range(12)), ("val", range(100, 104))):
        with records.ShardWriter(folder, records.shard_name(split, 0, 1)) as writer:
            for number in numbers:
                image, label = disc_pair(number)
                example = records.encode_example(png(image), "png", f"pair_{number}", *label.shape, png(label))
                writer.write(example)
            writer.publish()
    facts = dataset.Dataset("discs", ("ground", "disc", "square"), splits={"train": 12, "val": 4})
    dataset.save(facts, folder / dataset.FILE_NAME)
    return folder


@pytest.fixture(autouse=True, scope="module")
def settings_named_as_in_the_library():
    """Modules start with settings named as the library does, whatever commands ran in this process before."""
    from deeplab.utils import console

    console.spell_settings(str)
