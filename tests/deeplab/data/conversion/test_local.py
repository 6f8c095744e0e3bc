"""Builds from end to end: the reference's own images, both builders, bad input, kills, two at once."""

import dataclasses
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import tracemalloc

import cv2
import numpy as np
import pytest
import tensorflow as tf
from support import band_scenes, killed_build
from support.errors import raises

from deeplab.build_data import COMMAND, build_data
from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig
from deeplab.data import dataset as datasets
from deeplab.data import geotiff, records
from deeplab.data.conversion import beam, local
from deeplab.data.conversion.splits import read_sources
from deeplab.data.conversion.summary import fraction_table
from deeplab.data.mask_files import write_index_png
from deeplab.data.readers import FORMATS
from deeplab.data.readers.coco import BuildCocoConfig
from deeplab.data.readers.folder import BuildFolderConfig
from deeplab.data.readers.source import Pair, Source
from deeplab.data.readers.voc import BuildVocConfig
from deeplab.utils import files as files_module
from deeplab.utils.errors import UserError
from deeplab.utils.files import partial_path
from deeplab.utils.locks import folder_lock

REPOSITORY = pathlib.Path(__file__).resolve().parents[4]
LABEL = np.array([[0, 1, 2, 255]] * 3, np.uint8)


def write_pair(root, name, label=LABEL, extension="jpg"):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    image = np.full([*label.shape[:2], 3], 90, np.uint8)
    assert cv2.imwrite(str(root / "images" / f"{name}.{extension}"), image)
    assert cv2.imwrite(str(root / "masks" / f"{name}.png"), label[..., ::-1] if label.ndim == 3 else label)


