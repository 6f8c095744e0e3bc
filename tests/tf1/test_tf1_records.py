"""TFRecords between this project and TensorFlow 1.15, both ways."""

import cv2
import numpy as np
import pytest
from support import golden_recipe

from deeplab.data import records

pytestmark = pytest.mark.tf1

LABEL = np.arange(20 * 30, dtype=np.uint8).reshape(20, 30) % 21
IMAGES = [golden_recipe.image(20, 30, tag=f"record {n}")[0] for n in range(2)]


def encoded(pixels: np.ndarray, extension: str) -> bytes:
    """An image file's bytes."""
    return cv2.imencode(extension, pixels)[1].tobytes()


def examples() -> list[dict]:
    """Arguments of `encode_example`: a JPEG and a PNG, one with an umlaut in its name."""
    files = [(encoded(IMAGES[0], ".jpg"), "jpg", "2007_000001"), (encoded(IMAGES[1], ".png"), "png", "Straße_ü")]
    size = {"height": 20, "width": 30, "label": encoded(LABEL, ".png")}
    return [{"image": content, "image_format": form, "filename": name, **size} for content, form, name in files]


def test_tensorflow_1_reads_ours(tf1, tmp_path):
    name = records.shard_name("train", 0, 1)
    with records.ShardWriter(tmp_path, name) as writer:
        for example in examples():
            writer.write(records.encode_example(**example))
        writer.publish()
    seen = tf1.run("under_tf1_records", mode="read", path=tmp_path / name)
    assert int(seen["count"]) == 2
    for number, example in enumerate(examples()):
        assert seen[f"{number}:image/encoded"].tobytes() == example["image"]
        assert seen[f"{number}:image/filename"].tobytes().decode() == example["filename"]
        assert seen[f"{number}:image/format"].tobytes() == (b"jpeg", b"png")[number]
        assert [int(seen[f"{number}:image/{key}"]) for key in ("height", "width", "channels")] == [20, 30, 3]
        np.testing.assert_array_equal(seen[f"{number}:label"][..., 0], LABEL)
    np.testing.assert_array_equal(seen["1:image"], IMAGES[1][..., ::-1])  # OpenCV writes BGR


def test_we_read_what_tensorflow_1_wrote(tf1, tmp_path):
    inputs = {"count": 2}
    for number, example in enumerate(examples()):
        contents = {
            records.IMAGE: example["image"],
            records.FILENAME: example["filename"].encode(),
            records.IMAGE_FORMAT: b"jpeg",
            records.LABEL: example["label"],
            records.LABEL_FORMAT: b"png",
        }
        inputs |= {f"{number}:{key}": np.frombuffer(value, np.uint8) for key, value in contents.items()}
        inputs |= {
            f"{number}:{key}": n for key, n in ((records.HEIGHT, 20), (records.WIDTH, 30), (records.CHANNELS, 3))
        }
    path = tmp_path / records.shard_name("val", 0, 1)
    tf1.run("under_tf1_records", mode="write", path=path, **inputs)
    assert records.list_shards(tmp_path, "val") == [str(path)]
    back = list(records.read_shard(path))
    assert len(back) == records.count_records(path) == 2
    for example, read in zip(examples(), back, strict=True):
        assert read[records.IMAGE] == example["image"] and read[records.LABEL] == example["label"]
        assert read[records.FILENAME].decode() == example["filename"]
        assert (read[records.HEIGHT], read[records.WIDTH]) == (20, 30)
