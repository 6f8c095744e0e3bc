"""Builds from end to end: the reference's own pictures, both builders, bad input, kills, two at once."""

import dataclasses
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tensorflow as tf

from deeplab.build_data import run_format
from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.conversion import beam, local
from deeplab.data.conversion.split_assignment import read_sources
from deeplab.data.conversion.summary import share_table
from deeplab.data.labels import write_index_png
from deeplab.data.readers import FORMATS
from deeplab.data.readers.folder import BuildFolderConfig
from deeplab.data.readers.source import Pair, Source
from deeplab.data.readers.voc import BuildVocConfig
from deeplab.utils.errors import UserError
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
def pictures(tmp_path):
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


def files(root):
    return sorted(path.name for path in (root / "out").iterdir()) if (root / "out").exists() else []


# --- What is written ----------------------------------------------------------------------------------------


def test_same_pictures_as_the_reference_give_the_same_examples(golden, tmp_path):
    """The reference's shards hold its pictures: taken out and built again they must come back feature by feature."""
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
    assert built.num_classes == 21  # known by the pictures' names
    assert dict(built.splits) == {"train": 6, "val": 3}


def test_description_is_written_beside_the_shards(pictures):
    built = voc(pictures, LabelConfig(class_names="ground,disc,square"))
    assert datasets.load(pictures / "out" / "dataset.yml") == built
    assert built.class_names == ("ground", "disc", "square")
    assert built.pixels == {"train": (9, 9, 9), "val": (6, 6, 6)}
    assert built.ignored_pixels == {"train": 9, "val": 6}
    assert built.size_range["train"] == datasets.SizeRange(3, 3, 4, 4)
    assert "33.33%" in share_table(built)


def test_contiguous_chunks_of_which_the_last_may_be_empty(pictures):
    assert [len(chunk) for chunk in beam.chunks(list(range(9)), 4)] == [3, 3, 3, 0]
    voc(pictures, shards=4)
    shards = records.list_shards(pictures / "out", "train")
    assert [records.count_records(path) for path in shards] == [1, 1, 1, 0]
    assert names(pictures, "train") == ["a", "b", "c"]


def test_palette_masks_and_mapped_masks_are_stored_as_gray_indices(pictures):
    write_index_png(pictures / "masks" / "a.png", LABEL)
    voc(pictures, LabelConfig(label_map="2:0"))
    for record in stored(pictures, "train"):
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


def test_parallel_folders_with_lists_of_ones_own(pictures):
    lists = ",".join(str(pictures / "lists" / f"{split}.txt") for split in ("train", "val"))
    assert dict(folder(pictures, list_files=lists).splits) == {"train": 3, "val": 2}


def test_images_and_masks_in_one_folder(pictures):
    for path in (pictures / "masks").iterdir():
        path.rename(pictures / "images" / path.name)
    assert sum(folder(pictures, masks="images").splits.values()) == 5


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
        with pytest.raises(UserError, match=r"b\.jpg: is a JPEG, which changes values"):
            folder(tmp_path, labels, RecordConfig(overwrite=True))


def test_every_format_has_a_summary_and_no_flag_twice():
    for name in FORMATS:
        assert FORMATS.summary(name)
        groups = (FORMATS.get(name).config, LabelConfig, SplitConfig, RecordConfig)
        flags = [name for group in groups for name in group.__dataclass_fields__]
        assert len(flags) == len(set(flags))


# --- Bad input ----------------------------------------------------------------------------------------------


def assert_refused(root, *texts, **settings):
    """A build that stops, says these texts, and leaves nothing behind."""
    before = files(root)
    with pytest.raises(UserError) as fault:
        voc(root, **settings)
    for text in texts:
        assert text in str(fault.value)
    assert files(root) == before


def test_missing_image(pictures):
    (pictures / "images" / "b.jpg").unlink()
    assert_refused(pictures, "lists/train.txt", "images/b: no such file")


def test_missing_mask(pictures):
    (pictures / "masks" / "b.png").unlink()
    assert_refused(pictures, "masks/b: no such file")


def test_unreadable_image(pictures):
    path = pictures / "images" / "b.jpg"
    path.write_bytes(path.read_bytes()[:-4])
    assert_refused(pictures, "images/b.jpg: cannot be read as a picture", "truncated")


