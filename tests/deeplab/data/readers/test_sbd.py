"""SBD's MATLAB masks, and the train_aug split that VOC and SBD make together."""

import pickle

import cv2
import numpy as np
import pytest
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data.conversion import local
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.sbd import SbdMask, read_segmentation, train_aug
from deeplab.data.readers.source import Painter, Pair, Source
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
    return Painter(("background",), LabelSpec())


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


def test_files_that_the_lists_name_but_do_not_exist(sbd):
    (sbd / "benchmark_RELEASE/dataset/cls/b.mat").unlink()
    (sbd / "benchmark_RELEASE/dataset/img/c.jpg").unlink()
    with raises("files-missing", where="benchmark_RELEASE/dataset") as caught:
        merged(sbd)
    assert caught.value.value == ("cls/b.mat", "img/c.jpg") and "unpack benchmark.tgz" in caught.value.hint


def test_no_sbd_there(sbd):
    (sbd / "benchmark_RELEASE/dataset/val.txt").unlink()
    with raises("wrong-layout", field="sbd_root") as caught:
        merged(sbd)
    assert "needs cls/, train.txt and val.txt" in caught.value.rule and "benchmark_RELEASE" in caught.value.hint


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
    with raises("out-of-range", where="a.mat"):
        read_segmentation(write_mask(tmp_path / "a.mat", LABEL + 0.5))
    with raises("out-of-range", where="a.mat"):
        read_segmentation(write_mask(tmp_path / "a.mat", LABEL.astype(np.int32) - 1))


def test_a_mask_of_another_size(tmp_path):
    path = write_mask(tmp_path / "a.mat")
    with raises("size-mismatch", where="a.mat") as caught:
        SbdMask(path).draw(painter(), 3, 2)
    assert caught.value.value == (2, 3)


@pytest.mark.parametrize("kept", [0, 60, 140, -20])
def test_files_that_are_cut_off(tmp_path, kept):
    write_mask(tmp_path / "a.mat")
    data = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(data[:kept])
    with raises("unreadable-file", where=tmp_path / "a.mat") as caught:
        read_segmentation(tmp_path / "a.mat")
    assert caught.value.hint == "unpack benchmark.tgz again"


def test_any_damage_is_a_plain_error_or_harmless(tmp_path):
    write_mask(tmp_path / "a.mat")
    data = (tmp_path / "a.mat").read_bytes()
    for position in range(124, len(data), 3):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        (tmp_path / "a.mat").write_bytes(bytes(broken))
        try:
            read_segmentation(tmp_path / "a.mat")
        except UserError as error:
            assert "a.mat" in error.where


def test_text_is_no_matlab_file(tmp_path):
    (tmp_path / "a.mat").write_text("a web page that says the file has moved" * 20)
    with raises("unreadable-file", where="a.mat"):
        read_segmentation(tmp_path / "a.mat")
    with raises("file-not-found", where="b.mat"):
        read_segmentation(tmp_path / "b.mat")


def test_files_without_the_class_mask(tmp_path):
    matlab.savemat(tmp_path / "a.mat", {"GTinst": {"Segmentation": LABEL}})
    with raises("wrong-format", where="a.mat") as caught:
        read_segmentation(tmp_path / "a.mat")
    assert "in cls/" in caught.value.hint
    for content in (LABEL, {"Boundaries": LABEL}, {"Segmentation": "mask"}):
        matlab.savemat(tmp_path / "a.mat", {"GTcls": content})
        with raises("wrong-format", where="a.mat"):
            read_segmentation(tmp_path / "a.mat")