def write_lists(root, **splits):
    (root / "lists").mkdir(exist_ok=True)
    for split, names in splits.items():
        (root / "lists" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def images(tmp_path):
    """Five pairs, three in train and two in val."""
    for name in "abcde":
        write_pair(tmp_path, name)
    write_lists(tmp_path, train="abc", val="de")
    return tmp_path


def voc(root, labels=LabelConfig(), shards=2, **settings):  # noqa: B008
    config = BuildVocConfig(
        image_folder=str(root / "images"),
        semantic_segmentation_folder=str(root / "masks"),
        list_folder=str(root / "lists"),
        splits=settings.pop("splits", ""),
    )
    return build("voc", config, root, labels, RecordConfig(num_shards=shards, **settings))


def build(format_name, config, root, labels, records_config, splits=SplitConfig()):  # noqa: B008
    (source,) = read_sources(format_name, config, labels, splits).values()
    return local.build(source, root / "out", labels, records_config)


def folder(root, labels=LabelConfig(), records_config=RecordConfig(num_shards=1), masks="masks", **splits):  # noqa: B008
    config = BuildFolderConfig(str(root / "images"), str(root / masks))
    return build("folder", config, root, labels, records_config, SplitConfig(**splits))


def stored(root, split):
    return [record for path in records.list_shards(root / "out", split) for record in records.read_shard(path)]


def names(root, split):
    return [record[records.FILENAME].decode() for record in stored(root, split)]


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def files(root):
    return list(contents(root / "out"))


# --- What is written ----------------------------------------------------------------------------------------


def test_same_images_as_the_reference_give_the_same_examples(golden, tmp_path):
    """The reference's shards hold its images: taken out and built again they must come back feature by feature."""
    theirs = {split: records.list_shards(golden / "records", split) for split in ("train", "val")}
    for folder_name in ("images", "masks", "lists"):
        (tmp_path / folder_name).mkdir()
    for split, shards in theirs.items():
        held = [record for path in shards for record in records.read_shard(path)]
        for record in held:
            name = record[records.FILENAME].decode()
            (tmp_path / "images" / f"{name}.jpg").write_bytes(record[records.IMAGE])
            (tmp_path / "masks" / f"{name}.png").write_bytes(record[records.LABEL])
        write_lists(tmp_path, **{split: [record[records.FILENAME].decode() for record in held]})
    built = voc(tmp_path, shards=4)
    for split, shards in theirs.items():
        for path, ours in zip(shards, records.list_shards(tmp_path / "out", split), strict=True):
            assert pathlib.Path(path).name == pathlib.Path(ours).name
            assert list(records.read_shard(path)) == list(records.read_shard(ours))
    assert built.num_classes == 21  # known by the images' names
    assert dict(built.splits) == {"train": 6, "val": 3}


def test_description_is_written_beside_the_shards(images):
    built = voc(images, LabelConfig(class_names="ground,disc,square"))
    assert datasets.load(images / "out" / "dataset.yml") == built
    assert built.class_names == ("ground", "disc", "square")
    assert built.pixels == {"train": (9, 9, 9), "val": (6, 6, 6)}
    assert built.ignored_pixels == {"train": 9, "val": 6}
    assert built.size_range["train"] == datasets.SizeRange(3, 3, 4, 4)
    assert "33.33%" in fraction_table(built)


def test_contiguous_chunks_of_which_the_last_may_be_empty(images):
    assert [len(chunk) for chunk in beam.chunks(list(range(9)), 4)] == [3, 3, 3, 0]
    voc(images, shards=4)
    shards = records.list_shards(images / "out", "train")
    assert [records.count_records(path) for path in shards] == [1, 1, 1, 0]
    assert names(images, "train") == ["a", "b", "c"]


def test_palette_masks_and_mapped_masks_are_stored_as_gray_indices(images):
    write_index_png(images / "masks" / "a.png", LABEL)
    voc(images, LabelConfig(label_map="2:0"))
    for record in stored(images, "train"):
        label = tf.io.decode_png(record[records.LABEL], channels=1)[..., 0].numpy()
        np.testing.assert_array_equal(label, np.where(LABEL == 2, 0, LABEL))


def test_color_masks_with_a_palette(tmp_path):
    colors = np.array([[[0, 0, 255], [255, 0, 0], [0, 255, 0]]] * 2, np.uint8)
    write_pair(tmp_path, "a", colors)
    write_lists(tmp_path, train="a")
    built = voc(tmp_path, LabelConfig(palette=str(REPOSITORY / "datasets" / "lfw_parts.palette")))
    assert built.class_names == ("background", "hair", "skin")
    assert built.colors == ((0, 0, 255), (255, 0, 0), (0, 255, 0))
    assert built.pixels["train"] == (2, 2, 2)


def test_parallel_folders_are_divided_by_seed(tmp_path):
    for number in range(10):
        write_pair(tmp_path, f"p{number}", extension="png" if number % 2 else "jpg")
    built = folder(tmp_path, train_pct=0.8, seed=0)
    assert dict(built.splits) == {"train": 8, "val": 2}
    assert sorted(names(tmp_path, "train") + names(tmp_path, "val")) == [f"p{number}" for number in range(10)]
    assert built.image_formats == ("jpeg", "png")
    formats = {record[records.FILENAME]: record[records.IMAGE_FORMAT] for record in stored(tmp_path, "train")}
    assert all(kind == (b"png" if int(name[1:]) % 2 else b"jpeg") for name, kind in formats.items())


def test_parallel_folders_with_lists_of_ones_own(images):
    lists = ",".join(str(images / "lists" / f"{split}.txt") for split in ("train", "val"))
    assert dict(folder(images, list_files=lists).splits) == {"train": 3, "val": 2}


def test_images_and_masks_in_one_folder(images):
    for path in (images / "masks").iterdir():
        path.rename(images / "images" / path.name)
    assert sum(folder(images, masks="images").splits.values()) == 5


def test_masks_that_are_jpeg_are_read_only_by_their_colors(tmp_path):
    """Index 1 next to index 3 becomes 2 in a JPEG, which is a class of its own."""
    colors = np.array([[[0, 0, 255], [255, 0, 0]]], np.uint8).repeat(16, 0).repeat(8, 1)
    for name in "ab":
        write_pair(tmp_path, name, colors)
        (tmp_path / "masks" / f"{name}.png").unlink()
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.jpg"), colors[..., ::-1])
    palette = LabelConfig(palette=str(REPOSITORY / "datasets" / "lfw_parts.palette"), color_tolerance=200)
    assert folder(tmp_path, palette).pixels["train"] == (128, 128, 0)
    for name in "ab":
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.jpg"), colors[..., 0])
    for labels in (LabelConfig(), palette):
        with raises("lossy-mask", where="masks/"):
            folder(tmp_path, labels, RecordConfig(overwrite=True))


def test_every_format_has_a_summary_and_no_flag_twice():
    for name in FORMATS:
        assert FORMATS.summary(name)
        groups = (FORMATS.get(name).config, LabelConfig, SplitConfig, RecordConfig)
        flags = [name for group in groups for name in group.__dataclass_fields__]
        assert len(flags) == len(set(flags))


# --- Bad input ----------------------------------------------------------------------------------------------


def assert_refused(root, code, *texts, where="", field=None, **settings):
    """A build that stops with this code, place and texts, and changes nothing in the output folder."""
    before = contents(root / "out")
    with pytest.raises(UserError) as caught:
        voc(root, **settings)
    error = caught.value
    assert error.code == code, error
    assert where in error.where and field in (None, error.field), error
    for text in texts:
        assert text in str(error)
    assert contents(root / "out") == before


def test_missing_image(images):
    (images / "images" / "b.jpg").unlink()
    assert_refused(images, "files-missing", "images/b: no such file", where="lists/train.txt")


def test_missing_mask(images):
    (images / "masks" / "b.png").unlink()
    assert_refused(images, "files-missing", "masks/b: no such file", where="lists/train.txt")


def test_unreadable_image(images):
    path = images / "images" / "b.jpg"
    path.write_bytes(path.read_bytes()[:-4])
    assert_refused(images, "unreadable-image", "truncated", where="images/b.jpg")


def test_unreadable_mask(images):
    (images / "masks" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert_refused(images, "unreadable-image", where="masks/b.png")


def test_image_of_another_kind(images):
    (images / "images" / "b.jpg").write_bytes(b"\x01\x02 no image")
    assert_refused(images, "unsupported-format", where="images/b.jpg")


def test_sizes_differ(images):
    cv2.imwrite(str(images / "masks" / "b.png"), LABEL[:2])
    assert_refused(images, "size-mismatch", "the mask is 4x2 pixels", "images/b.jpg 4x3", where="masks/b.png")


def test_annotation_that_states_an_enormous_size(images):
    """It must be refused before a label of that size is drawn."""

    @dataclasses.dataclass(frozen=True)
    class Enormous:
        where: str = "shapes.json"
        size: tuple[int, int] = (10_000_000, 10_000_000)

        def draw(self, painter, height, width):
            raise AssertionError("drawn")

    source = Source({"train": [Pair("a", str(images / "images" / "a.jpg"), Enormous())]}, ("x", "y"))
    with raises("size-mismatch", where="shapes.json"):
        local.build(source, images / "out", LabelConfig(), RecordConfig())


def test_turned_mask(images):
    cv2.imwrite(str(images / "masks" / "b.png"), LABEL.T)
    assert_refused(images, "size-mismatch", "rotate one of the two", where="masks/b.png")


def test_values_outside_the_classes(images):
    labels = LabelConfig(num_classes=2)
    assert_refused(images, "label-out-of-range", "2 on 3 pixels", "`num_classes=3`", where="masks/a.png", labels=labels)


def test_values_outside_the_classes_can_be_ignored(images):
    built = voc(images, LabelConfig(num_classes=2, on_bad_label="ignore"))
    assert built.ignored_pixels["train"] == 18


def test_rgb_mask_without_table(images):
    colors = np.array([[[0, 0, 255], [255, 0, 0], [0, 255, 0], [0, 0, 0]]] * 3, np.uint8)
    cv2.imwrite(str(images / "masks" / "b.png"), colors)
    assert_refused(images, "missing-palette", "RGB with 4 colors", "`palette=FILE`", where="masks/b.png")


def test_masks_of_0_and_255_only(images):
    for name in "abcde":
        cv2.imwrite(str(images / "masks" / f"{name}.png"), np.array([[0, 0, 255, 255]] * 3, np.uint8))
    assert_refused(images, "single-class", "only 0 and 255", "255 is the ignore label", "`label_map=255:1`")
    assert voc(images, LabelConfig(label_map="255:1")).num_classes == 2


def test_early_word_on_masks_of_0_and_255(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(local, "_EARLY_PAIRS", 2)
    for name in "abc":
        write_pair(tmp_path, name, np.array([[0, 255]], np.uint8))
    write_lists(tmp_path, train="abc")
    assert_refused(tmp_path, "single-class", "only 0 and 255")
    assert "the first 2 masks: every pixel that counts is class 0" in capsys.readouterr().err


def test_messages_on_shapes_do_not_speak_of_masks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(local, "_EARLY_PAIRS", 2)
    regions = [[2, 2, 9, 2, 9, 9, 2, 9]]
    images, annotations = [], []
    for number in range(1, 4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((12, 12, 3), number, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "height": 12, "width": 12})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": regions})
    for name, code in (("void", "single-class"), ("car", None)):
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": name}]}
        (tmp_path / "a.json").write_text(json.dumps(content))
        config = BuildCocoConfig(annotations=str(tmp_path / "a.json"))
        if code:
            with raises(code, where="annotations") as caught:
                build("coco", config, tmp_path, LabelConfig(), RecordConfig())
            assert "mask" not in f"{caught.value.rule} {caught.value.hint}" and "'void'" in caught.value.hint
            said = capsys.readouterr().err
            assert "the first 2 images: every pixel that counts is class 0" in said and "label_map" not in said
        else:
            build("coco", config, tmp_path, LabelConfig(), RecordConfig())
            assert datasets.load(tmp_path / "out" / "dataset.yml").drawn == {"train": True, "val": True}


def test_gray_tones_are_no_indices(images):
    for name in "abcde":
        cv2.imwrite(str(images / "masks" / f"{name}.png"), np.array([[0, 150, 250, 250]] * 3, np.uint8))
    assert_refused(images, "not-indices", "0, 150, 250", "`label_map=150:1,250:2`")


def test_everything_ignored(images):
    labels = LabelConfig(ignore_label=0, label_map="1:0,2:0,255:0")
    assert_refused(images, "single-class", "every pixel has the ignore label 0", labels=labels)


def test_empty_list(images):
    (images / "lists" / "val.txt").write_text("\n")
    assert_refused(images, "empty-list", where="lists/val.txt")


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("notes", b"Lists of the splits.\nOne name a line.\n", "is not a list of images, and is left out"),
        ("README", b"", "is no list by its name, and is left out"),
        ("ReadMe", b"f\xfcr alle da\n", "is no list by its name, and is left out"),
        ("license", b"MIT\n", "is no list by its name, and is left out"),
    ],
)
def test_readme_among_the_lists(images, capfd, name, text, said):
    """It names no split, so a build need not stop; a list of which every image is missing is another matter."""
    path = images / "lists" / f"{name}.txt"
    path.write_bytes(text)
    assert set(voc(images).splits) == {"train", "val"}
    assert f"lists/{name}.txt {said}" in " ".join(capfd.readouterr().err.split())
    path.write_text("Lists of the splits.\nOne name a line.\n")
    assert_refused(images, "wrong-format", "`splits=", splits=f"train,{name}", where=f"{name}.txt")


@pytest.mark.parametrize("name, text", [("night", "n1\nn2\n"), ("test", "my photo\nx\n"), ("val_night", "n1 -1\n")])
def test_lists_without_an_image_that_exists(images, name, text):
    write_lists(images, **{name: []})
    (images / "lists" / f"{name}.txt").write_text(text)
    assert_refused(images, "wrong-format", "`splits=train,val`", where=f"{name}.txt")
    assert set(voc(images, splits="train, val").splits) == {"train", "val"}


def test_several_bad_pairs_are_named_in_one_go(images):
    for name in "ad":
        (images / "images" / f"{name}.jpg").write_bytes(b"")
    texts = ("is empty", "and 1 more pairs of 5 cannot be used", "images/d.jpg: is empty")
    assert_refused(images, "unreadable-image", *texts, where="images/a.jpg")


def test_more_than_ten_bad_pairs_stop_the_build(tmp_path):
    members = [f"{number:02d}" for number in range(15)]
    for name in members:
        write_pair(tmp_path, name)
        (tmp_path / "images" / f"{name}.jpg").write_bytes(b"")
    write_lists(tmp_path, train=members)
    assert_refused(tmp_path, "unreadable-image", "and 9 more pairs of 15 cannot be used (and perhaps more")


@pytest.mark.parametrize(
    ("labels", "code", "text"),
    [
        ({"class_names": "a,b,c", "num_classes": 4}, "class-count-mismatch", "is 4, but there are 3 class names"),
        ({"class_names": "a,b,a"}, "duplicate-name", "names a more than once"),
        ({"class_names": "no_file.txt"}, "file-not-found", "no such file: no_file.txt"),
        ({"dataset": "pascal_vo"}, "unknown-name", "did you mean 'pascal_voc_seg'"),
    ],
)
def test_classes_that_contradict_each_other(images, labels, code, text):
    assert_refused(images, code, text, labels=LabelConfig(**labels))


def test_help_of_a_format_is_about_that_format(capsys):
    assert COMMAND.main(["yolo", "--help"]) == 0
    page = capsys.readouterr().out
    assert "This format: YOLO: polygons in text files." in page.splitlines()[0]
    assert "Usage: deeplab build_data yolo [--flag=value ...]\n" in page and "\n\ndataset.yml beside the shards" in page
    assert COMMAND.main(["coco", "--help"]) == 0
    assert "deeplab build_data coco --annotations=... [--flag=value ...]\n" in capsys.readouterr().out


# --- What is there already ----------------------------------------------------------------------------------


def test_existing_splits_are_not_overwritten_unasked(images):
    voc(images)
    assert_refused(images, "would-overwrite", "records of split train, val", "`overwrite=true`", field="output_dir")


def test_overwriting_removes_shards_of_the_older_count(images):
    voc(images, shards=3)
    write_lists(images, train="ab")
    voc(images, shards=2, overwrite=True)
    assert len(records.list_shards(images / "out", "train")) == 2
    assert names(images, "train") == ["a", "b"]


def test_failed_overwriting_leaves_the_old_records(images):
    voc(images)
    (images / "images" / "e.jpg").write_bytes(b"")
    assert_refused(images, "unreadable-image", where="e.jpg", overwrite=True)
    assert names(images, "val") == ["d", "e"]


def test_a_split_can_be_added_later(images):
    voc(images, LabelConfig(class_names="x,y,z"), splits="train")
    added = voc(images, splits="val")
    assert added.class_names == ("x", "y", "z")
    described = datasets.load(images / "out" / "dataset.yml")
    assert dict(described.splits) == {"val": 2, "train": 3}
    with pytest.raises(UserError, match=r"have 3 classes.*would have 4"):
        voc(images, LabelConfig(num_classes=4), splits="val", overwrite=True)


def test_two_builds_at_once(images):
    (images / "out").mkdir()
    with folder_lock(images / "out", "building", "wait"), raises("folder-in-use", where="out"):
        voc(images)
    voc(images)


def test_output_folder_that_cannot_be_made(images):
    (images / "out").write_text("a file")
    with raises("unwritable-folder", field="output_dir"):
        voc(images)


# --- Publishing ---------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path):
    """Four pairs of two classes."""
    for name in "abcd":
        write_pair(tmp_path, name, np.array([[0, 1, ord(name) % 2]] * 4, np.uint8), extension="png")
    return [Pair(name, f"{tmp_path}/images/{name}.png", f"{tmp_path}/masks/{name}.png") for name in "abcd"]


def build_pairs(folder, splits, **settings):
    return local.build(Source(splits), folder, LabelConfig(), RecordConfig(num_shards=2, **settings))


@pytest.mark.slow
def test_a_kill_at_any_step_of_overwriting_leaves_the_old_records_or_the_new(pairs, tmp_path):
    """The first reader afterwards, be it of dataset.yml or of shards, finds one of the two, whole."""
    command = [sys.executable, "-m", "support.killed_build", str(tmp_path)]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=True)
    *outcomes, files_at_the_end = map(json.loads, run.stdout.splitlines())
    old, new = (
        {split: [len(names), names] for split, names in splits.items()}
        for splits in (killed_build.FIRST, killed_build.SECOND)
    )
    assert [found for found in outcomes if found not in (old, new)] == []
    assert outcomes == sorted(outcomes, key=lambda found: found == new)
    assert outcomes.count(old) > 20 and outcomes.count(new) > 3
    assert files_at_the_end == ["dataset.yml", *(f"{split}-00000-of-00001.tfrecord" for split in ("train", "val"))]


