"""`dataset.yml`: written and read back, found by name or place, errors that name the field; records as tf.data."""

import dataclasses
import pathlib
import subprocess
import sys
import textwrap
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from support.errors import raises

import slim
from deeplab.config.augmentation_config import AugmentationConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.bands import ImageBands
from deeplab.data.colormaps import read_color_table
from deeplab.data.dataset import Dataset, SizeRange, find, load, load_dataset, parse, replace_splits, save
from deeplab.data.mask_files import encode_label

FACES = Dataset(
    name="faces",
    class_names=("background", "hair", "skin: face and neck", "no"),
    colors=((0, 0, 255), (255, 0, 0), (0, 255, 0), (1, 2, 3)),
    ignore_label=200,
    splits={"train": 3, "val": 1},
    pixels={"train": (10, 20, 30, 0), "val": (1, 2, 3, 4)},
    ignored_pixels={"train": 5, "val": 0},
    size_range={"train": SizeRange(100, 200, 300, 400), "val": SizeRange(7, 7, 9, 9)},
    image_formats=("jpeg", "png"),
)


def test_save_and_load_round_trip(tmp_path):
    save(FACES, tmp_path / "dataset.yml")
    assert load(tmp_path / "dataset.yml") == FACES
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.yml"]


def test_splits_of_drawn_labels_are_noted(tmp_path):
    drawn = dataclasses.replace(FACES, drawn={"train": True})
    save(drawn, tmp_path / "dataset.yml")
    assert load(tmp_path / "dataset.yml") == drawn
    assert replace_splits(dataclasses.replace(FACES, splits={"test": 1}), drawn).drawn == {"train": True}


def test_background_counts_and_ignore_label_does_not():
    assert FACES.num_classes == 4


def test_hand_written_file_may_hold_names_alone(tmp_path):
    path = tmp_path / "dataset.yml"
    path.write_text("classes: [background, hair, skin]\nsplits: {train: 160, val: 40}\n")
    found = load(path)
    assert (found.class_names, found.ignore_label) == (("background", "hair", "skin"), 255)
    assert found.splits == {"train": 160, "val": 40}
    assert found.name == tmp_path.name


def test_bare_number_of_classes_gets_names():
    assert parse("num_classes: 2", "x.yml").class_names == ("class_0", "class_1")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("classes: []", "classes"),
        ("num_classes: 65536", "num_classes"),
        ("classes: [a, yes]", "classes[1]"),
        ("classes: [a, {name: b, color: [1, 2, 3]}]", "classes"),
        ("classes: [{name: null}]", "classes[0].name"),
        ("classes: [{name: no, color: [1, 2, 3]}]", "classes[0].name"),
        ("classes: [{name: [a]}]", "classes[0].name"),
        ("classes: [{name: a, color: [1, 2]}]", "classes[0].color"),
        ("classes: [{name: a, color: [1, 2, 256]}]", "classes[0].color"),
        ("classes: [{name: a, color: [1, 2, 3]}, b]", "classes"),
        ("classes: [a, b]\nnum_classes: 3", "num_classes"),
        ("classes: [a, b]\nignore_label: 65536", "ignore_label"),
        ("classes: [a, b]\nlabel_format: png16", "label_format"),
        ("num_classes: 257\nlabel_format: png", "label_format"),
        ("classes: [a, b]\nignore_label: 256\nlabel_format: png", "label_format"),
        ("classes: [a, b]\nignore_lable: 255", "ignore_lable"),
        ("classes: [a, b]\nsplits: {train: many}", "splits.train"),
        ("classes: [a, b]\nsplits: {train: {images: 1, pixels: [1]}}", "splits.train.pixels"),
        ("classes: [a, b]\nsplits: {train: {images: 1, drawn: perhaps}}", "splits.train.drawn"),
        ("classes: [a, b]\nimage_formats: [bmp]", "image_formats"),
    ],
)
def test_malformed_files_name_the_field(text, field):
    with raises("invalid-descriptor", where="some/dataset.yml") as caught:
        parse(text, "some/dataset.yml")
    assert caught.value.value == field


def test_more_classes_than_labels_can_hold(monkeypatch):
    monkeypatch.setattr(datasets, "MAX_CLASSES", 2)
    with raises("invalid-descriptor", where="a.yml") as caught:
        parse("classes: [a, b, c]", "a.yml")
    assert caught.value.value == "classes"


