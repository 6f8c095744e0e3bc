"""The images of the parity check."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deeplab.data import records
from deeplab.data.bands import RGB, ImageBands
from deeplab.export import parity_images
from deeplab.utils.errors import UserError


def test_generated_ones_fit_the_crop_one_tall_one_wide():
    chosen = parity_images.choose(4, "", "", (129, 129), RGB)
    shapes = [image.shape for _, image in chosen]
    assert shapes == [(129, 77, 3), (77, 129, 3), (129, 129, 3), (97, 97, 3)]
    assert len({name for name, _ in chosen}) == 4
    assert all(image.dtype == np.uint8 and image.std() > 10 for _, image in chosen)


def test_tiny_crops_have_images_too():
    assert [image.shape for _, image in parity_images.choose(2, "", "", (33, 33), RGB)] == [(33, 20, 3), (20, 33, 3)]


def test_a_given_folder_is_taken_and_large_images_are_shrunk(tmp_path):
    for name, size in (("b", (300, 150)), ("a", (20, 30)), ("c", (40, 40))):
        Image.new("RGB", size, (10, 20, 30)).save(tmp_path / f"{name}.png")
    chosen = dict(parity_images.choose(2, str(tmp_path), "", (65, 97), RGB))
    assert {name: image.shape for name, image in chosen.items()} == {"a": (30, 20, 3), "b": (49, 97, 3)}


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError) as error:
        parity_images.choose(2, str(tmp_path), "", (65, 97), RGB)
    assert error.value.where == str(tmp_path)


def test_the_datasets_validation_images_are_taken(disc_records):
    chosen = parity_images.choose(3, "", str(disc_records), (65, 97), RGB)
    assert [name for name, _ in chosen] == ["pair_100", "pair_101", "pair_102"]
    assert chosen[0][1].shape == (48, 64, 3)


def test_without_records_portraits_are_generated_with_a_note(tmp_path, capsys):
    chosen = parity_images.choose(1, "", str(tmp_path / "moved"), (65, 97), RGB)
    assert chosen[0][0] == "portrait 1"
    assert "no records in" in capsys.readouterr().err


def test_damaged_records_give_a_warning(disc_records, tmp_path, capsys):
    whole = (disc_records / "val-00000-of-00001.tfrecord").read_bytes()
    (tmp_path / "val-00000-of-00001.tfrecord").write_bytes(whole[:-9])
    chosen = parity_images.choose(4, "", str(tmp_path), (65, 97), RGB)
    assert [name for name, _ in chosen] == ["pair_100", "pair_101", "pair_102"]
    assert "cannot be read" in capsys.readouterr().err


def test_further_channels_repeat_the_first():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    four = parity_images.with_channels(image, ImageBands(4))
    np.testing.assert_array_equal(four[..., :3], image)
    np.testing.assert_array_equal(four[..., 3], image[..., 0])
    assert parity_images.with_channels(image, ImageBands(1)).shape == (2, 2, 1)


def test_an_image_too_large_to_be_read_gives_a_warning(tmp_path, capsys):
    Image.new("RGB", (9, 9)).save(buffer := io.BytesIO(), "PNG")
    image = bytearray(buffer.getvalue())
    image[16:24] = struct.pack(">II", 60000, 60000)
    image[29:33] = struct.pack(">I", zlib.crc32(image[12:29]))
    with records.ShardWriter(tmp_path, records.shard_name("val", 0, 1)) as writer:
        writer.write(records.encode_example(bytes(image), "png", "huge", 60000, 60000, b""))
        writer.publish()
    assert parity_images.choose(1, "", str(tmp_path), (65, 97), RGB)[0][0] == "portrait 1"
    assert "has 3,600,000,000 pixels" in capsys.readouterr().err
