"""What settings can repair: decided from all masks together, and followed to a clean set."""

import io
import shlex
import sys

import numpy as np
import pytest
from PIL import Image
from support.disc_files import draw, encoded

from deeplab import build_data, check_data
from deeplab.config.command_line import CHECK_FAILED
from deeplab.data import dataset as datasets
from deeplab.data.colormaps import ColorTable
from deeplab.data.labels import LabelSpec
from deeplab.data.readers.classes import DatasetClasses
from deeplab.data.validation import repair
from deeplab.data.validation.repair import certain_map, known_palette

NAMES = ("background", "hair", "skin")
COLORS = np.array([(0, 0, 255), (255, 0, 0), (0, 255, 0)], np.uint8)  # of the LFW parts


class TestValues:
    @pytest.mark.parametrize(
        ("values", "classes", "mapping"),
        [
            ([0, 255], None, {255: 1}),
            ([0, 255], 2, {255: 1}),
            ([0, 255], 3, {}),  # two classes are absent: which one 255 is, is not known
            ([0, 255], 21, {}),  # a part of VOC without an object
            ([0, 1, 255], 2, {}),
            ([0, 150, 250], 3, {150: 1, 250: 2}),
            ([0, 150, 250, 255], 3, {150: 1, 250: 2}),
            ([0, 128, 255], 3, {128: 1, 255: 2}),
            ([0, 85, 170, 255], 4, {85: 1, 170: 2, 255: 3}),
            ([0, 150, 250], 4, {}),
            ([0, 150, 250], None, {150: 1, 250: 2}),
            ([0, 128, 255], None, {128: 1, 255: 2}),  # evenly from black to white
            ([0, 127, 255], None, {127: 1, 255: 2}),
            ([0, 100, 255], None, {100: 1}),  # 255 may be what is ignored
            ([0, 1, 255], None, {}),
            ([0, 1, 150], None, {}),  # one value is damage, the others are indices
            ([1, 2, 3], 3, {1: 0, 2: 1, 3: 2}),
            ([0, 1, 2], 3, {}),
            ([0, 1, 255], 3, {}),  # 255 is ignored, class 2 does not occur
            ([0, 2], 3, {}),
            ([0, 2, 3], 3, {}),  # perhaps there are four classes
            ([0, 1, 2, 3], 3, {}),
            ([0, 1000, 2000], 3, {1000: 1, 2000: 2}),
            ([], 3, {}),
            ([0, *range(2, 21), 77], 21, {}),  # one damaged mask in a set without class 1
            ([0, *range(2, 21), 77, 255], 21, {}),
            ([0, 1, 128], 3, {}),
        ],
    )
    def test_certain_or_not(self, values, classes, mapping):
        assert certain_map(values, LabelSpec(classes)) == mapping

    def test_a_map_that_is_given_is_not_replaced(self):
        assert certain_map([0, 150, 250], LabelSpec(3, mapping={9: 1})) == {}


class TestKnownPalette:
    CODES = (0x0000FF, 0xFF0000, 0x00FF00)

    def known(self, codes=CODES, number=None, names=(), colors=(), **options):
        found = known_palette(codes, DatasetClasses(number, names, colors, LabelSpec(number)), **options)
        return found.name if found else None

    def test_one_dataset_has_these_colors(self):
        assert self.known() == "lfw_parts" == self.known(number=3) == self.known(names=NAMES, number=3)

    def test_not_certain(self):
        assert self.known(number=4) is None
        assert self.known((0x0000FF, 0xFF0000)) is None  # two colors are no palette
        assert self.known((*self.CODES, 0x0000FE)) is None
        assert self.known(names=("background", "skin", "hair"), number=3) is None  # another order
        assert self.known(mixed=True) is None

    def test_colors_that_are_given_are_the_only_candidate(self):
        own = ((9, 9, 9), (0, 255, 0))
        assert self.known((0x00FF00, 0x090909), 2, ("a", "b"), own, mixed=True) == ""
        assert self.known(self.CODES, 2, ("a", "b"), own) is None

    def test_masks_in_colors_beside_masks_of_values(self, discs):
        """VOC's colors are recognized, but whether the other masks count in VOC's order is not known."""
        colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
        discs.change_labels(lambda label: colors[label], discs.all_names[:4])
        mixed = discs.check(num_classes=21)
        assert [item.repair for item in mixed.findings if item.rule == "mask-is-color"] == [{}] * 4


