"""The latest, the best or the averaged checkpoint of a training folder."""

import json

import numpy as np
import pytest
from support.errors import raises

from deeplab.checkpoint import chosen, manager


@pytest.fixture
def folder(tmp_path):
    """A training at step 9 whose best step was 6."""
    for place, step in ((tmp_path, 6), (tmp_path, 9), (tmp_path / "best", 6)):
        manager.save_step(place, step, {"w": np.ones(1, np.float32)})
    record = {"step": 6, "metric": "iou/hair", "value": 0.71234, "split": "val"}
    (tmp_path / "best" / chosen.RECORD).write_text(json.dumps(record))
    return tmp_path


def test_the_latest_is_taken_unless_asked_otherwise_and_the_note_names_both(folder, capsys):
    assert chosen.chosen(str(folder)) == str(folder)
    said = capsys.readouterr().err
    assert "model.ckpt-9" in said and "iou/hair" in said and "step 6" in said and "`checkpoint=best`" in said


def test_the_best_is_its_own_folder_and_the_note_names_both(folder, capsys):
    assert chosen.chosen(str(folder), "best") == str(folder / "best")
    said = capsys.readouterr().err
    assert "best, step 6, iou/hair 0.7123" in said and "model.ckpt-9" in said


def test_where_the_latest_is_the_best_nothing_is_said(folder, capsys):
    manager.save_step(folder, 6, {"w": np.ones(1, np.float32)})
    assert chosen.chosen(str(folder)) == str(folder) and capsys.readouterr().err == ""


@pytest.mark.parametrize("which", ["best", "averaged"])
def test_what_is_not_there_is_refused(tmp_path, which):
    for source in (tmp_path, tmp_path / "model.ckpt-3"):
        with raises("checkpoint-not-found", "checkpoint", where=source) as caught:
            chosen.chosen(str(source), which)
        assert caught.value.value == which and ("eval_every" in caught.value.hint) is (which == "best")


@pytest.mark.parametrize("source", ["zoo:name", "", "model.pb", "nowhere/model.ckpt-3"])
def test_anything_else_is_returned_as_it_is(source):
    assert chosen.chosen(source) == source


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"step": "x"}', '{"step": 3, "value": null}', "\xff"])
def test_a_damaged_record_is_none(tmp_path, text):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / chosen.RECORD).write_text(text)
    assert chosen.read_best(tmp_path) == {}


def test_records_of_earlier_versions_are_read(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / chosen.RECORD).write_text('{"step": 4, "mean_iou": 0.5, "split": "val"}')
    assert chosen.read_best(tmp_path) == {
        "step": 4,
        "mean_iou": 0.5,
        "split": "val",
        "metric": "mean_iou",
        "value": 0.5,
    }