def test_unreadable_mask(pictures):
    (pictures / "masks" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert_refused(pictures, "masks/b.png: cannot be read as a picture")


def test_image_of_another_kind(pictures):
    (pictures / "images" / "b.jpg").write_bytes(b"\x01\x02 no picture")
    assert_refused(pictures, "images/b.jpg: is no JPEG, PNG, TIFF")


def test_sizes_differ(pictures):
    cv2.imwrite(str(pictures / "masks" / "b.png"), LABEL[:2])
    assert_refused(pictures, "masks/b.png: the mask is 4x2 pixels", "images/b.jpg 4x3")


def test_annotation_that_states_an_enormous_size(pictures):
    """It must be refused before a label of that size is drawn."""

    @dataclasses.dataclass(frozen=True)
    class Enormous:
        where: str = "shapes.json"
        size: tuple[int, int] = (10_000_000, 10_000_000)

        def draw(self, painter, height, width):
            raise AssertionError("drawn")

    source = Source({"train": [Pair("a", str(pictures / "images" / "a.jpg"), Enormous())]}, ("x", "y"))
    with pytest.raises(UserError, match=r"shapes\.json: the mask is 10000000x10000000 pixels"):
        local.build(source, pictures / "out", LabelConfig(), RecordConfig())


def test_turned_mask(pictures):
    cv2.imwrite(str(pictures / "masks" / "b.png"), LABEL.T)
    assert_refused(pictures, "one of the two is turned")


def test_values_outside_the_classes(pictures):
    assert_refused(pictures, "masks/a.png", "2 on 3 pixels", "--num_classes=3", labels=LabelConfig(num_classes=2))


def test_values_outside_the_classes_can_be_ignored(pictures):
    built = voc(pictures, LabelConfig(num_classes=2, on_bad_label="ignore"))
    assert built.ignored_pixels["train"] == 18


def test_rgb_mask_without_table(pictures):
    colors = np.array([[[0, 0, 255], [255, 0, 0], [0, 255, 0], [0, 0, 0]]] * 3, np.uint8)
    cv2.imwrite(str(pictures / "masks" / "b.png"), colors)
    assert_refused(pictures, "masks/b.png: is RGB with 4 colors", "--palette=")


def test_masks_of_0_and_255_only(pictures):
    for name in "abcde":
        cv2.imwrite(str(pictures / "masks" / f"{name}.png"), np.array([[0, 0, 255, 255]] * 3, np.uint8))
    assert_refused(pictures, "only 0 and 255", "255 is the ignore label", "--label_map=255:1")
    assert voc(pictures, LabelConfig(label_map="255:1")).num_classes == 2


def test_early_word_on_masks_of_0_and_255(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(local, "_EARLY_LOOK", 2)
    for name in "abc":
        write_pair(tmp_path, name, np.array([[0, 255]], np.uint8))
    write_lists(tmp_path, train="abc")
    assert_refused(tmp_path, "only 0 and 255")
    assert "the first 2 masks: every pixel that counts is class 0" in capsys.readouterr().err


def test_gray_tones_are_no_indices(pictures):
    for name in "abcde":
        cv2.imwrite(str(pictures / "masks" / f"{name}.png"), np.array([[0, 150, 250, 250]] * 3, np.uint8))
    assert_refused(pictures, "0, 150, 250", "--label_map=150:1,250:2")


def test_everything_ignored(pictures):
    assert_refused(
        pictures, "every pixel has the ignore label 0", labels=LabelConfig(ignore_label=0, label_map="1:0,2:0,255:0")
    )


def test_empty_list(pictures):
    (pictures / "lists" / "val.txt").write_text("\n")
    assert_refused(pictures, "lists/val.txt: the list is empty")


def test_readme_among_the_lists(pictures):
    (pictures / "lists" / "README.txt").write_text("Lists of the splits.\nOne name a line.\n")
    assert_refused(pictures, "README.txt: is no list", "--splits=train,val")
    assert set(voc(pictures, splits="train, val").splits) == {"train", "val"}


def test_several_bad_pairs_are_named_in_one_go(pictures):
    for name in "ad":
        (pictures / "images" / f"{name}.jpg").write_bytes(b"")
    assert_refused(pictures, "images/a.jpg: is empty", "and 1 more pairs of 5 cannot be used", "images/d.jpg: is empty")


def test_more_than_ten_bad_pairs_stop_the_build(tmp_path):
    members = [f"{number:02d}" for number in range(15)]
    for name in members:
        write_pair(tmp_path, name)
        (tmp_path / "images" / f"{name}.jpg").write_bytes(b"")
    write_lists(tmp_path, train=members)
    assert_refused(tmp_path, "and 9 more pairs of 15 cannot be used (and perhaps more")


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"class_names": "a,b,c", "num_classes": 4}, "is 4, but there are 3 class names"),
        ({"class_names": "a,b,a"}, "names a more than once"),
        ({"class_names": "no_file.txt"}, "no such file: no_file.txt"),
        ({"dataset": "pascal_vo"}, "did you mean 'pascal_voc_seg'"),
    ],
)
def test_classes_that_contradict_each_other(pictures, labels, text):
    assert_refused(pictures, text, labels=LabelConfig(**labels))