def test_unfinished_files_are_removed_and_counted(pairs, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    left = partial_path(tmp_path / "out" / "train-00000-of-00002.tfrecord")  # as if of this process: numbers are reused
    left.touch()
    build_pairs(tmp_path / "out", {"train": pairs})
    assert "removed 1 unfinished file of a build that was stopped" in capsys.readouterr().err
    assert not left.exists()


def test_adding_a_split_leaves_the_others_described(pairs, tmp_path):
    build_pairs(tmp_path / "out", {"train": pairs[:2]})
    build_pairs(tmp_path / "out", {"val": pairs[2:]})
    assert dict(datasets.load(tmp_path / "out" / "dataset.yml").splits) == {"val": 2, "train": 2}
    assert records.count(records.list_shards(tmp_path / "out", "train")) == 2


@pytest.mark.parametrize("module, name", [(files_module, "write_atomically"), (files_module, "sync"), (local, "sync")])
def test_a_disk_that_is_full_at_the_very_end_changes_nothing(pairs, tmp_path, monkeypatch, module, name):
    build_pairs(tmp_path / "out", {"train": pairs[:2]})
    before = contents(tmp_path / "out")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, name, full)
    with raises("unwritable-file", where="out") as caught:
        build_pairs(tmp_path / "out", {"train": pairs}, overwrite=True)
    assert "No space left on device" in caught.value.rule
    assert contents(tmp_path / "out") == before


