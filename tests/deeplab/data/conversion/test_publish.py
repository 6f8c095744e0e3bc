"""The last step of a build: what a kill or a full disk leaves behind, and what the next build makes of it."""

import errno
import pathlib

import cv2
import numpy as np
import pytest

from deeplab.build_data import build_data
from deeplab.config.conversion_config import LabelConfig, RecordConfig, SplitConfig
from deeplab.data import dataset as datasets
from deeplab.data import records
from deeplab.data.conversion import local, publish
from deeplab.data.readers.folder import BuildFolderConfig
from deeplab.data.readers.source import Pair, Source
from deeplab.utils.errors import UserError


@pytest.fixture
def pairs(tmp_path):
    """Four pairs of two classes."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    made = []
    for name in "abcd":
        image, mask = str(tmp_path / "images" / f"{name}.jpg"), str(tmp_path / "masks" / f"{name}.png")
        cv2.imwrite(image, np.full([4, 6, 3], ord(name), np.uint8))
        cv2.imwrite(mask, np.array([[0, 1, ord(name) % 2]] * 4, np.uint8).repeat(2, axis=1))
        made.append(Pair(name, image, mask))
    return made


def build(folder, splits, **settings):
    return local.build(Source(splits), folder, LabelConfig(), RecordConfig(num_shards=2, **settings))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Killed(BaseException):
    pass


def killed_at(monkeypatch, number):
    """From here on, the power fails at the so-manieth rename in the publishing: nothing after it is done."""
    real, done = publish.os.replace, []

    def replace(source, target):
        done.append(target)
        if len(done) == number:
            raise Killed
        real(source, target)

    monkeypatch.setattr("os.replace", replace)


def stopped_build(monkeypatch, folder, splits, number, **settings):
    """A build that is killed; its temporary files stay, as they do after kill -9."""
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", _unlink_of_the_dead(pathlib.Path.unlink))
        killed_at(patch, number)
        with pytest.raises(Killed):
            build(folder, splits, **settings)


def _unlink_of_the_dead(real):
    return lambda path, missing_ok=False: None if path.name.endswith(".partial") else real(path, missing_ok)


@pytest.mark.parametrize("number", range(2, 8))
def test_a_build_that_was_killed_while_it_published_is_simply_run_again(pairs, tmp_path, monkeypatch, number):
    """Renames 1 and 2 write files aside, 3 is the journal, 4 to 7 are the shards, 8 is the description."""
    folder, splits = tmp_path / "out", {"train": pairs[:2], "val": pairs[2:]}
    stopped_build(monkeypatch, folder, splits, number)
    assert not (folder / "dataset.yml").exists()
    build(folder, splits)
    assert files(folder) == [
        "dataset.yml",
        *(f"{s}-0000{i}-of-00002.tfrecord" for s in ("train", "val") for i in (0, 1)),
    ]


def test_what_was_taken_back_is_said(pairs, tmp_path, monkeypatch, capsys):
    stopped_build(monkeypatch, tmp_path / "out", {"train": pairs[:2], "val": pairs[2:]}, 6)
    assert "train-00000-of-00002.tfrecord" in files(tmp_path / "out")
    build(tmp_path / "out", {"train": pairs[:2], "val": pairs[2:]})
    assert "unfinished files of a build that was stopped" in capsys.readouterr().err


@pytest.mark.parametrize("number", range(3, 8))
def test_a_kill_while_a_split_is_added_leaves_the_others_described(pairs, tmp_path, monkeypatch, number):
    folder = tmp_path / "out"
    build(folder, {"train": pairs[:2]})
    stopped_build(monkeypatch, folder, {"val": pairs[2:]}, number)
    assert dict(datasets.load(folder / "dataset.yml").splits) == {"train": 2}
    build(folder, {"val": pairs[2:]})
    assert dict(datasets.load(folder / "dataset.yml").splits) == {"val": 2, "train": 2}
    assert records.count(records.list_shards(folder, "train")) == 2


def test_a_disk_that_is_full_at_the_very_end_changes_nothing(pairs, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    build(folder, {"train": pairs[:2]})
    before = contents(folder)

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(publish, "write_atomically", full)
    with pytest.raises(UserError, match="No space left on device"):
        build(folder, {"train": pairs}, overwrite=True)
    assert contents(folder) == before


# --- Builds of several parts --------------------------------------------------------------------------------


def build_folds(root, **settings):
    config = BuildFolderConfig(str(root / "images"), str(root / "masks"))
    made = RecordConfig(str(root / "out"), num_shards=1, check=False, **settings)
    build_data("folder", config, LabelConfig(), SplitConfig(folds=2), made)


def test_folds_that_were_stopped_are_gone_on_with(pairs, tmp_path, capsys):
    build_folds(tmp_path)
    first = contents(tmp_path / "out" / "fold_0")
    for path in (tmp_path / "out" / "fold_1").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"fold_0 already holds records .*\n.*--resume=true"):
        build_folds(tmp_path)
    build_folds(tmp_path, resume=True)
    assert "fold_0 is built already" in capsys.readouterr().err
    assert contents(tmp_path / "out" / "fold_0") == first
    assert dict(datasets.load(tmp_path / "out" / "fold_1" / "dataset.yml").splits) == {"train": 2, "val": 2}


def test_records_of_another_number_of_images_are_not_taken_for_finished(pairs, tmp_path):
    build(tmp_path / "out", {"train": pairs[:3]})
    assert local.is_built(Source({"train": pairs[:3]}), tmp_path / "out")
    assert not local.is_built(Source({"train": pairs}), tmp_path / "out")
    assert not local.is_built(Source({"train": pairs[:3], "val": pairs[3:]}), tmp_path / "out")
    with pytest.raises(UserError, match="--resume"):
        RecordConfig(resume=True, overwrite=True)


def test_folds_are_called_after_the_data_set(pairs, tmp_path):
    build_folds(tmp_path, name="faces")
    assert datasets.load(tmp_path / "out" / "fold_1" / "dataset.yml").name == "faces_fold_1"


def test_all_folds_are_built_before_one_that_is_unfit_ends_the_command(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr("deeplab.build_data._is_fit", lambda folder, *_: folder.endswith("fold_1"))
    config = BuildFolderConfig(str(tmp_path / "images"), str(tmp_path / "masks"))
    with pytest.raises(UserError, match=r"out/fold_0: the records are written, but not fit"):
        build_data("folder", config, LabelConfig(), SplitConfig(folds=2), RecordConfig(str(tmp_path / "out")))
    assert (tmp_path / "out" / "fold_1" / "dataset.yml").is_file()


def test_the_next_command_is_told(pairs, tmp_path, capsys):
    build_folds(tmp_path)
    assert f"to look at them: deeplab browse_data --dataset_dir={tmp_path}/out/fold_1\n" in capsys.readouterr().err
