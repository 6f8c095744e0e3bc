"""The Beam pipeline: the same bytes as a local build, the same messages, nothing left behind."""

import errno
import threading

import cv2
import numpy as np
import pytest
from support.errors import raises

from deeplab.config.conversion_config import LabelConfig, RecordConfig
from deeplab.data import records
from deeplab.data.conversion import beam
from deeplab.data.conversion import local as engine
from deeplab.data.readers.source import Pair, Source
from deeplab.utils import beam_pipelines
from deeplab.utils.files import Transaction, write_atomically

COLORS = {"near": (3, 250, 0), "red": (255, 0, 0), "blue": (0, 0, 255)}


@pytest.fixture
def source(tmp_path):
    """Seven pairs with masks in colors, one of which is not quite the palette's."""
    (tmp_path / "colors.palette").write_text("255 0 0 hair\n0 255 0 skin\n0 0 255 ground\n")
    pairs = []
    for number in range(7):
        image, mask = tmp_path / f"{number}.jpg", tmp_path / f"{number}.png"
        cv2.imwrite(str(image), np.full([4 + number, 6, 3], 10 * number, np.uint8))
        colors = [COLORS["near" if number == 3 else "red"], COLORS["blue"]] * 3
        cv2.imwrite(str(mask), np.array([colors] * (4 + number), np.uint8)[..., ::-1])
        pairs.append(Pair(str(number), str(image), str(mask)))
    return Source({"train": pairs[:5], "val": pairs[5:]})


def build(source, folder, **settings):
    labels = LabelConfig(palette=str(folder.parent / "colors.palette"), color_tolerance=8)
    return engine.build(source, folder, labels, RecordConfig(num_shards=2, **settings))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix == ".tfrecord"}


def test_shards_and_description_are_those_of_a_local_build(source, tmp_path, capsys):
    local = build(source, tmp_path / "local", name="x")
    said_locally = capsys.readouterr().err
    piped = build(source, tmp_path / "piped", name="x", beam=True)
    assert contents(tmp_path / "piped") == contents(tmp_path / "local") and len(contents(tmp_path / "piped")) == 4
    assert piped == local
    snapped = (
        "1 mask with colors that are not in the palette: their pixels took the nearest color that is (21 pixels in all)"
    )
    assert snapped in said_locally and snapped in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "piped").iterdir() if path.name.startswith(".")] == []


def test_bad_pairs_are_named_and_nothing_is_left(source, tmp_path):
    for number in (1, 6):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    with raises("unreadable-image", where=tmp_path / "1.jpg") as caught:
        build(source, tmp_path / "piped", beam=True)
    assert "and 1 more pairs of 7 cannot be used" in caught.value.rule
    assert str(tmp_path / "6.jpg") in caught.value.rule
    assert not (tmp_path / "piped").exists()


def test_options_that_beam_refuses(source, tmp_path):
    with raises("failed-pipeline", field="beam") as caught:
        build(source, tmp_path / "piped", beam=True, beam_options="--runner=NoSuchRunner")
    assert "NoSuchRunner" in caught.value.rule and "`beam_options`" in caught.value.hint
    assert not (tmp_path / "piped").exists()


