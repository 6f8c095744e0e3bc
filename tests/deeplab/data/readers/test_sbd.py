"""SBD's MATLAB masks, and the train_aug split that VOC and SBD make together."""

import pickle
import sys

import cv2
import numpy as np
import pytest

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data.conversion import local
from deeplab.data.labels import LabelRule
from deeplab.data.readers.sbd import SbdMask, read_segmentation, train_aug
from deeplab.data.readers.source import Painter, Pair, Source, indices_of
from deeplab.utils.errors import UserError

matlab = pytest.importorskip("scipy.io")

LABEL = np.array([[0, 15, 15], [0, 20, 1]], np.uint8)


def write_mask(path, label=LABEL, **fields):
    """A mask as SBD has it: a struct with the matrix, and boundaries that nobody asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"Segmentation": label, "CategoriesPresent": np.array([[1], [15]], np.uint8), **fields}
    matlab.savemat(path, {"GTcls": content}, do_compression=True)
    return str(path)


def write_image(path, height=2, width=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full([height, width, 3], 90, np.uint8))


@pytest.fixture
def sbd(tmp_path):
    """SBD lists a, b, c in train and d, e in val; VOC has a and f in train, and d in val."""
    root = tmp_path / "benchmark_RELEASE" / "dataset"
    for name in "abcde":
        write_mask(root / "cls" / f"{name}.mat")
        write_image(root / "img" / f"{name}.jpg")
    (root / "train.txt").write_text("a\nb\nc\n")
    (root / "val.txt").write_text("d\ne\n")
    for name in "abd":
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg")
    return tmp_path


VOC_TRAIN = [Pair("f", "f.jpg", "f.png"), Pair("a", "a.jpg", "a.png")]


def merged(root, sbd_root="benchmark_RELEASE"):
    return train_aug(VOC_TRAIN, ["d"], str(root / sbd_root), str(root / "JPEGImages"))


def painter():
    return Painter(indices_of(["background"], 255), 255, LabelRule())


# --- The split ----------------------------------------------------------------------------------------------


def test_voc_train_and_sbd_without_voc_val(sbd, capsys):
    pairs = merged(sbd)
    assert [pair.name for pair in pairs] == ["a", "b", "c", "e", "f"]
    assert pairs[0].mask == "a.png"  # VOC's own mask wins
    assert pairs[1].mask == SbdMask(str(sbd / "benchmark_RELEASE/dataset/cls/b.mat"))
    said = capsys.readouterr().err
    assert "5 images, 2 of VOC's train and 3 of SBD; the published one has 10582" in said


def test_images_of_voc_first_then_of_sbd(sbd):
    images = {pair.name: pair.image for pair in merged(sbd)}
    assert images["b"] == str(sbd / "JPEGImages" / "b.jpg")
    assert images["c"] == str(sbd / "benchmark_RELEASE/dataset/img/c.jpg")


@pytest.mark.parametrize("inside", [".", "benchmark_RELEASE", "benchmark_RELEASE/dataset"])
def test_the_root_may_be_any_of_three_folders(sbd, inside):
    assert len(merged(sbd, inside)) == 5


def test_files_that_the_lists_name_but_nobody_has(sbd):
    (sbd / "benchmark_RELEASE/dataset/cls/b.mat").unlink()
    (sbd / "benchmark_RELEASE/dataset/img/c.jpg").unlink()
    with pytest.raises(UserError, match=r"(?s)2 files .* are missing: cls/b\.mat, img/c\.jpg.*unpack benchmark\.tgz"):
        merged(sbd)


def test_no_sbd_there(sbd):
    (sbd / "benchmark_RELEASE/dataset/val.txt").unlink()
    with pytest.raises(UserError) as fault:
        merged(sbd)
    assert fault.value.where == "--sbd_root"
    assert "needs cls/, train.txt and val.txt" in fault.value.rule
    assert "benchmark_RELEASE" in fault.value.hint


def test_pairs_become_records(sbd):
    pairs = [pair for pair in merged(sbd) if pair.name in "bce"]
    assert pickle.loads(pickle.dumps(pairs)) == pairs
    source = Source({"train_aug": pairs}, known="pascal_voc_seg")
    built = local.build(source, sbd / "out", LabelConfig(), RecordConfig(num_shards=1))
    counts = built.pixels["train_aug"]
    assert {index: number for index, number in enumerate(counts) if number} == {0: 6, 1: 3, 15: 6, 20: 3}


# --- The masks ----------------------------------------------------------------------------------------------


def test_the_matrix_in_the_struct_is_the_label(tmp_path):
    path = write_mask(tmp_path / "a.mat")
    label = SbdMask(path).draw(painter(), 2, 3)
    assert label.dtype == np.uint8
    assert label.tolist() == LABEL.tolist()
    assert (SbdMask(path).where, SbdMask(path).size) == (path, None)


def test_numbers_saved_as_doubles(tmp_path):
    assert read_segmentation(write_mask(tmp_path / "a.mat", LABEL.astype(float))).tolist() == LABEL.tolist()
    with pytest.raises(UserError, match="no class indices"):
        read_segmentation(write_mask(tmp_path / "a.mat", LABEL + 0.5))
    with pytest.raises(UserError, match="no class indices"):
        read_segmentation(write_mask(tmp_path / "a.mat", LABEL.astype(np.int32) - 1))


def test_a_mask_of_another_size(tmp_path):
    path = write_mask(tmp_path / "a.mat")
    with pytest.raises(UserError, match=r"a\.mat: the mask is 3x2 pixels, its image 2x3"):
        SbdMask(path).draw(painter(), 3, 2)


@pytest.mark.parametrize("kept", [0, 60, 140, -20])
def test_files_that_are_cut_off(tmp_path, kept):
    write_mask(tmp_path / "a.mat")
    data = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(data[:kept])
    with pytest.raises(UserError) as fault:
        read_segmentation(tmp_path / "a.mat")
    assert fault.value.where == str(tmp_path / "a.mat")
    assert "cannot be read as a MATLAB file" in fault.value.rule
    assert fault.value.hint == "unpack benchmark.tgz anew"


def test_any_damage_is_a_plain_error_or_harmless(tmp_path):
    write_mask(tmp_path / "a.mat")
    data = (tmp_path / "a.mat").read_bytes()
    for position in range(124, len(data), 3):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        (tmp_path / "a.mat").write_bytes(bytes(broken))
        try:
            read_segmentation(tmp_path / "a.mat")
        except UserError as fault:
            assert "a.mat" in fault.where


def test_text_is_no_matlab_file(tmp_path):
    (tmp_path / "a.mat").write_text("a web page that says the file has moved" * 20)
    with pytest.raises(UserError, match=r"a\.mat: cannot be read as a MATLAB file"):
        read_segmentation(tmp_path / "a.mat")
    with pytest.raises(UserError, match=r"b\.mat: cannot be read: No such file"):
        read_segmentation(tmp_path / "b.mat")


def test_files_without_the_class_mask(tmp_path):
    matlab.savemat(tmp_path / "a.mat", {"GTinst": {"Segmentation": LABEL}})
    with pytest.raises(UserError, match=r"(?s)a\.mat: holds no GTcls.*lie in cls/; inst/ holds"):
        read_segmentation(tmp_path / "a.mat")
    matlab.savemat(tmp_path / "a.mat", {"GTcls": LABEL})
    with pytest.raises(UserError, match="no struct with a field Segmentation"):
        read_segmentation(tmp_path / "a.mat")
    matlab.savemat(tmp_path / "a.mat", {"GTcls": {"Boundaries": LABEL}})
    with pytest.raises(UserError, match="no struct with a field Segmentation"):
        read_segmentation(tmp_path / "a.mat")
    matlab.savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": "mask"}})
    with pytest.raises(UserError, match="no matrix of numbers"):
        read_segmentation(tmp_path / "a.mat")


def test_without_scipy_the_extra_is_named(tmp_path, monkeypatch):
    path = write_mask(tmp_path / "a.mat")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UserError, match=r"pip install 'deeplab-tensorflow\[sbd\]'"):
        SbdMask(path).draw(painter(), 2, 3)