# --- Builds of several parts --------------------------------------------------------------------------------


def build_folds(root, **settings):
    config = BuildFolderConfig(str(root / "images"), str(root / "masks"))
    made = RecordConfig(str(root / "out"), num_shards=1, check=False, **settings)
    build_data("folder", config, LabelConfig(), SplitConfig(folds=2), made)


def test_folds_that_were_stopped_are_resumed(pairs, tmp_path, capsys):
    build_folds(tmp_path)
    first = contents(tmp_path / "out" / "fold_0")
    for path in (tmp_path / "out" / "fold_1").iterdir():
        path.unlink()
    with raises("would-overwrite", field="output_dir") as caught:
        build_folds(tmp_path)
    assert "fold_0" in caught.value.rule and "`resume=true`" in caught.value.hint
    build_folds(tmp_path, resume=True)
    assert "fold_0 is built already" in capsys.readouterr().err
    assert contents(tmp_path / "out" / "fold_0") == first
    assert dict(datasets.load(tmp_path / "out" / "fold_1" / "dataset.yml").splits) == {"train": 2, "val": 2}


def test_records_of_another_number_of_images_are_not_taken_for_finished(pairs, tmp_path):
    build_pairs(tmp_path / "out", {"train": pairs[:3]})
    assert local.is_built(Source({"train": pairs[:3]}), tmp_path / "out")
    assert not local.is_built(Source({"train": pairs}), tmp_path / "out")
    assert not local.is_built(Source({"train": pairs[:3], "val": pairs[3:]}), tmp_path / "out")


