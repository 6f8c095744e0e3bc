"""DICOM files: values, rescaling, damage, several frames, masks, records."""

import sys

import cv2
import numpy as np
import pytest
from support.dicom_files import dicom_bytes
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig
from deeplab.data import records
from deeplab.data.conversion import local
from deeplab.data.conversion.splits import read_sources
from deeplab.data.images import count_pages, read_image, read_raster
from deeplab.data.labels import LabelSpec
from deeplab.data.mask_files import decode_label, read_mask
from deeplab.data.readers.folder import BuildFolderConfig


class TestDICOM:
    values = np.arange(63, dtype=np.int16).reshape(9, 7) - 20

    @pytest.fixture
    def write(self, tmp_path):
        pytest.importorskip("pydicom", reason="the extra `medical` is not installed")

        def write(pixels, **elements):
            path = tmp_path / "a.dcm"
            path.write_bytes(dicom_bytes(pixels, **elements))
            return path

        return write

    def test_values_of_ct_are_hounsfield_units(self, write):
        raster = read_raster(write(self.values, slope=2.0, intercept=-1024.0))
        assert raster.pixels.dtype == np.float32 and raster.valid is None
        assert np.array_equal(raster.pixels[..., 0], self.values * 2.0 - 1024)

    @pytest.mark.parametrize("kind", ["uint8", "uint16"])
    def test_values_without_rescaling_keep_their_type(self, write, kind):
        pixels = np.arange(63).reshape(9, 7).astype(kind) * 4
        for rescaling in ({}, {"slope": 1.0, "intercept": 0.0}):
            raster = read_raster(write(pixels, **rescaling))
            assert raster.pixels.dtype == kind and np.array_equal(raster.pixels[..., 0], pixels)

    def test_color_images_have_three_bands(self, write):
        pixels = np.arange(9 * 7 * 3, dtype=np.uint8).reshape(9, 7, 3)
        assert np.array_equal(read_raster(write(pixels)).pixels, pixels)

    def test_several_frames_are_no_image(self, write):
        path = write(np.zeros((8, 5), np.uint8), NumberOfFrames=2, Rows=4)
        with raises("unsupported-pixels", where="a.dcm"):
            read_raster(path)

    @pytest.mark.parametrize("elements", [{"Rows": 10}, {"Rows": 65535, "Columns": 65535}, {"BitsAllocated": 7}])
    def test_headers_that_do_not_fit_the_values(self, write, elements):
        with raises("unreadable-image", where="a.dcm"):
            read_raster(write(self.values, **elements))

    def test_cut_files(self, write):
        path = write(self.values)
        for length in (140, 300, path.stat().st_size - 20):
            path.write_bytes(path.read_bytes()[:length])
            with raises("unreadable-image", where="a.dcm"):
                read_raster(path)

    def test_records_hold_its_values(self, write, tmp_path):
        path = write(self.values, slope=1.0, intercept=-1000.0)
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
        path.rename(tmp_path / "images" / "a.dcm")
        cv2.imwrite(str(tmp_path / "masks" / "a.png"), (self.values > 0).astype(np.uint8))
        config = BuildFolderConfig(str(tmp_path / "images"), str(tmp_path / "masks"))
        labels = LabelConfig(num_classes=2)
        (source,) = read_sources("folder", config, labels, SplitConfig(train_pct=1.0)).values()
        local.build(source, tmp_path / "out", labels, RecordConfig(num_shards=1, bands="all"))
        record = next(records.read_shard(records.list_shards(tmp_path / "out", "train")[0]))
        assert np.array_equal(records.decode_values(record)[..., 0], self.values - 1000.0)

    def test_masks_and_8_bit_images(self, write, tmp_path):
        label = (self.values % 3).astype(np.uint8)
        path = write(label)
        assert decode_label(read_mask(str(path)), str(path), LabelSpec(3)).label.tolist() == label.tolist()
        assert read_image(path)[..., 1].tolist() == label.tolist() and count_pages(path.read_bytes(), "a.dcm") == 1
        write(self.values.astype(np.int16), slope=1.0, intercept=-1000.0)
        with raises("not-a-mask", where="a.dcm"):
            read_mask(str(path))

    def test_others_become_no_rgb_and_the_error_says_what_helps(self, write):
        with raises("unsupported-pixels", where="a.dcm") as caught:
            read_image(write(self.values))
        assert caught.value.value == "int16" and "`bands=all`" in caught.value.hint

    def test_several_frames(self, write):
        path = write(self.values, NumberOfFrames=2, PixelData=self.values.tobytes() * 2)
        for read in (read_raster, read_image, lambda path: read_mask(str(path))):
            with raises("unsupported-pixels", where="a.dcm") as caught:
                read(path)
            assert caught.value.value == 2 and "nifti" in caught.value.hint


def test_dicom_without_its_library(tmp_path, monkeypatch):
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with raises("missing-library"):
        read_raster(tmp_path / "a.dcm")