def test_a_command_that_is_stopped_leaves_nothing_at_work(source, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(beam, "_result_files", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "piped", beam=True)
    assert not beam._AT_WORK and not (tmp_path / "piped").exists()
    for thread in threading.enumerate():  # on a busy machine Beam itself needs longer than the command waits
        if thread.name == beam_pipelines.THREAD:
            thread.join(120)
    assert beam_pipelines.THREAD not in {thread.name for thread in threading.enumerate()} and not beam._AT_WORK
    assert not (tmp_path / "piped").exists()


def test_workers_of_a_stopped_pipeline_leave_no_shard_and_report_nothing(source, tmp_path):
    (task, *_) = beam.shard_tasks(source.splits, 2)
    out = tmp_path / "out"
    out.mkdir()
    beam._stop_mark(out, 7).touch()
    assert beam.write_shard(task, str(out), recipe(source, tmp_path), run=7) == task.name
    assert [path.name for path in out.iterdir()] == [beam._stop_mark(out, 7).name]
    beam.write_shard(task, str(out), recipe(source, tmp_path), run=8)
    assert beam._read_result(out, task.name).counts.images == len(task.pairs)


@pytest.mark.parametrize("moment", ["last pair", "result"])
def test_a_command_that_did_not_wait_has_removed_what_a_worker_writes(source, tmp_path, monkeypatch, moment):
    (task, *_) = beam.shard_tasks(source.splits, 2)
    out = tmp_path / "out"
    out.mkdir()

    def removed(*arguments):
        for path in out.glob("*.partial" if moment == "last pair" else ".*tfrecord.*.partial"):
            path.unlink()
        return kept(*arguments)

    name = "convert_tiles" if moment == "last pair" else "_as_json"
    kept = getattr(beam, name)
    monkeypatch.setattr(beam, name, removed)
    assert beam.write_shard(task, str(out), recipe(source, tmp_path), run=7) == task.name
    assert list(out.iterdir()) == []


def test_a_shard_that_cannot_be_written_is_an_error(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (task, *_) = beam.shard_tasks(source.splits, 2)
    monkeypatch.setattr(records, "sync", full)
    with raises("unwritable-file", where=task.name):
        beam.write_shard(task, str(tmp_path), recipe(source, tmp_path), run=7)


def test_options_that_cannot_be_taken_apart(source, tmp_path):
    with raises("invalid-options", field="beam_options"):
        build(source, tmp_path / "piped", beam=True, beam_options="--runner='DirectRunner")


def test_relative_paths_count_from_the_folder_that_the_command_ran_in(source, tmp_path, monkeypatch):
    relative = {"train": [Pair(pair.name, f"{pair.name}.jpg", f"{pair.name}.png") for pair in source.splits["train"]]}
    (task,) = beam.shard_tasks(relative, 1)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir("/")  # where a worker was started
    beam.write_shard(task, "out", recipe(source, tmp_path), str(tmp_path))
    assert beam._read_result(tmp_path / "out", task.name).counts.images == 5


def recipe(source, tmp_path):
    from deeplab.data.conversion.encode import Recipe
    from deeplab.data.readers.classes import classes_from

    labels = LabelConfig(palette=str(tmp_path / "colors.palette"), color_tolerance=8)
    return Recipe(classes_from(labels, source).painter)


def test_an_attempt_that_was_repeated_counts_once(source, tmp_path):
    """A worker that dies after its shard is whole runs again elsewhere: both attempts wrote the same bytes."""
    (task, *_) = beam.shard_tasks(source.splits, 2)
    for _ in range(2):
        beam.write_shard(task, str(tmp_path), recipe(source, tmp_path))
    shards = sorted(tmp_path.glob(".train-00000-of-00002.tfrecord.[0-9]*.partial"))
    assert len(shards) == 2 and shards[0].read_bytes() == shards[1].read_bytes()
    result = beam._read_result(tmp_path, task.name)
    assert result.counts.images == 3 and result.oddities.numbers == {}
    assert records.count_records(tmp_path / result.temporary) == 3


def test_an_attempt_that_died_is_passed_over(source, tmp_path):
    (task, *_) = beam.shard_tasks(source.splits, 2)
    beam.write_shard(task, str(tmp_path), recipe(source, tmp_path))
    dead = beam._as_json(beam.ShardResult("gone", beam.SplitCounts(), beam.Oddities(), []))
    write_atomically(tmp_path / f".{task.name}.result.0.partial", dead)
    assert beam._read_result(tmp_path, task.name).temporary != "gone"


def test_a_worker_that_does_not_see_the_folder(source, tmp_path, monkeypatch):
    monkeypatch.setattr(beam, "_run", lambda *_: None)
    with Transaction(tmp_path) as transaction, raises("failed-pipeline", field="output_dir"):
        beam.write_in_pipeline(source.splits, transaction, recipe(source, tmp_path), RecordConfig())


def test_beam_that_is_not_installed(source, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with raises("missing-library", where="apache_beam") as caught:
        build(source, tmp_path / "piped", beam=True)
    assert "pip install 'deeplab-tensorflow[beam]'" in caught.value.hint


def test_contiguous_chunks_of_which_the_last_may_be_empty():
    assert [len(chunk) for chunk in beam.chunks(list(range(9)), 4)] == [3, 3, 3, 0]