def test_folds_are_called_after_the_dataset(pairs, tmp_path):
    build_folds(tmp_path, name="faces")
    assert datasets.load(tmp_path / "out" / "fold_1" / "dataset.yml").name == "faces_fold_1"


def test_all_folds_are_built_before_one_that_is_unfit_ends_the_command(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("deeplab.build_data._is_fit", lambda folder, *_: folder.endswith("fold_1"))
    config = BuildFolderConfig(str(tmp_path / "images"), str(tmp_path / "masks"))
    with raises("unfit-dataset", where="out/fold_0"):
        build_data("folder", config, LabelConfig(), SplitConfig(folds=2), RecordConfig(str(tmp_path / "out")))
    assert (tmp_path / "out" / "fold_1" / "dataset.yml").is_file()


def test_errors_that_the_check_finds_are_noted_until_the_split_is_built_again(pairs, tmp_path):
    config = BuildFolderConfig(str(tmp_path / "images"), str(tmp_path / "masks"))
    folder = tmp_path / "out"

    def build(**settings):
        build_data("folder", config, LabelConfig(), SplitConfig(), RecordConfig(str(folder), **settings))
        return datasets.load(folder / "dataset.yml")

    described = build(check=False)
    assert described.errors == {}, "nothing was checked"
    split = next(iter(described.splits))
    for path in (tmp_path / "masks").iterdir():
        write_pair(tmp_path, path.stem, np.array([[0, 1, 1]] * 4, np.uint8), extension="png")
    with raises("unfit-dataset"):
        build(overwrite=True)
    described = datasets.load(folder / "dataset.yml")
    assert described.errors[split] and described.splits[split]
    assert datasets.parse(datasets.as_text(described), "x") == described
    assert build(overwrite=True, check=False).errors == {}


def test_records_that_passed_the_check_say_so(pairs, tmp_path):
    config = BuildFolderConfig(str(tmp_path / "images"), str(tmp_path / "masks"))
    build_data("folder", config, LabelConfig(), SplitConfig(), RecordConfig(str(tmp_path / "out")))
    described = datasets.load(tmp_path / "out" / "dataset.yml")
    assert described.errors == dict.fromkeys(described.splits, ())
    assert datasets.parse(datasets.as_text(described), "x") == described


def test_the_next_command_is_shown(pairs, tmp_path, capsys):
    build_folds(tmp_path)
    assert f"deeplab browse_data --dataset_dir={tmp_path}/out/fold_1\n" in capsys.readouterr().err


# --- As a command -------------------------------------------------------------------------------------------


def command(root, *more):
    script = REPOSITORY / "datasets" / "build_folder_data.py"
    places = (f"--image_folder={root / 'images'}", f"--mask_folder={root / 'masks'}", f"--output_dir={root / 'out'}")
    return [sys.executable, str(script), *places, *more]


def pytest_generate_tests(metafunc):
    """`--long` kills at 45 moments."""
    if "begun_shards" in metafunc.fixturenames:
        metafunc.parametrize("begun_shards", range(1, 900, 20) if metafunc.config.getoption("--long") else [5])


@pytest.mark.slow
def test_killed_build_leaves_no_shard_and_the_next_one_works(tmp_path, begun_shards):
    for number in range(1000):
        write_pair(tmp_path, f"{number:04d}")
    process = subprocess.Popen(command(tmp_path, "--num_shards=1000"), cwd=tmp_path, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("out/.train*"))) < begun_shards:
        assert process.poll() is None, "the build ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert records.shards_by_split(tmp_path / "out") == {}
    assert not (tmp_path / "out" / "dataset.yml").exists()
    assert list(tmp_path.glob("out/.train*"))  # there was something to clean away
    folder(tmp_path)
    assert [name for name in files(tmp_path) if name.startswith(".")] == []
    assert records.count(records.list_shards(tmp_path / "out", "train")) == 800