def test_many_classes_have_labels_of_16_bits():
    many = parse("num_classes: 300", "a.yml")
    assert (many.ignore_label, many.label_bits, many.label_format) == (65535, 16, "png16")
    assert "label_format: png16" in datasets.as_text(many)
    assert parse(datasets.as_text(many), "b.yml") == dataclasses.replace(many, name=many.name)
    few = parse("classes: [a, b]", "a.yml")
    assert (few.ignore_label, few.label_bits, few.label_format) == (255, 8, "png")
    assert parse("num_classes: 300\nignore_label: 255", "a.yml").ignore_label == 255
    assert parse("classes: [a, b]\nignore_label: 256", "a.yml").label_bits == 16


@pytest.mark.parametrize("text", ["classes: [a, b\n", "- a\n", "", "a: " + "[" * 1000, "a: 1\na: 2"])
def test_files_that_are_not_descriptors(text):
    with raises("unreadable-yaml", where="some/dataset.yml"):
        parse(text, "some/dataset.yml")


# Class counts, ignore labels and split sizes are the reference's.
@pytest.mark.parametrize(
    ("name", "num_classes", "ignore_label", "splits"),
    [
        ("pascal_voc_seg", 21, 255, {"train": 1464, "train_aug": 10582, "trainval": 2913, "val": 1449}),
        (
            "cityscapes",
            19,
            255,
            {
                "train_fine": 2975,
                "train_coarse": 22973,
                "trainval_fine": 3475,
                "trainval_coarse": 23473,
                "val_fine": 500,
                "test_fine": 1525,
            },
        ),
        ("ade20k", 151, 0, {"train": 20210, "val": 2000}),
    ],
)
def test_known_data_sets(name, num_classes, ignore_label, splits):
    known = find(name)
    assert (known.num_classes, known.ignore_label, dict(known.splits)) == (num_classes, ignore_label, splits)
    assert len(known.colors) == num_classes


def test_known_data_sets_are_found_in_an_installed_package(monkeypatch):
    monkeypatch.setattr(datasets, "KNOWN_FOLDER", pathlib.Path("nowhere"))
    monkeypatch.setattr(datasets.importlib.resources, "files", lambda _: REPOSITORY / "datasets")
    assert {"ade20k", "cityscapes", "pascal_voc_seg"} < set(datasets.known_names())
    assert find("ade20k").num_classes == 151


REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def records_of_faces(tmp_path):
    save(FACES, tmp_path / "dataset.yml")
    return tmp_path


def test_unset_name_takes_the_folders_own_description(records_of_faces):
    assert find("", records_of_faces) == FACES


def test_unset_name_without_description_is_pascal_and_says_so(tmp_path, capsys):
    assert find("", tmp_path).name == "pascal_voc_seg"
    assert "pascal_voc_seg" in capsys.readouterr().err


