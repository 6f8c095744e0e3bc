"""The mended copy: what is certain is mended, what is sound keeps its bytes, what is neither is left out and named."""

import dataclasses
import io
import pathlib
import shlex
import sys

import numpy as np
import pytest
from PIL import Image

from deeplab.data import dataset as datasets
from deeplab.data import labels, records
from deeplab.data.colormaps import ColorTable
from deeplab.data.labels import LabelRule
from deeplab.data.readers.classes import Classes
from deeplab.data.readers.source import Pair, Source
from deeplab.data.validation import analysis, fix, fix_folder
from deeplab.data.validation.fix import safe_name
from deeplab.data.validation.rules import finding
from deeplab.data.validation.subject import of_records, of_source
from deeplab.utils.errors import UserError
from deeplab.utils.locks import folder_lock

COLORS = np.array([(0, 0, 255), (255, 0, 0), (0, 255, 0)], np.uint8)  # of the LFW parts
NAMES = ("background", "hair", "skin")


def encoded(pixels, kind="png", **options):
    buffer = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def label_of(number):
    """A label of 24x32 with all three classes."""
    label = np.zeros([24, 32], np.uint8)
    label[4:20, number : number + 10], label[14:, 20:] = 1, 2
    return label


def image_of(number, height=24, width=32):
    """Smooth, so that JPEG keeps it well."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([rows * 8, columns * 6, rows + columns + 10 * number]).astype(np.uint8)


class Set:
    """Four sound pairs in files, to be broken one by one: a0, a1, a2 for training and b0."""

    def __init__(self, folder):
        self.folder, self.splits = folder, {"train": ["a0", "a1", "a2"], "val": ["b0"]}
        self.classes = Classes(3, (), (), LabelRule(3))
        self.files = {}
        for number, name in enumerate(self.names):
            self.put(name, image=encoded(image_of(number), "jpeg"), mask=encoded(label_of(number)))

    @property
    def names(self):
        return [name for names in self.splits.values() for name in names]

    def put(self, name, image=None, mask=None, image_as=".jpg", mask_as=".png"):
        """Writes the files of a pair."""
        paths = dict(self.files.get(name, {}))
        for kind, content, extension in (("image", image, image_as), ("mask", mask, mask_as)):
            if content is not None:
                paths[kind] = self.folder / f"{kind}s" / f"{name}{extension}"
                paths[kind].parent.mkdir(exist_ok=True)
                paths[kind].write_bytes(content)
        self.files[name] = paths

    def pair(self, name):
        return Pair(name, str(self.files[name]["image"]), str(self.files[name]["mask"]))

    def subject(self):
        splits = {split: [self.pair(name) for name in names] for split, names in self.splits.items()}
        return of_source(Source(splits), self.classes, "photos")

    def fixed(self, folder):
        return fix.fix(self.subject(), folder)


@pytest.fixture
def pairs(tmp_path):
    (tmp_path / "set").mkdir()
    return Set(tmp_path / "set")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "mended"


def label_in(folder, name):
    picture = Image.open(folder / "masks" / f"{name}.png")
    assert picture.mode in ("L", "P")
    return np.asarray(picture)


def everything_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestSound:
    def test_files_keep_their_bytes(self, pairs, out):
        palette = encoded(Image.fromarray(label_of(1)).convert("P"))
        pairs.put("a1", mask=palette)
        before = everything_in(pairs.folder)
        mended = pairs.fixed(out)
        for name in pairs.names:
            for kind in ("images", "masks"):
                (copy,) = (out / kind).glob(f"{name}.*")
                assert copy.read_bytes() == (pairs.folder / kind / copy.name).read_bytes()
        assert everything_in(pairs.folder) == before
        assert mended.done == [] and mended.left_out == [] and mended.names == pairs.splits
        assert (out / "lists" / "train.txt").read_text() == "a0\na1\na2\n"
        assert (out / "classes.txt").read_text() == "background\nclass_1\nclass_2\n"
        assert (out / "left_out.txt").read_text() == ""

    def test_nothing_but_the_copy_is_left(self, pairs, out):
        pairs.fixed(out)
        assert sorted(path.name for path in out.iterdir()) == [
            *("classes.txt", "dataset.yml", "images", "left_out.txt", "lists", "masks", "mended.txt")
        ]

    def test_the_command_builds_records(self, pairs, out, monkeypatch, tmp_path):
        import deeplab.build_data

        pairs.classes = Classes(3, NAMES, ((1, 1, 1), (9, 9, 9), (20, 0, 0)), LabelRule(3, ignore_label=200))
        mended = pairs.fixed(tmp_path / "with a space")
        words = shlex.split(mended.command)
        assert words[:3] == ["python", "-m", "deeplab.build_data"] and "--ignore_label=200" in words
        monkeypatch.setattr(sys, "argv", ["build_data", *words[3:]])
        assert deeplab.build_data.main() == 0
        built = tmp_path / "with a space" / "tfrecord"
        assert datasets.load(built / "dataset.yml").class_names == NAMES
        shards = records.list_shards(built, "val")
        (record,) = (record for path in shards for record in records.read_shard(path))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(record[records.LABEL]))), label_of(3))
        described = datasets.load(tmp_path / "with a space" / "dataset.yml")
        assert described.colors[2] == (20, 0, 0) and described.ignore_label == 200


class TestMasks:
    def make(self, pairs, convert, **put):
        for number, name in enumerate(pairs.names):
            pairs.put(name, mask=convert(label_of(number)), **put)

    def assert_mended(self, pairs, out, change):
        mended = pairs.fixed(out)
        assert [file for file, _ in mended.done] == [f"masks/{name}.png" for name in pairs.names]
        assert {what for _, what in mended.done} == {("mask", change)} and not mended.left_out
        for number, name in enumerate(pairs.names):
            np.testing.assert_array_equal(label_in(out, name), label_of(number))
        return mended

    def test_gray_levels(self, pairs, out):
        self.make(pairs, lambda label: encoded(np.array([0, 150, 250], np.uint8)[label]))
        mended = self.assert_mended(pairs, out, "values became class indices")
        assert "150 becomes 1 class_1" in mended.text() and "150 becomes 1 class_1" in (out / "mended.txt").read_text()

    def test_yes_and_no(self, pairs, out):
        pairs.classes = Classes(None, (), (), LabelRule())
        self.make(pairs, lambda label: encoded((label > 0).astype(np.uint8) * 255))
        pairs.fixed(out)
        np.testing.assert_array_equal(label_in(out, "a1"), label_of(1) > 0)

    def test_sixteen_bits(self, pairs, out):
        self.make(pairs, lambda label: encoded(label.astype(np.uint16) * 700))
        self.assert_mended(pairs, out, "values became class indices")

    def test_sixteen_bits_with_small_values(self, pairs, out):
        self.make(pairs, lambda label: encoded(label.astype(np.uint16)))
        self.assert_mended(pairs, out, "became an 8-bit PNG of class indices")

    def test_an_alpha_channel_that_says_nothing(self, pairs, out):
        self.make(pairs, lambda label: encoded(np.dstack([label, label, label, label * 0 + 255])))
        self.assert_mended(pairs, out, "became an 8-bit PNG of class indices")

    def test_gray_saved_as_rgb(self, pairs, out):
        self.make(pairs, lambda label: encoded(np.dstack([label] * 3), "bmp"), mask_as=".bmp")
        self.assert_mended(pairs, out, "became an 8-bit PNG of class indices")

    def test_png_under_another_name(self, pairs, out):
        self.make(pairs, encoded, mask_as=".tif")
        self.assert_mended(pairs, out, "PNG, was called .tif")
        assert (out / "masks" / "a0.png").read_bytes() == (pairs.folder / "masks" / "a0.tif").read_bytes()

    def test_colors_of_a_known_data_set(self, pairs, out):
        pairs.classes = Classes(None, (), (), LabelRule())
        self.make(pairs, lambda label: encoded(COLORS[label]))
        mended = self.assert_mended(pairs, out, "colors became class indices")
        assert "those of lfw_parts: background, hair, skin" in mended.text()
        picture = Image.open(out / "masks" / "a0.png")
        assert picture.mode == "P" and picture.getpalette()[3:6] == [255, 0, 0]
        assert (out / "classes.txt").read_text() == "background\nhair\nskin\n"

    def test_jpeg_masks_within_the_stated_tolerance(self, pairs, out):
        def as_jpeg(label):
            large = np.kron(label, np.ones([4, 4], np.uint8))
            return encoded(COLORS[large], "jpeg", quality=95, subsampling=0)

        for number, name in enumerate(pairs.names):
            pairs.put(name, image=encoded(image_of(number, 96, 128), "jpeg"), mask=as_jpeg(label_of(number)))
        table = ColorTable(NAMES, tuple(map(tuple, COLORS.tolist())), (0, 1, 2))
        pairs.classes = Classes(3, NAMES, table.colors, LabelRule(3, table=table))
        with pytest.raises(UserError, match=r"no pair can be mended.*--color_tolerance="):
            pairs.fixed(out)
        assert not out.exists()
        pairs.classes = dataclasses.replace(pairs.classes, rule=dataclasses.replace(pairs.classes.rule, tolerance=120))
        mended = pairs.fixed(out)
        assert f"  {mended.snapped} pixels took the nearest color" in mended.text() and mended.snapped > 1000
        expected = np.kron(label_of(2), np.ones([4, 4], np.uint8))
        np.testing.assert_array_equal(label_in(out, "a2"), expected)

    def test_shapes_are_drawn(self, pairs, out):
        class Half:
            where, size = "shapes.json", None

            def draw(self, painter, height, width):
                label = np.zeros([height, width], np.uint8)
                label[:, width // 2 :] = painter.value("hair", self.where)
                return label

        pair = Pair("a0", str(pairs.files["a0"]["image"]), Half())
        classes = Classes(3, NAMES, (), LabelRule(3))
        fix.fix(of_source(Source({"train": [pair]}, drawn=True), classes, "shapes"), out)
        assert (label_in(out, "a0")[:, 16:] == 1).all() and (label_in(out, "a0")[:, :16] == 0).all()


PROMISED = {
    "tones": (lambda label: np.array([0, 150, 250], np.uint8)[label], None),
    "tones up to white": (lambda label: np.array([0, 128, 255], np.uint8)[label], None),
    "tens": (lambda label: 10 * label, None),
    "yes and no": (lambda label: np.where(label > 0, 255, 0).astype(np.uint8), None),
    "tones of three": (lambda label: np.array([0, 128, 255], np.uint8)[label], 3),
    "from one": (lambda label: label + 1, 3),
    "known colors": (lambda label: COLORS[label], None),
}


class TestPromises:
    """Whatever the report says of --fix comes true: no error is left in the copy."""

    @pytest.mark.parametrize("kind", PROMISED)
    def test_promised_and_done(self, pairs, out, kind):
        change, number = PROMISED[kind]
        pairs.classes = Classes(number, (), (), LabelRule(number))
        for index, name in enumerate(pairs.names):
            pairs.put(name, mask=encoded(change(label_of(index))))
        before = analysis.check(pairs.subject())
        assert not before.may_train and any(item.fix for item in before.findings)
        pairs.fixed(out)
        copy = Source({"all": [Pair(name, *self.files(out, name)) for name in pairs.names]})
        names = tuple((out / "classes.txt").read_text().split())
        after = analysis.check(of_source(copy, Classes(len(names), names, (), LabelRule(len(names))), "copy"))
        assert after.may_train
        assert len(names) == (2 if kind == "yes and no" else 3)

    def files(self, folder, name):
        return str(folder / "images" / f"{name}.jpg"), str(folder / "masks" / f"{name}.png")


class TestImages:
    def test_photos_are_turned_where_the_mask_fits_that(self, pairs, out):
        turned = Image.Exif()
        turned[0x0112] = 6  # shown a quarter turn clockwise
        stored = Image.fromarray(image_of(0)).rotate(90, expand=True)
        pairs.put("a0", image=encoded(stored, "jpeg", exif=turned, quality=95))
        drawn_as_stored = encoded(np.rot90(label_of(1)).copy())
        pairs.put("a1", image=encoded(stored, "jpeg", exif=turned, quality=95), mask=drawn_as_stored)
        mended = pairs.fixed(out)
        assert mended.done == [("images/a0.jpg", ("image", "turned upright"))]
        upright = Image.open(out / "images" / "a0.jpg")
        assert upright.size == (32, 24) and upright.getexif().get(0x0112, 1) == 1
        assert np.abs(np.asarray(upright).astype(int) - image_of(0)).mean() < 4
        assert (out / "images" / "a1.jpg").read_bytes() == pairs.files["a1"]["image"].read_bytes()

    def test_extensions_that_are_wrong(self, pairs, out):
        pairs.put("a0", image=encoded(image_of(0)))
        pairs.put("b0", image=encoded(image_of(3), "bmp"), image_as=".JPEG")
        mended = pairs.fixed(out)
        assert mended.done == [
            ("images/a0.png", ("image", "PNG, was called .jpg")),
            ("images/b0.bmp", ("image", "BMP, was called .JPEG")),
        ]
        assert (out / "images" / "b0.bmp").read_bytes() == encoded(image_of(3), "bmp")


class TestLeftOut:
    def test_pairs_without_a_certain_hint(self, pairs, out):
        pairs.put("a0", mask=encoded(label_of(0)[:-1]))
        pairs.put("a1", image=pairs.files["a1"]["image"].read_bytes()[:300])
        strange = label_of(3)
        strange[0, 0] = 9
        pairs.put("b0", mask=encoded(strange))
        mended = pairs.fixed(out)
        assert mended.names == {"train": ["a2"]}
        assert [(entry.name, entry.split) for entry in mended.left_out] == [
            *(("a0", "train"), ("a1", "train"), ("b0", "val"))
        ]
        lines = (out / "left_out.txt").read_text().splitlines()
        assert lines[0].startswith("a0 (split train): ") and "32 wide and 23 high, its image 32 wide and 24" in lines[0]
        assert "cannot be read as a picture" in lines[1] and "9 on 1 pixel" in lines[2]
        assert sorted(path.name for path in (out / "images").iterdir()) == ["a2.jpg"]
        assert "3 pairs left out" in mended.text()

    def test_an_image_that_is_its_own_mask(self, pairs, out):
        label = np.kron(label_of(0), np.ones((8, 8), np.uint8))
        pairs.put("a0", image=encoded(label * 90), mask=encoded(label))
        (entry,) = pairs.fixed(out).left_out
        assert entry.name == "a0" and "holds the same pixels as" in entry.why

    def test_what_lists_name_and_is_not_there(self, pairs, out):
        subject = dataclasses.replace(
            pairs.subject(),
            findings=(finding("listed-name-missing", "train.txt", "lost: no such file", split="train"),),
        )
        mended = fix.fix(subject, out)
        assert "1 fault of lists and folders: see left_out.txt" in mended.text()
        assert "train.txt (split train): lost: no such file; add the file" in (out / "left_out.txt").read_text()

    def test_a_missing_file(self, pairs, out):
        pairs.files["a1"]["mask"].unlink()
        (entry,) = pairs.fixed(out).left_out
        assert entry.name == "a1" and "cannot be read: No such file" in entry.why

    def test_nothing_can_be_mended(self, pairs, out):
        for name in pairs.names:
            pairs.put(name, image=b"")
        with pytest.raises(UserError, match=r"no pair can be mended for certain; a0: .*is empty"):
            pairs.fixed(out)
        assert not out.exists()

    def test_two_pairs_of_one_name(self, pairs, out):
        pairs.splits = {"train": ["a0", "a0", "a1"], "val": ["a0", "b0"]}
        mended = pairs.fixed(out)
        assert mended.names == {"train": ["a0", "a1"], "val": ["a0", "b0"]}
        assert mended.done == [("lists/train.txt", ("list", "a name stood there twice"))]


class TestRecords:
    def build(self, folder, examples):
        folder.mkdir()
        with records.ShardWriter(folder, records.shard_name("train", 0, 1)) as writer:
            for name, image, label in examples:
                writer.write(records.encode_example(image, "jpeg", name, 24, 32, label))
            writer.publish()
        datasets.save(datasets.Dataset("parts", NAMES), folder / datasets.FILE_NAME)
        return of_records(folder)

    def test_records_become_files(self, tmp_path, out):
        image, label = encoded(image_of(0), "jpeg"), encoded(label_of(0))
        examples = [
            ("city/one", image, label),
            ("../../two", encoded(image_of(1)), label),
            ("", image, label),
            ("bad", image, encoded(label_of(0)[1:])),
            ("unlabeled", image, b""),
            ("city/one", encoded(image_of(2), "jpeg"), label),
        ]
        mended = fix.fix(self.build(tmp_path / "records", examples), out)
        assert mended.names == {"train": ["city/one", "two", "train-00000-of-00001.tfrecord, record 2"]}
        assert (out / "images" / "city" / "one.jpg").read_bytes() == image
        assert (out / "images" / "two.png").read_bytes() == encoded(image_of(1))
        assert [entry.name for entry in mended.left_out] == ["bad", "unlabeled", "city/one"]
        assert "has no label" in mended.left_out[1].why and "other contents" in mended.left_out[2].why

    def test_a_damaged_shard(self, tmp_path, out):
        pair = (encoded(image_of(0), "jpeg"), encoded(label_of(0)))
        subject = self.build(tmp_path / "records", [("a", *pair), ("b", *pair)])
        shard = tmp_path / "records" / records.shard_name("train", 0, 1)
        shard.write_bytes(shard.read_bytes()[:-20])
        mended = fix.fix(subject, out)
        assert mended.names == {"train": ["a"]} and "record 1" in mended.left_out[0].why

    @pytest.mark.parametrize(
        ("name", "safe"),
        [
            ("a/b", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("../../a", "a"),
            ("..", "image"),
            ("C:\\x\\y", "C__x_y"),
            ("a\nb ", "a_b"),
            ("x" * 900, "x" * 200),
            ("caf\udce9", "caf_"),
        ],
    )
    def test_names_stay_inside(self, name, safe):
        assert safe_name(name) == safe


class TestFolder:
    def test_what_is_there_is_never_written_over(self, pairs, out):
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
        with pytest.raises(UserError, match=r"--fix: .*mended holds thesis.txt\n.*new or empty folder"):
            pairs.fixed(out)
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]

    def test_a_finished_copy_is_not_written_again(self, pairs, out):
        pairs.fixed(out)
        with pytest.raises(UserError, match=r"holds classes\.txt and 6 more"):
            pairs.fixed(out)

    def test_a_stopped_run_is_gone_on_with(self, pairs, out, tmp_path, monkeypatch, capsys):
        pairs.fixed(tmp_path / "whole")
        write, calls = fix_folder.write, []

        def write_five(path, data):
            calls.append(path)
            if len(calls) == 5:
                path.with_name(f".{path.name}.99.partial").write_bytes(data[:3])  # as when killed in the middle
                raise KeyboardInterrupt
            write(path, data)

        monkeypatch.setattr(fix, "write", write_five)
        with pytest.raises(KeyboardInterrupt):
            pairs.fixed(out)
        assert len(list((out / "masks").glob("*.png"))) == 2 and not (out / "lists").exists()
        monkeypatch.setattr(fix, "write", write)
        pairs.fixed(out)
        assert "begun here and stopped" in capsys.readouterr().err
        whole, again = everything_in(tmp_path / "whole"), everything_in(out)
        assert set(again) == set(whole)
        assert all(again[name] == whole[name] for name in whole if name != "dataset.yml")  # it has the folder's name

    def test_a_stopped_run_of_something_else_is_left_alone(self, pairs, out, monkeypatch):
        def stop(path, data):
            raise KeyboardInterrupt

        monkeypatch.setattr(fix, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            pairs.fixed(out)
        monkeypatch.undo()
        pairs.classes = Classes(4, (), (), LabelRule(4))
        with pytest.raises(UserError, match="unfinished copy of another dataset, or one with other flags"):
            pairs.fixed(out)

    def test_a_full_disk(self, pairs, out, monkeypatch):
        def full(self, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pathlib.Path, "write_bytes", full)
        with pytest.raises(UserError, match="cannot be written: No space left"):
            pairs.fixed(out)
        assert not list(out.rglob("*.jpg"))

    def test_two_at_once(self, pairs, out):
        out.mkdir()
        with (
            folder_lock(out, "writing", ""),
            pytest.raises(UserError, match="another process is writing a mended copy"),
        ):
            pairs.fixed(out)


def test_masks_are_exact_and_show_colors(pairs, out):
    pairs.classes = Classes(3, NAMES, ((7, 8, 9), (200, 0, 0), (0, 200, 0)), LabelRule(3))
    pairs.put("a0", mask=encoded(label_of(0).astype(np.uint16)))
    pairs.fixed(out)
    assert Image.open(out / "masks" / "a0.png").getpalette()[:9] == [7, 8, 9, 200, 0, 0, 0, 200, 0]
    np.testing.assert_array_equal(labels.read_label(out / "masks" / "a0.png"), label_of(0))


def test_names_of_classes_survive_the_list(pairs, out):
    pairs.classes = Classes(3, ("sky", "c#", "#1"), (), LabelRule(3))
    pairs.fixed(out)
    assert (out / "classes.txt").read_text(encoding="utf-8") == "sky\nc＃\n＃1\n"
    assert datasets.load(out / "dataset.yml").class_names == ("sky", "c#", "#1")