def test_a_tolerance_must_not_reach_another_class():
    spec = LabelSpec(3, table=ColorTable(NAMES, tuple(map(tuple, COLORS.tolist())), (0, 1, 2)))
    assert repair.sufficient_tolerance([0x0300FF, 0xFF0000], spec) == {"color_tolerance": "3"}
    assert repair.sufficient_tolerance([0x8000FF], spec) == {"color_tolerance": "128"}
    assert repair.sufficient_tolerance([0x808080], spec) == {}  # between all of them


REPAIRABLE = {
    "gray levels": (lambda label: np.array([0, 150, 250], np.uint8)[label], []),
    "gray levels up to white": (lambda label: np.array([0, 128, 255], np.uint8)[label], []),
    "tens": (lambda label: 10 * label, []),
    "black and white": (lambda label: np.where(label > 0, 255, 0).astype(np.uint8), []),
    "gray levels of three classes": (lambda label: np.array([0, 128, 255], np.uint8)[label], ["--num_classes=3"]),
    "16 bits": (lambda label: label.astype(np.uint16) * 100, ["--class_names=ground,disc,bar"]),
    "from one": (lambda label: label + 1, ["--num_classes=3"]),
    "known colors": (lambda label: COLORS[label], []),
    "stray pixels": (lambda label: with_stray(label), ["--class_names=ground,disc,bar"]),
    "many stray values": (lambda label: with_stray(label, 8), ["--class_names=ground,disc,bar"]),
    "masks of other names": (None, ["--class_names=ground,disc,bar"]),
    "nearly the colors": (lambda label: (COLORS[label] // 255 * 251).astype(np.uint8), ["--palette={palette}"]),
    "JPEG in colors": ("jpeg", ["--palette={palette}"]),
    "EXIF rotation ignored": ("exif", ["--class_names=ground,disc,bar", "--exif=ignore"]),
}


def with_stray(label, number=1):
    """A few pixels with values that are no classes: `number` in each label, in all less than a thousandth."""
    changed = np.kron(label, np.ones((8, 8), np.uint8)).astype(np.uint8)
    changed[0, :number] = 70 + np.arange(number)
    return changed


class TestTheCommand:
    """The command that the report prints is followed, and builds records without an error."""

    @pytest.fixture
    def files(self, discs):
        return [f"--image_folder={discs.folder}/images", f"--mask_folder={discs.folder}/masks"]

    @pytest.fixture
    def run(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)

        def run(command, *words):
            monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, words)])
            return command.main()

        return run

    def damage(self, discs, kind, change):
        if change is None:
            for name in discs.all_names:
                discs.mask(name).rename(discs.folder / "masks" / f"{name}_label.png")
            return
        for number, name in enumerate(discs.all_names):
            image, label = draw(number)
            if change == "exif":
                exif = Image.Exif()
                exif[0x0112] = 6
                discs.image(name).write_bytes(encoded(np.rot90(image), "jpeg", exif=exif))
                continue
            changed = label if change == "jpeg" else change(label)
            scale = changed.shape[0] // label.shape[0] if change != "jpeg" else 4
            discs.image(name).write_bytes(encoded(np.kron(image, np.ones((scale, scale, 1), np.uint8)), "jpeg"))
            if change == "jpeg":
                colors = COLORS[np.kron(label, np.ones((4, 4), np.uint8))]
                discs.mask(name).write_bytes(encoded(colors, "jpeg", quality=95, subsampling=0))
            elif changed.dtype == np.uint16:
                discs.mask(name).write_bytes(encoded(Image.fromarray(changed)))
            else:
                discs.mask(name).write_bytes(encoded(changed))

    @pytest.mark.parametrize("kind", REPAIRABLE)
    def test_printed_and_followed(self, discs, files, run, tmp_path, capsys, kind):
        change, flags = REPAIRABLE[kind]
        (tmp_path / "palette").write_text("0 0 255 ground\n255 0 0 disc\n0 255 0 bar\n")
        flags = [flag.format(palette=tmp_path / "palette") for flag in flags]
        self.damage(discs, kind, change)
        assert run(check_data, *files, *flags) == CHECK_FAILED
        printed = capsys.readouterr().out.splitlines()
        (command,) = (line.strip() for line in printed if line.startswith("  deeplab build-data "))
        words = shlex.split(command)
        assert words[:3] == ["deeplab", "build-data", "folder"] and set(files) <= set(words)
        assert run(build_data, *words[2:]) == 0
        capsys.readouterr()
        assert run(check_data, "--dataset_dir=tfrecord") == 0
        shown = capsys.readouterr().out
        assert "training may start: no errors, no warnings" in shown
        self.require_labels(discs, tmp_path / "tfrecord", kind)

    def require_labels(self, discs, folder, kind):
        """The records hold the labels that were drawn."""
        from deeplab.data import records

        names = datasets.load(folder / datasets.FILE_NAME).class_names
        assert len(names) == (2 if kind == "black and white" else 3)
        found = {
            record[records.FILENAME].decode(): np.asarray(Image.open(io.BytesIO(record[records.LABEL])))
            for split in ("train", "val")
            for path in records.list_shards(folder, split)
            for record in records.read_shard(path)
        }
        assert len(found) == len(discs.all_names)
        for number, name in enumerate(discs.all_names):
            expected = draw(number)[1]
            if kind == "black and white":
                expected = (expected > 0).astype(np.uint8)
            scale = found[name].shape[0] // expected.shape[0]
            expected = np.kron(expected, np.ones((scale, scale), np.uint8))
            where = found[name] != 255 if "stray" in kind else np.ones_like(expected, bool)
            np.testing.assert_array_equal(found[name][where], expected[where])
            assert np.count_nonzero(~where) <= 8

    def test_what_no_flag_repairs_is_named(self, discs, files, run, capsys):
        discs.change_labels(lambda label: np.array([0, 150, 250], np.uint8)[label])
        discs.image("a1").write_bytes(b"")
        assert run(check_data, *files, "--num_classes=3") == CHECK_FAILED
        shown = capsys.readouterr().out
        assert "repairs label-out-of-range; it does not repair image-unreadable:" in shown

    def test_nothing_to_repair_no_command(self, discs, files, run, capsys):
        discs.image("a1").write_bytes(b"")
        assert run(check_data, *files, "--num_classes=3") == CHECK_FAILED
        assert "deeplab build-data" not in capsys.readouterr().out

    def test_flags_that_were_given_are_kept(self, discs, files, run, capsys):
        discs.change_labels(lambda label: label + 1)
        flags = ["--class_names=a b,c,d", "--train_pct=0.5", "--stratify=true", "--seed=3"]
        assert run(check_data, *files, *flags) == CHECK_FAILED
        (command,) = (line for line in capsys.readouterr().out.splitlines() if "deeplab build-data" in line)
        assert set(flags) | {"--label_map=1:0,2:1,3:2", "--output_dir=tfrecord"} <= set(shlex.split(command))

    def test_of_records_the_settings_are_named(self, discs, run, tmp_path, capsys):
        folder = discs.records(tmp_path / "records")
        discs.change_record(folder, label=encoded(with_stray(draw(8)[1][::8, ::8].copy())[:64, :80]))
        assert run(check_data, f"--dataset_dir={folder}") == CHECK_FAILED
        shown = capsys.readouterr().out
        assert "building the records again with --label_map=70:255 repairs label-out-of-range" in shown
        assert "deeplab build-data" not in shown
