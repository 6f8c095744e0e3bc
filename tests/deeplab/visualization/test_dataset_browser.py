"""What is shown of records and batches: which ones, their very pixels, the reason where there are none."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data import dataset, pipeline, records
from deeplab.visualization import dataset_browser
from deeplab.visualization.dataset_browser import BrowsedImage, GridFiles, GridStyle, RecordSplit, Selection
from deeplab.visualization.image_grid import CELL


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def disc_pair(number):
    """An image and a label of 48x64: ground, and a block of disc where the number is even, of square where not."""
    label = np.zeros([48, 64], np.uint8)
    label[10:30, number : number + 20] = 1 + number % 2
    return np.dstack([label * 90, label + 40, label * 0 + number]).astype(np.uint8), label


@pytest.fixture
def split(disc_records):
    return RecordSplit(dataset.find("", disc_records), "train", records.list_shards(disc_records, "train"))


def write_split(folder, examples, shards=1):
    """Records (image, label, name) of encoded images in so many shards; gives their `RecordSplit`."""
    for index in range(shards):
        with records.ShardWriter(folder, records.shard_name("odd", index, shards)) as writer:
            for image, label, name in examples[index::shards]:
                writer.write(records.encode_example(image, "png", name, 48, 64, label))
            writer.publish()
    return RecordSplit(dataset.Dataset("odd", ("ground", "disc", "square")), "odd", records.list_shards(folder, "odd"))


def pair(number, label=None):
    image, drawn = disc_pair(number)
    return png(image), png(drawn) if label is None else label, f"pair_{number}"


class TestChoice:
    def test_the_first_ones(self, split):
        assert dataset_browser.choose(split, Selection(5)) == [0, 1, 2, 3, 4]
        assert dataset_browser.choose(split, Selection(100)) == list(range(12))

    def test_by_chance(self, split):
        drawn = dataset_browser.choose(split, Selection(5, seed=3))
        assert (
            drawn
            == dataset_browser.choose(split, Selection(5, seed=3))
            != dataset_browser.choose(split, Selection(5, seed=4))
        )
        assert drawn == sorted(set(drawn)) and len(drawn) == 5 and max(drawn) < 12

    @pytest.mark.parametrize("classes", [("disc",), ("1",), ("disc,1",)])
    def test_images_that_hold_a_class(self, split, classes):
        assert dataset_browser.choose(split, Selection(4, classes)) == [0, 2, 4, 6]  # even numbers are discs
        assert set(dataset_browser.choose(split, Selection(6, classes, seed=1))) == {0, 2, 4, 6, 8, 10}

    def test_of_several_classes_one_is_enough(self, split):
        assert dataset_browser.choose(split, Selection(4, ("disc", "square"))) == [0, 1, 2, 3]

    def test_an_unknown_class(self, split):
        with raises("unknown-name", field="classes") as info:
            dataset_browser.choose(split, Selection(4, ("dosc",)))
        assert info.value.value == "dosc" and info.value.hint == "did you mean 'disc'?"

    def test_a_class_that_no_image_holds(self, tmp_path):
        only_discs = write_split(tmp_path, [pair(0), pair(2)])
        with raises("no-images", field="classes") as info:
            dataset_browser.choose(only_discs, Selection(4, ("square",)))
        assert info.value.rule == "no image of split odd holds square"

    def test_records_of_given_numbers_over_shards(self, tmp_path):
        five = write_split(tmp_path, [pair(number) for number in range(5)], shards=2)  # 0 2 4 | 1 3
        read = [
            (place, record[records.FILENAME]) for place, record in dataset_browser.read_records(five.shards, [1, 3, 4])
        ]
        assert read == [(1, b"pair_2"), (3, b"pair_1"), (4, b"pair_3")]


class TestRecords:
    def test_pixels(self, split):
        (_, record), *_ = dataset_browser.read_records(split.shards, [3])
        view = dataset_browser.browsed(3, record)
        image, label = (np.asarray(Image.open(io.BytesIO(record[key]))) for key in (records.IMAGE, records.LABEL))
        np.testing.assert_array_equal(view.image, image)
        np.testing.assert_array_equal(view.label, label)
        assert view.note == "record 3, 64 wide, 48 high" and view.error == ""

    def test_pages(self, split):
        grids = list(dataset_browser.record_grids(split, range(12), GridStyle(max_images=5)))
        assert [len(grid.tiles) for grid in grids] == [5, 5, 2]
        assert grids[2].heading == ("discs, split train: 12 of 12 images", "grid 3 of 3, 3 of 3 classes occur here")
        assert grids[0].tiles[1].caption[0] == next(
            record[records.FILENAME].decode() for _, record in dataset_browser.read_records(split.shards, [1])
        )

    def test_tiles_at_their_size(self, split):
        (grid,) = dataset_browser.record_grids(split, [0], GridStyle(opacity=0.25, background=True))
        image, overlay, label = grid.tiles[0].images
        assert image.shape == overlay.shape == label.shape == (180, CELL, 3)
        expected = np.rint(0.75 * image.astype(np.float32) + 0.25 * label)
        np.testing.assert_array_equal(overlay, expected)

    def test_overlays_leave_the_background_untouched(self, split):
        (grid,) = dataset_browser.record_grids(split, [0], GridStyle(opacity=0.25))
        image, overlay, label = grid.tiles[0].images
        ground = (label == label[0, 0]).all(-1)
        np.testing.assert_array_equal(overlay[ground], image[ground])
        expected = np.rint(0.75 * image.astype(np.float32) + 0.25 * label)
        inside = (overlay == expected).all(-1) & ~ground
        outline = (overlay == label).all(-1) & ~ground
        assert inside.any() and outline.any() and (ground | inside | outline).all()

    def test_fractions_in_the_legend(self, split):
        (grid,) = dataset_browser.record_grids(split, [0, 2], GridStyle())
        labels = [dataset_browser.browsed(*item).label for item in dataset_browser.read_records(split.shards, [0, 2])]
        share = 100 * np.mean([label == 1 for label in labels])
        assert grid.legend[1].text == f"1 disc {share:.2f} %" and grid.legend[2].text == "2 square 0"

    def test_what_cannot_be_decoded_says_why(self, tmp_path, capsys):
        broken_label = png(np.zeros([48, 64], np.uint8))[:60] + b"\0" * 30
        examples = [
            pair(0),
            (b"no image", pair(1)[1], "text"),
            pair(2, label=broken_label),
            pair(3, label=png(np.zeros([9, 9], np.uint8))),
            pair(4, label=b""),
            (pair(5)[0][:70], pair(5)[1], "cut"),
        ]
        odd = write_split(tmp_path, examples)
        (grid,) = dataset_browser.record_grids(odd, range(6), GridStyle())
        shown = [tile.images for tile in grid.tiles]
        assert "is neither JPEG nor PNG" in shown[1][0]
        assert "the label cannot be decoded" in shown[2][1] and shown[2][0].shape == (180, 240, 3)
        assert "the image is 48x64 pixels, its label 9x9" in shown[3][1]
        assert shown[4][1:] == [None, None] and "no label" in grid.tiles[4].caption[1]
        assert "the image cannot be decoded" in shown[5][0]
        grid.draw()
        warned = capsys.readouterr().err
        assert warned.count("warning: ") == 4 and "text (record 1 of split odd): is neither" in warned

    def test_values_that_are_no_class_are_shown(self, tmp_path):
        label = disc_pair(0)[1] + 7
        odd = write_split(tmp_path, [pair(0, label=png(label))])
        (grid,) = dataset_browser.record_grids(odd, [0], GridStyle())
        assert grid.legend[-1].text == "no class: 7, 8 100.0 %"

    @pytest.mark.parametrize(("kind", "code"), [("folder", "not-a-file"), ("link", "file-not-found")])
    def test_a_shard_that_is_no_file_is_named(self, tmp_path, kind, code):
        shard = tmp_path / records.shard_name("train", 0, 1)
        shard.mkdir() if kind == "folder" else shard.symlink_to("nowhere")
        broken = RecordSplit(dataset.Dataset("set", ("ground",)), "train", [str(shard)])
        with raises(code, where=shard.name):
            dataset_browser.choose(broken, Selection())

    def test_a_damaged_shard_is_named(self, split, tmp_path):
        whole = pathlib.Path(split.shards[0]).read_bytes()
        path = tmp_path / records.shard_name("train", 0, 1)
        path.write_bytes(whole[:300] + b"x" + whole[301:])
        damaged = RecordSplit(split.dataset, "train", [str(path)])
        with raises("bad-record", where="train-00000-of-00001.tfrecord") as info:
            list(dataset_browser.record_grids(damaged, [0], GridStyle()))
        assert info.value.rule.startswith("record 0 ")


class TestBatches:
    def batch(self, disc_records, crop=(33, 41), scale=0.5):
        shards = records.list_shards(disc_records, "train")
        batches = pipeline.train_batches(
            shards,
            crop_size=crop,
            batch_size=6,
            padding_color=(127.5, 127.5, 127.5),
            ignore_label=255,
            num_classes=3,
            min_scale_factor=scale,
            max_scale_factor=scale,
            scale_factor_step_size=0,
            seed=5,
        )
        return next(iter(batches))

    def test_padding_on_either_side(self, disc_records):
        batch = self.batch(disc_records)  # at scale 0.5, 48x64 is 24x32
        mirrored = set()
        for view in dataset_browser.browsed_batch(batch, (127.5,) * 3, 255):
            at_left = view.padding[0, 0]
            expected = np.ones([33, 41], bool)
            expected[:24, slice(9, 41) if at_left else slice(0, 32)] = False
            np.testing.assert_array_equal(view.padding, expected)
            assert "43.2 % padding" in view.note and view.note.startswith("stored 64 wide, 48 high")
            assert view.counts().sum() == 24 * 32 and view.counts()[255] == 0
            mirrored.add(bool(at_left))
        assert mirrored == {True, False}

    def test_ignored_pixels_beside_padding_are_no_padding(self):
        image, label = np.full([4, 6, 3], 127.5, np.float32), np.full([4, 6], 255)
        image[1, 2], label[0, 3] = 9, 1
        padding = dataset_browser.find_padding(image, label, (127.5,) * 3, 255)
        expected = np.ones([4, 6], bool)
        expected[:2, 2:4] = False
        np.testing.assert_array_equal(padding, expected)
        assert dataset_browser.find_padding(image * 0, label, (127.5,) * 3, 255).sum() == 0

    def test_a_crop_that_is_nothing_but_padding(self):
        empty = np.full([3, 3, 3], 127.5, np.float32)
        assert dataset_browser.find_padding(empty, np.full([3, 3], 255), (127.5,) * 3, 255).all()

    def test_pixels_and_pages(self, disc_records):
        batch = self.batch(disc_records, crop=(40, 40), scale=1.3)
        split = RecordSplit(dataset.find("", disc_records), "train", [])
        grids = list(
            dataset_browser.batch_grids(split, batch, (127.5,) * 3, ("title", "about"), GridStyle(max_images=4))
        )
        assert [len(grid.tiles) for grid in grids] == [4, 2] and grids[0].cell is None
        tiles = [tile for grid in grids for tile in grid.tiles]
        for tile, image, label in zip(tiles, batch["image"].numpy(), batch["label"].numpy(), strict=True):
            np.testing.assert_array_equal(tile.images[0], np.rint(image))
            colors = dataset_browser.LabelColors.of(split.dataset).colors[label]
            np.testing.assert_array_equal(tile.images[2][label != 255], colors[label != 255])


class TestGridFiles:
    def grid(self):
        image = BrowsedImage("a", "b", np.zeros([2, 2, 3], np.uint8), None)
        colors = dataset_browser.LabelColors((), None, 255)
        return dataset_browser.ImageGrid(("one",), [image.tile(colors, GridStyle(cell=8))])

    def test_earlier_ones_are_replaced_whole_or_not_at_all(self, tmp_path):
        for name in ("train-grid-001.png", "train-grid-002.png", "train-step-000001.png", "train-grid-x.png"):
            (tmp_path / name).write_bytes(b"earlier")
        (tmp_path / "my-train-grid-001.png").write_bytes(b"mine")
        with raises("would-overwrite", where=tmp_path) as info:
            GridFiles(tmp_path, "train-grid", overwrite=False)
        assert info.value.rule == "holds 2 image grids already (train-grid-001.png ...)"
        files = GridFiles(tmp_path, "train-grid", overwrite=True)
        files.write("001", self.grid())
        assert files.finish() == [str(tmp_path / "train-grid-001.png")]
        assert Image.open(tmp_path / "train-grid-001.png").mode == "RGB"
        assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"earlier"} == {
            "train-step-000001.png",
            "train-grid-x.png",
        }

    def test_another_split_of_a_longer_name_is_left_alone(self, tmp_path):
        (tmp_path / "train_1-grid-001.png").write_bytes(b"fold 1")
        files = GridFiles(tmp_path, "train-grid", overwrite=False)
        files.write("001", self.grid())
        files.finish()
        assert (tmp_path / "train_1-grid-001.png").read_bytes() == b"fold 1"
