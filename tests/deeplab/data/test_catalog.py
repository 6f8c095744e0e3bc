"""The table of what known datasets consist of, and a user's own addresses in place of the published ones."""

import pytest
from support.errors import raises

from deeplab.data import catalog

PUBLISHED = {  # where the owners publish what can be had without asking
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    "http://images.cocodataset.org/zips/train2017.zip",
    "http://images.cocodataset.org/zips/val2017.zip",
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData/files/701_StillsRaw_full.zip",
    "http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/data/LabeledApproved_full.zip",
    "http://vis-www.cs.umass.edu/lfw/lfw-funneled.tgz",
    "http://vis-www.cs.umass.edu/lfw/part_labels/parts_lfw_funneled_gt_images.tgz",
    "http://vis-www.cs.umass.edu/lfw/part_labels/parts_train.txt",
    "http://vis-www.cs.umass.edu/lfw/part_labels/parts_validation.txt",
    "http://vis-www.cs.umass.edu/lfw/part_labels/parts_test.txt",
}
VOC = "VOCtrainval_11-May-2012.tar"


def test_every_dataset_of_the_catalog():
    addresses = set()
    for name in catalog.names():
        known = catalog.find(name)
        assert known.title and known.terms and known.page.startswith("http")
        for archive in known.archives:
            addresses |= {archive.address} - {""}
            assert archive.address or known.by_hand
            assert archive.address == "" or archive.address.endswith("/" + archive.file)
            assert not archive.checksum or len(archive.checksum.split(":")[1]) in (32, 40, 64)
    assert addresses == PUBLISHED


@pytest.mark.parametrize(
    ("name", "pattern", "number"),
    [
        ("voc2012", "VOCdevkit/VOC2012/JPEGImages/*.jpg", 17125),
        ("voc2012", "VOCdevkit/VOC2012/SegmentationClass/*.png", 2913),
        ("sbd", "benchmark_RELEASE/dataset/cls/*.mat", 11355),
        ("ade20k", "ADEChallengeData2016/images/training/*.jpg", 20210),
        ("coco", "train2017/*.jpg", 118287),
        ("camvid", "LabeledApproved_full/*_L.png", 701),
        ("lfw_parts", "masks/*.ppm", 2927),
        ("celeba_hair_skin", "masks/*.bmp", 3556),
        ("isic2018_task1", "masks/train/*_segmentation.png", 2594),
        ("deepfashion2", "validation/annos/*.json", 32153),
    ],
)
def test_published_numbers(name, pattern, number):
    expected = {key: value for archive in catalog.find(name).archives for key, value in archive.expected.items()}
    assert expected[pattern] == number


def test_unknown_dataset():
    with raises("unknown-name", field="name") as caught:
        catalog.find("canvid")
    assert caught.value.hint == "did you mean 'camvid'?"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{", "unreadable-yaml", ""),
        ("- 1", "wrong-type", "the file must hold"),
        ("voc2021: {}", "unknown-name", "did you mean 'voc2012'"),
        ("voc2012: {archives: 3}", "wrong-type", "voc2012: archives must hold"),
        ("voc2012: {title: mine}", "unknown-key", "give archives only"),
        ("voc2012: {archives: {VOC.tar: {}}}", "unknown-name", "has no archive 'VOC.tar'"),
        (f"voc2012: {{archives: {{{VOC}: {{adress: x}}}}}}", "unknown-key", "unknown key 'adress'"),
        (f"voc2012: {{archives: {{{VOC}: {{bytes: many}}}}}}", "wrong-type", "bytes must be of type int"),
        (f"voc2012: {{archives: {{{VOC}: {{checksum: '123'}}}}}}", "bad-checksum", "'123'"),
        (f"voc2012: {{archives: {{{VOC}: {{expected: {{../a: 1}}}}}}}}", "wrong-type", "expected must be"),
    ],
)
def test_addresses_of_another_form(tmp_path, text, code, words):
    (tmp_path / "own.yml").write_text(text)
    with raises(code, where="own.yml") as caught:
        catalog.find("voc2012", tmp_path / "own.yml")
    assert words in str(caught.value)


def test_own_addresses_leave_the_rest_as_published(tmp_path):
    (tmp_path / "own.yml").write_text(f"voc2012: {{archives: {{{VOC}: {{address: 'http://mirror/x.tar'}}}}}}")
    (mirrored,), (published,) = (catalog.find("voc2012", path).archives for path in (tmp_path / "own.yml", ""))
    assert mirrored.address == "http://mirror/x.tar"
    assert mirrored.checksum == published.checksum and mirrored.expected == published.expected
    assert catalog.find("sbd", tmp_path / "own.yml") == catalog.find("sbd")