def test_paths_win_over_the_folder(records_of_faces, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "own.yml"
    other.write_text("classes: [a, b]")
    assert find(str(other), records_of_faces).name == "own"
    assert find(str(records_of_faces)).name == "faces"


def test_a_folder_of_the_same_name_does_not_hide_a_known_dataset(tmp_path, monkeypatch):
    (tmp_path / "cityscapes" / "leftImg8bit").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find("cityscapes").num_classes == 19
    (tmp_path / "cityscapes" / "dataset.yml").write_text("classes: [a, b]")
    assert find("cityscapes").class_names == ("a", "b")


def test_name_of_the_folders_own_data_set(records_of_faces):
    assert find("faces", records_of_faces) == FACES


def test_known_name_that_contradicts_the_records_shows_both_counts(records_of_faces):
    with raises("dataset-mismatch", field="dataset") as caught:
        find("pascal_voc_seg", records_of_faces)
    assert "21 classes and ignore label 255" in caught.value.rule
    assert "4 classes and ignore label 200" in caught.value.rule


def test_known_name_that_agrees_gives_the_counted_description(tmp_path):
    counted = Dataset("mine", tuple(f"c{i}" for i in range(21)), splits={"train": 7})
    save(counted, tmp_path / "dataset.yml")
    assert find("pascal_voc_seg", tmp_path).splits == {"train": 7}


def test_unknown_name_suggests_the_nearest():
    with raises("unknown-name", field="dataset") as caught:
        find("pascal_voc")
    assert caught.value.hint.startswith("did you mean 'pascal_voc_seg'?")


def test_missing_file(tmp_path):
    with raises("file-not-found", where="no.yml"):
        find(str(tmp_path / "no.yml"))


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "dataset.yml"
    save(FACES, path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(datasets.os, "fsync", fail)
    with raises("unwritable-file", where=path):
        save(parse("classes: [a]", "x"), path)
    assert load(path) == FACES
    assert [file.name for file in tmp_path.iterdir()] == ["dataset.yml"]


def test_written_file_is_readable_by_people():
    text = datasets.as_text(parse("classes: [a, b]\nsplits: {train: 3}\nname: two", "x"))
    assert text == textwrap.dedent(
        """\
        # What this dataset is. The label value of a class is its place in the list, from 0.
        name: two
        ignore_label: 255
        classes:
        - a
        - b
        image_formats: [jpeg]
        label_format: png
        splits:
          train: 3
        """
    )


# --- Records as tf.data -------------------------------------------------------------------------------------


@pytest.fixture
def faces(tmp_path):
    """Four images in split train, two in split val, of three classes."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 4), ("val", 2)):
        with records.ShardWriter(tmp_path, records.shard_name(split, 0, 1)) as writer:
            for index in range(number):
                image = rng.integers(0, 256, (40 + index, 50, 3), np.uint8)
                label = rng.integers(0, 3, image.shape[:2], np.uint8)
                label[0, 0] = 200
                encoded = (encode_png(image), "png", f"{split} {index}", *label.shape, encode_label(label))
                writer.write(records.encode_example(*encoded))
            writer.publish()
    save(Dataset("faces", ("background", "hair", "skin"), ignore_label=200, splits={"train": 4, "val": 2}),
         tmp_path / "dataset.yml")  # fmt: skip
    return load_dataset(tmp_path)


def encode_png(image):
    return bytes(tf.io.encode_png(image).numpy())


def test_a_dataset_is_loaded_by_folder_or_file(faces):
    assert (faces.class_names, dict(faces.splits)) == (("background", "hair", "skin"), {"train": 4, "val": 2})
    again = load_dataset(f"{faces.folder}/dataset.yml")
    assert again == faces and again.folder == faces.folder


def test_images_come_in_order_and_as_stored(faces):
    images = list(faces.images("val"))
    assert [(image.shape, image.dtype, label.dtype) for image, label in images] == [
        ((40, 50, 3), tf.uint8, tf.int32),
        ((41, 50, 3), tf.uint8, tf.int32),
    ]
    assert set(np.unique(images[0][1])) == {0, 1, 2, 200}
    named = [bytes(example["image_name"].numpy()) for example in faces.images("val", as_dict=True)]
    assert named == [b"val 0", b"val 1"]


def test_training_batches(faces):
    batches = faces.train_batches(crop_size=(33, 65), batch_size=3, seed=0)
    image, label = next(iter(batches))
    assert (image.shape, image.dtype) == ((3, 33, 65, 3), tf.float32)
    assert (label.shape, label.dtype) == ((3, 33, 65), tf.int32)
    np.testing.assert_array_equal(next(iter(faces.train_batches(crop_size=(33, 65), batch_size=3, seed=0)))[0], image)
    named = next(iter(faces.train_batches(crop_size=33, batch_size=1, seed=0, as_dict=True)))
    assert set(named) == {"image", "label", "image_name", "height", "width"}


def test_training_batches_are_augmented_on_request(faces):
    settings = {"crop_size": 33, "batch_size": 2, "seed": 0}
    plain, _ = next(iter(faces.train_batches(**settings)))
    again, _ = next(iter(faces.train_batches(**settings, augmentation="none")))
    np.testing.assert_array_equal(plain, again)
    config = AugmentationConfig("light", augmentation_probability=1, crop_sampling="class_centered", cutmix=1)
    for augmentation in ("strong", config):
        image, label = next(iter(faces.train_batches(**settings, augmentation=augmentation)))
        assert not np.array_equal(image, plain) and set(np.unique(label)) <= {0, 1, 2, 200}
    with raises("unknown-name", field="augmentation"):
        faces.train_batches(augmentation="heavy")


def test_the_padding_has_the_color_of_the_backbone(faces):
    """ResNet v1 subtracts the ImageNet mean, so padding of that color is 0 to it; a new backbone registers its own."""
    for backbone, color in (("resnet_v1_50", slim.IMAGENET_MEAN), ("mobilenet_v2", (127.5, 127.5, 127.5))):
        settings = {"min_scale_factor": 0.5, "max_scale_factor": 0.5}
        image, label = next(iter(faces.train_batches(crop_size=65, batch_size=1, backbone=backbone, **settings)))
        padding = image.numpy()[label == 200]
        np.testing.assert_allclose(padding[-1], color, rtol=1e-6)
        assert len(padding) > 65 * 30
    with raises("unknown-name", field="backbone"):
        faces.train_batches(backbone="mobilenet_v5")


def test_keras_trains_on_the_batches(faces):
    model = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(3, 1)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=faces.ignore_label)
    model.compile(optimizer="sgd", loss=loss)
    history = model.fit(faces.train_batches(crop_size=33, batch_size=2), steps_per_epoch=2, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2 and np.isfinite(history.history["loss"]).all()
    assert np.isfinite(model.evaluate(faces.images("val").batch(1), verbose=0))


def test_datasets_that_cannot_be_loaded(faces, tmp_path):
    with raises("unknown-split", where=faces.folder) as caught:
        faces.images("validation")
    assert caught.value.hint == "did you mean split 'val'?"
    with raises("folder-not-found", where="nowhere"):
        load_dataset(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with raises("file-not-found", where="dataset.yml"):
        load_dataset(tmp_path / "empty")
    assert load_dataset(tmp_path / "empty", dataset="ade20k").num_classes == 151
    with raises("missing-records", where="pascal_voc_seg"):
        find("pascal_voc_seg").images("val")


def test_describing_a_dataset_needs_no_tensorflow():
    program = "import deeplab.data.dataset as d, sys; d.find('ade20k'); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY).returncode == 0


@pytest.mark.parametrize("name", ["lfw_parts", "celeba_hair_skin"])
def test_hair_and_skin_sets_agree_with_their_palettes(name):
    described, table = datasets.load_known(name), read_color_table(datasets.KNOWN_FOLDER / f"{name}.palette")
    assert described.class_names == table.names == ("background", "hair", "skin")
    assert described.colors == table.class_colors()


def test_isic_descriptors():
    assert datasets.load_known("isic2018_task1").class_names == ("background", "lesion")
    task2 = datasets.load_known("isic2018_task2")
    assert task2.class_names[1:] == ("pigment_network", "negative_network", "streaks", "milia_like_cyst", "globules")
    assert len(set(task2.colors)) == task2.num_classes


class TestImageBands:
    BANDS = ImageBands(2, "uint16", (4, 1), (1.0, 2.0), (3.0, 4.5), (5.0, 6.0), (7.0, 8.0))
    GOOD: ClassVar = {"channels": 2, "dtype": "uint16", "scale_from": [[0, 9], [0, 9]]}

    def test_they_are_written_and_read(self):
        described = Dataset("d", ("a", "b"), image_bands=self.BANDS, image_formats=("zlib",))
        assert parse(datasets.as_text(described), "d.yml") == described

    def test_a_dataset_of_rgb_says_nothing_of_them(self):
        assert "image_bands" not in datasets.as_text(Dataset("d", ("a", "b")))

    @pytest.mark.parametrize(
        "change",
        [
            {"channels": 17},
            {"channels": 0},
            {"channels": True},
            {"dtype": "float64"},
            {"bands": [1]},
            {"bands": [0, 1]},
            {"bands": [1, 1]},
            {"scale_from": None},
            {"scale_from": [[0, 9]]},
            {"scale_from": [[9, 0], [0, 9]]},
            {"scale_from": [[0, float("nan")], [0, 9]]},
            {"scale_from": [0, 9]},
            {"scale_from": 9},
            {"mean": [1, 2]},
            {"mean": [1, 2], "std": [1, 0]},
            {"mean": [1, "x"], "std": [1, 1]},
            {"gain": 2},
        ],
    )
    def test_facts_that_make_no_sense_are_refused(self, change):
        content = {"classes": ["a", "b"], "image_bands": {**self.GOOD, **change}}
        with raises("invalid-descriptor", where="d.yml"):
            parse(yaml.safe_dump(content), "d.yml")
        assert parse(yaml.safe_dump({**content, "image_bands": self.GOOD}), "d.yml").image_bands.channels == 2


def test_classes_of_known_datasets_are_recognized():
    for name in datasets.known_names():
        classes = datasets.load_known(name).class_names
        assert datasets.are_known_classes(classes), name
        assert not datasets.are_known_classes((*classes[1:], classes[0])), name
    assert not datasets.are_known_classes(("background", "no such class"))