@pytest.mark.slow
def test_commands_run_without_installation_check_what_they_wrote_and_report_faults(tmp_path):
    for turn, name in enumerate("abcde"):
        write_pair(tmp_path, name, np.roll(LABEL, turn, axis=1))
    done = subprocess.run(command(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "class_1" in done.stdout
    assert "training may start: no errors" in done.stdout
    again = subprocess.run(command(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 1
    assert "error: --output_dir" in again.stderr and "Traceback" not in again.stderr


def test_records_that_are_not_fit_for_training_end_with_an_error(images, capsys):
    """The records are well-formed, yet all five labels are the same."""
    places = [f"--{flag}={images / name}" for flag, name in (("image_folder", "images"), ("mask_folder", "masks"))]
    assert COMMAND.main(["folder", *places, f"--output_dir={images / 'out'}"]) == 3
    said = capsys.readouterr()
    assert "labels-all-same" in said.out
    assert "the records are written, but unfit for training" in said.err
    assert files(images)


class TestBands:
    """Records that hold the images' own values."""

    def build(self, root, number=5, labels=LabelConfig(num_classes=3), config=None, **settings):  # noqa: B008
        images, masks = band_scenes.write_arrays(root, number)
        config = config or BuildFolderConfig(image_folder=images, mask_folder=masks)
        records_config = RecordConfig(num_shards=1, **{"bands": "all", **settings})
        return build("folder", config, root, labels, records_config)

    def values(self, root, split="train"):
        return {
            record[records.FILENAME].decode(): record
            for path in records.list_shards(root / "out", split)
            for record in records.read_shard(path)
        }

    def test_values_are_stored_as_they_are_and_described(self, tmp_path):
        dataset = self.build(tmp_path)
        found = self.values(tmp_path)
        for name, record in found.items():
            np.testing.assert_array_equal(records.decode_values(record), np.load(tmp_path / "images" / f"{name}.npy"))
        bands = dataset.image_bands
        assert (bands.channels, bands.dtype, bands.bands) == (4, "uint16", ())
        stored = np.concatenate([records.decode_values(record).reshape(-1, 4) for record in found.values()])
        low, high = np.percentile(stored, (1, 99), axis=0, method="inverted_cdf")
        np.testing.assert_array_equal((bands.low, bands.high), (low, high))
        np.testing.assert_allclose(bands.mean, bands.scaled(stored[np.newaxis])[0].mean(0, dtype=float), rtol=1e-4)
        assert datasets.load(tmp_path / "out" / "dataset.yml").image_bands == bands

    def test_bands_and_their_scale_can_be_chosen(self, tmp_path):
        dataset = self.build(tmp_path, bands="4,2", scale_from=(0, 10000))
        assert dataset.image_bands.bands == (4, 2) and dataset.image_bands.high == (10000, 10000)
        name, record = next(iter(self.values(tmp_path).items()))
        whole = np.load(tmp_path / "images" / f"{name}.npy")
        np.testing.assert_array_equal(records.decode_values(record), whole[..., [3, 1]])

    def test_later_splits_have_the_scale_of_the_training_split(self, tmp_path):
        images, masks = band_scenes.write_arrays(tmp_path, 4)
        (tmp_path / "train.txt").write_text("s00\ns01\n")
        (tmp_path / "val.txt").write_text("s02\n")
        config = BuildFolderConfig(image_folder=images, mask_folder=masks)
        settings = RecordConfig(num_shards=1, bands="all")
        labels = LabelConfig(num_classes=3)
        lists = [SplitConfig(list_files=str(tmp_path / f"{split}.txt")) for split in ("train", "val")]
        first = build("folder", config, tmp_path, labels, settings, lists[0])
        second = build("folder", config, tmp_path, labels, settings, lists[1])
        assert second.image_bands == first.image_bands
        with raises("bands-differ", "bands"):
            build("folder", config, tmp_path, labels, RecordConfig(overwrite=True), lists[1])
        with raises("bands-differ", "bands"):
            build("folder", config, tmp_path, labels, RecordConfig(overwrite=True, bands="1,2"), lists[1])

    def test_images_of_another_kind_than_the_first_are_named(self, tmp_path):
        images, masks = band_scenes.write_arrays(tmp_path, 3)
        np.save(tmp_path / "images" / "s01.npy", np.zeros((48, 56, 3), np.uint16))
        np.save(tmp_path / "images" / "s02.npy", np.zeros((48, 56, 4), np.uint8))
        config = BuildFolderConfig(image_folder=images, mask_folder=masks)
        with pytest.raises(UserError) as error:
            build("folder", config, tmp_path, LabelConfig(num_classes=3), RecordConfig(bands="all"))
        assert "s01.npy" in str(error.value) and "s02.npy" in str(error.value)
        assert not (tmp_path / "out").exists()

    def test_pixels_without_a_value_are_ignored(self, tmp_path):
        images, masks = band_scenes.write_arrays(tmp_path, 5)
        for path in (tmp_path / "images").iterdir():
            pixels = np.load(path).astype(np.float32)
            pixels[:5] = np.nan
            np.save(path, pixels)
        config = BuildFolderConfig(image_folder=images, mask_folder=masks)
        dataset = build("folder", config, tmp_path, LabelConfig(num_classes=3), RecordConfig(bands="all"))
        assert dataset.ignored_pixels["val"] == dataset.splits["val"] * 5 * 56
        assert np.isfinite(dataset.image_bands.low).all()

    @pytest.mark.parametrize("bands", ["all", ""])
    def test_tiles_without_an_object_are_kept_at_the_stated_rate(self, tmp_path, bands):
        images, masks = tmp_path / "images", tmp_path / "masks"
        for folder in (images, masks):
            folder.mkdir()
        label = np.zeros((400, 400), np.uint8)
        label[:20, :20] = 1
        for name in ("a", "b"):
            np.save(images / f"{name}.npy", np.full((400, 400, 3), 9, np.uint8))
            write_index_png(masks / f"{name}.png", label)
        config = BuildFolderConfig(image_folder=str(images), mask_folder=str(masks))
        labels, settings = LabelConfig(num_classes=2), {"tile_size": 40, "bands": bands, "num_shards": 1}
        kept = RecordConfig(empty_tile_fraction=0.25, **settings)
        dataset = build("folder", config, tmp_path, labels, kept, SplitConfig(train_pct=0.5))
        assert 2 + 198 * 0.15 < sum(dataset.splits.values()) < 2 + 198 * 0.35
        assert sum(pixels[1] for pixels in dataset.pixels.values()) == 2 * 20 * 20
        none = RecordConfig(empty_tile_fraction=0, overwrite=True, **settings)
        assert build("folder", config, tmp_path, labels, none, SplitConfig(train_pct=0.5)).splits == {
            "train": 1,
            "val": 1,
        }
        names = {name: record[records.FILENAME] for name, record in self.values(tmp_path).items()}
        assert list(names) in (["a_0_0"], ["b_0_0"])

    def test_tiles_cover_the_image_and_stay_in_its_split(self, tmp_path):
        images, masks = band_scenes.write_arrays(tmp_path, 4, 90, 70)
        config = BuildFolderConfig(image_folder=images, mask_folder=masks)
        settings = RecordConfig(num_shards=2, bands="all", tile_size=40, tile_overlap=8)
        build("folder", config, tmp_path, LabelConfig(num_classes=3), settings, SplitConfig(train_pct=0.5))
        of_split = {split: self.values(tmp_path, split) for split in ("train", "val")}
        assert not {name[:3] for name in of_split["train"]} & {name[:3] for name in of_split["val"]}
        for name, record in (of_split["train"] | of_split["val"]).items():
            stem, top, left = name.rsplit("_", 2)
            part = np.s_[int(top) : int(top) + 40, int(left) : int(left) + 40]
            np.testing.assert_array_equal(records.decode_values(record), np.load(f"{images}/{stem}.npy")[part])
            label = cv2.imdecode(np.frombuffer(record[records.LABEL], np.uint8), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(label, cv2.imread(f"{masks}/{stem}.png", cv2.IMREAD_UNCHANGED)[part])
        assert sum(map(len, of_split.values())) == 4 * 3 * 2

    def test_no_more_than_a_tile_of_a_tiff_is_read_at_once(self, tmp_path, monkeypatch):
        """So the memory of a build does not grow with its images, masks included."""
        pytest.importorskip("rasterio", reason="the extra `geo` is not installed")
        images, masks = band_scenes.write_geotiffs(tmp_path, 2)
        read, sizes = geotiff._read, set()

        def watched(dataset, numbers, window):
            sizes.add(window[2:] if window else (dataset.height, dataset.width))
            return read(dataset, numbers, window)

        monkeypatch.setattr(geotiff, "_read", watched)
        config = BuildFolderConfig(image_folder=images, mask_folder=masks)
        settings = RecordConfig(num_shards=1, bands="all", tile_size=40)
        build("folder", config, tmp_path, LabelConfig(num_classes=3), settings, SplitConfig(train_pct=1.0))
        assert sizes == {(1, 1), (40, 40)} and len(self.values(tmp_path)) == 2 * 3 * 3

    @pytest.mark.parametrize(
        ("settings", "code", "field"),
        [
            ({"bands": "1,9"}, "no-such-band", "bands"),
            ({"bands": "0"}, "invalid-bands", "bands"),
            ({"scale_from": (0, 1, 2)}, "invalid-scale", "scale_from"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused_before_anything_is_written(self, tmp_path, settings, code, field):
        with pytest.raises(UserError) as error:
            self.build(tmp_path, **settings)
        assert (error.value.code, error.value.field) == (code, field)
        assert not (tmp_path / "out").exists()

    def test_scale_and_empty_tiles_need_what_they_are_about(self):
        with raises("missing-setting", "scale_from"):
            RecordConfig(scale_from=(0, 1))
        with raises("missing-setting", "empty_tile_fraction"):
            RecordConfig(empty_tile_fraction=0.5)


def test_memory_hardly_grows_with_the_number_of_pairs(images):
    """`benchmarks/growth.py` measures the same with whole commands."""
    image, mask = str(images / "images" / "a.jpg"), str(images / "masks" / "a.png")
    peaks, one_thread = {}, RecordConfig(num_shards=2, num_workers=1)  # several hold more or fewer images at a time
    for number in (100, 300, 1500):  # the first takes what is allocated once
        pairs = [Pair(f"{index:06d}", image, mask) for index in range(number)]
        tracemalloc.start()
        local.build(Source({"train": pairs}), images / str(number), LabelConfig(), one_thread)
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[1500] - peaks[300] < 1200 * 60  # bytes per pair
