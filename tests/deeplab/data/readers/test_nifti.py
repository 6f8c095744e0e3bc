"""NIfTI volumes: pairs by names, and records of their slices."""

import numpy as np
import pytest
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig
from deeplab.data import records
from deeplab.data.conversion import local
from deeplab.data.conversion.splits import read_sources
from deeplab.data.readers.nifti import BuildNiftiConfig, read_nifti


@pytest.fixture
def folders(tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="the extra `medical` is not installed")
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        volume = random.integers(-1000, 2000, (36, 40, 6)).astype(np.int16)
        label = (volume > 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "images" / f"{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), tmp_path / "labels" / f"{name}_seg.nii.gz")
    return {"image_folder": str(tmp_path / "images"), "mask_folder": str(tmp_path / "labels"), "mask_suffix": "_seg"}


def test_all_slices_of_a_volume_are_in_one_split(folders, tmp_path):
    labels, config = LabelConfig(num_classes=2), BuildNiftiConfig(**folders, slice_step=2)
    (source,) = read_sources("nifti", config, labels, SplitConfig(train_pct=0.6)).values()
    dataset = local.build(source, tmp_path / "out", labels, RecordConfig(num_shards=1, bands="all"))
    assert dataset.splits == {"train": 6, "val": 3} and dataset.image_bands.dtype == "float32"
    names = {
        split: [record[records.FILENAME].decode() for record in records.read_shard(path)]
        for split in ("train", "val")
        for path in records.list_shards(tmp_path / "out", split)
    }
    assert not {name[0] for name in names["train"]} & {name[0] for name in names["val"]}
    assert {name[1:] for name in names["val"]} == {"_0000", "_0002", "_0004"}
    record = next(records.read_shard(records.list_shards(tmp_path / "out", "val")[0]))
    assert records.decode_values(record).shape == (40, 36, 1)


def test_volumes_without_labels_are_named(folders):
    with raises("files-missing", where="images"):
        read_nifti(BuildNiftiConfig(**{**folders, "mask_suffix": ""}))
    with raises("no-files", where="labels"):
        read_nifti(BuildNiftiConfig(folders["mask_folder"], folders["mask_folder"], "_seg"))