def test_help_of_a_format_is_about_that_format(capsys):
    assert run_format("yolo", ["build_data", "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("Makes TFRecords of a dataset in this form: YOLO: polygons in text files.")
    assert "build_data yolo --output_dir=...\n" in page and "\n\nBeside the shards stands dataset.yml" in page
    assert run_format("coco", ["build_data", "--help"]) == 0
    assert "build_data coco --annotations=... --image_folder=... --output_dir=...\n" in capsys.readouterr().out


# --- What is there already ----------------------------------------------------------------------------------


def test_existing_splits_are_not_overwritten_unasked(pictures):
    voc(pictures)
    assert_refused(pictures, "already holds records of split train, val", "--overwrite=true")


def test_overwriting_removes_shards_of_the_older_count(pictures):
    voc(pictures, shards=3)
    write_lists(pictures, train="ab")
    voc(pictures, shards=2, overwrite=True)
    assert len(records.list_shards(pictures / "out", "train")) == 2
    assert names(pictures, "train") == ["a", "b"]


def test_failed_overwriting_leaves_the_old_records(pictures):
    voc(pictures)
    (pictures / "images" / "e.jpg").write_bytes(b"")
    assert_refused(pictures, "is empty", overwrite=True)
    assert names(pictures, "val") == ["d", "e"]


def test_a_split_can_be_added_later(pictures):
    voc(pictures, LabelConfig(class_names="x,y,z"), splits="train")
    added = voc(pictures, splits="val")
    assert added.class_names == ("x", "y", "z")
    described = datasets.load(pictures / "out" / "dataset.yml")
    assert dict(described.splits) == {"val": 2, "train": 3}
    with pytest.raises(UserError, match=r"have 3 classes.*would have 4"):
        voc(pictures, LabelConfig(num_classes=4), splits="val", overwrite=True)


def test_two_builds_at_once(pictures):
    (pictures / "out").mkdir()
    busy = pytest.raises(UserError, match="another process is building records in this folder")
    with folder_lock(pictures / "out", "building", "wait"), busy:
        voc(pictures)
    voc(pictures)


def test_output_folder_that_cannot_be_made(pictures):
    (pictures / "out").write_text("a file")
    with pytest.raises(UserError, match="--output_dir"):
        voc(pictures)


# --- As a command -------------------------------------------------------------------------------------------


def command(root, *more):
    script = REPOSITORY / "datasets" / "build_folder_data.py"
    places = (f"--image_folder={root / 'images'}", f"--mask_folder={root / 'masks'}", f"--output_dir={root / 'out'}")
    return [sys.executable, str(script), *places, *more]


@pytest.mark.slow
def test_killed_build_leaves_no_shard_and_the_next_one_works(tmp_path):
    for number in range(1000):
        write_pair(tmp_path, f"{number:04d}")
    process = subprocess.Popen(command(tmp_path, "--num_shards=1000"), cwd=tmp_path, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("out/.train*"))) < 5:
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


def test_records_that_are_not_fit_for_training_end_with_an_error(pictures, capsys):
    """The records are well-formed, yet all five labels are the same."""
    places = [f"--{flag}={pictures / name}" for flag, name in (("image_folder", "images"), ("mask_folder", "masks"))]
    assert run_format("folder", ["build_data", *places, f"--output_dir={pictures / 'out'}"]) == 1
    said = capsys.readouterr()
    assert "labels-all-same" in said.out
    assert "the records are written, but not fit for training" in said.err
    assert files(pictures)
